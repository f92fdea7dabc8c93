"""Heartbeats: what each node last said of itself on /diagnostics, and by which process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pulse:
    """A heartbeat: when it came, by time.monotonic(), and the state of the node's lifecycle."""

    time: float
    lifecycle: str


class Pulses:
    """The newest heartbeat of each node, told apart by process: a dead one's last words are not its successor's."""

    def __init__(self, node: Any) -> None:
        """Listen through `node`."""
        from diagnostic_msgs.msg import DiagnosticArray

        self._newest: dict[tuple[str, str], Pulse] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 200)

    def of(self, name: str, pid: int) -> Pulse | None:
        """The last heartbeat of the node with this fully qualified name in this process; None if none came."""
        return self._newest.get((name.strip("/"), str(pid)))

    def forget(self, pid: int) -> None:
        """Drop what came from a process that is no more."""
        self._newest = {key: pulse for key, pulse in self._newest.items() if key[1] != str(pid)}

    def _on_diagnostics(self, array: Any) -> None:
        now = time.monotonic()
        for status in array.status:
            values = {pair.key: pair.value for pair in status.values if pair.key in ("pid", "lifecycle")}
            if len(values) == 2:
                self._newest[status.name, values["pid"]] = Pulse(now, values["lifecycle"])
