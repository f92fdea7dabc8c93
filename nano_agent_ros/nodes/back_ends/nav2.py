"""Nav2 (https://docs.nav2.org): the skills that drive, through Nav2's own actions. Needs the package nav2_msgs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rclpy.node import Node

from nano_agent_ros.execution import BackEnd, Report
from nano_agent_ros.nodes.back_ends.goals import Goals
from nano_agent_ros.nodes.back_ends.interfaces import fill, load_interface
from nano_agent_ros.robot.behaviours import CannotDo
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import Fault, State
from nano_agent_ros.safety import Order
from nano_agent_ros.skills import Site

ACTIONS = {
    "NavigateToPose": "navigate_to_pose",
    "FollowWaypoints": "follow_waypoints",
    "DockRobot": "dock_robot",
    "UndockRobot": "undock_robot",
    "Spin": "spin",
    "BackUp": "backup",
    "DriveOnHeading": "drive_on_heading",
    "Wait": "wait",
}
"""Nav2's actions and the names under which its servers offer them."""

FAULTS = {"TIMEOUT": Fault.TIMEOUT, "COLLISION_AHEAD": Fault.BLOCKED, "NO_VALID_PATH": Fault.BLOCKED}
"""What Nav2's error codes mean here, by the end of their names; any other is UNKNOWN with Nav2's own words."""


@dataclass(frozen=True)
class Nav2Settings:
    """`speed_mps`: of short straight moves. `dock_id`: of Nav2's dock database; empty: the pose of `dock_location`."""

    speed_mps: float = 0.25
    dock_location: str = "charging_station"
    dock_id: str = ""
    dock_type: str = ""


@dataclass(frozen=True)
class _Request:
    action: str
    fields: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[Any], float] = lambda feedback: 0.0


