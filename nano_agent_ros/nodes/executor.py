"""The executor as a node: RobotActions pass the safety gate, back ends carry them out, `status` tells how it goes."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from std_msgs.msg import Bool, Empty
from std_srvs.srv import SetBool, Trigger

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.execution import NEW_PLANS, BackEnd, Blocking, Executor, Report, Settings
from nano_agent_ros.msg import ActionStatus, RobotAction
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.back_ends import make_back_end
from nano_agent_ros.nodes.back_ends.nav2_settings import PARAMETERS as NAV2
from nano_agent_ros.nodes.conversions import order_of, pose_of, seconds_of, status_message
from nano_agent_ros.nodes.diagnostics import Finding, TimeStamps, queue
from nano_agent_ros.nodes.keeping import state_folder
from nano_agent_ros.nodes.latch import StopLatch
from nano_agent_ros.nodes.lifecycle import ERROR, OK, WARN, ManagedNode, run
from nano_agent_ros.nodes.parameters import Live, Parameter
from nano_agent_ros.robot.status import Status
from nano_agent_ros.safety import Gate, Policy, RobotView
from nano_agent_ros.skills import Site

POSE_TYPES: Mapping[str, Any] = {
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "geometry_msgs/msg/PoseWithCovarianceStamped": PoseWithCovarianceStamped,
    "nav_msgs/msg/Odometry": Odometry,
}
PARAMETERS = (
    Parameter("site", "warehouse", "Site file, or the name of one that ships: where places and zones are"),
    Parameter("safety", "", "Safety policy: what the robot may do; empty: the one that ships"),
    Parameter(
        "back_ends", ["simulated"], "What moves the robot: simulated, nav2, mapping; the first with a skill gets it"
    ),
    Parameter("mapping", "", "File for the back end mapping: which ROS actions, services and topics do which skill"),
    Live("new_plan", "queue", "What becomes of a plan that comes while another runs", choices=NEW_PLANS),
    Live("max_plans", 8, "Plans that may wait; more are refused", 1, 1000),
    Live("step_timeout_s", 5.0, "How long a plan waits for its missing steps, in seconds", 0.1, 600.0),
    Live("answer_timeout_s", 5.0, "Within this time the robot confirms, or it is stopped", 0.5, 600.0),
    Parameter("blocking.none", ["say"], "Skills that hold up no later step of their plan; [''] for none"),
    Parameter("blocking.soft", [""], "Skills that hold up only later steps that drive; [''] for none"),
    Parameter("at_once", ["set_speed"], "Skills that, alone in a plan, do not wait for others; [''] for none"),
    Parameter("pose_type", "geometry_msgs/msg/PoseStamped", "Type of the topic `pose`", choices=tuple(POSE_TYPES)),
    Parameter("update_rate_hz", 20.0, "How often the robot is watched", 1.0, 100.0),
    Parameter("keep_stop", True, "A stop outlives a restart of the node"),
    Parameter("state_dir", "", "Folder for that; empty: one of the namespace in the user's state folder"),
    *NAV2,
)
HEARTBEAT_S = 0.5  # how often the robot is told that it is looked after


class ExecutorNode(ManagedNode):
    """Subscribes action, stop, pose; publishes status, stopped, ~/heartbeat, and stop if it must; serves services."""

    def __init__(self) -> None:
        """Create topics and services; gate and back end come with configure."""
        super().__init__("executor", PARAMETERS)
        self._lock = threading.RLock()
        self._executor: Executor | None = None
        self._back_end: BackEnd | None = None
        self._latch = StopLatch(None)
        self._subscriptions: list[Any] = []
        self._timer: Any = None
        self._trouble = ""
        self._status = self.create_lifecycle_publisher(ActionStatus, "status", qos.STATUS)
        self._stopped = self.create_lifecycle_publisher(Bool, "stopped", qos.LATEST)
        self._stop = self.create_lifecycle_publisher(Empty, "stop", qos.COMMAND)
        self._heartbeats = self.create_lifecycle_publisher(Empty, "~/heartbeat", qos.MEASUREMENT)
        self._last_heartbeat = 0.0
        self._wake = self.create_guard_condition(self._tick, ReentrantCallbackGroup())
        services = MutuallyExclusiveCallbackGroup()
        for name, kind, serve in (
            ("acknowledge_stop", Trigger, self._on_acknowledge),
            ("release", Trigger, self._on_release),
            ("confirm", SetBool, self._on_confirm),
        ):
            self.create_service(kind, f"~/{name}", serve, callback_group=services)

    def setup(self, values: Mapping[str, Any]) -> None:
        """Load site and policy, and reach for the robot."""
        site = Site.load(values["site"])
        folder = state_folder(values["state_dir"], self.get_namespace()) if values["keep_stop"] else None
        self._latch = StopLatch(folder / "executor_stopped" if folder else None)
        gate = Gate(Policy.load(values["safety"]), site, self._latch.stopped)
        self._back_end = make_back_end(values["back_ends"], self, site, self._post, values)
        self._executor = Executor(gate, self._back_end, self._publish, _settings(values), self._on_alarm)
        self._frame_id = site.frame_id
        self._period_s = 1.0 / values["update_rate_hz"]
        self._pose_type = POSE_TYPES[values["pose_type"]]
        self._trouble = ""
        # Where any pose will do (max_pose_age_s 0), one that has not come for long says nothing.
        self._poses = TimeStamps(self._now, gate.policy.max_pose_age_s or math.inf)

    def retune(self, values: Mapping[str, Any]) -> None:
        """Go on with other limits; plans in hand stay, and what the robot has to say already is due as before."""
        self._do(lambda executor: executor.retune(_settings(values)))

    def start(self) -> None:
        """Take actions from now on."""
        urgent, poses = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        words = MutuallyExclusiveCallbackGroup()
        self._subscriptions = [
            self.create_subscription(Empty, "stop", self._on_stop, qos.COMMAND, callback_group=urgent),
            self.create_subscription(self._pose_type, "pose", self._on_pose, qos.MEASUREMENT, callback_group=poses),
            self.create_subscription(RobotAction, "action", self._on_action, qos.COMMAND, callback_group=words),
        ]
        self._timer = self.create_timer(self._period_s, self._tick, MutuallyExclusiveCallbackGroup())
        self.tasks = {"plans": self._queue, "pose": self._poses}
        self._show()

    def halt(self) -> None:
        """Have the robot give up everything."""
        for subscription in self._subscriptions:
            self.destroy_subscription(subscription)
        self._subscriptions = []
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        with self._lock:
            if self._executor is not None and self._executor.busy:
                # Not a stop that somebody has to acknowledge: nothing is left that could go on.
                self._executor.drop(self._now())

    def teardown(self) -> None:
        """Let go of the robot."""
        with self._lock:
            back_end, self._back_end, self._executor = self._back_end, None, None
        if back_end is not None:
            back_end.close()

    def _post(self, report: Report) -> None:
        executor = self._executor
        if executor is not None:
            executor.post(report)
            self._wake.trigger()

    def _tick(self) -> None:
        self._do(lambda executor: executor.tick(self._now()))
        # Only whoever came through a tick may say that the robot is looked after.
        if time.monotonic() - self._last_heartbeat >= HEARTBEAT_S and self.context.ok():
            self._last_heartbeat = time.monotonic()
            self._heartbeats.publish(Empty())

    def _on_action(self, message: RobotAction) -> None:
        order = order_of(message)
        if self._do(lambda executor: executor.receive(order, self._now())) is False:
            self.get_logger().warning(f"action {order.action_id} came a second time; it is executed once only")

    def _on_stop(self, message: Empty) -> None:
        self.get_logger().warning("stop")
        self._do(lambda executor: executor.stop(self._now()))

    def _on_pose(self, message: PoseStamped | PoseWithCovarianceStamped | Odometry) -> None:
        inner = message.pose if isinstance(message.pose, PoseMessage) else message.pose.pose
        if message.header.frame_id not in ("", self._frame_id):
            return
        view = RobotView(pose_of(PoseStamped(pose=inner)), seconds_of(message.header.stamp))
        self._poses.tick(view.stamp_s)
        self._do(lambda executor: setattr(executor, "robot", view))

    def _queue(self) -> Finding:
        executor = self._executor
        return queue(executor.waiting if executor else 0, executor.most_waiting if executor else 0, "plans")

    def _on_alarm(self, reason: str) -> None:
        """The executor had to stop the robot: whoever else listens to stops has to know."""
        self._trouble = reason
        self.get_logger().error(f"stop: {reason}")
        if self.active:
            self._stop.publish(Empty())

    def _on_acknowledge(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        why = self._do(lambda executor: executor.acknowledge(self._now()))
        if why == "":
            self._trouble = ""
            self.get_logger().info("the stop is acknowledged")
        return self._answer(response, why, "the robot may move again")

    def _on_release(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        holder = self._do(lambda executor: executor.gate.release() or "")
        why = "nobody was in command" if holder == "" else ("" if holder else None)
        return self._answer(response, why, f"'{holder}' is no longer in command")

    def _on_confirm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        why = self._do(lambda executor: executor.confirm(request.data, self._now()))
        return self._answer(response, why, "agreed" if request.data else "declined")

    def _answer(self, response: Any, why: str | None, done: str) -> Any:
        """`why` not: empty if it was done, None if the node is not configured."""
        response.success = why == ""
        response.message = done if why == "" else (why or "the executor is not configured")
        self._show()
        return response

    def _do(self, what: Callable[[Executor], Any]) -> Any:
        """Do something with the executor, if there is one, and keep and show what has changed."""
        with self._lock:
            if self._executor is None:
                return None
            before = self._executor.gate.stopped
            result = what(self._executor)
            if self._executor.gate.stopped != before:
                self._keep_stop(self._executor.gate.stopped)
                self._show()
            return result

    def _keep_stop(self, stopped: bool) -> None:
        try:
            self._latch.keep(stopped)
        except OSError as error:
            self.get_logger().error(f"the stop is not kept over a restart: {error}")

    def _show(self) -> None:
        executor = self._executor
        if executor is None or not self.active:
            return
        stopped = executor.gate.stopped
        self._stopped.publish(Bool(data=stopped))
        level = (ERROR if self._trouble else WARN) if stopped else OK
        text = f"stopped: {self._trouble}" if stopped and self._trouble else "stopped" if stopped else "active"
        holder = executor.gate.holder(self._now())
        self.diagnose(level, text, in_command=holder or "", question=executor.question)

    def _publish(self, status: Status) -> None:
        if self.context.ok():
            self._status.publish(status_message(status, self.get_clock().now().to_msg(), self._frame_id))
        if status.state.final or status.message:
            why = f": {status.message}" if status.message else ""
            self.get_logger().info(f"{status.skill} {status.state.name}{why}")

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9


def _settings(values: Mapping[str, Any]) -> Settings:
    blocking = {skill: Blocking.NONE for skill in values["blocking.none"]}
    for skill in values["blocking.soft"]:
        if skill and skill in blocking:
            raise ConfigError(f"parameter blocking.soft: '{skill}' stands in blocking.none as well")
        blocking[skill] = Blocking.SOFT
    return Settings(
        values["new_plan"],
        values["max_plans"],
        values["step_timeout_s"],
        values["answer_timeout_s"],
        blocking,
        tuple(values["at_once"]),
    )


def main() -> int:
    """Run the node."""
    return run(ExecutorNode)


if __name__ == "__main__":
    sys.exit(main())
