"""The last check before a call of the model becomes an action: names, limits, zones. It fails closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.skills.quantities import SI, to_si
from nano_agent_ros.skills.registry import Argument, Skill, Skills
from nano_agent_ros.skills.site import SPEAKER, Site

Value = str | int | float


class GroundingError(NanoAgentError):
    """A call that must not become an action; the message is what the robot says."""


@dataclass(frozen=True)
class Call:
    """One function call as the model wrote it: every argument is text."""

    name: str
    arguments: Mapping[str, str]
    confidence: float = 1.0


@dataclass(frozen=True)
class Action:
    """A checked action. Numbers are SI; `target_id` is the place, else the object or person, it is about;
    `pose` (x m, y m, yaw rad, in the site's frame) is that of the place, if known."""

    skill: str
    arguments: Mapping[str, Value]
    risk: str
    requires_confirmation: bool
    confidence: float
    target_id: str
    pose: tuple[float, float, float] | None


def ground(call: Call, skills: Skills, site: Site) -> Action:
    """Turn a call into an action; raises GroundingError for anything unknown, out of limits or in a no-go zone."""
    if call.name not in skills:
        raise GroundingError(f"I can't {call.name.replace('_', ' ')}.")
    skill = skills[call.name]
    known = {a.name: a for a in skill.arguments}
    if extra := set(call.arguments) - set(known):
        raise GroundingError(f"I don't understand '{sorted(extra)[0]}' for {call.name}.")
    for argument in skill.arguments:
        if not argument.optional and argument.name not in call.arguments:
            raise GroundingError(f"{call.name} needs a {argument.name}.")
    if skill.one_of and not any(name in call.arguments for name in skill.one_of):
        raise GroundingError(f"{call.name} needs a {' or a '.join(skill.one_of)}.")
    values = {a.name: _value(call.arguments[a.name], a, site) for a in skill.arguments if a.name in call.arguments}
    target = _target(skill, values)
    place = site.locations.get(target)
    pose = place.pose if place else None
    return Action(call.name, values, skill.risk, skill.confirm, call.confidence, target, pose)


def _value(text: str, argument: Argument, site: Site) -> Value:
    if argument.type in ("location", "object", "person", "place"):
        if text not in site.ids(argument.type):
            raise GroundingError(f"I don't know {text.replace('_', ' ')}.")
        if text in site.locations and site.forbids(text):
            raise GroundingError(f"{site.name_of(text)} is a no-go zone.")
        return text
    if argument.type == "enum":
        if text not in argument.values:
            raise GroundingError(f"'{text}' is not a {argument.name.replace('_', ' ')} that I know.")
        return text
    if argument.type == "text":
        text = " ".join(text.split())
        if not text or len(text) > argument.max_length:
            raise GroundingError(f"The {argument.name} is empty or too long.")
        return text
    try:
        value: Value = int(text) if argument.type == "integer" else to_si(text, argument.quantity, argument.maximum)
    except ValueError:
        raise GroundingError(f"I don't understand the {argument.name} '{text}'.") from None
    if not argument.minimum - 1e-9 <= float(value) <= argument.maximum + 1e-9:
        unit = f" {SI[argument.quantity]}" if argument.quantity else ""
        limits = f"{argument.minimum:g} to {argument.maximum:g}{unit}"
        raise GroundingError(f"{argument.name} {text} is outside my limits of {limits}.")
    return value


def _target(skill: Skill, values: Mapping[str, Value]) -> str:
    """Where the action leads: a destination before a source, a place before an object or a person."""
    order = ("to", "location", "from", "object", "person")
    typed = {a.name for a in skill.arguments if a.type in ("location", "object", "person", "place")}
    for name in order + tuple(sorted(typed - set(order))):
        if name in typed and name in values and values[name] != SPEAKER:
            return str(values[name])
    return ""
