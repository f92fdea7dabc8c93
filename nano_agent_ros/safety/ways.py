"""Where an action leads, judged against the zones of the site before and while the robot drives."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import Fault
from nano_agent_ros.safety.order import Order, Refused, RobotView
from nano_agent_ros.safety.policy import DIRECTIONS, Policy, SkillRule
from nano_agent_ros.safety.zones import Point, clearance, length
from nano_agent_ros.skills.site import Site, Zone

PLACES = ("from", "location", "to")
"""Arguments that commonly name places: a skill that does not have them among its legs must not be given them."""


@dataclass(frozen=True)
class Way:
    """A way that is open: the speed limit on it, and the zones on it that need a person's yes."""

    max_speed_mps: float | None = None
    asks: tuple[str, ...] = ()


class Ways:
    """Finds the way of an action (straight lines, in the site's frame) and judges it."""

    def __init__(self, policy: Policy, site: Site) -> None:
        """Raises ConfigError if the policy names what the site lacks."""
        for name in policy.zones:
            if name not in site.zones:
                raise ConfigError(f"the safety policy names zone '{name}', which site '{site.name}' lacks")
        self._policy = policy
        self._site = site
        self._closed = tuple(zone for zone in site.zones.values() if zone.policy == "no_go")
        self._speeds = {name: speed for name, zone in site.zones.items() if (speed := self._speed_in(name, zone))}
        self._asking = tuple(name for name, rule in policy.zones.items() if rule.confirm)
        self._has_zones = any(zone.polygon for zone in site.zones.values())

    def check(self, order: Order, rule: SkillRule, now: float, robot: RobotView) -> Way | Refused:
        """The way of an action if it is open; the places that it names are judged even if it does not drive."""
        goals = self._goals(order, rule)
        if isinstance(goals, Refused):
            return goals
        if refusal := self._enters(goals):
            return refusal
        here = robot.pose if self._fresh(now, robot) else None
        if not rule.drives:
            return self._check_standing(order, here, goals)
        if here is None and (self._has_zones or math.isfinite(rule.max_way_m)):
            return Refused(Fault.PRECONDITION, "where the robot is is not known, so its way cannot be judged")
        along_axes = rule.motion == "straight" or (not goals and rule.distance_m > 0.0)
        if here is not None and along_axes:
            way = [here, _straight(order, rule, here)]
        else:
            way = [*([here] if here else []), *goals]
        points = [(pose.x, pose.y) for pose in way]
        if points and length(points) > rule.max_way_m:
            return Refused(Fault.LIMIT, f"a way of {length(points):.1f} m is longer than {rule.max_way_m:g} m")
        judged = [points] if self._policy.straight_line else [[point] for point in points[1:]]
        for part in judged if points else []:
            if refusal := self._crosses(part):
                return refusal
        return self._open(points, unknown=rule.motion == "free")

    def after(self, order: Order, rule: SkillRule, robot: RobotView) -> RobotView:
        """Where its way ends; where the robot is now if that is not known."""
        goals = self._goals(order, rule) if rule.motion == "places" else []
        if isinstance(goals, list) and goals:
            return RobotView(goals[-1], robot.stamp_s)
        if robot.pose is None or not (rule.motion == "straight" or (rule.drives and rule.distance_m > 0.0)):
            return robot
        return RobotView(_straight(order, rule, robot.pose), robot.stamp_s)

    def watch(self, now: float, robot: RobotView) -> Refused | None:
        """Whether the robot is in a closed zone, or lost."""
        if not self._closed or not self._has_zones:
            return None
        if robot.pose is None or not self._fresh(now, robot):
            return Refused(Fault.PRECONDITION, "the robot no longer says where it is")
        zone = next((z for z in self._closed if z.contains(robot.pose.x, robot.pose.y)), None)
        return None if zone is None else Refused(Fault.ZONE, f"the robot is in {_named(zone)}, which is closed")

    def _goals(self, order: Order, rule: SkillRule) -> list[Pose] | Refused:
        goals: list[Pose] = []
        if extra := [name for name in PLACES if name in order.arguments and name not in rule.legs]:
            return Refused(Fault.INVALID_ARGUMENT, f"'{order.skill}' goes to no '{extra[0]}', says the safety policy")
        places = [str(order.arguments[name]) for name in rule.legs if name in order.arguments]
        if not places and rule.place:
            places = [rule.place]
        for place in places:
            if place in self._site.people:
                continue
            if place not in self._site.locations:
                return Refused(Fault.INVALID_ARGUMENT, f"'{place}' is no place of site '{self._site.name}'")
            if self._site.forbids(place):
                return Refused(Fault.ZONE, f"{self._site.name_of(place)} is in a no-go zone")
            pose = self._site.locations[place].pose
            if pose is None and rule.drives and self._has_zones:
                return Refused(Fault.BLOCKED, f"no pose is known for '{place}'; give it one in the site file")
            if pose is not None:
                goals.append(Pose(*pose))
        if order.pose is None:
            return goals
        if order.frame_id not in ("", self._site.frame_id):
            why = f"its pose is in frame '{order.frame_id}', the site's is '{self._site.frame_id}'"
            return Refused(Fault.INVALID_ARGUMENT, why)
        if not all(map(math.isfinite, (order.pose.x, order.pose.y, order.pose.yaw))):
            return Refused(Fault.INVALID_ARGUMENT, "its pose is not finite")
        if goals and min(order.pose.distance_to(goal) for goal in goals) > self._policy.pose_tolerance_m:
            return Refused(Fault.INVALID_ARGUMENT, "its pose is not that of the place that it names")
        return goals or [order.pose]

    def _check_standing(self, order: Order, here: Pose | None, goals: list[Pose]) -> Way | Refused:
        points = [(pose.x, pose.y) for pose in ([here] if here else []) + goals]
        speed, limit = order.arguments.get("speed"), self._limit_on(points[:1] if here else [])
        if isinstance(speed, int | float) and limit is not None and speed > limit:
            return Refused(Fault.LIMIT, f"in this zone {limit:g} m/s is the limit")
        asked = (self._asked_on([point]) for point in points)  # by itself: it does not drive from one to the other
        return Way(None, tuple(dict.fromkeys(name for names in asked for name in names)))

    def _enters(self, goals: list[Pose]) -> Refused | None:
        """A goal is judged with the robot's size, whether or not the way there is."""
        refusals = (self._crosses([(goal.x, goal.y)]) for goal in goals)
        return next((refusal for refusal in refusals if refusal), None)

    def _crosses(self, points: list[Point]) -> Refused | None:
        for zone in self._closed:
            near = clearance(zone, points)
            if near <= 0.0 or near < self._policy.clearance_m:
                return Refused(Fault.ZONE, f"the way leads into {_named(zone)}, which is closed, or too close to it")
        return None

    def _open(self, points: list[Point], unknown: bool) -> Way:
        limit = min(self._speeds.values(), default=None) if unknown else self._limit_on(points)
        return Way(limit, self._asking if unknown else self._asked_on(points))

    def _limit_on(self, points: list[Point]) -> float | None:
        speeds = (v for k, v in self._speeds.items() if points and clearance(self._site.zones[k], points) <= 0.0)
        return min(speeds, default=None)

    def _asked_on(self, points: list[Point]) -> tuple[str, ...]:
        zones = self._site.zones
        return tuple(name for name in self._asking if points and clearance(zones[name], points) <= 0.0)

    def _speed_in(self, name: str, zone: Zone) -> float | None:
        rule = self._policy.zones.get(name)
        if rule is not None and rule.max_speed_mps is not None:
            return rule.max_speed_mps
        return self._policy.slow_speed_mps if zone.policy == "slow" else None

    def _fresh(self, now: float, robot: RobotView) -> bool:
        if robot.pose is None or not all(map(math.isfinite, (robot.pose.x, robot.pose.y, robot.pose.yaw))):
            return False
        return self._policy.max_pose_age_s == 0.0 or now - robot.stamp_s <= self._policy.max_pose_age_s


def _straight(order: Order, rule: SkillRule, here: Pose) -> Pose:
    """Where a move along the robot's own axes ends."""
    forward, left = DIRECTIONS.get(str(order.arguments.get("direction", "")), DIRECTIONS[rule.direction])
    distance = float(order.arguments.get("distance", rule.distance_m))
    return here.offset(forward * distance, left * distance)


def _named(zone: Zone) -> str:
    return f"zone '{zone.name}'"
