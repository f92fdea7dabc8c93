"""Claims about nodes that are killed while the robot moves: nothing goes on that nobody looks after."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from geometry_msgs.msg import PoseStamped

from nano_agent_ros.graph import Graph
from nano_agent_ros.msg import ActionStatus, RobotAction
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import argument_messages, uuid_message, uuid_of
from nano_agent_ros.units import NodeSpec, separate

PATIENCE_S = 120.0


class Robot:
    """An executor and a simulated robot, each a process; 28 m lie between where it begins and where it is sent."""

    def __init__(self, **of_the_robot: Any) -> None:
        self.lines: list[str] = []
        robot = {"time_scale": 0.2, "status_rate_hz": 5.0, "start_location": "charging_station", **of_the_robot}
        self.units = separate([NodeSpec("executor"), NodeSpec("sim_robot", robot)])
        self.graph = Graph(self.units, on_line=lambda name, line: self.lines.append(f"{name} | {line}"))
        self.statuses: list[ActionStatus] = []
        self.pose: PoseStamped | None = None

    def __enter__(self) -> Robot:
        self.graph.__enter__()
        node = self.graph.node
        self.actions = node.create_publisher(RobotAction, "action", qos.COMMAND)
        node.create_subscription(ActionStatus, "status", self.statuses.append, qos.STATUS)
        node.create_subscription(PoseStamped, "pose", lambda pose: setattr(self, "pose", pose), qos.LATEST)
        self.graph.configure()
        self.graph.activate("sim_robot", "executor")
        self.until(lambda: self.pose and self.actions.get_subscription_count(), "the robot")
        return self

    def __exit__(self, *exc: object) -> None:
        self.graph.close()

    def until(self, condition: Callable[[], Any], what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            self.graph.spin(0.05)
            assert time.monotonic() < until, f"{what}: not within {PATIENCE_S:.0f} s: {''.join(self.lines)}"

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def drive(self) -> RobotAction:
        """Send it away, again if the executor does not know yet where the robot is; it moves when this returns."""
        sent: list[RobotAction] = []

        def begun() -> bool:
            if not sent or self.state_of(sent[-1]) == ActionStatus.REJECTED:
                action = RobotAction(
                    action_id=uuid_message(uuid4()),
                    plan_id=uuid_message(uuid4()),
                    step_count=1,
                    skill="navigate_to",
                    arguments=argument_messages({"location": "cold_storage"}),
                )
                action.header.stamp = self.graph.node.get_clock().now().to_msg()
                sent.append(action)
                self.actions.publish(action)
            return self.state_of(sent[-1]) == ActionStatus.RUNNING

        self.until(begun, "a drive")
        x = self.pose.pose.position.x
        self.until(lambda: abs(self.pose.pose.position.x - x) > 0.01, "a way")
        return sent[-1]

    def state_of(self, action: RobotAction) -> int | None:
        states = [s.state for s in self.statuses if uuid_of(s.action_id) == uuid_of(action.action_id)]
        return states[-1] if states else None

    def kill(self, name: str) -> None:
        os.kill(self.graph.processes[name].pid, signal.SIGKILL)
        self.until(lambda: self.graph.processes[name].exit_code() is not None, f"the end of {name}")

    def restart(self, name: str) -> None:
        unit = next(unit for unit in self.units if unit.name == name)
        self.graph.start(unit)
        steps = self.graph.bring_up(unit)
        for _ in steps:
            self.graph.spin(0.05)

    def stands(self) -> None:
        """Whether the pose of the robot stays the same; two poses a little apart have to come."""
        poses: list[tuple[float, float]] = []

        def still() -> bool:
            self.graph.spin(0.5)
            poses.append((self.pose.pose.position.x, self.pose.pose.position.y))
            return len(poses) > 3 and len(set(poses[-4:])) == 1

        self.until(still, "a robot that stands")


@pytest.fixture
def own_domain(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    yield


@pytest.mark.usefixtures("own_domain")
def test_a_robot_whose_executor_was_killed_stops_by_itself_and_obeys_the_next_one():
    with Robot() as robot:
        robot.drive()
        robot.kill("executor")
        robot.until(lambda: robot.said("no executor for 3 s: everything is given up"), "the robot's notice")
        robot.until(lambda: robot.said("navigate_to CANCELED"), "the end of the drive")
        robot.stands()
        robot.restart("executor")
        robot.drive()


@pytest.mark.usefixtures("own_domain")
def test_an_executor_that_comes_back_has_the_robot_give_up_what_the_one_before_began():
    with Robot(link_timeout_s=0.0) as robot:
        robot.drive()
        robot.kill("executor")
        robot.restart("executor")
        robot.until(lambda: robot.said("navigate_to CANCELED"), "the end of the drive")
        robot.stands()


@pytest.mark.usefixtures("own_domain")
def test_a_drive_of_a_robot_that_was_started_anew_fails_and_the_stop_latches():
    with Robot() as robot:
        action = robot.drive()
        robot.kill("sim_robot")
        robot.restart("sim_robot")
        robot.until(lambda: robot.state_of(action) == ActionStatus.FAILED, "the end of the drive")
        (failed,) = [s for s in robot.statuses if s.state == ActionStatus.FAILED]
        assert failed.error_code == ActionStatus.ERROR_NO_ROBOT, failed.error_msg
        robot.until(lambda: robot.said("executor | ERROR: stop"), "a stop")
