"""The skills file: what the robot can do, with typed and limited arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import read_yaml
from nano_agent_ros.skills.quantities import SI

ARGUMENT_TYPES = ("location", "object", "person", "place", "enum", "integer", "number", "text")
RISKS = ("none", "low", "medium", "high")
NAME = re.compile(r"[a-z][a-z0-9_]*")
REPLY_NAMES = ("answer", "clarify", "refuse", "ignore")  # taken by the replies that are no actions


@dataclass(frozen=True)
class Argument:
    """One argument of a skill; `minimum` and `maximum` are in the SI unit of `quantity` (or plain, for integers)."""

    name: str
    type: str
    optional: bool = False
    values: tuple[str, ...] = ()
    quantity: str = ""
    minimum: float = 0.0
    maximum: float = 0.0
    max_length: int = 120


@dataclass(frozen=True)
class Skill:
    """One thing the robot can do. `confirm` asks the person first; the same skill waits `cooldown_s` to be accepted."""

    name: str
    description: str
    arguments: tuple[Argument, ...] = ()
    one_of: tuple[str, ...] = ()
    risk: str = "low"
    confirm: bool = False
    cooldown_s: float = 0.0

    def tool(self) -> dict[str, Any]:
        """The skill as a JSON-schema tool, the form in which chat templates list tools."""
        properties = {}
        for a in self.arguments:
            schema: dict[str, Any] = {"type": "integer" if a.type == "integer" else "string"}
            if a.type == "enum":
                schema["enum"] = list(a.values)
            if a.type in ("integer",):
                schema |= {"minimum": int(a.minimum), "maximum": int(a.maximum)}
            schema["description"] = {
                "number": f"{a.quantity} with its unit, such as 2 {SI.get(a.quantity, '')}",
                "text": "a few words",
                "integer": "a whole number",
                "enum": "one of the values",
            }.get(a.type, f"id of a {a.type}" if a.type != "place" else "id of a location or a person")
            properties[a.name] = schema
        required = [a.name for a in self.arguments if not a.optional]
        parameters = {"type": "object", "properties": properties, "required": required}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": parameters},
        }


@dataclass(frozen=True)
class Skills:
    """The skills of one robot by name, in the order of the file."""

    skills: Mapping[str, Skill]

    def __contains__(self, name: object) -> bool:
        return name in self.skills

    def __getitem__(self, name: str) -> Skill:
        return self.skills[name]

    def __iter__(self) -> Iterator[Skill]:
        return iter(self.skills.values())

    def subset(self, names: Iterable[str]) -> Skills:
        """Only the named skills, in the given order; raises ConfigError for an unknown name."""
        chosen = list(names)
        unknown = [n for n in chosen if n not in self.skills]
        if unknown:
            raise ConfigError(f"unknown skill {unknown[0]!r}; known: {', '.join(self.skills)}")
        return Skills({n: self.skills[n] for n in chosen})

    @staticmethod
    def load(path: str | Path) -> Skills:
        """Read a skills file; raises ConfigError naming file, skill, argument and the way out."""
        path = Path(path)
        data = read_yaml(path)
        if not isinstance(data, dict) or not isinstance(data.get("skills"), dict) or not data["skills"]:
            raise ConfigError(f"{path}: needs a mapping 'skills:' with at least one skill")
        return Skills({name: _skill(f"{path}: skill '{name}'", name, body) for name, body in data["skills"].items()})


def _skill(where: str, name: Any, body: Any) -> Skill:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"{where}: a skill's name is lower-case snake_case, such as navigate_to")
    if name in REPLY_NAMES:
        raise ConfigError(f"{where}: this name is taken by a reply; choose another")
    if not isinstance(body, dict):
        raise ConfigError(f"{where}: needs at least 'description: …'")
    known = {"description", "arguments", "one_of", "risk", "confirm", "cooldown_s"}
    if extra := set(body) - known:
        raise ConfigError(f"{where}: unknown key {sorted(extra)[0]!r}; known: {', '.join(sorted(known))}")
    description = body.get("description")
    if not isinstance(description, str) or not description.strip():
        raise ConfigError(f"{where}: needs 'description: …'")
    raw = body.get("arguments") or {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: 'arguments' maps names to types, such as location: {{type: location}}")
    arguments = tuple(_argument(f"{where}, argument '{key}'", key, spec) for key, spec in raw.items())
    one_of = tuple(body.get("one_of") or ())
    for key in one_of:
        if key not in raw:
            raise ConfigError(f"{where}: one_of names '{key}', which is not an argument")
    risk = body.get("risk", "low")
    if risk not in RISKS:
        raise ConfigError(f"{where}: risk '{risk}' is not one of {', '.join(RISKS)}")
    confirm, cooldown = body.get("confirm", False), body.get("cooldown_s", 0.0)
    if not isinstance(confirm, bool):
        raise ConfigError(f"{where}: confirm is true or false")
    if isinstance(cooldown, bool) or not isinstance(cooldown, int | float) or cooldown < 0:
        raise ConfigError(f"{where}: cooldown_s is a number of seconds, 0 or more")
    return Skill(name, description.strip(), arguments, one_of, risk, confirm, float(cooldown))


def _argument(where: str, name: Any, spec: Any) -> Argument:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"{where}: an argument's name is lower-case snake_case")
    if not isinstance(spec, dict) or spec.get("type") not in ARGUMENT_TYPES:
        raise ConfigError(f"{where}: needs 'type', one of {', '.join(ARGUMENT_TYPES)}")
    kind, values, quantity = spec["type"], tuple(spec.get("values") or ()), spec.get("quantity", "")
    if kind == "enum" and (not values or not all(isinstance(v, str) and NAME.fullmatch(v) for v in values)):
        raise ConfigError(f"{where}: an enum needs 'values', lower-case words")
    if kind == "number" and quantity not in SI:
        raise ConfigError(f"{where}: a number needs 'quantity', one of {', '.join(SI)}")
    low: Any = spec.get("min", 0)
    high: Any = spec.get("max", 0)
    if kind in ("integer", "number"):
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
        if "max" not in spec or not numeric or low > high or low < 0:
            raise ConfigError(f"{where}: needs 0 <= min <= max (in SI units)")
    length = spec.get("max_length", 120)
    if not isinstance(length, int) or not 1 <= length <= 400:
        raise ConfigError(f"{where}: max_length is 1 to 400")
    return Argument(name, kind, bool(spec.get("optional", False)), values, quantity, float(low), float(high), length)
