"""A conversation that outlives its process: a journal of turns, and snapshots of the state after the last few.

The order is what makes it safe. A turn is written to the journal, with what is to be sent, before anything of it is
sent; then it is sent; then that it was sent is written. So a process that is killed at any moment finds, when it comes
back, either no trace of the turn (it never happened) or all of it (what was not sent for certain is sent again, under
the same ids). The state of the model is written behind the turns by a thread of its own: what the newest snapshot
lacks is computed from the journal's tokens, which gives the same state.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from nano_agent_ros.engine.base import Engine, EngineError

from .journal import Journal
from .snapshot_file import StateFileError, read_snapshot, write_snapshot

_log = logging.getLogger(__name__)
KEEP = 3  # snapshots of a session
COMPACT_ABOVE = 1 << 20  # bytes of a journal
JOURNAL = "journal.jsonl"


class Conversation(Protocol):
    """What is kept, as `Agent` is it: one conversation with one model, prompt and engine."""

    engine: Engine
    state: Any
    turns: int

    def memory(self) -> dict[str, Any]:
        """What the conversation knows besides the state, in JSON types."""
        ...

    def recall(self, state: Any, memory: Mapping[str, Any]) -> None:
        """Go on from a state and the memory that belongs to it."""
        ...


@dataclass(frozen=True)
class Unsent:
    """Messages of which nothing says that they were sent: `time` is when they were written, in Unix seconds."""

    number: int
    time: float
    outbox: tuple[dict[str, Any], ...]


class Session:
    """The files of one conversation, in a folder of its own. `write` belongs to one thread, the rest to any.

    `on_state`, if set, is told turns and digest of each state that is about to be written, by the thread that writes.
    """

    def __init__(self, folder: Path, identity: str, session: UUID, keep: int = KEEP, sync: bool = False) -> None:
        """Begin or take up the session in `folder`; `identity` stands for model, prompt and engine.

        With `sync` a turn is safe from a power failure too, at the price of waiting for the disk before it is sent.
        Raises StateFileError if the folder cannot be used or holds a session of another identity.
        """
        self.folder, self.session = folder, session
        self._identity, self._keep = identity, keep
        self._lock = threading.Lock()
        self._journal = Journal(folder / JOURNAL, sync)
        self._records = self._journal.records
        if not self._records:
            self._append({"begin": str(session), "identity": identity})
        if self._records[0] != {"begin": str(session), "identity": identity}:
            raise StateFileError(f"{folder} is a conversation with another model or configuration")
        self.on_state: Callable[[int, str], None] | None = None
        self._number = 1 + max((r["number"] for r in self._records if "number" in r), default=-1)
        self._writer = _Writer(self)

    def restore(self, conversation: Conversation) -> int:
        """Bring a conversation at its start to the last turn that was written; returns the number of its turns."""
        turns = [r for r in self._records if "turn" in r]
        if not turns:
            return 0
        reached = self._newest_state(conversation, turns)
        for record in turns:
            if record["turn"] == reached:
                conversation.engine.extend(conversation.state, record["tokens"])
                conversation.recall(conversation.state, record["memory"])
                reached += 1
        if reached != turns[-1]["turn"] + 1:
            raise StateFileError(f"{self.folder} lacks turn {reached} of the conversation")
        return reached

    @property
    def unsent(self) -> tuple[Unsent, ...]:
        """What was written to be sent and of which nothing says that it was, oldest first."""
        sent = {r["sent"] for r in self._records if "sent" in r}
        return tuple(
            Unsent(r["number"], r["time"], tuple(r["outbox"]))
            for r in self._records
            if r.get("outbox") and r["number"] not in sent
        )

    @property
    def events(self) -> tuple[dict[str, Any], ...]:
        """What `note` has written, each with its `time` in Unix seconds, oldest first."""
        return tuple({**r["event"], "time": r["time"]} for r in self._records if "event" in r)

    def write(self, conversation: Conversation, tokens: Sequence[int], outbox: Sequence[Mapping[str, Any]]) -> int:
        """Write what is to be sent (JSON types) and, with `tokens`, the turn that it comes from; return its number.

        `tokens` are those that the last turn added to the state; none if nothing was added. On return all of it
        survives the process being killed; the state follows in the background. Raises StateFileError, and then nothing
        of it may be sent.
        """
        record: dict[str, Any] = {"number": self._number, "time": time.time(), "outbox": list(outbox)}
        if tokens:
            record |= {"turn": conversation.turns - 1, "tokens": list(tokens), "memory": conversation.memory()}
        self._append(record)
        self._number += 1
        if tokens:
            self._writer.put(conversation)
        if self._journal.nbytes > COMPACT_ABOVE:
            self._compact()
        return int(record["number"])

    def sent(self, number: int) -> None:
        """Write that everything of `number` was sent."""
        self._append({"sent": number})

    def note(self, event: Mapping[str, Any]) -> None:
        """Write something else that has to survive (a stop, its release)."""
        self._append({"event": dict(event), "time": time.time()})

    def close(self) -> None:
        """Wait for the state in hand to be written."""
        self._writer.close()
        self._journal.close()

    def flush(self) -> None:
        """Wait until the states asked for are on disk."""
        self._writer.flush()

    def _append(self, record: dict[str, Any]) -> None:
        with self._lock:
            self._journal.append(record)
            self._records.append(record)

    def _compact(self) -> None:
        """Drop what the oldest snapshot holds already and what was sent."""
        with self._lock:
            last = max(r.get("turn", 0) for r in self._records)
            oldest = min((int(path.stem) for path in self.folder.glob("*.state")), default=0)
            oldest = min(oldest, last)
            sent = {r["sent"] for r in self._records if "sent" in r}
            numbered = [r for r in self._records if "number" in r]
            needed = [r["number"] for r in numbered if r.get("turn", -1) >= oldest or r["number"] not in sent]
            first = min(needed, default=self._number)
            kept = [r for r in self._records if r.get("number", r.get("sent", first)) >= first]
            if len(kept) < len(self._records):
                self._journal.replace(kept)
                self._records = kept

    def _state_path(self, turns: int) -> Path:
        return self.folder / f"{turns:08d}.state"

    def _newest_state(self, conversation: Conversation, turns: Sequence[Mapping[str, Any]]) -> int:
        """Restore the newest state that is whole and not ahead of the journal; returns how many turns it holds."""
        for path in sorted(self.folder.glob("*.state"), reverse=True):
            try:
                snapshot, note = read_snapshot(path)
                if not turns[0]["turn"] <= note["turns"] <= turns[-1]["turn"] + 1:
                    continue
                conversation.recall(conversation.engine.restore(snapshot), note["memory"])
                return int(note["turns"])
            except (StateFileError, EngineError, KeyError) as error:
                _log.warning("an older state is taken: %s", error)
        return 0


class _Writer:
    """The thread that writes states. Of those that it has no time for, the newest counts."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wake = threading.Condition()
        self._next: tuple[Engine, Any, int, dict[str, Any]] | None = None
        self._busy = self._closed = False
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
        self._thread.start()

    def put(self, conversation: Conversation) -> None:
        state = conversation.engine.fork(conversation.state)
        item = (conversation.engine, state, conversation.turns, conversation.memory())
        with self._wake:
            self._next = item
            self._wake.notify()

    def flush(self) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._next is None and not self._busy)

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._next is not None or self._closed)
                if self._next is None:
                    return
                (engine, state, turns, memory), self._next = self._next, None
                self._busy = True
            try:
                note = {"turns": turns, "memory": memory}
                snapshot = engine.snapshot(state)
                if self._session.on_state:
                    self._session.on_state(turns, snapshot.digest)
                write_snapshot(self._session._state_path(turns), snapshot, note)
                for path in sorted(self._session.folder.glob("*.state"), reverse=True)[self._session._keep :]:
                    path.unlink(missing_ok=True)
            except (StateFileError, EngineError, OSError) as error:
                _log.warning("the state after turn %d is not kept: %s", turns, error)
            finally:
                with self._wake:
                    self._busy = False
                    self._wake.notify_all()


