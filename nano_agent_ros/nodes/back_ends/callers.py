"""One action, service or topic of a robot, as the mapping file names it, and the way to call it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.execution import Report
from nano_agent_ros.nodes.back_ends.goals import DISCOVERY_S, Goals
from nano_agent_ros.nodes.back_ends.interfaces import load_interface
from nano_agent_ros.robot.status import Fault, State


@dataclass(frozen=True)
class Entry:
    """How one skill is done. In `fields`, `$name` stands for an argument, `$pose`, `$target_id`, `$max_speed` for those
    of the action, `$pose_of.name` for the pose of the place that an argument names."""

    kind: str
    type_name: str
    name: str
    fields: dict[str, Any]
    defaults: dict[str, Any]
    progress: str = ""
    success: str = ""
    message: str = ""


class Caller(ABC):
    """What calls one action, service or topic."""

    def __init__(self, node: Node, entry: Entry, report: Callable[[Report], None]) -> None:
        """Raises ConfigError if its type is not installed."""
        self.node = node
        self.entry = entry
        self.report = report
        self.type = load_interface(entry.type_name)

    @abstractmethod
    def make(self) -> Any:
        """An empty request."""

    @abstractmethod
    def answers(self) -> tuple[Any, Any]:
        """An empty answer and, if there is any, feedback."""

    @abstractmethod
    def call(self, action_id: UUID, request: Any) -> None:
        """Send it and report how it ends."""

    def cancel(self, action_id: UUID) -> None:
        """Ask for its end, where that can be asked."""
        return None

    def cancel_all(self) -> None:
        """Ask for the end of all, where that can be asked."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Destroy the client."""

    def end(self, action_id: UUID, answer: Any) -> Report:
        """What a result or response means."""
        text = str(get(answer, self.entry.message)) if self.entry.message else ""
        if self.entry.success and not get(answer, self.entry.success):
            return Report(action_id, State.FAILED, fault=Fault.UNKNOWN, message=text or f"{self.entry.name} says no")
        return Report(action_id, State.FINISHED, 1.0)


class ActionCaller(Caller):
    """Goals of an action."""

    def __init__(self, node: Node, entry: Entry, report: Callable[[Report], None]) -> None:
        super().__init__(node, entry, report)
        self._goals = Goals(node, self.type, entry.name, report)

    def make(self) -> Any:
        return self.type.Goal()

    def answers(self) -> tuple[Any, Any]:
        return self.type.Result(), self.type.Feedback()

    def call(self, action_id: UUID, request: Any) -> None:
        def feedback(message: Any) -> tuple[State, float]:
            return State.RUNNING, float(get(message, self.entry.progress)) if self.entry.progress else 0.0

        self._goals.send(action_id, request, lambda result: self.end(action_id, result), feedback)

    def cancel(self, action_id: UUID) -> None:
        self._goals.cancel(action_id)

    def cancel_all(self) -> None:
        self._goals.cancel_all()

    def close(self) -> None:
        self._goals.close()


class ServiceCaller(Caller):
    """Calls of a service."""

    def __init__(self, node: Node, entry: Entry, report: Callable[[Report], None]) -> None:
        super().__init__(node, entry, report)
        group = ReentrantCallbackGroup()
        self._client: Any = node.create_client(self.type, entry.name, callback_group=group)
        self._waiting: list[tuple[UUID, Any, float]] = []
        self._timer = node.create_timer(0.1, self._send, group)

    def make(self) -> Any:
        return self.type.Request()

    def answers(self) -> tuple[Any, Any]:
        return self.type.Response(), None

    def call(self, action_id: UUID, request: Any) -> None:
        self._waiting.append((action_id, request, time.monotonic()))
        self._send()

    def close(self) -> None:
        self.node.destroy_timer(self._timer)
        self.node.destroy_client(self._client)

    def _send(self) -> None:
        while self._waiting:
            if self._client.service_is_ready():
                action_id, request, _ = self._waiting.pop(0)
                self.report(Report(action_id, State.RUNNING))
                answer = self._client.call_async(request)
                answer.add_done_callback(partial(self._answered, action_id))
            elif time.monotonic() - self._waiting[0][2] > DISCOVERY_S:
                action_id, _, _ = self._waiting.pop(0)
                why = f"nobody serves '{self.entry.name}'; start its server"
                self.report(Report(action_id, State.FAILED, fault=Fault.NO_ROBOT, message=why))
            else:
                return

    def _answered(self, action_id: UUID, future: Any) -> None:
        if future.exception() is None:
            self.report(self.end(action_id, future.result()))
        else:
            why = f"no answer of '{self.entry.name}': {future.exception()}"
            self.report(Report(action_id, State.FAILED, fault=Fault.NO_ROBOT, message=why))


class TopicCaller(Caller):
    """Messages on a topic: done once published."""

    def __init__(self, node: Node, entry: Entry, report: Callable[[Report], None]) -> None:
        super().__init__(node, entry, report)
        self._publisher = node.create_publisher(self.type, entry.name, 10)

    def make(self) -> Any:
        return self.type()

    def answers(self) -> tuple[Any, Any]:
        return None, None

    def call(self, action_id: UUID, request: Any) -> None:
        self._publisher.publish(request)
        self.report(Report(action_id, State.FINISHED, 1.0))

    def close(self) -> None:
        self.node.destroy_publisher(self._publisher)


KINDS: dict[str, type[Caller]] = {"action": ActionCaller, "service": ServiceCaller, "topic": TopicCaller}
"""How a skill may be done."""


def make_caller(node: Node, entry: Entry, report: Callable[[Report], None]) -> Caller:
    """The caller of an entry; raises ConfigError for a type or field that there is not."""
    caller = KINDS[entry.kind](node, entry, report)
    # That the fields exist shows now, not when somebody says the word.
    try:
        _check(caller.make(), entry.fields)
        answer, feedback = caller.answers()
        for message, paths in ((answer, (entry.success, entry.message)), (feedback, (entry.progress,))):
            for path in filter(None, paths):
                get(message, path)
    except ConfigError:
        caller.close()
        raise
    return caller


def get(message: Any, path: str) -> Any:
    """A field of a message, such as `status.code`; raises ConfigError if it has none."""
    for name in path.split("."):
        if not hasattr(message, name):
            raise ConfigError(f"{type(message).__name__} has no field '{name}' ({path})")
        message = getattr(message, name)
    return message


def _check(message: Any, fields: dict[str, Any]) -> None:
    types = message.get_fields_and_field_types()
    for name, value in fields.items():
        if name not in types:
            raise ConfigError(f"{type(message).__name__} has no field '{name}'; it has {', '.join(types) or 'none'}")
        if isinstance(value, dict):
            _check(getattr(message, name), value)
