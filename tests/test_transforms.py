"""Claims about the simulated robot's frames: map, odom and base_link as REP-105 has them, on /tf, where tf2_msgs is."""

from __future__ import annotations

import math
from typing import Any

import message_packages
import pytest
from geometry_msgs.msg import Polygon
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode
from ros_bench import wait_for

from nano_agent_ros.nodes import measurements, qos
from nano_agent_ros.nodes.sim_robot import SimRobotNode
from nano_agent_ros.robot.kinematics import Pose

START = (10.0, 1.0, -1.57)  # dock 3


@pytest.fixture(scope="module")
def tf_message() -> Any:
    message_packages.provide("tf2_msgs")
    from tf2_msgs.msg import TFMessage

    return TFMessage


def links(message: Any) -> list[tuple[str, str]]:
    return [(link.header.frame_id, link.child_frame_id) for link in message.transforms]


def test_the_frames_hang_together_and_lead_to_where_the_robot_is(bench, tf_message):
    told = bench.watch(tf_message, "/tf", qos.TRANSFORMS)
    odometry = bench.watch(Odometry, "odom", qos.MEASUREMENT)
    robot = bench.add(SimRobotNode, start_location="dock_3", status_rate_hz=20.0)
    wait_for(lambda: told and odometry, "transforms")
    message = told[-1]
    assert links(message) == [("map", "odom"), ("odom", "base_link")]
    x, y = (sum(getattr(link.transform.translation, axis) for link in message.transforms) for axis in "xy")
    turn = message.transforms[1].transform.rotation
    assert (x, y, 2 * math.atan2(turn.z, turn.w)) == pytest.approx(START)
    assert message.transforms[0].transform.rotation.w == 1.0
    assert (odometry[-1].header.frame_id, odometry[-1].child_frame_id) == ("odom", "base_link")
    stamps = [m.transforms[1].header.stamp for m in told]
    assert all((a.sec, a.nanosec) <= (b.sec, b.nanosec) for a, b in zip(stamps, stamps[1:], strict=False))
    seen = len(told)
    robot.trigger_deactivate()
    robot.trigger_cleanup()
    bench.set(robot, odom_frame_id="", base_frame_id="base_footprint")
    robot.trigger_configure()
    robot.trigger_activate()
    wait_for(lambda: ("map", "base_footprint") in [link for m in told[seen:] for link in links(m)], "the other frames")


def test_robots_that_share_tf_have_frames_of_their_own(bench, tf_message):
    told = bench.watch(tf_message, "/tf", qos.TRANSFORMS)
    node = LifecycleNode("sim_robot", namespace="robot_2")
    measured = measurements.Measurements(node)
    measured.setup({p.name: p.default for p in measurements.PARAMETERS}, "map")
    wait_for(lambda: measured.publish_transforms(Pose(1.0, 2.0, 0.0)) or told, "transforms")
    assert links(told[-1]) == [("map", "robot_2/odom"), ("robot_2/odom", "robot_2/base_link")]
    node.destroy_node()


def test_without_tf2_msgs_the_robot_works_and_says_how_to_get_transforms(bench, monkeypatch, capfd):
    monkeypatch.setattr(measurements, "TF_MESSAGE", "no_tf2_msgs/msg/TFMessage")
    odometry = bench.watch(Odometry, "odom", qos.MEASUREMENT)
    bench.add(SimRobotNode)
    bench.publish("sim_robot/obstacles", Polygon(), qos.COMMAND)
    wait_for(lambda: odometry, "odometry")
    assert bench.probe.count_publishers("/tf") == 0
    wait_for(lambda: "no transforms on /tf" in capfd.readouterr().err, "the log line")