class Sessions:
    """The conversations of one robot in a folder; the newest can be taken up, those before it are deleted."""

    def __init__(self, folder: Path, identity: str, keep: int = KEEP, sync: bool = False) -> None:
        """`identity`, `keep` and `sync` are those of `Session`."""
        self.folder, self._identity, self._keep, self._sync = folder, identity, keep, sync

    def resume(self, conversation: Conversation) -> Session | None:
        """Bring a conversation that is at its start to where the newest session was; None if none can be taken up.

        What cannot be taken up (damaged, or of another model, prompt or engine) is logged and left aside.
        """
        newest = next(iter(self._newest_first()), None)
        if newest is None:
            return None
        start, memory = conversation.engine.fork(conversation.state), conversation.memory()
        session = None
        try:
            session = Session(newest, self._identity, UUID(newest.name), self._keep, self._sync)
            session.restore(conversation)
            return session
        except (StateFileError, EngineError, ValueError) as error:
            _log.warning("a new conversation begins, for the one before cannot be taken up: %s", error)
            conversation.recall(start, memory)
            if session is not None:
                session.close()
            return None

    def age_s(self) -> float | None:
        """Seconds since the newest session was last written; None if there is none."""
        newest = next(iter(self._newest_first()), None)
        return None if newest is None else time.time() - (newest / JOURNAL).stat().st_mtime

    def begin(self, session: UUID) -> Session:
        """Begin a session and delete those before it."""
        for folder in self._newest_first():
            shutil.rmtree(folder, ignore_errors=True)
        return Session(self.folder / str(session), self._identity, session, self._keep, self._sync)

    def _newest_first(self) -> list[Path]:
        found = [path.parent for path in self.folder.glob(f"*/{JOURNAL}")]
        return sorted(found, key=lambda path: (path / JOURNAL).stat().st_mtime, reverse=True)