class Nav2(BackEnd):
    """Sends goals to Nav2's action servers; what Nav2 cannot hold is cancelled and begun again."""

    def __init__(
        self, node: Node, report: Callable[[Report], None], site: Site, settings: Nav2Settings | None = None
    ) -> None:
        """Raises ConfigError if nav2_msgs is not installed."""
        super().__init__(report)
        self._node = node
        self._site = site
        self._settings = settings or Nav2Settings()
        self._types = {name: load_interface(f"nav2_msgs/action/{name}") for name in ACTIONS}
        self._speed_limit = load_interface("nav2_msgs/msg/SpeedLimit")
        self._limits = node.create_publisher(self._speed_limit, "speed_limit", 10)
        self._set_speed_mps = math.inf
        self._goals = {
            name: Goals(node, self._types[name], topic, lambda r: self.report(r)) for name, topic in ACTIONS.items()
        }
        self._requests: dict[str, Callable[[Order, float], _Request]] = {
            "navigate_to": self._navigate,
            "guide": self._navigate,
            "patrol": self._patrol,
            "dock": self._dock,
            "undock": self._undock,
            "turn": self._turn,
            "move": self._move,
            "wait": self._wait,
        }

    def has(self, skill: str) -> bool:
        """What Nav2 can do."""
        return skill in self._requests or skill == "set_speed"

    def start(self, order: Order, max_speed_mps: float | None) -> None:
        """Send it to the server that it is for; a speed limit goes to the topic `speed_limit` before."""
        if order.skill == "set_speed":
            self._set_speed_mps = float(order.arguments["speed"])
            self._limit(math.inf)
            self.report(Report(order.action_id, State.FINISHED))
            return
        limit = math.inf if max_speed_mps is None else max_speed_mps
        try:
            request = self._requests[order.skill](order, min(limit, self._set_speed_mps))
        except CannotDo as error:
            self.report(Report(order.action_id, State.REJECTED, fault=Fault(error.code), message=str(error)))
            return
        self._limit(limit)
        stamp = self._node.get_clock().now().to_msg()
        goal = fill(self._types[request.action].Goal(), request.fields, self._site.frame_id, stamp)
        self._goals[request.action].send(
            order.action_id,
            goal,
            lambda result: _end(order.action_id, result),
            lambda feedback: (State.RUNNING, request.progress(feedback)),
        )

    def cancel(self, action_id: UUID) -> None:
        """Cancel its goal."""
        for goals in self._goals.values():
            goals.cancel(action_id)

    def stop(self) -> None:
        """Cancel every goal."""
        for goals in self._goals.values():
            goals.cancel_all()

    def can_restart(self, skill: str) -> bool:
        """Drives to a goal can be begun again from where the robot is then; a patrol begins with its first place."""
        return skill in ("navigate_to", "guide", "patrol", "dock")

    def close(self) -> None:
        """Destroy the clients."""
        super().close()
        for goals in self._goals.values():
            goals.close()
        self._node.destroy_publisher(self._limits)

    def _navigate(self, order: Order, speed: float) -> _Request:
        farthest = 0.0

        def progress(feedback: Any) -> float:
            nonlocal farthest
            farthest = max(farthest, feedback.distance_remaining)
            return 1.0 - feedback.distance_remaining / farthest if farthest > 0.0 else 0.0

        place = order.arguments.get("location")
        goal = order.pose if place is None else self._pose_of(str(place))
        if goal is None:
            raise CannotDo(CannotDo.INVALID_ARGUMENT, f"'{order.skill}' names neither a location nor a pose")
        return _Request("NavigateToPose", {"pose": goal}, progress)

    def _patrol(self, order: Order, speed: float) -> _Request:
        places = [str(order.arguments[name]) for name in ("location", "to") if name in order.arguments]
        if not places:
            raise CannotDo(CannotDo.INVALID_ARGUMENT, "a patrol needs a location")
        poses = [self._pose_of(place) for place in places] * int(order.arguments.get("rounds", 1))
        return _Request("FollowWaypoints", {"poses": poses}, lambda f: f.current_waypoint / len(poses))

    def _dock(self, order: Order, speed: float) -> _Request:
        chosen = self._settings
        fields: dict[str, Any] = {"use_dock_id": bool(chosen.dock_id), "dock_type": chosen.dock_type}
        if chosen.dock_id:
            fields["dock_id"] = chosen.dock_id
        else:
            fields["dock_pose"] = self._pose_of(chosen.dock_location)
        return _Request("DockRobot", fields)

    def _undock(self, order: Order, speed: float) -> _Request:
        return _Request("UndockRobot", {"dock_type": self._settings.dock_type})

    def _turn(self, order: Order, speed: float) -> _Request:
        direction = str(order.arguments.get("direction", ""))
        if direction not in ("left", "right", "around"):
            raise CannotDo(CannotDo.INVALID_ARGUMENT, f"direction '{direction}' is none of left, right, around")
        angle = float(order.arguments.get("angle", math.pi if direction == "around" else math.pi / 2))
        fields = {"target_yaw": -angle if direction == "right" else angle, "time_allowance": 10.0 + 10.0 * angle}
        return _Request("Spin", fields, lambda f: abs(f.angular_distance_traveled) / angle)

    def _move(self, order: Order, speed: float) -> _Request:
        direction, distance = str(order.arguments.get("direction", "")), float(order.arguments.get("distance", 0.5))
        if direction not in ("forward", "backward"):
            why = f"Nav2 moves forward and backward only, not '{direction}'; turn first"
            raise CannotDo(CannotDo.INVALID_ARGUMENT, why)
        speed = min(speed, self._settings.speed_mps)
        # The server gives up after the time allowance: twice what the way takes, and a start.
        fields = {"target": {"x": distance}, "speed": speed, "time_allowance": 5.0 + 2.0 * distance / speed}
        name = "DriveOnHeading" if direction == "forward" else "BackUp"
        return _Request(name, fields, lambda f: abs(f.distance_traveled) / distance)

    def _wait(self, order: Order, speed: float) -> _Request:
        seconds = float(order.arguments.get("duration", 10.0))
        return _Request("Wait", {"time": seconds}, lambda f: 1.0 - f.time_left.sec / max(seconds, 1.0))

    def _pose_of(self, place: str) -> Pose:
        location = self._site.locations.get(place)
        if location is None or location.pose is None:
            why = f"no pose is known for location '{place}'; give it one in the site file"
            raise CannotDo(CannotDo.BLOCKED, why)
        return Pose(*location.pose)

    def _limit(self, limit: float) -> None:
        """Tell Nav2's controller the least of this limit and the speed that was set; 0 there means no limit."""
        speed = min(limit, self._set_speed_mps)
        message = self._speed_limit(percentage=False, speed_limit=speed if math.isfinite(speed) else 0.0)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._limits.publish(message)


def _end(action_id: UUID, result: Any) -> Report:
    """What a result of Nav2 means; the distributions of ROS differ in which of these fields there are."""
    code = int(getattr(result, "error_code", 0))
    missed = len(getattr(result, "missed_waypoints", ()))
    if code == 0 and getattr(result, "success", True) and not missed:
        return Report(action_id, State.FINISHED, 1.0)
    names = [n for n in dir(type(result)) if n.isupper() and code and getattr(type(result), n) == code]
    name = names[0] if names else ""
    fault = next((fault for end, fault in FAULTS.items() if name.endswith(end)), Fault.UNKNOWN)
    words = getattr(result, "error_msg", "") or (f"{missed} waypoints were missed" if missed else "")
    text = f"Nav2: {words or name or 'it did not succeed'}" + (f" (error {code})" if code else "")
    return Report(action_id, State.FAILED, fault=fault, message=text)
