"""Back ends over ROS: what an executor node sends to a robot, one class for each kind of robot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rclpy.node import Node

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.execution import BackEnd, Report, Router
from nano_agent_ros.nodes.back_ends.nav2_settings import Nav2Settings
from nano_agent_ros.skills import Site

NAMES = ("simulated", "nav2", "mapping")


def make_back_end(
    names: Sequence[str], node: Node, site: Site, report: Callable[[Report], None], values: Mapping[str, Any]
) -> BackEnd:
    """The back ends of these names as one, the first that has a skill getting it; raises ConfigError.

    `values` are the executor's parameters: `mapping` and those of Nav2.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"parameter back_ends: '{name}' is none of {', '.join(NAMES)}")
    made: list[BackEnd] = []
    try:
        for name in names:
            made.append(_make(name, node, site, report, values))
        return Router(made)
    except Exception:
        for back_end in made:
            back_end.close()
        raise


def _make(
    name: str, node: Node, site: Site, report: Callable[[Report], None], values: Mapping[str, Any]
) -> BackEnd:
    # Each is imported only where it is used: what it needs may not be installed elsewhere.
    if name == "simulated":
        from nano_agent_ros.nodes.back_ends.simulated import Simulated

        return Simulated(node, report, site.frame_id)
    if name == "nav2":
        from nano_agent_ros.nodes.back_ends.nav2 import Nav2

        return Nav2(node, report, site, Nav2Settings.of(values, site))
    from nano_agent_ros.nodes.back_ends import mapping

    if not values["mapping"]:
        raise ConfigError("back end 'mapping' needs the parameter mapping: a file such as config/mapping_example.yaml")
    return mapping.Mapping(node, report, site, Path(values["mapping"]).expanduser())
