"""The site file: locations, objects and people with the names that are spoken, poses and zones."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import read_yaml, site_path

ID = re.compile(r"[a-z0-9][a-z0-9_]*")
SPEAKER = "speaker"  # a person on every site: whoever is talking
POLICIES = ("no_go", "slow")


@dataclass(frozen=True)
class Named:
    """An id and the names by which people speak of it; the first is the one the robot says."""

    id: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Location(Named):
    """`pose` is (x m, y m, yaw rad) in the site's frame, or None if unknown; `dock_id`, `dock_type`: of Nav2's dock."""

    pose: tuple[float, float, float] | None = None
    zone: str = ""
    dock_id: str = ""
    dock_type: str = ""


@dataclass(frozen=True)
class Zone:
    """A polygon [[x m, y m], …] in the site's frame with a policy: no_go or slow."""

    name: str
    policy: str
    polygon: tuple[tuple[float, float], ...]

    def contains(self, x: float, y: float) -> bool:
        """Whether the point (m) lies inside, by the even-odd rule."""
        inside, j = False, len(self.polygon) - 1
        for i, (xi, yi) in enumerate(self.polygon):
            xj, yj = self.polygon[j]
            if (yi > y) != (yj > y) and x < (xj - xi) * (y - yi) / (yj - yi) + xi:
                inside = not inside
            j = i
        return inside


@dataclass(frozen=True)
class Site:
    """One site. `people` always holds `speaker`."""

    name: str
    frame_id: str
    locations: Mapping[str, Location]
    objects: Mapping[str, Named]
    people: Mapping[str, Named]
    zones: Mapping[str, Zone] = field(default_factory=dict)

    def ids(self, kind: str) -> tuple[str, ...]:
        """Ids that an argument of type location, object, person or place may take."""
        groups = {
            "location": (self.locations,),
            "object": (self.objects,),
            "person": (self.people,),
            "place": (self.locations, self.people),
        }[kind]
        return tuple(key for group in groups for key in group)

    def name_of(self, key: str) -> str:
        """The spoken name of an id; the id with spaces if it is of no one here."""
        for group in (self.locations, self.objects, self.people):
            if key in group:
                return group[key].names[0]
        return key.replace("_", " ")

    def aliases(self) -> list[str]:
        """Every spoken name, to bias the transcription."""
        named: Iterable[Named] = [*self.locations.values(), *self.objects.values(), *self.people.values()]
        return [name for n in named if n.id != SPEAKER for name in n.names]

    def forbids(self, location: str) -> bool:
        """Whether a location lies in a no-go zone, by its `zone` or by its pose."""
        place = self.locations[location]
        closed = [z for z in self.zones.values() if z.policy == "no_go"]
        return any(z.name == place.zone or (place.pose is not None and z.contains(*place.pose[:2])) for z in closed)

    def describe(self) -> str:
        """The site as the prompt shows it: a line per id, names first, so that a name leads to its id when read."""
        lines = ["locations:"]
        for place in self.locations.values():
            lines.append(_line(place) + (" (no go)" if self.forbids(place.id) else ""))
        lines += ["objects:", *map(_line, self.objects.values()), "people:", *map(_line, self.people.values())]
        return "\n".join(lines)

    @staticmethod
    def load(source: str | Path | Mapping[str, Any]) -> Site:
        """Read a site from a file, a shipped name or an already parsed mapping; raises ConfigError."""
        if isinstance(source, Mapping):
            return _site("site", source)
        path = site_path(source)
        return _site(str(path), read_yaml(path))


def _line(named: Named) -> str:
    return f"- {', '.join(named.names)}={named.id}"


