"""Planar motion of a robot that turns on the spot and drives straight (REP-103: metres, radians, x forward)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Pose:
    """Position in metres and heading in radians, counter-clockwise from the x axis of the site's frame."""

    x: float
    y: float
    yaw: float

    def distance_to(self, other: Pose) -> float:
        """Distance in metres; headings do not count."""
        return math.hypot(other.x - self.x, other.y - self.y)

    def offset(self, forward: float, left: float) -> Pose:
        """The pose reached by moving by metres along the robot's own axes, heading kept."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return replace(self, x=self.x + forward * cos - left * sin, y=self.y + forward * sin + left * cos)


def angle_between(start: float, end: float) -> float:
    """The shortest way from one heading to another, in (-pi, pi]."""
    return math.pi - (math.pi - (end - start)) % (2 * math.pi)


@dataclass
class Body:
    """What changes while the robot works. Speeds in m/s and rad/s, battery in percent, drain in percent per second.

    `obstacles` are circles (x, y, radius) in metres that its centre does not enter.
    """

    pose: Pose = field(default_factory=lambda: Pose(0.0, 0.0, 0.0))
    speed_mps: float = 1.0
    turn_rate: float = 1.5
    battery: float = 100.0
    drain_driving: float = 0.02
    drain_idle: float = 0.001
    charge_rate: float = 0.2
    carrying: str = ""
    attached: str = ""
    docked: bool = False
    obstacles: tuple[tuple[float, float, float], ...] = ()

    def turn(self, goal_yaw: float, dt: float) -> float:
        """Turn towards a heading for at most dt seconds; return the seconds used."""
        angle = angle_between(self.pose.yaw, goal_yaw)
        used = min(dt, abs(angle) / self.turn_rate)
        done = abs(angle) <= used * self.turn_rate + 1e-9
        yaw = goal_yaw if done else self.pose.yaw + math.copysign(used * self.turn_rate, angle)
        self.pose = replace(self.pose, yaw=yaw)
        self._drain(used, self.drain_driving)
        return used

    def drive(self, goal: Pose, dt: float, factor: float = 1.0, limit_mps: float = math.inf) -> float:
        """Move straight to the goal's position, heading kept, for at most dt seconds; return the seconds used."""
        distance = self.pose.distance_to(goal)
        speed = min(self.speed_mps * factor, limit_mps)
        used = min(dt, self.free_way(goal) / speed)
        share = 1.0 if distance <= used * speed + 1e-9 else used * speed / distance
        self.pose = replace(
            self.pose,
            x=self.pose.x + (goal.x - self.pose.x) * share,
            y=self.pose.y + (goal.y - self.pose.y) * share,
        )
        self._drain(used, self.drain_driving)
        return used

    def free_way(self, goal: Pose) -> float:
        """How many metres of the straight way to a goal are free of obstacles; all of it, if none is in the way."""
        way = self.pose.distance_to(goal)
        free = way
        for x, y, radius in self.obstacles:
            if way == 0.0:
                break
            ahead = ((x - self.pose.x) * (goal.x - self.pose.x) + (y - self.pose.y) * (goal.y - self.pose.y)) / way
            beside = (x - self.pose.x) ** 2 + (y - self.pose.y) ** 2 - ahead**2
            # Whoever stands in a circle may leave it.
            if ahead > 0.0 and beside < radius**2:
                free = min(free, max(0.0, ahead - math.sqrt(radius**2 - beside)))
        return free

    def rest(self, dt: float) -> None:
        """Stand still for dt seconds: charge on the charger, otherwise drain a little."""
        self._drain(dt, -self.charge_rate if self.docked else self.drain_idle)

    def _drain(self, seconds: float, rate: float) -> None:
        self.battery = min(100.0, max(0.0, self.battery - seconds * rate))
