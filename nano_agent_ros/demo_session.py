"""What the demo sees on the topics: each utterance with its reply, actions, their progress, and the latencies."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from nano_agent_ros.graph import BringUpError, Graph
from nano_agent_ros.msg import ActionStatus, DefectReport, Reply, RobotAction, Transcript
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import arguments_of, seconds_of, uuid_of
from nano_agent_ros.robot.simulation import State

NIL = UUID(int=0)
UNANSWERED = (Transcript.GATE_NO_SPEECH, Transcript.GATE_MUTED, Transcript.GATE_ECHO)
KINDS = {
    getattr(Reply, name): name.lower() for name in ("ANSWER", "CLARIFY", "CONFIRM", "REFUSE", "ACKNOWLEDGE", "IGNORE")
}
FIRST_WORD_TIMEOUT_S = 15.0


@dataclass
class Act:
    """An action that was published, and how it gets on."""

    skill: str
    arguments: Mapping[str, Any]
    state: State = State.WAITING
    error: str = ""
    shown: int = 0

    def __str__(self) -> str:
        """As a call."""
        return f"{self.skill}({', '.join(f'{k}={_short(v)}' for k, v in self.arguments.items())})"


@dataclass
class Said:
    """An utterance and what came of it; times in seconds, None until known."""

    text: str
    confidence: float
    asr_s: float
    received: float
    stop: bool = False
    answered: bool = False
    kind: str = ""
    reply: str = ""
    agent_s: float | None = None
    acts: list[Act] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    @property
    def to_action_s(self) -> float | None:
        """From the end of the speech to the first action or report."""
        return None if self.agent_s is None else self.asr_s + self.agent_s


class Session:
    """Subscribes to the graph, prints a line for each thing that happens, and knows when all is over."""

    def __init__(self, node: Node, say: Callable[[str], None]) -> None:
        """Subscribe."""
        self._node = node
        self._say = say
        self._began = time.monotonic()
        self._last_event = self._began
        self._audio = ""
        self._said: dict[UUID, Said] = {}
        self._acts: dict[UUID, Act] = {}
        self._early_statuses: dict[UUID, list[ActionStatus]] = {}
        self._lone_stops: list[tuple[float, Act]] = []
        node.create_subscription(Transcript, "transcript", self._on_transcript, qos.COMMAND)
        node.create_subscription(RobotAction, "action", self._on_action, qos.COMMAND)
        node.create_subscription(Reply, "reply", self._on_reply, qos.COMMAND)
        node.create_subscription(DefectReport, "defect_report", self._on_defect, qos.REPORT)
        node.create_subscription(ActionStatus, "status", self._on_status, qos.STATUS)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    @property
    def heard(self) -> bool:
        """Whether any words were heard."""
        return any(said.text for said in self._said.values())

    @property
    def acted(self) -> bool:
        """Whether any action was published."""
        return bool(self._acts)

    def wait_for_publishers(self, graph: Graph, timeout_s: float = 15.0) -> None:
        """Until the agent and the robot can be heard."""
        until = time.monotonic() + timeout_s
        while any(self._node.count_publishers(t) < 1 for t in ("action", "reply", "defect_report", "status")):
            if time.monotonic() > until:
                raise BringUpError("the nodes' topics were not discovered; is another RMW or a firewall in the way?")
            graph.spin(0.05)

    def begin(self) -> None:
        """Count time from now."""
        self._began = self._last_event = time.monotonic()

    def over(self, quiet_s: float) -> bool:
        """Whether the sound is over, every utterance answered, every action ended, and nothing has come for a while."""
        if time.monotonic() - self._last_event < quiet_s:
            return False
        answered = all(said.answered for said in self._said.values())
        ended = all(act.state.final for act in self._acts.values())
        return self._audio in ("finished", "error") and answered and ended

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            values = {pair.key: pair.value for pair in status.values}
            if status.name.endswith("listener") and values.get("audio", "") != self._audio:
                self._audio = values.get("audio", "")
                if self._audio in ("finished", "error"):
                    self._event("sound", status.message)

    def _on_transcript(self, message: Transcript) -> None:
        if not message.is_final:
            return
        said = Said(message.text, message.confidence, seconds_of(message.latency), time.monotonic())
        said.answered = message.gate in UNANSWERED
        said.stop = message.gate == Transcript.GATE_STOP
        self._said[uuid_of(message.utterance_id)] = said
        words = f'"{message.text}"' if message.text else "no words"
        self._event("heard", f"{words}  {message.confidence:.0%}, {said.asr_s:.2f} s after the last word")
        if said.stop:
            self._join_stops()

    def _on_action(self, message: RobotAction) -> None:
        act = Act(message.skill, arguments_of(message.arguments))
        key = uuid_of(message.action_id)
        self._acts[key] = act
        said = self._said.get(uuid_of(message.utterance_id))
        note = f", step {message.step + 1} of {message.step_count}" if message.step_count > 1 else ""
        if said is None:
            self._event("action", f"{act}{note}")
            self._lone_stops.append((time.monotonic(), act))
            self._join_stops()
        else:
            first = not said.acts
            said.acts.append(act)
            self._event("action", f"{act}{note}" + (f"  {self._latency(said)}" if first else ""))
        for status in self._early_statuses.pop(key, []):
            self._on_status(status)

    def _join_stops(self) -> None:
        """A stop is sent before its transcript and without its id; here they meet, whichever comes first."""
        for said in self._said.values():
            if said.stop and not said.acts and self._lone_stops:
                at, act = self._lone_stops.pop(0)
                said.acts.append(act)
                said.agent_s = at - said.received

    def _on_defect(self, message: DefectReport) -> None:
        where = " ".join(filter(None, (message.location_id, message.object_id))) or "place unknown"
        defect = f"{message.defect_type} at {where}"
        # Its description is what was said; the reply, on a topic of its own, may have come first.
        said = next((s for s in reversed(self._said.values()) if s.text == message.description), self._said_now())
        if said is None:
            return
        said.defects.append(defect)
        self._event("report", f'{defect}: "{message.description}"  {self._latency(said)}')

    def _said_now(self) -> Said | None:
        return next((said for said in reversed(self._said.values()) if not said.answered), None)

    def _latency(self, said: Said) -> str:
        if said.agent_s is None:
            said.agent_s = time.monotonic() - said.received
        return f"agent {said.agent_s * 1e3:.0f} ms, {said.to_action_s:.2f} s after the last word"

    def _on_reply(self, message: Reply) -> None:
        said = self._said.get(uuid_of(message.utterance_id))
        if said is None:
            return
        said.answered, said.kind, said.reply = True, KINDS.get(message.kind, "?"), message.text
        took_ms = (time.monotonic() - said.received) * 1e3
        took = "" if said.acts or said.defects else f"  agent {took_ms:.0f} ms"
        self._event("reply", f"{said.kind}{f': {message.text}' if message.text else ''}{took}")

    def _on_status(self, message: ActionStatus) -> None:
        key = uuid_of(message.action_id)
        act = self._acts.get(key)
        if act is None:  # topics have no order among each other
            self._early_statuses.setdefault(key, []).append(message)
            return
        state = State(message.state)
        percent = int(message.progress * 100)
        # Every change of state is a line; of the progress in between, each quarter.
        if state is act.state and percent // 25 == act.shown // 25:
            return
        act.state, act.shown, act.error = state, percent, message.error_msg
        if state is State.WAITING:
            return
        bar = "#" * (percent // 10) + "." * (10 - percent // 10)
        error = f": {message.error_msg}" if message.error_msg else ""
        self._event("robot", f"{act}  {state.name.lower()}{error}" + (f" [{bar}]" if state is State.RUNNING else ""))

    def _event(self, what: str, text: str) -> None:
        self._last_event = time.monotonic()
        self._say(f"{self._last_event - self._began:6.1f} s  {what:<7} {text}")

    def table(self) -> str:
        """The summary for people."""
        width = max(60, shutil.get_terminal_size((110, 24)).columns)
        room = max(20, (width - 40) // 2)
        lines = ["", f"{'heard':<{room}} {'conf':>5} {'ASR s':>6} {'agent ms':>8} {'total s':>7}  what came of it"]
        for said in self._said.values():
            agent = f"{said.agent_s * 1e3:.0f}" if said.agent_s is not None else "-"
            total = f"{said.to_action_s:.2f}" if said.to_action_s is not None else "-"
            cut = said.text if len(said.text) <= room else said.text[: room - 1] + "…"
            came = "; ".join([*(f"{act} {act.state.name.lower()}" for act in said.acts), *said.defects])
            came = came or f"{said.kind}: {said.reply}".rstrip(": ")
            lines.append(f"{cut:<{room}} {said.confidence:>5.0%} {said.asr_s:>6.2f} {agent:>8} {total:>7}  {came}")
        lines.append("ASR s: last word to transcript. total s: last word to the first action or report.")
        return "\n".join(lines)

    def summary(self, wav: Path) -> dict[str, Any]:
        """The summary for programs; times in seconds."""
        return {
            "wav": wav.name,
            "utterances": [
                {
                    "text": said.text,
                    "confidence": round(said.confidence, 4),
                    "asr_s": round(said.asr_s, 4),
                    "agent_s": None if said.agent_s is None else round(said.agent_s, 4),
                    "speech_end_to_action_s": None if said.to_action_s is None else round(said.to_action_s, 4),
                    "kind": said.kind,
                    "reply": said.reply,
                    "actions": [
                        {"skill": a.skill, "arguments": dict(a.arguments), "state": a.state.name, "error": a.error}
                        for a in said.acts
                    ],
                    "defects": said.defects,
                }
                for said in self._said.values()
            ],
        }


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
