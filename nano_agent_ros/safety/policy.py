"""The safety policy: what this robot may do at all, how fast, how far, how often, where, and after whose yes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import find, read_yaml
from nano_agent_ros.skills.quantities import SI, UNITS

MOTIONS = ("none", "places", "straight", "free")
CALMING = ("stop", "cancel", "pause")
"""Skills that only take motion away: no rule holds them back."""


class Risk(IntEnum):
    """The risks of RobotAction."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3


@dataclass(frozen=True)
class Limit:
    """What a number may be, in SI units, both ends included."""

    low: float
    high: float
    unit: str = ""

    def allows(self, value: float) -> bool:
        """Whether the value lies within; NaN does not."""
        return self.low - 1e-9 <= value <= self.high + 1e-9


@dataclass(frozen=True)
class Rate:
    """At most `count` actions within any `per_s` seconds."""

    count: int
    per_s: float


@dataclass(frozen=True)
class SkillRule:
    """What holds for one skill.

    `motion` says how the way is known beforehand: `places` (straight to the locations that its arguments `legs` name,
    else to `place`, else to its pose, else `distance_m` in `direction`), `straight` (its arguments `distance` and
    `direction`, else those of the rule), `free` (unknown: only where the robot really gets to counts), `none` (it
    does not drive).
    """

    motion: str = "none"
    limits: Mapping[str, Limit] = field(default_factory=dict)
    confirm: bool = False
    risk: Risk = Risk.NONE
    rate: Rate | None = None
    max_way_m: float = math.inf
    legs: tuple[str, ...] = ("location",)
    place: str = ""
    direction: str = "forward"
    distance_m: float = 0.0

    @property
    def drives(self) -> bool:
        """Whether the robot leaves its place."""
        return self.motion != "none"


@dataclass(frozen=True)
class ZoneRule:
    """What holds for one zone of the site, besides its own policy."""

    confirm: bool = False
    max_speed_mps: float | None = None


@dataclass(frozen=True)
class Policy:
    """All rules. Skills that are not named are refused; times in seconds, lengths in metres, speeds in m/s."""

    skills: Mapping[str, SkillRule]
    zones: Mapping[str, ZoneRule] = field(default_factory=dict)
    max_age_s: float = 10.0
    max_ahead_s: float = 1.0
    max_wait_s: float = 3600.0
    confirm_timeout_s: float = 20.0
    confirm_risk: Risk | None = Risk.HIGH
    session_timeout_s: float = 60.0
    operators: tuple[str, ...] = ()
    rate: Rate = Rate(60, 60.0)
    clearance_m: float = 0.0
    slow_speed_mps: float = 0.5
    straight_line: bool = True
    max_pose_age_s: float = 10.0
    pose_tolerance_m: float = 0.5

    @staticmethod
    def load(source: str | Path | Mapping[str, Any] = "") -> Policy:
        """Read a policy from a file (empty: the one that ships) or a parsed mapping; raises ConfigError."""
        if isinstance(source, Mapping):
            return _policy("safety policy", source)
        path = Path(source).expanduser() if str(source) else find("config/safety.yaml")
        return _policy(str(path), read_yaml(path))


def _policy(where: str, data: Any) -> Policy:
    body = _mapping(where, data, {f.name for f in fields(Policy)} | {"limits"})
    common = {key: _limit(f"{where}: limit '{key}'", spec) for key, spec in _group(where, body, "limits").items()}
    rules = _group(where, body, "skills")
    if not rules:
        raise ConfigError(f"{where}: needs 'skills:', the list of what the robot may do")
    skills = {str(k): _skill(f"{where}: skill '{k}'", v, common) for k, v in rules.items()}
    zones = {str(k): _zone(f"{where}: zone '{k}'", v) for k, v in _group(where, body, "zones").items()}
    chosen: dict[str, Any] = {"skills": skills, "zones": zones}
    for f in fields(Policy):
        if f.name in chosen or f.name not in body:
            continue
        value = body[f.name]
        if f.name == "rate":
            chosen[f.name] = _rate(where, value)
        elif f.name == "confirm_risk":
            chosen[f.name] = None if value is None else _risk(where, value)
        elif f.name == "operators":
            chosen[f.name] = _names(where, "operators", value)
        elif f.name == "straight_line":
            chosen[f.name] = _flag(where, f.name, value)
        else:
            chosen[f.name] = _number(where, f.name, value)
    return Policy(**chosen)


