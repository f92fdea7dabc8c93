"""Several robots: their namespaces, what people call them, where they begin, and their share of the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import read_yaml
from nano_agent_ros.skills import Site
from nano_agent_ros.units import NodeSpec, full_namespace

MOST = 100
_SAID = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True)
class Robot:
    """One robot of several. `spoken` is what people call it, `others` what they call the rest."""

    namespace: str
    spoken: tuple[str, ...]
    others: tuple[str, ...]
    start: str

    def parameters(self) -> Mapping[str, Mapping[str, Any]]:
        """What its nodes are told besides what all robots are told, by node."""
        own, others = list(self.spoken), list(self.others) or [""]
        return {
            "listener": {"robot_names": own, "other_robots": others},
            "agent": {"robot_names": own, "other_robots": others},
            "sim_robot": {"start_location": self.start},
        }


def names_of(count: int | None, names: str | None) -> list[str]:
    """The names of `count` robots, or those of a list with commas; raises ConfigError for what cannot be names.

    Neither: no names, which means one robot without a name of its own.
    """
    listed = [name.strip() for name in names.split(",")] if names else []
    if count is not None and not 1 <= count <= MOST:
        raise ConfigError(f"{count} robots: a number from 1 to {MOST} is needed")
    if listed and count is not None and count != len(listed):
        raise ConfigError(f"{count} robots, but {len(listed)} names ({names}): give one of the two, or as many names")
    if not listed:
        return [f"unit_{number}" for number in range(1, count + 1)] if count and count > 1 else []
    namespaces = [_namespace(name) for name in listed]
    if twice := {name for name in namespaces if namespaces.count(name) > 1}:
        raise ConfigError(f"robot names: '{twice.pop()}' is there twice; give each robot a name of its own")
    return listed


def fleet(names: Sequence[str], site: Site, prefix: str = "/") -> tuple[Robot, ...]:
    """Robots of these names below the namespace `prefix`, each at a place of its own on the site.

    Raises ConfigError if the site has too few places at which a robot may stand.
    """
    places = [key for key, place in site.locations.items() if place.pose and not site.forbids(key)]
    if len(places) < len(names):
        raise ConfigError(
            f"site {site.name}: {len(names)} robots cannot begin at {len(places)} places; "
            "give more locations a pose, or start fewer robots"
        )
    spoken = [spoken_forms(name) for name in names]
    return tuple(
        Robot(
            full_namespace(f"{prefix}/{_namespace(name)}"),
            spoken[i],
            tuple(form for j, forms in enumerate(spoken) if j != i for form in forms),
            places[i],
        )
        for i, name in enumerate(names)
    )


def spoken_forms(name: str) -> tuple[str, ...]:
    """How a name is said and written: `unit_2` is "unit two" and "unit 2"."""
    words = re.findall(r"[^\W\d_]+|\d+", name.casefold())
    said = [_SAID[int(word)] if word.isdigit() and int(word) < len(_SAID) else word for word in words]
    return tuple(dict.fromkeys((" ".join(said), " ".join(words))))


def share(robots: int) -> tuple[NodeSpec, ...]:
    """What each of so many robots may take of this machine: threads, so that all together have the processors."""
    threads = max(1, len(os.sched_getaffinity(0)) // robots)
    return (NodeSpec("agent", {"threads": threads}), NodeSpec("listener", {"whisper": {"threads": threads}}))


def setting(files: Sequence[Path], node: str, name: str, default: Any) -> Any:
    """The value of a parameter by ROS parameter files, the last of which wins, for nodes of this name anywhere."""
    for file in files:
        content = read_yaml(file)
        for key, body in content.items() if isinstance(content, Mapping) else ():
            if str(key).rsplit("/", 1)[-1] == node and isinstance(body, Mapping):
                default = (body.get("ros__parameters") or {}).get(name, default)
    return default


def _namespace(name: str) -> str:
    namespace = re.sub(r"[\s-]+", "_", name.strip().lower())
    if not re.fullmatch(r"[a-z][a-z0-9_]*", namespace):
        raise ConfigError(f"robot name '{name}': letters, digits and spaces, the first a letter, such as unit 2")
    return namespace
