"""Nav2 (https://docs.nav2.org): the skills that drive, through Nav2's own actions. Needs the package nav2_msgs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.execution import BackEnd, Report
from nano_agent_ros.nodes.back_ends.goals import Goals
from nano_agent_ros.nodes.back_ends.interfaces import fill, load_interface
from nano_agent_ros.nodes.back_ends.nav2_results import end_of
from nano_agent_ros.nodes.back_ends.nav2_settings import Nav2Settings
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

NEEDED = ("NavigateToPose",)
"""What every distribution of Nav2 has; a skill whose action there is not is none that this robot has."""

SELECTOR = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class _Request:
    action: str
    fields: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[Any], float] = lambda feedback: 0.0


class Nav2(BackEnd):
    """Sends goals to Nav2's action servers; what Nav2 cannot hold is cancelled and begun again."""

    def __init__(
        self,
        node: Node,
        report: Callable[[Report], None],
        site: Site,
        settings: Nav2Settings | None = None,
        package: str = "nav2_msgs",
    ) -> None:
        """Raises ConfigError if `package`, Nav2's interfaces, is not installed."""
        super().__init__(report)
        self._node = node
        self._site = site
        self._settings = settings or Nav2Settings()
        self._types = {name: load_interface(f"{package}/action/{name}") for name in NEEDED}
        self._types |= _optional(package)
        self._speed_limit = load_interface(f"{package}/msg/SpeedLimit")
        self._selectors = [
            _told(node, topic, name)
            for topic, name in (
                ("planner_selector", self._settings.planner_id),
                ("controller_selector", self._settings.controller_id),
            )
            if name
        ]
        self._limits = node.create_publisher(self._speed_limit, "speed_limit", 10)
        self._set_speed_mps = math.inf
        self._goals = {
            name: Goals(node, kind, ACTIONS[name], lambda r: self.report(r)) for name, kind in self._types.items()
        }
        made_by: dict[str, tuple[Callable[[Order, float], _Request], tuple[str, ...]]] = {
            "navigate_to": (self._navigate, ("NavigateToPose",)),
            "guide": (self._navigate, ("NavigateToPose",)),
            "patrol": (self._patrol, ("FollowWaypoints",)),
            "dock": (self._dock, ("DockRobot",)),
            "undock": (self._undock, ("UndockRobot",)),
            "turn": (self._turn, ("Spin",)),
            "move": (self._move, ("DriveOnHeading", "BackUp")),
            "wait": (self._wait, ("Wait",)),
        }
        self._requests = {s: make for s, (make, needs) in made_by.items() if set(needs) <= set(self._types)}
        if missing := sorted(set(made_by) - set(self._requests)):
            node.get_logger().warning(f"{package} has no actions for the skills {', '.join(missing)}")

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
            lambda result: end_of(order.action_id, result),
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
        for publisher in (self._limits, *self._selectors):
            self._node.destroy_publisher(publisher)

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
        return _Request("NavigateToPose", {"pose": goal, "behavior_tree": self._settings.behavior_tree}, progress)

    def _patrol(self, order: Order, speed: float) -> _Request:
        places = [str(order.arguments[name]) for name in ("location", "to") if name in order.arguments]
        if not places:
            raise CannotDo(CannotDo.INVALID_ARGUMENT, "a patrol needs a location")
        poses = [self._pose_of(place) for place in places] * int(order.arguments.get("rounds", 1))
        return _Request("FollowWaypoints", {"poses": poses}, lambda f: f.current_waypoint / len(poses))

    def _dock(self, order: Order, speed: float) -> _Request:
        chosen = self._settings
        fields: dict[str, Any] = {
            "use_dock_id": bool(chosen.dock_id),
            "dock_type": chosen.dock_type,
            "navigate_to_staging_pose": chosen.navigate_to_staging_pose,
            "max_staging_time": chosen.max_staging_time_s,
        }
        if chosen.dock_id:
            fields["dock_id"] = chosen.dock_id
        else:
            fields["dock_pose"] = self._pose_of(chosen.dock_location)
        return _Request("DockRobot", fields)

    def _undock(self, order: Order, speed: float) -> _Request:
        chosen = self._settings
        fields = {"dock_type": chosen.dock_type, "max_undocking_time": chosen.max_undocking_time_s}
        return _Request("UndockRobot", fields)

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


def _optional(package: str) -> dict[str, Any]:
    """The other actions of Nav2, as far as this distribution has them: Humble's nav2_msgs cannot dock."""
    found = {}
    for name in ACTIONS:
        with contextlib.suppress(ConfigError):
            found[name] = load_interface(f"{package}/action/{name}")
    return found


def _told(node: Node, topic: str, plugin: str) -> Any:
    """A publisher that tells Nav2's behaviour tree, whenever it starts, which plugin to use."""
    publisher = node.create_publisher(String, topic, SELECTOR)
    publisher.publish(String(data=plugin))
    return publisher
