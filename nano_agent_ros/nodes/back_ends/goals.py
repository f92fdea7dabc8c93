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
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from nano_agent_ros.execution import Report
from nano_agent_ros.robot.status import Fault, State

DISCOVERY_S = 3.0
"""How long a server that is not there may take to appear, and one that is gone to come back."""

ASK_AGAIN_S = 5.0
"""After so long without a word of a goal its server is asked for the result again: one that was started anew since
knows nothing of it, and says so."""

CLEAR_S = 2.0
"""How long the first goal waits until the server has given up what it did for an executor before this one."""


@dataclass
class _Goal:
    goal: Any
    feedback: Callable[[Any], tuple[State, float]]
    result: Callable[[Any], Report]
    sent: bool = False
    handle: Any = None
    unwanted: bool = False
    missing_since: float | None = None
    heard: float = 0.0


class Goals:
    """The goals of one action server, by the action that each is for. Any thread may use it."""

    def __init__(
        self, node: Node, kind: Any, name: str, report: Callable[[Report], None], accepted: State = State.RUNNING
    ) -> None:
        """A client of the action `name`, of the type `kind`; a goal that was accepted is in the state `accepted`.

        When the server is there, it is asked once to give up all goals that it has: nobody looks after them any more.
        """
        self.name = name
        self._node = node
        self._report = report
        self._accepted = accepted
        self._lock = threading.RLock()
        self._goals: dict[UUID, _Goal] = {}
        group = ReentrantCallbackGroup()
        self._client: Any = ActionClient(node, kind, name, callback_group=group)
        self._clear: Any = node.create_client(CancelGoal, f"{name}/_action/cancel_goal", callback_group=group)
        self._clearing: tuple[float, Any] | None = None
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
        self._node.destroy_client(self._clear)
        self._client.destroy()

    def _look_after(self) -> None:
        """Send what waits for its server, and give up what the server has left alone."""
        with self._lock:
            now = time.monotonic()
            if self._clearing is None and self._clear.service_is_ready():
                # All zeros: every goal, whoever sent it.
                self._clearing = now, self._clear.call_async(CancelGoal.Request())
            if not self._goals:
                return
            ready = self._client.server_is_ready()
            clear = self._clearing is not None and (self._clearing[1].done() or now - self._clearing[0] > CLEAR_S)
            for action_id, goal in list(self._goals.items()):
                if ready:
                    goal.missing_since = None
                    if not goal.sent and clear:
                        goal.sent = True
                        on_feedback = partial(self._on_feedback, action_id)
                        sent = self._client.send_goal_async(goal.goal, feedback_callback=on_feedback)
                        sent.add_done_callback(partial(self._on_answer, action_id))
                    elif goal.handle is not None and now - goal.heard > ASK_AGAIN_S:
                        goal.heard = now
                        goal.handle.get_result_async().add_done_callback(partial(self._on_result, action_id))
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
            goal.handle, goal.heard = future.result(), time.monotonic()
            goal.handle.get_result_async().add_done_callback(partial(self._on_result, action_id))
            if goal.unwanted:
                goal.handle.cancel_goal_async()
            else:
                self._report(Report(action_id, self._accepted))

    def _on_feedback(self, action_id: UUID, message: Any) -> None:
        with self._lock:
            goal = self._goals.get(action_id)
            if goal is not None:
                goal.heard = time.monotonic()
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
            if answer.status == GoalStatus.STATUS_UNKNOWN:
                why = f"the server of '{self.name}' was started anew and knows nothing of it"
                self._end(Report(action_id, State.FAILED, fault=Fault.NO_ROBOT, message=why))
                return
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
