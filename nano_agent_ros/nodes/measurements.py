"""What the simulated robot measures, as topics: battery, pose, odometry, and the transforms between its frames."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import BatteryState

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.back_ends.interfaces import load_interface
from nano_agent_ros.nodes.conversions import pose_message
from nano_agent_ros.nodes.parameters import Parameter
from nano_agent_ros.robot.kinematics import Body, Pose, angle_between

TF_MESSAGE = "tf2_msgs/msg/TFMessage"
PARAMETERS = (
    Parameter("publish_tf", True, "Whether the transforms of the robot's frames go to /tf; needs tf2_msgs"),
    Parameter("odom_frame_id", "odom", "Odometry frame (REP-105); empty: none, base_frame_id hangs on the map"),
    Parameter("base_frame_id", "base_link", "Frame of the robot (REP-105)"),
)


class Measurements:
    """Publishers of what the body of the robot is like. In a namespace, its name stands before those of the frames:
    all robots share /tf."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publishers; frames and transforms come with `setup`."""
        self._node = node
        self._battery = node.create_lifecycle_publisher(BatteryState, "battery", qos.LATEST)
        self._pose = node.create_lifecycle_publisher(PoseStamped, "pose", qos.LATEST)
        self._odom = node.create_lifecycle_publisher(Odometry, "odom", qos.MEASUREMENT)
        self._tf: Any = None
        self._map, self._odom_frame, self._base = "map", "", "base_link"
        self._before: tuple[float, Pose] | None = None

    def setup(self, values: Mapping[str, Any], map_frame: str) -> None:
        """Name the frames; without tf2_msgs there are no transforms, and the log says how to get them."""
        prefix = self._node.get_namespace().strip("/")
        self._map = map_frame
        frames = (values["odom_frame_id"], values["base_frame_id"])
        self._odom_frame, self._base = (f"{prefix}/{name}" if prefix and name else name for name in frames)
        self._before = None
        self.close()
        if values["publish_tf"]:
            try:
                self._tf = self._node.create_publisher(load_interface(TF_MESSAGE), "/tf", qos.TRANSFORMS)
            except ConfigError as error:
                self._node.get_logger().info(f"no transforms on /tf: {error}")

    def close(self) -> None:
        """Publish no transforms any more."""
        if self._tf is not None:
            self._node.destroy_publisher(self._tf)
            self._tf = None

    def publish(self, body: Body) -> None:
        """Battery, pose and odometry now."""
        stamp = self._node.get_clock().now().to_msg()
        battery = _battery(body)
        battery.header.stamp = stamp
        self._battery.publish(battery)
        posed = pose_message((body.pose.x, body.pose.y, body.pose.yaw), self._map, stamp)
        self._pose.publish(posed)
        self._odom.publish(self._odometry(body.pose, posed))

    def publish_transforms(self, pose: Pose) -> None:
        """Where the robot's frames are now, if anybody wants to know. It knows its place, so odom and map agree."""
        if self._tf is None or not self._node.context.ok() or self._tf.get_subscription_count() == 0:
            return
        stamp = self._node.get_clock().now().to_msg()
        here = pose_message((pose.x, pose.y, pose.yaw), self._odom_frame or self._map, stamp)
        links = [_link(here, self._base)]
        if self._odom_frame:
            links.insert(0, _link(pose_message((0.0, 0.0, 0.0), self._map, stamp), self._odom_frame))
        self._tf.publish(self._tf.msg_type(transforms=links))

    def _odometry(self, pose: Pose, posed: PoseStamped) -> Odometry:
        """The same pose with the mean velocity since the last one, in the robot's own frame (REP-105)."""
        odom = Odometry(child_frame_id=self._base)
        odom.header.stamp, odom.header.frame_id = posed.header.stamp, self._odom_frame or self._map
        odom.pose.pose = posed.pose
        now = time.monotonic()
        if self._before is not None and now > self._before[0]:
            then, before = self._before
            dx, dy, cos, sin = pose.x - before.x, pose.y - before.y, math.cos(pose.yaw), math.sin(pose.yaw)
            odom.twist.twist.linear.x = (dx * cos + dy * sin) / (now - then)
            odom.twist.twist.linear.y = (dy * cos - dx * sin) / (now - then)
            odom.twist.twist.angular.z = angle_between(before.yaw, pose.yaw) / (now - then)
        self._before = (now, pose)
        return odom


def _battery(body: Body) -> BatteryState:
    """Only percentage and charging status are known; what is not is NaN, as BatteryState wants it."""
    charging = BatteryState.POWER_SUPPLY_STATUS_CHARGING
    discharging = BatteryState.POWER_SUPPLY_STATUS_DISCHARGING
    unknown = ("voltage", "current", "charge", "capacity", "design_capacity", "temperature")
    return BatteryState(
        percentage=body.battery / 100.0,
        present=True,
        power_supply_status=charging if body.docked else discharging,
        **dict.fromkeys(unknown, math.nan),
    )


def _link(pose: PoseStamped, child: str) -> TransformStamped:
    link = TransformStamped(header=pose.header, child_frame_id=child)
    link.transform.translation.x, link.transform.translation.y = pose.pose.position.x, pose.pose.position.y
    link.transform.rotation = pose.pose.orientation
    return link
