"""What may be chosen of Nav2: docks, speeds, behaviour tree, planner and controller, as parameters of the executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.nodes.parameters import Parameter
from nano_agent_ros.skills import Site

PREFIX = "nav2."
PARAMETERS = (
    Parameter("nav2.speed_mps", 0.25, "Speed of short straight moves, in m/s", 0.01, 3.0),
    Parameter("nav2.behavior_tree", "", "Behaviour tree file of NavigateToPose; empty: Nav2's own"),
    Parameter("nav2.planner_id", "", "Planner plugin, told on planner_selector; empty: the tree's default"),
    Parameter("nav2.controller_id", "", "Controller plugin, told on controller_selector; empty: the tree's default"),
    Parameter("nav2.dock_location", "charging_station", "Location of the site at which `dock` docks"),
    Parameter("nav2.dock_id", "", "Dock of Nav2's database; empty: that of the location, else the location's pose"),
    Parameter("nav2.dock_type", "", "Type of dock; empty: that of the location, else Nav2's only one"),
    Parameter("nav2.navigate_to_staging_pose", True, "Whether Nav2 drives to the staging pose before it docks"),
    Parameter("nav2.max_staging_time_s", 1000.0, "How long that may take, in seconds", 1.0, 10_000.0),
    Parameter("nav2.max_undocking_time_s", 30.0, "How long undocking may take, in seconds", 1.0, 600.0),
)


@dataclass(frozen=True)
class Nav2Settings:
    """The values of `PARAMETERS` without their prefix; `dock_id` empty: the pose of `dock_location`."""

    speed_mps: float = 0.25
    behavior_tree: str = ""
    planner_id: str = ""
    controller_id: str = ""
    dock_location: str = "charging_station"
    dock_id: str = ""
    dock_type: str = ""
    navigate_to_staging_pose: bool = True
    max_staging_time_s: float = 1000.0
    max_undocking_time_s: float = 30.0

    @staticmethod
    def of(values: Mapping[str, Any], site: Site) -> Nav2Settings:
        """From the parameters, and where they say nothing of the dock from its location on the site."""
        chosen = {f.name: values[PREFIX + f.name] for f in fields(Nav2Settings)}
        place = site.locations.get(chosen["dock_location"])
        if place is not None:
            chosen["dock_id"] = chosen["dock_id"] or place.dock_id
            chosen["dock_type"] = chosen["dock_type"] or place.dock_type
        elif chosen["dock_location"] != Nav2Settings.dock_location:  # not every site has a charger
            raise ConfigError(f"parameter nav2.dock_location: '{chosen['dock_location']}' is no location of the site")
        return Nav2Settings(**chosen)
