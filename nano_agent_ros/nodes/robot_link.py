"""What the agent has to do with the executor besides actions: acknowledging stops and answering its questions."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from nano_agent_ros.msg import ActionStatus
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import uuid_of

INSIST_S = 10.0
"""How long the executor is asked again while the robot has not confirmed yet that it stands."""


class RobotLink:
    """Clients of the executor's services; without an executor they do nothing. Any thread may use it."""

    def __init__(self, node: Node) -> None:
        """Create the clients and listen to whether the executor holds a stop."""
        self.stopped = False
        self._node = node
        self._lock = threading.Lock()
        self._question: UUID | None = None
        self._until = 0.0
        group = ReentrantCallbackGroup()
        self._acknowledge: Any = node.create_client(Trigger, "executor/acknowledge_stop", callback_group=group)
        self._confirm: Any = node.create_client(SetBool, "executor/confirm", callback_group=group)
        node.create_subscription(Bool, "stopped", self._on_stopped, qos.LATEST, callback_group=group)
        self._again = node.create_timer(0.5, self._insist, group)

    @property
    def asking(self) -> bool:
        """Whether the executor waits for a yes."""
        return self._question is not None

    def note(self, message: ActionStatus) -> str:
        """Note a status; returns the question if it asks a new one, else an empty string."""
        key = uuid_of(message.action_id)
        with self._lock:
            if message.state == ActionStatus.AWAITING_CONFIRMATION:
                new, self._question = key != self._question, key
                return message.error_msg if new else ""
            if key == self._question:
                self._question = None
            return ""

    def confirm(self, yes: bool) -> None:
        """Answer the question."""
        with self._lock:
            self._question = None
        if self._confirm.service_is_ready():
            self._confirm.call_async(SetBool.Request(data=yes))

    def acknowledge_stop(self) -> None:
        """Let the robot move again as soon as it has confirmed that it stands."""
        self._until = time.monotonic() + INSIST_S
        self._insist()

    def _on_stopped(self, message: Bool) -> None:
        self.stopped = message.data

    def _insist(self) -> None:
        if time.monotonic() < self._until and self._acknowledge.service_is_ready():
            self._acknowledge.call_async(Trigger.Request()).add_done_callback(self._on_answer)

    def _on_answer(self, future: Any) -> None:
        # "There was no stop" is as good as a release: the executor lets actions pass.
        waits = future.exception() is None and "not confirmed" in future.result().message
        if not waits:
            self._until = 0.0