def _skill(where: str, data: Any, common: Mapping[str, Limit]) -> SkillRule:
    body = _mapping(where, data or {}, {f.name for f in fields(SkillRule)})
    motion = body.get("motion", "none")
    if motion not in MOTIONS:
        raise ConfigError(f"{where}: motion '{motion}' is none of {', '.join(MOTIONS)}")
    own = {key: _limit(f"{where}, limit '{key}'", spec) for key, spec in _group(where, body, "limits").items()}
    direction = str(body.get("direction", "forward"))
    if direction not in DIRECTIONS:
        raise ConfigError(f"{where}: direction '{direction}' is none of {', '.join(DIRECTIONS)}")
    return SkillRule(
        motion=motion,
        limits={**common, **own},
        confirm=_flag(where, "confirm", body.get("confirm", False)),
        risk=_risk(where, body.get("risk", "none")),
        rate=_rate(where, body["rate"]) if "rate" in body else None,
        max_way_m=_number(where, "max_way_m", body["max_way_m"]) if "max_way_m" in body else math.inf,
        legs=_names(where, "legs", body.get("legs", ["location"])),
        place=str(body.get("place", "")),
        direction=direction,
        distance_m=_number(where, "distance_m", body.get("distance_m", 0.0)),
    )


DIRECTIONS: Mapping[str, tuple[float, float]] = {
    "forward": (1.0, 0.0),
    "backward": (-1.0, 0.0),
    "left": (0.0, 1.0),
    "right": (0.0, -1.0),
}
"""Unit steps along the robot's own axes (REP-103: x forward, y left)."""


def _limit(where: str, data: Any) -> Limit:
    body = _mapping(where, data, {"min", "max", "unit"})
    unit = str(body.get("unit", ""))
    factors = {name: factor for units in UNITS.values() for name, factor in units.items() if math.isfinite(factor)}
    if unit and unit not in factors:
        raise ConfigError(f"{where}: unit '{unit}' is none of {', '.join(factors)}; leave it out for a count")
    factor = factors.get(unit, 1.0)
    if "max" not in body:
        raise ConfigError(f"{where}: needs max")
    low, high = (_number(where, key, body.get(key, 0.0)) for key in ("min", "max"))
    if low > high:
        raise ConfigError(f"{where}: min {low:g} is above max {high:g}")
    quantity = next((name for name, units in UNITS.items() if unit in units), "")
    return Limit(low * factor, high * factor, SI.get(quantity, ""))


def _zone(where: str, data: Any) -> ZoneRule:
    body = _mapping(where, data or {}, {"confirm", "max_speed_mps"})
    speed = body.get("max_speed_mps")
    if speed is not None and _number(where, "max_speed_mps", speed) <= 0.0:
        raise ConfigError(f"{where}: max_speed_mps is above 0; to close a zone give it policy: no_go in the site file")
    return ZoneRule(_flag(where, "confirm", body.get("confirm", False)), None if speed is None else float(speed))


def _rate(where: str, data: Any) -> Rate:
    body = _mapping(f"{where}: rate", data, {"count", "per_s"})
    count, per_s = body.get("count"), _number(f"{where}: rate", "per_s", body.get("per_s", 60.0))
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or per_s <= 0.0:
        raise ConfigError(f"{where}: rate needs count, a whole number from 1, and per_s above 0")
    return Rate(count, per_s)


def _risk(where: str, value: Any) -> Risk:
    names = [risk.name.lower() for risk in Risk]
    if value not in names:
        raise ConfigError(f"{where}: risk '{value}' is none of {', '.join(names)}")
    return Risk[value.upper()]


def _names(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f"{where}: {key} is a list of names, such as [location]")
    return tuple(value)


def _flag(where: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {name} is true or false")
    return value


def _number(where: str, name: str, value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    if not good:
        raise ConfigError(f"{where}: {name} is a finite number from 0, in SI units")
    return float(value)


def _group(where: str, body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    group = body.get(key) or {}
    if not isinstance(group, Mapping):
        raise ConfigError(f"{where}: '{key}' is a mapping of names to rules")
    return group


def _mapping(where: str, data: Any, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: is a mapping of {', '.join(sorted(known))}")
    if extra := set(map(str, data)) - known:
        raise ConfigError(f"{where}: unknown key {sorted(extra)[0]!r}; known: {', '.join(sorted(known))}")
    return data
