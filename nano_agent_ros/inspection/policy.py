"""The site's policy: how severe a defect is and what is to be done, by its type, size and place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import find, read_yaml


class Severity(IntEnum):
    """As in DefectReport."""

    UNKNOWN = 0
    MINOR = 1
    MAJOR = 2
    CRITICAL = 3


@dataclass(frozen=True)
class Rule:
    """Applies to the types and locations it names (all if it names none), from `min_percent` of the picture on."""

    severity: Severity
    types: frozenset[str] = frozenset()
    locations: frozenset[str] = frozenset()
    min_percent: float = 0.0
    action: str = ""

    def applies(self, defect_type: str, percent: float | None, location: str) -> bool:
        """`percent` is None for what nobody has measured: then rules with a size do not apply."""
        fits = not self.types or defect_type in self.types
        there = not self.locations or location in self.locations
        return fits and there and (self.min_percent == 0.0 or (percent is not None and percent >= self.min_percent))


@dataclass(frozen=True)
class Policy:
    """Rules in order: the first that applies decides. `classes` maps labels of detectors to types of defect."""

    rules: tuple[Rule, ...]
    classes: Mapping[str, str]

    def judge(self, defect_type: str, percent: float | None, location: str) -> tuple[Severity, str]:
        """Severity and recommended action; UNKNOWN and none if no rule applies."""
        for rule in self.rules:
            if rule.applies(defect_type, percent, location):
                return rule.severity, rule.action
        return Severity.UNKNOWN, ""

    @staticmethod
    def load(path: str | Path | None, types: Collection[str], locations: Collection[str]) -> Policy:
        """Read a policy file (None: the one that ships) for these types and locations; raises ConfigError."""
        file = Path(path).expanduser() if path else find("config/inspection.yaml")
        data = read_yaml(file)
        if not isinstance(data, Mapping) or (extra := set(data) - {"severity", "classes"}):
            unknown = f"unknown key {sorted(map(str, extra))[0]!r}; " if isinstance(data, Mapping) else ""
            raise ConfigError(f"{file}: {unknown}a policy has the keys 'severity' and 'classes'")
        rules, classes = data.get("severity") or [], data.get("classes") or {}
        if not isinstance(rules, list) or not isinstance(classes, Mapping):
            raise ConfigError(f"{file}: 'severity' is a list of rules, 'classes' maps labels to types of defect")
        for label, name in classes.items():
            _check(f"{file}: class '{label}'", [name], types, "type of defect")
        parsed = tuple(_rule(f"{file}: rule {i}", rule, types, locations) for i, rule in enumerate(rules, 1))
        return Policy(parsed, {str(label): str(name) for label, name in classes.items()})


def _rule(where: str, body: Any, types: Collection[str], locations: Collection[str]) -> Rule:
    known = {"severity", "types", "locations", "min_percent", "action"}
    if not isinstance(body, Mapping) or set(body) - known:
        raise ConfigError(f"{where}: a rule has the keys {', '.join(sorted(known))}")
    name = str(body.get("severity", "")).upper()
    if name not in Severity.__members__ or name == "UNKNOWN":
        raise ConfigError(f"{where}: severity is minor, major or critical")
    for key in ("types", "locations"):
        if not isinstance(body.get(key, []), list):
            raise ConfigError(f"{where}: {key} is a list")
    percent = body.get("min_percent", 0.0)
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise ConfigError(f"{where}: min_percent is 0 to 100, the part of the picture")
    return Rule(
        Severity[name],
        _check(where, body.get("types", []), types, "type of defect"),
        _check(where, body.get("locations", []), locations, "location"),
        float(percent),
        str(body.get("action", "")).strip(),
    )


def _check(where: str, names: list[Any], known: Collection[str], what: str) -> frozenset[str]:
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: '{name}' is no {what}; these are: {', '.join(sorted(known))}")
    return frozenset(map(str, names))
