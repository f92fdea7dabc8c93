"""The simulated robot as a node: serves `execute_action` over simulated time, and stops on `stop`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from geometry_msgs.msg import Polygon
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from std_msgs.msg import Empty, String

from nano_agent_ros.action import ExecuteAction
from nano_agent_ros.msg import ActionStatus
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import command_of, status_message, uuid_of
from nano_agent_ros.nodes.diagnostics import Frequency
from nano_agent_ros.nodes.lifecycle import ManagedNode, run
from nano_agent_ros.nodes.measurements import PARAMETERS as MEASURED
from nano_agent_ros.nodes.measurements import Measurements
from nano_agent_ros.nodes.parameters import Live, Parameter
from nano_agent_ros.robot.behaviours import World
from nano_agent_ros.robot.kinematics import Body, Pose
from nano_agent_ros.robot.simulation import Command, Fault, SimulatedRobot, State, Status
from nano_agent_ros.skills import Site

PARAMETERS = (
    Parameter("site", "warehouse", "Site file, or the name of one that ships: where locations are"),
    Parameter("start_location", "", "Location id at which the robot begins; empty: the origin"),
    Live("time_scale", 1.0, "Seconds of simulated time per second", 0.01, 1000.0),
    Parameter("speed_mps", 1.0, "Driving speed in m/s", 0.05, 3.0),
    Live("turn_rate", 1.5, "Turning speed in rad/s", 0.1, 6.0),
    Parameter("battery_percent", 100.0, "Charge at the beginning", 0.0, 100.0),
    Live("drain_percent_per_s", 0.02, "What driving costs of the battery, per simulated second", 0.0, 10.0),
    Parameter("charging_station", "charging_station", "Location id at which `dock` charges"),
    Parameter("update_rate_hz", 20.0, "Steps of the simulation per second", 1.0, 100.0),
    Live("status_rate_hz", 2.0, "How often progress is fed back and pose published", 0.1, 50.0),
    *MEASURED,
    Parameter(
        "link_timeout_s", 3.0, "Without a heartbeat of the executor for so long it gives up; 0: never", 0.0, 60.0
    ),
)
NIL = UUID(int=0)
LONGEST_STEP_S = 0.25  # of silence at once: while this node itself does not run it cannot say that another is silent


@dataclass
class _Goal:
    handle: ServerGoalHandle
    command: Command


class SimRobotNode(ManagedNode):
    """Serves `execute_action`, subscribes `stop`, `~/obstacles`, `~/fail`; publishes `battery`, `pose`, `odom`, /tf."""

    def __init__(self) -> None:
        """Create topics and the action server; the robot itself comes with configure."""
        super().__init__("sim_robot", PARAMETERS)
        self._lock = threading.RLock()
        self._robot: SimulatedRobot | None = None
        self._site: Site | None = None
        self._timer: Any = None
        self._goals: dict[UUID, _Goal] = {}
        self._measurements = Measurements(self)
        self._silence_s: float | None = None  # of the executor, which never spoke so far
        self.create_subscription(Polygon, "~/obstacles", self._on_obstacles, qos.COMMAND)
        self.create_subscription(String, "~/fail", self._on_fail, qos.COMMAND)
        self.create_subscription(
            Empty, "stop", self._on_stop, qos.COMMAND, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self.create_subscription(Empty, "executor/heartbeat", self._on_heartbeat, qos.MEASUREMENT)
        self._server = ActionServer(
            self,
            ExecuteAction,
            "execute_action",
            self._conclude,
            goal_callback=self._on_goal,
            # A goal stays accepted until it is over, so that no thread has to wait for it.
            handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def setup(self, values: Mapping[str, Any]) -> None:
        """Load the site and put the robot on it."""
        self._site = Site.load(values["site"])
        places = {key: Pose(*place.pose) for key, place in self._site.locations.items() if place.pose}
        start = values["start_location"]
        if start and start not in places:
            raise ValueError(f"start_location '{start}' is no location with a pose on site {values['site']}")
        body = Body(
            pose=places.get(start, Pose(0.0, 0.0, 0.0)),
            speed_mps=values["speed_mps"],
            turn_rate=values["turn_rate"],
            battery=values["battery_percent"],
            drain_driving=values["drain_percent_per_s"],
        )
        self._robot = SimulatedRobot(World(places, values["charging_station"]), body)
        self._measurements.setup(values, self._site.frame_id)
        self._period_s = 1.0 / values["update_rate_hz"]
        self._link_timeout_s = values["link_timeout_s"]
        self.retune(values)

    def retune(self, values: Mapping[str, Any]) -> None:
        """Let time pass faster or slower, and the robot turn and use its battery otherwise."""
        with self._lock:
            self._scale = values["time_scale"]
            self._report_every_s = 1.0 / values["status_rate_hz"]
            if self.active:
                self._watch_rate()
            if self._robot is not None:
                self._robot.body.turn_rate = values["turn_rate"]
                self._robot.body.drain_driving = values["drain_percent_per_s"]

    def start(self) -> None:
        """Let simulated time pass."""
        self._last_step = self._last_report = time.monotonic()
        self._watch_rate()
        self._timer = self.create_timer(self._period_s, self._on_timer, MutuallyExclusiveCallbackGroup())
        if self._robot is not None:
            self._measurements.publish(self._robot.body)

    def halt(self) -> None:
        """Give up everything and hold still."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        with self._lock:
            if self._robot is not None:
                self._publish(self._robot.stop())

    def teardown(self) -> None:
        """Take the robot off the site."""
        with self._lock:
            self._robot = None
            self._measurements.close()

    def _on_timer(self) -> None:
        now = time.monotonic()
        with self._lock:
            if self._robot is None or not self.active:
                return
            passed_s = now - self._last_step
            changes = self._robot.step(passed_s * self._scale)
            self._last_step = now
            self._notice_silence(min(passed_s, LONGEST_STEP_S))
            self._publish(changes)
            self._measurements.publish_transforms(self._robot.body.pose)
            due = now - self._last_report >= self._report_every_s
            for goal in list(self._goals.values()):
                if goal.handle.is_cancel_requested:
                    self._publish(self._robot.cancel(goal.command.action_id))
                elif due:
                    self._feed_back(goal)
            if due:
                self._last_report = now
                self._measurements.publish(self._robot.body)
                self._poses.tick()

    def _watch_rate(self) -> None:
        # Nothing is measured more often than the simulation steps.
        rate = 1.0 / max(self._report_every_s, self._period_s)
        self._poses = Frequency(time.monotonic, 0.5 * rate, rate)
        self.tasks = {"pose": self._poses}

    def _on_stop(self, message: Empty) -> None:
        with self._lock:
            if self._robot is not None:
                self.get_logger().warning("stop")
                self._publish(self._robot.stop())

    def _on_heartbeat(self, message: Empty) -> None:
        self._silence_s = 0.0

    def _notice_silence(self, passed_s: float) -> None:
        """Nobody would stop the robot where it must not be: without an executor it does not go on."""
        if self._silence_s is None or self._robot is None or not self._link_timeout_s:
            return
        self._silence_s += passed_s
        if self._silence_s > self._link_timeout_s:
            self._silence_s = None
            if self._robot.busy:
                self.get_logger().error(f"no executor for {self._link_timeout_s:g} s: everything is given up")
                self._publish(self._robot.stop())

    def _publish(self, changes: Iterable[Status]) -> None:
        """Tell whoever sent the goals of every change."""
        for change in changes:
            if change.state.final:
                why = f": {change.message}" if change.message else ""
                self.get_logger().info(f"{change.skill} {change.state.name}{why}")
            goal = self._goals.get(change.action_id)
            if goal is None or not self.context.ok():  # the process is being ended: nobody can be told any more
                continue
            if change.state.final:
                goal.handle.execute()
            else:
                self._feed_back(goal)

    def _on_obstacles(self, message: Polygon) -> None:
        with self._lock:
            if self._robot is not None:
                self._robot.body.obstacles = tuple((p.x, p.y, p.z) for p in message.points)

    def _on_fail(self, message: String) -> None:
        skill, _, why = message.data.partition(":")
        with self._lock:
            if self._robot is not None:
                self._robot.defects[skill.strip()] = why.strip() or "it was told to fail"

    def _on_goal(self, goal: ExecuteAction.Goal) -> GoalResponse:
        return GoalResponse.ACCEPT if self.active else GoalResponse.REJECT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        command = command_of(handle.request.action)
        if command.action_id == NIL:
            command = replace(command, action_id=uuid4(), plan_id=uuid4())
        command = replace(command, plan_id=command.action_id, step=0, step_count=1)
        with self._lock:
            if self._robot is None or self._robot.status_of(command.action_id) is not None:
                handle.execute()
                return
            self._goals[command.action_id] = _Goal(handle, command)
            arguments = ", ".join(f"{k}={v}" for k, v in command.task.arguments.items())
            self.get_logger().info(f"{command.task.skill}({arguments})")
            self._publish(self._robot.submit(command))

    def _feed_back(self, goal: _Goal) -> None:
        status = self._robot.status_of(goal.command.action_id) if self._robot else None
        if status is not None and self.context.ok():
            goal.handle.publish_feedback(ExecuteAction.Feedback(status=self._message(status)))

    def _conclude(self, handle: ServerGoalHandle) -> ExecuteAction.Result:
        """The end of a goal, once it is over."""
        with self._lock:
            goal = next((g for g in self._goals.values() if g.handle is handle), None)
            if goal is None:
                skill, why = handle.request.action.skill, "its action_id was seen before"
                key = uuid_of(handle.request.action.action_id)
                status = Status(key, skill, State.REJECTED, 0.0, Fault.DUPLICATE, why)
            else:
                key = goal.command.action_id
                del self._goals[key]
                known = self._robot.status_of(key) if self._robot else None
                status = known or Status(key, goal.command.task.skill, State.CANCELED)
        if status.state is State.FINISHED:
            handle.succeed()
        elif status.state is State.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return ExecuteAction.Result(status=self._message(status))

    def _message(self, status: Status) -> ActionStatus:
        return status_message(status, self.get_clock().now().to_msg(), self._site.frame_id if self._site else "")


def main() -> int:
    """Run the node."""
    return run(SimRobotNode)


if __name__ == "__main__":
    sys.exit(main())
