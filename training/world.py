"""The robot's side of a conversation: what is true of it, and what the model was told."""

from __future__ import annotations

import random
import re

from nano_agent_ros.nodes.facts import DOING
from training.compose import Call
from training.sites import RandomSite

FACT_KEYS = ("battery", "location", "carrying", "task", "last", "speed")  # in the order in which the robot tells them
ENDINGS = ("finished", "finished", "finished", "finished", "cancelled", "failed: path blocked", "failed: timeout")
STAYS = frozenset((
    "report_defect", "wait", "say", "pause", "turn", "lift", "lower", "set_speed", "stop", "cancel", "resume",
))  # fmt: skip


def fact_order(name: str) -> int:
    """The place of a fact in the line of facts."""
    return FACT_KEYS.index(name) if name in FACT_KEYS else len(FACT_KEYS)


class World:
    """What is true of the robot as a conversation goes on, and what the model was told of it."""

    def __init__(self, rng: random.Random, site: RandomSite) -> None:
        self.rng, self.site = rng, site
        self.state: dict[str, str | int] = {
            "battery": rng.randint(20, 100),
            "carrying": "nothing",
            "location": rng.choice(site.open_locations).id,
            "task": "idle",
        }
        self.told: dict[str, str | int] = {}
        self.seen: set[str] = set()
        self.holds: str | None = None  # as far as the model can know: an id, "nothing", or None
        self.named = 99  # turns since something was named that a pronoun could stand for

    def tell(self, facts: dict[str, str | int]) -> None:
        """Facts that a turn states: they are true now and the model knows them."""
        self.state.update(facts)
        self.told.update(facts)
        self.seen.update(facts)
        if "carrying" in facts:
            self.holds = str(facts["carrying"])

    def changed(self) -> dict[str, str | int]:
        """Some of what changed since it was last told."""
        if self.rng.random() < 0.5:
            self.state["battery"] = max(5, int(self.state["battery"]) - self.rng.randint(1, 4))
        news = {k: v for k, v in self.state.items() if k in FACT_KEYS and self.told.get(k) != v}
        count = self.rng.choice((1, 1, 2, 2, 3, 4))
        if not self.seen and self.rng.random() < 0.6:
            count = len(news)  # the robot tells all it knows when a conversation begins
        chosen = set(self.rng.sample(sorted(news), min(count, len(news))))
        return {k: news[k] for k in FACT_KEYS if k in chosen}

    def after(self, calls: list[Call]) -> None:
        """What an accepted command changes, and so is no longer known until it is told."""
        for name, arguments in calls:
            if name not in STAYS:
                self.told.pop("location", None)
            place = arguments.get("to") if name == "bring" else arguments.get("location")
            if place and place in self.site.data["locations"] and name not in STAYS:
                self.state["location"] = place
            if name in ("pick", "place", "bring", "load", "unload"):
                self.holds = arguments["object"] if name == "pick" else "nothing" if name == "place" else None
                self.told.pop("carrying", None)
                self.state["carrying"] = arguments["object"] if name == "pick" else "nothing"
            for key in ("task", "last", "speed"):
                self.told.pop(key, None)
                self.state.pop(key, None)
            self.state["task"] = "idle"
            if self.rng.random() < 0.35:
                self.state["task"] = self._doing(name, arguments)
            elif self.rng.random() < 0.6:
                self.state["last"] = self.rng.choice(ENDINGS)

    def _doing(self, name: str, arguments: dict[str, str]) -> str:
        names = {k: self.site.name_of(v) for k, v in arguments.items()}
        names["target"] = names.get("location") or names.get("object") or names.get("person") or ""
        template = DOING.get(name, "")
        needed = re.findall(r"\{(\w+)\}", template)
        return template.format(**names) if template and all(names.get(n) for n in needed) else "idle"
