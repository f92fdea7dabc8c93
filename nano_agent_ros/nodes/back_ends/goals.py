"""Goals of ROS actions on behalf of a back end: sent, fed back, cancelled, and each ended by exactly one report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from nano_agent_ros.execution import Report
from nano_agent_ros.robot.status import Fault, State

DISCOVERY_S = 3.0
"""How long a server that is not there may take to appear, and one that is gone to come back."""


@dataclass
class _Goal:
    goal: Any
    feedback: Callable[[Any], tuple[State, float]]
    result: Callable[[Any], Report]
    sent: bool = False
    handle: Any = None
    unwanted: bool = False
    missing_since: float | None = None


class Goals:
    """The goals of one action server, by the action that each is for. Any thread may use it."""

    def __init__(
        self, node: Node, kind: Any, name: str, report: Callable[[Report], None], accepted: State = State.RUNNING
    ) -> None:
        """A client of the action `name`, of the type `kind`; a goal that was accepted is in the state `accepted`."""
        self.name = name
        self._node = node
        self._report = report
        self._accepted = accepted
        self._lock = threading.RLock()
        self._goals: dict[UUID, _Goal] = {}
        group = ReentrantCallbackGroup()
        self._client: Any = ActionClient(node, kind, name, callback_group=group)
        self._timer = node.create_timer(0.1, self._look_after, group)

    def send(
        self,
        action_id: UUID,
        goal: Any,
        result: Callable[[Any], Report],
        feedback: Callable[[Any], tuple[State, float]] = lambda message: (State.RUNNING, 0.0),
    ) -> None:
        """Send a goal; `feedback` makes a state and progress of a feedback message, `result` the end of a result."""
        with self._lock:
            self._goals[action_id] = _Goal(goal, feedback, result)
            self._look_after()

    def cancel(self, action_id: UUID) -> None:
        """Ask the server to give up the goal of an action."""
        with self._lock:
            goal = self._goals.get(action_id)
            if goal is None:
                return
            goal.unwanted = True
            if not goal.sent:
                self._end(Report(action_id, State.CANCELED))
            elif goal.handle is not None:
                goal.handle.cancel_goal_async()

    def cancel_all(self) -> None:
        """Ask for the end of every goal."""
        with self._lock:
            for action_id in list(self._goals):
                self.cancel(action_id)

    def close(self) -> None:
        """Destroy the client."""
        self._node.destroy_timer(self._timer)
        self._client.destroy()

    def _look_after(self) -> None:
        """Send what waits for its server, and give up what the server has left alone."""
        with self._lock:
            if not self._goals:
                return
            ready, now = self._client.server_is_ready(), time.monotonic()
            for action_id, goal in list(self._goals.items()):
                if ready:
                    goal.missing_since = None
                    if not goal.sent:
                        goal.sent = True
                        on_feedback = partial(self._on_feedback, action_id)
                        sent = self._client.send_goal_async(goal.goal, feedback_callback=on_feedback)
                        sent.add_done_callback(partial(self._on_answer, action_id))
                    continue
                goal.missing_since = now if goal.missing_since is None else goal.missing_since
                if now - goal.missing_since > DISCOVERY_S:
                    rest = " any more" if goal.sent else "; start its server"
                    why = f"nobody serves the action '{self.name}'{rest}"
                    self._end(Report(action_id, State.FAILED, fault=Fault.NO_ROBOT, message=why))

    def _on_answer(self, action_id: UUID, future: Any) -> None:
        with self._lock:
            goal = self._goals.get(action_id)
            if goal is None:
                return
            if future.exception() is not None or not future.result().accepted:
                why = f"the server of '{self.name}' did not accept the goal"
                self._end(Report(action_id, State.REJECTED, fault=Fault.PRECONDITION, message=why))
                return
            goal.handle = future.result()
            goal.handle.get_result_async().add_done_callback(partial(self._on_result, action_id))
            if goal.unwanted:
                goal.handle.cancel_goal_async()
            else:
                self._report(Report(action_id, self._accepted))

    def _on_feedback(self, action_id: UUID, message: Any) -> None:
        with self._lock:
            goal = self._goals.get(action_id)
            if goal is not None and not goal.unwanted:
                state, progress = goal.feedback(message.feedback)
                self._report(Report(action_id, state, min(1.0, max(0.0, progress))))

    def _on_result(self, action_id: UUID, future: Any) -> None:
        with self._lock:
            goal = self._goals.get(action_id)
            if goal is None:
                return
            if future.exception() is not None:
                why = f"no result of '{self.name}': {future.exception()}"
                self._end(Report(action_id, State.FAILED, fault=Fault.NO_ROBOT, message=why))
                return
            answer = future.result()
            if answer.status == GoalStatus.STATUS_CANCELED:
                self._end(Report(action_id, State.CANCELED))
                return
            end = goal.result(answer.result)
            if answer.status != GoalStatus.STATUS_SUCCEEDED and end.state is State.FINISHED:
                why = end.message or f"the server of '{self.name}' gave up"
                end = Report(action_id, State.FAILED, fault=Fault.UNKNOWN, message=why)
            self._end(end)

    def _end(self, report: Report) -> None:
        self._goals.pop(report.action_id, None)
        self._report(report)
