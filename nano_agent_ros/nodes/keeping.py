"""What an agent decided, kept on disk before it is sent, and sent again after a crash that came in between."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import UUID, uuid4

from nano_agent_ros.agent import Agent
from nano_agent_ros.nodes.dialogue import Kind, Outcome
from nano_agent_ros.nodes.step import Step
from nano_agent_ros.skills import Action
from nano_agent_ros.state import Session, Sessions, StateFileError

T = TypeVar("T")
_log = logging.getLogger(__name__)
RESTARTED = "I was restarted before I could do that. Please say it again."


@dataclass(frozen=True)
class Message:
    """An outcome with the utterance that it answers, as it is written."""

    utterance_id: UUID
    words: str
    outcome: Outcome


class Keeping:
    """The session on disk of one agent. Without a folder nothing is kept."""

    def __init__(
        self,
        agent: Agent,
        folder: Path | None,
        resume_within_s: float,
        on_digest: Callable[[UUID, int, str], None] | None = None,
    ) -> None:
        """Take up the last session in `folder` if it ended at most `resume_within_s` ago, else begin one.

        A disk that cannot be used, or a folder that another agent uses, is logged, and nothing is kept. `on_digest` is
        told session, turns and digest of states of the conversation, by the thread that writes them, or by another
        one: a digest takes longer than the conversation should wait for it.
        """
        self.restored = False
        self._on_digest = on_digest
        self._digester = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digest")
        self._newest = 0  # the state whose digest was asked for last
        self._session: Session | None = None
        if folder is not None:
            try:
                self._lock = _lock(folder)
                self._sessions = Sessions(folder, agent.identity)
                age = self._sessions.age_s()
                if age is not None and age <= resume_within_s:
                    self._session = self._sessions.resume(agent)
                self.restored = self._session is not None
                self._session = self._session or self._sessions.begin(uuid4())
            except StateFileError as error:
                _log.error("this conversation is not kept: %s", error)
        self.session_id = self._session.session if self._session else uuid4()
        self._listen()
        self.digest(agent)

    @property
    def stopped(self) -> bool:
        """Whether a stop was in force when the session was last written."""
        events = self._session.events if self._session else ()
        return any(e["stopped"] for e in events[-1:])

    def unsent(self, max_age_s: float) -> list[tuple[int, Message]]:
        """What a crash may have kept from being sent, oldest first, with its number for `sent`.

        What is older than `max_age_s`, came before a stop, or waited for a yes has become a refusal.
        """
        if self._session is None:
            return []
        stops = [event["time"] for event in self._session.events if event["stopped"]]
        found = []
        for unsent in self._session.unsent:
            for content in unsent.outbox:
                message = _message(content)
                late = time.time() - unsent.time > max_age_s or any(stop > unsent.time for stop in stops)
                if message.outcome.steps and (late or message.outcome.held):
                    refused = replace(message.outcome, kind=Kind.REFUSE, text=RESTARTED, steps=(), held=False)
                    message = replace(message, outcome=refused)
                found.append((unsent.number, message))
        return found

    def write(self, agent: Agent, message: Message) -> int | None:
        """Write an outcome and the turn that led to it, before it is sent; return its number for `sent`."""
        fed = message.outcome.turn.fed if message.outcome.turn else ()
        number = self._kept(lambda session: session.write(agent, fed, [_content(message)]))
        if fed and self._session is None:
            self.digest(agent)
        return number

    def digest(self, agent: Agent) -> None:
        """Have the digest of the agent's state computed and told; of several asked for meanwhile, the last one's."""
        on_digest = self._on_digest
        if on_digest is None:
            return
        self._newest += 1
        asked, session, turns = self._newest, self.session_id, agent.turns
        state = agent.engine.fork(agent.state)

        def compute() -> None:
            if asked == self._newest:
                on_digest(session, turns, agent.engine.snapshot(state).digest)

        self._digester.submit(compute)

    def sent(self, number: int | None) -> None:
        """Write that it was sent."""
        if number is not None:
            self._kept(lambda session: session.sent(number))

    def stop(self, stopped: bool) -> None:
        """Write that a stop is in force, or no longer."""
        self._kept(lambda session: session.note({"stopped": stopped}))

    def begin(self, session_id: UUID) -> None:
        """Begin another session."""
        stopped = self.stopped
        if self._session is not None:
            self._session.close()
            self._session = self._sessions.begin(session_id)
            self.stop(stopped)
        self.session_id, self.restored = session_id, False
        self._listen()

    def close(self) -> None:
        """Wait for the state in hand to be written, and let another agent use the folder."""
        self._newest += 1
        self._digester.shutdown(wait=True, cancel_futures=True)
        self._leave()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            self._lock.close()

    def _kept(self, write: Callable[[Session], T]) -> T | None:
        """Write to the session. If that fails the robot goes on without one: a hole in it would repeat action ids."""
        if self._session is None:
            return None
        try:
            return write(self._session)
        except StateFileError as error:
            _log.error("from now on this conversation is not kept: %s", error)
            shutil.rmtree(self._session.folder, ignore_errors=True)
            self._leave()
            return None

    def _listen(self) -> None:
        session, on_digest, key = self._session, self._on_digest, self.session_id
        if session is not None and on_digest is not None:
            session.on_state = lambda turns, digest: on_digest(key, turns, digest)


def _lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateFileError(f"another agent keeps its conversation in {folder}; set state_dir") from error
    except OSError as error:
        raise StateFileError(f"cannot use {folder} ({error.strerror})") from error
    return file


def state_folder(state_dir: str, namespace: str) -> Path:
    """Where an agent keeps its conversation: `state_dir`, or a folder of its namespace under $XDG_STATE_HOME."""
    if state_dir:
        return Path(state_dir).expanduser()
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "nano_agent_ros" / "sessions" / (namespace.strip("/").replace("/", ".") or "default")


def _content(message: Message) -> dict[str, Any]:
    outcome = message.outcome
    return {
        "utterance_id": str(message.utterance_id),
        "words": message.words,
        "kind": outcome.kind.name,
        "text": outcome.text,
        "held": outcome.held,
        "steps": [_step_content(step) for step in outcome.steps],
        "reports": [_step_content(step) for step in outcome.reports],
    }


def _message(content: dict[str, Any]) -> Message:
    outcome = Outcome(
        Kind[content["kind"]],
        content["text"],
        0,
        tuple(_step(c) for c in content["steps"]),
        tuple(_step(c) for c in content["reports"]),
        content["held"],
    )
    return Message(UUID(content["utterance_id"]), content["words"], outcome)


def _step_content(step: Step) -> dict[str, Any]:
    ids = {"action_id": str(step.action_id), "plan_id": str(step.plan_id)}
    return {**ids, "step": step.step, "step_count": step.step_count, "action": asdict(step.action)}


def _step(content: dict[str, Any]) -> Step:
    action = dict(content["action"])
    pose = action.pop("pose")
    return Step(
        UUID(content["action_id"]),
        UUID(content["plan_id"]),
        content["step"],
        content["step_count"],
        Action(**action, pose=tuple(pose) if pose is not None else None),
    )
