"""The robot that ships, or any other that serves `execute_action`: an action is one goal, with its own skills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from rclpy.node import Node

from nano_agent_ros.action import ExecuteAction
from nano_agent_ros.execution import BackEnd, Report
from nano_agent_ros.msg import ActionStatus
from nano_agent_ros.nodes.back_ends.goals import Goals
from nano_agent_ros.nodes.conversions import order_message
from nano_agent_ros.robot.behaviours import BEHAVIOURS
from nano_agent_ros.robot.status import Fault, State
from nano_agent_ros.safety import Order


class Simulated(BackEnd):
    """Sends each action to the action server `execute_action`, which holds and goes on by actions of its own."""

    def __init__(self, node: Node, report: Callable[[Report], None], frame_id: str) -> None:
        """Poses are in `frame_id`."""
        super().__init__(report)
        self._node = node
        self._frame_id = frame_id
        self._goals = Goals(node, ExecuteAction, "execute_action", lambda r: self.report(r), State.WAITING)

    def has(self, skill: str) -> bool:
        """What the simulated robot can do."""
        return skill in BEHAVIOURS

    def start(self, order: Order, max_speed_mps: float | None) -> None:
        """Send it; a speed limit goes along as the argument `max_speed`."""
        if max_speed_mps is not None:
            order = replace(order, arguments={**order.arguments, "max_speed": max_speed_mps})
        message = order_message(order, self._node.get_clock().now().to_msg(), self._frame_id)
        key = order.action_id
        self._goals.send(key, ExecuteAction.Goal(action=message), lambda r: _report(key, r.status), _feedback)

    def cancel(self, action_id: UUID) -> None:
        """Cancel its goal."""
        self._goals.cancel(action_id)

    def stop(self) -> None:
        """Send a stop, which the robot obeys whatever it does, and cancel every goal."""
        self._goals.cancel_all()
        self._control("stop")

    def can_pause(self, skill: str) -> bool:
        """It holds whatever it does."""
        return True

    def pause(self, action_id: UUID) -> None:
        """Send a pause; the robot's feedback says PAUSED."""
        self._control("pause")

    def resume(self, action_id: UUID) -> None:
        """Send a resume; the robot's feedback says RUNNING."""
        self._control("resume")

    def close(self) -> None:
        """Destroy the clients."""
        super().close()
        self._goals.close()

    def _control(self, skill: str) -> None:
        key = uuid4()
        message = order_message(Order(key, key, skill), self._node.get_clock().now().to_msg(), self._frame_id)
        # Its report concerns nobody: what a pause comes to is told by the feedback of the action that it holds.
        self._goals.send(key, ExecuteAction.Goal(action=message), lambda r: _report(key, r.status))


def _feedback(feedback: Any) -> tuple[State, float]:
    known = feedback.status.state in tuple(State) and not State(feedback.status.state).final
    return State(feedback.status.state) if known else State.RUNNING, float(feedback.status.progress)


def _report(action_id: UUID, status: ActionStatus) -> Report:
    known = status.state in tuple(State) and State(status.state).final
    state = State(status.state) if known else State.FAILED
    fault = Fault(status.error_code) if status.error_code in tuple(Fault) else Fault.UNKNOWN
    return Report(action_id, state, status.progress, fault, status.error_msg)
