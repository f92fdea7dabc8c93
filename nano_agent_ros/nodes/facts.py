"""What the agent knows of the robot, kept from its reports: the facts of the next turn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from nano_agent_ros.answers import HELD
from nano_agent_ros.robot.simulation import State
from nano_agent_ros.skills import Action, Site

Value = str | int | float

FACTS = ("battery", "location", "carrying", "task", "last", "speed")
CONTROLS = ("stop", "cancel", "pause", "resume")
"""Skills that concern other actions, and are none of the robot's tasks."""

DOING = {
    "navigate_to": "driving to {location}",
    "pick": "picking up the {object}",
    "place": "putting down the {object}",
    "bring": "bringing the {object} to {to}",
    "load": "loading the {object}",
    "unload": "unloading the {object}",
    "follow": "following {person}",
    "guide": "guiding {person} to {location}",
    "dock": "charging",
    "attach": "coupling the {object}",
    "detach": "uncoupling the {object}",
    "push": "pushing the {object}",
    "inspect": "inspecting {target}",
    "count": "counting the {object}",
    "find": "searching for {target}",
    "patrol": "patrolling {location}",
    "wait": "waiting",
}
"""The fact `task` by skill; any other skill is named as it is."""

TAKES, GIVES = ("pick",), ("place", "bring", "load", "unload")
CALLED_OFF = {"stop": "a stop was ordered", "cancel": "it was called off"}
"""Why an action was cancelled that was given up without a reason, by the command that was sent last."""
MAX_WHY = 120  # characters of a reason that the model is told


def doing(action: Action, site: Site) -> str:
    """What the robot does in an action, as a person would put it: "driving to dock 3"."""
    names = {key: site.name_of(str(value)) for key, value in action.arguments.items()}
    names["target"] = site.name_of(action.target_id)
    words: list[str] = []
    # The parts of a template whose argument was not given are left out: "bringing the box" without "to {to}".
    for part in re.findall(r"[^{}]*\{\w+\}|[^{}]+", DOING.get(action.skill, action.skill.replace("_", " "))):
        try:
            words.append(part.format(**names))
        except KeyError:
            if not words:
                words.append(part.split()[0])
    return " ".join(" ".join(words).split())


@dataclass
class _Known:
    action: Action
    plan_id: UUID | None
    state: State = State.WAITING
    begun: bool = False


class FactBook:
    """Battery, location, carrying, task, last and speed, as far as the robot has reported anything of them."""

    def __init__(self, site: Site, near_m: float = 1.0, memory: int = 256) -> None:
        """A location counts as reached within `near_m` metres of its pose; `memory` actions are remembered."""
        self._site = site
        self.near_m = near_m
        self._memory = memory
        self._actions: dict[UUID, _Known] = {}
        self._facts: dict[str, Value] = {}
        self._called_off = ""

    def issued(self, action_id: UUID, action: Action, plan_id: UUID | None = None) -> None:
        """Note an action that was sent to the robot, as a step of a plan."""
        if action.skill in CONTROLS:
            self._called_off = CALLED_OFF.get(action.skill, self._called_off)
            return
        self._called_off = ""
        self._actions[action_id] = _Known(action, plan_id)
        while len(self._actions) > self._memory:
            del self._actions[next(iter(self._actions))]

    def report(self, action_id: UUID, state: State, message: str = "") -> None:
        """Note how an action is getting on; reports about actions of others are passed over."""
        known = self._actions.get(action_id)
        if known is None or known.state.final:
            return
        known.state = state
        action = known.action
        if state in (State.RUNNING, State.PAUSED):
            known.begun = True
            held = HELD if state is State.PAUSED else ""
            self._facts["task"] = held + doing(action, self._site)
        if not state.final:
            return
        if state is State.FINISHED:
            self._apply(action)
        if not (state is State.CANCELED and self._only_followed(known)):
            self._facts["last"] = self._ending(state, message)
        if not self.acting:
            self._facts["task"] = "charging" if action.skill == "dock" and state is State.FINISHED else "idle"

    def battery(self, fraction: float) -> None:
        """Note the charge, in [0, 1]; NaN (not measured) changes nothing."""
        if math.isfinite(fraction):
            self._facts["battery"] = round(100 * min(1.0, max(0.0, fraction)))

    def position(self, x: float, y: float) -> None:
        """Note where the robot is, in metres in the site's frame."""
        posed = [(math.hypot(p.pose[0] - x, p.pose[1] - y), p.id) for p in self._site.locations.values() if p.pose]
        distance, nearest = min(posed, default=(math.inf, ""))
        if distance <= self.near_m:
            self._facts["location"] = nearest
        else:
            self._facts.pop("location", None)

    @property
    def acting(self) -> bool:
        """Whether the robot has an action in hand."""
        return any(known.state in (State.RUNNING, State.PAUSED) for known in self._actions.values())

    @property
    def idle(self) -> bool:
        """Whether every action that was issued has ended."""
        return all(known.state.final for known in self._actions.values())

    @property
    def paused(self) -> bool:
        """Whether the action in hand is held."""
        return any(known.state is State.PAUSED for known in self._actions.values())

    def facts(self) -> Mapping[str, Value]:
        """The facts now, in a fixed order."""
        return {key: self._facts[key] for key in FACTS if key in self._facts}

    def _ending(self, state: State, message: str) -> str:
        if state is State.FINISHED:
            return "finished"
        why = message.rstrip(".")[:MAX_WHY]
        if state is State.CANCELED:
            why = why or self._called_off
            return f"cancelled: {why}" if why else "cancelled"
        return f"failed: {why or 'unknown'}"

    def _only_followed(self, known: _Known) -> bool:
        """Whether an action was dropped only because another step of its plan had ended badly, whose end counts."""
        bad = (State.FAILED, State.REJECTED, State.CANCELED)
        others = (k for k in self._actions.values() if k is not known and k.plan_id == known.plan_id)
        return not known.begun and known.plan_id is not None and any(k.state in bad for k in others)

    def _apply(self, action: Action) -> None:
        if action.skill in TAKES:
            self._facts["carrying"] = str(action.arguments.get("object", "nothing"))
        elif action.skill in GIVES:
            self._facts["carrying"] = "nothing"
        elif action.skill == "set_speed":
            self._facts["speed"] = round(float(action.arguments["speed"]), 2)
