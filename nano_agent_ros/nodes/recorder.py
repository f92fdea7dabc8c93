"""The recorder: what is said, decided and done, in MCAP logs on the robot's own disk."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile
from std_msgs.msg import Empty

from nano_agent_ros.inspection.folders import record_folder
from nano_agent_ros.msg import ActionStatus, AgentState, DefectReport, Reply, RobotAction, Transcript, TurnRecord
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.lifecycle import ERROR, OK, ManagedNode, run
from nano_agent_ros.nodes.parameters import Parameter
from nano_agent_ros.recording.json_messages import content_of, name_of, schema_of
from nano_agent_ros.recording.log import Log
from nano_agent_ros.recording.mcap_files import Entry, LogError
from nano_agent_ros.resources import default_skills, site_path
from nano_agent_ros.skills import Site, Skills

PARAMETERS = (
    Parameter("record_dir", "", "Folder of the logs; empty: one of the namespace in the user's state folder"),
    Parameter("max_file_mb", 64.0, "A log is this large at most, in megabytes; then another begins", 0.01, 4096.0),
    Parameter("max_total_mb", 1000.0, "All logs take at most this, in megabytes; the oldest go", 0.1, 1e6),
    Parameter("flush_s", 1.0, "What is older than this survives a crash, in seconds; turns do at once", 0.05, 60.0),
    Parameter("site", "warehouse", "Site file, or the name of one that ships: it goes into each log, for replay"),
    Parameter("skills", "", "Skills file, likewise; empty: the one that ships"),
)
TOPICS: tuple[tuple[Any, str, QoSProfile], ...] = (
    (TurnRecord, "turn", qos.COMMAND),
    (Transcript, "transcript", qos.COMMAND),
    (RobotAction, "action", qos.COMMAND),
    (Reply, "reply", qos.COMMAND),
    (Empty, "stop", qos.COMMAND),
    (ActionStatus, "status", qos.STATUS),
    (AgentState, "agent_state", qos.LATEST),
    (DefectReport, "defect_report", qos.REPORT),
)
RETRY_S = 5.0
MOST_WAITING = 10_000


class RecorderNode(ManagedNode):
    """Subscribes what the other nodes publish. A thread of its own writes; callbacks only queue."""

    def __init__(self) -> None:
        """Nothing is subscribed before it is active."""
        super().__init__("recorder", PARAMETERS)
        self._log: Log | None = None
        self._flush_s = 1.0
        self._ears: list[Any] = []
        self._queue: queue.Queue[tuple[str, Any, int] | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._group = ReentrantCallbackGroup()
        self._schemas = {topic: (name_of(kind), schema_of(kind)) for kind, topic, _ in TOPICS}
        self._written = self._lost = 0
        self._failure = ""

    def setup(self, values: Mapping[str, Any]) -> None:
        """Open the folder of logs; raises without the MCAP library."""
        skills, site = values["skills"] or default_skills(), site_path(values["site"])
        Skills.load(skills)
        Site.load(site)
        attachments = {"skills.yaml": _content(skills), "site.yaml": _content(site)}
        self._flush_s = values["flush_s"]
        self._log = Log(
            record_folder(values["record_dir"], self.get_namespace()),
            round(values["max_file_mb"] * 1e6),
            round(values["max_total_mb"] * 1e6),
            attachments,
            {"namespace": self.get_namespace()},
        )
        self._thread = threading.Thread(target=self._write, args=(self._log,), name="recorder", daemon=True)
        self._thread.start()
        self.get_logger().info(f"logs go to {self._log.folder}")

    def start(self) -> None:
        """Record from now on."""
        self._ears = [
            self.create_subscription(kind, topic, self._receiver(topic), profile, callback_group=self._group)
            for kind, topic, profile in TOPICS
        ]

    def halt(self) -> None:
        """Record no longer."""
        for subscription in self._ears:
            self.destroy_subscription(subscription)
        self._ears = []

    def teardown(self) -> None:
        """Write what waits, and finish the log."""
        thread, self._thread, self._log = self._thread, None, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _receiver(self, topic: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            try:
                self._queue.put_nowait((topic, message, time.time_ns()))
            except queue.Full:
                self._lost += 1

        return receive

    def _write(self, log: Log) -> None:
        """The writing thread: until None comes."""
        flushed = shown = time.monotonic()
        retry_at = 0.0
        going = True
        while going:
            try:
                item = self._queue.get(timeout=self._flush_s)
                going = item is not None
            except queue.Empty:
                item = None
            try:
                if item is not None and time.monotonic() >= retry_at:
                    topic, message, stamp = item
                    if isinstance(message, DefectReport):
                        message.evidence = []  # pictures stay where they are
                    log.write(Entry(f"/{topic}", stamp, content_of(message)), *self._schemas[topic])
                    self._written += 1
                    self._failure = ""
                elif item is not None:
                    self._lost += 1
                turn = item is not None and item[0] == "turn"
                if turn or time.monotonic() - flushed >= self._flush_s:
                    log.flush()
                    flushed = time.monotonic()
            except LogError as error:
                self._lost += item is not None
                self._failure, retry_at = str(error), time.monotonic() + RETRY_S
                self.get_logger().error(f"not recorded: {error}")
            except Exception as error:  # one message that cannot be written must not end the recording
                self._lost += 1
                self.get_logger().error(f"a message was not recorded: {type(error).__name__}: {error}")
            if time.monotonic() - shown >= 1.0 and going:
                self._tell(log)
                shown = time.monotonic()
        try:
            log.close()
        except LogError as error:
            self.get_logger().error(str(error))

    def _tell(self, log: Log) -> None:
        level, text = (ERROR, f"not recorded: {self._failure}") if self._failure else (OK, "active")
        values = {"file": log.path or "none", "messages": self._written, "lost": self._lost, "bytes": log.nbytes}
        if self.active:
            self.diagnose(level, text, **values)


def _content(path: Any) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def main() -> int:
    """Run the node."""
    return run(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