def _site(where: str, data: Any) -> Site:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: a site file is a mapping with 'locations', 'objects' and 'people'")
    known = {"site", "frame_id", "locations", "objects", "people", "zones"}
    if extra := set(data) - known:
        raise ConfigError(f"{where}: unknown key {sorted(map(str, extra))[0]!r}; known: {', '.join(sorted(known))}")
    zones = {
        str(key): _zone(f"{where}: zone '{key}'", str(key), body) for key, body in _group(where, data, "zones").items()
    }
    locations = {
        key: _location(f"{where}: location '{key}'", key, body, zones)
        for key, body in _group(where, data, "locations").items()
    }
    objects = {k: _named(f"{where}: object '{k}'", k, b) for k, b in _group(where, data, "objects").items()}
    people = {k: _named(f"{where}: person '{k}'", k, b) for k, b in _group(where, data, "people").items()}
    people.setdefault(SPEAKER, Named(SPEAKER, ("me",)))
    if not locations:
        raise ConfigError(f"{where}: needs at least one location")
    taken: dict[str, str] = {}
    for group, kind in ((locations, "location"), (objects, "object"), (people, "person")):
        for key in group:
            if key in taken:
                raise ConfigError(f"{where}: '{key}' is both a {taken[key]} and a {kind}; ids are unique on a site")
            taken[key] = kind
    return Site(str(data.get("site", "site")), str(data.get("frame_id", "map")), locations, objects, people, zones)


def _group(where: str, data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    group = data.get(key) or {}
    if not isinstance(group, Mapping):
        raise ConfigError(f"{where}: '{key}' maps ids to entries, such as dock_3: {{aliases: [dock 3]}}")
    return group


def _named(where: str, key: Any, body: Any) -> Named:
    if not isinstance(key, str) or not ID.fullmatch(key):
        raise ConfigError(f"{where}: an id is lower-case snake_case, such as dock_3")
    body = {} if body is None else {"aliases": body} if isinstance(body, list) else body
    if not isinstance(body, Mapping):
        raise ConfigError(f"{where}: needs aliases: [name, …]")
    names = body.get("aliases") or [key.replace("_", " ")]
    if not isinstance(names, list) or not all(isinstance(n, str | int) and str(n).strip() for n in names):
        raise ConfigError(f"{where}: aliases is a list of names")
    clean = [re.sub(r"[\s,;:<>()]+", " ", str(n)).strip() for n in names]
    return Named(key, tuple(dict.fromkeys(n for n in clean if n)))


def _location(where: str, key: Any, body: Any, zones: Mapping[str, Zone]) -> Location:
    named = _named(where, key, body)
    body = body if isinstance(body, Mapping) else {}
    pose = body.get("pose")
    if pose is not None:
        pose = _numbers(where, "pose", pose, 3)
    zone = str(body.get("zone") or "")
    if zone and zone not in zones:
        raise ConfigError(f"{where}: zone '{zone}' is not defined; add it under zones:")
    dock = body.get("dock") or {}
    if not isinstance(dock, Mapping) or set(dock) - {"id", "type"}:
        raise ConfigError(f"{where}: dock is {{id: …, type: …}}, of Nav2's docks; either may be left out")
    return Location(named.id, named.names, pose, zone, str(dock.get("id") or ""), str(dock.get("type") or ""))


def _zone(where: str, name: str, body: Any) -> Zone:
    if not isinstance(body, Mapping) or body.get("policy") not in POLICIES:
        raise ConfigError(f"{where}: needs policy, one of {', '.join(POLICIES)}")
    polygon = body.get("polygon") or []
    if not isinstance(polygon, list) or (polygon and len(polygon) < 3):
        raise ConfigError(f"{where}: polygon is a list of at least three points [x, y]")
    return Zone(name, body["policy"], tuple(_numbers(where, "polygon", p, 2) for p in polygon))  # type: ignore[misc]


def _numbers(where: str, what: str, value: Any, n: int) -> Any:
    good = isinstance(value, list) and len(value) == n
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value):
        raise ConfigError(f"{where}: {what} needs {n} finite numbers, such as {[0.0] * n}")
    return tuple(float(v) for v in value)
