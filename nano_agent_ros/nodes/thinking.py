"""The thread of the model: utterances wait for it, and what comes of them goes out unless it was called off."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from rclpy.impl.rcutils_logger import RcutilsLogger

from nano_agent_ros.nodes.assent import calls_off, is_call_off
from nano_agent_ros.nodes.dialogue import STOPPED, Dialogue, Kind, Outcome
from nano_agent_ros.nodes.facts import FactBook
from nano_agent_ros.nodes.keeping import Keeping, Message
from nano_agent_ros.nodes.outbox import NIL, Outbox
from nano_agent_ros.nodes.step import Step

FAILED = "Something went wrong in my head, so I do nothing. Please say it again."
WAIT_FOR_LISTENERS_S = 5.0
TOO_OLD = "That was too long ago. Please say it again."
LEFT = "All right, I won't."


@dataclass(frozen=True)
class Utterance:
    """What is to be understood: `ended` is when the speech ended, by the node's clock in seconds."""

    key: UUID
    text: str
    confidence: float
    ended: float
    transcription_s: float = 0.0
    facts: Mapping[str, str | int | float] | None = None


class Thinking:
    """One thread for one dialogue. `changed` is called, from any thread, when there is something new to show."""

    def __init__(
        self,
        dialogue: Dialogue,
        facts: FactBook,
        outbox: Outbox,
        keeping: Keeping,
        logger: RcutilsLogger,
        now: Callable[[], float],
        changed: Callable[[], None],
        told: tuple[str, ...] = (),
        max_age_s: float = 10.0,
        max_waiting: int = 4,
        interrupt: bool = False,
    ) -> None:
        """The model is told the facts named in `told`; at most `max_waiting` utterances wait.

        With `interrupt` every utterance takes back those that are thought about or wait, else those that begin so
        ("no, wait").
        """
        self.dialogue = dialogue
        self.waiting = 0
        self.failure = ""
        self._book = facts
        self._book_lock = threading.Lock()
        self._out = outbox
        self._keeping = keeping
        self._logger = logger
        self._now = now
        self._changed = changed
        self._told = told
        self._max_age_s = max_age_s
        self._max_waiting = max_waiting
        self._interrupt = interrupt
        self._undecided: set[UUID] = set()  # utterances of which nothing was sent yet
        self._ahead: tuple[str, bool] | None = None  # words that are still being said, and whether they are all
        self._closed = False
        self._count_lock = threading.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def close(self) -> None:
        """Let nothing go out any more; waits for the turn in progress."""
        with self.dialogue.lock:
            self._closed = True
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._keeping.close()

    def retune(self, max_age_s: float, max_waiting: int, interrupt: bool) -> None:
        """Go on with other limits; what waits already goes on waiting."""
        self._max_age_s, self._max_waiting, self._interrupt = max_age_s, max_waiting, interrupt

    def submit(self, utterance: Utterance) -> Future[Outcome] | None:
        """Have an utterance understood and acted upon; None if too many wait already."""
        with self.dialogue.lock, self._count_lock:
            takes_back = bool(self._undecided) and (self._interrupt or calls_off(utterance.text))
            if self._closed or (self.waiting >= self._max_waiting and not takes_back):
                return None
            self.waiting += 1
            ticket = self.dialogue.supersede() if takes_back else self.dialogue.ticket()
            self._undecided.add(utterance.key)
        return self._worker.submit(self._think, utterance, ticket, takes_back)

    def anticipate(self, text: str, complete: bool) -> None:
        """Have words read that are still being said (`complete`: probably all), if the model has nothing to do."""
        with self._count_lock:
            if self._closed or self.waiting:
                return
            asked, self._ahead = self._ahead is not None, (text, complete)
        if not asked:
            with contextlib.suppress(RuntimeError):  # it is being shut down
                self._worker.submit(self._anticipate)

    def go_on(self) -> Future[None]:
        """Send what a crash kept from being sent, as soon as somebody listens."""
        return self._worker.submit(self._send_unsent)

    def reset(self, session: UUID) -> Future[None]:
        """Begin a new conversation, after what waits already."""
        return self._worker.submit(self._reset, session)

    def stop(self, utterance_id: UUID = NIL) -> None:
        """Stop the robot at once; called from any thread, without waiting for the model."""
        with self.dialogue.lock:
            self._act(self.dialogue.stop(), utterance_id)
        self._keeping.stop(True)

    def acknowledge_stop(self) -> bool:
        """Let actions pass again; False if there was no stop."""
        released = self.dialogue.acknowledge_stop()
        if released:
            self._keeping.stop(False)
        return released

    def cancel_all(self) -> None:
        """Drop what is being thought about and cancel the robot's work."""
        with self.dialogue.lock:
            self._act(self.dialogue.cancel_all(), NIL)

    def note(self, change: Callable[[FactBook], Any]) -> Any:
        """Change or read what is known of the robot."""
        with self._book_lock:
            return change(self._book)

    def stale(self, utterance: Utterance) -> bool:
        """Whether the words ended too long ago (or, by their stamp, in the future)."""
        return abs(self._now() - utterance.ended) > self._max_age_s

    def refuse_stale(self, utterance: Utterance) -> Outcome:
        """Say so."""
        age = self._now() - utterance.ended
        self._logger.warning(f"refused words that ended {age:.1f} s ago: {utterance.text[:100]!r}")
        self._out.say(utterance.key, Kind.REFUSE, TOO_OLD)
        return Outcome(Kind.REFUSE, TOO_OLD, 0)

    def _anticipate(self) -> None:
        with self._count_lock:
            ahead, self._ahead = self._ahead, None
            if ahead is None or self.waiting:
                return
        text, complete = ahead
        try:
            self.dialogue.agent.anticipate(text, self._facts(), complete)
        except Exception as error:  # the turn itself will say so
            self._logger.warning(f"could not anticipate {text[:100]!r}: {type(error).__name__}: {error}")

    def _think(self, utterance: Utterance, ticket: int, takes_back: bool) -> Outcome:
        began = time.monotonic()
        self._changed()
        try:
            facts = {**self._facts(), **(utterance.facts or {})}
            if self.stale(utterance):
                return self.refuse_stale(utterance)
            if takes_back and self._wants_no_more(utterance):
                outcome = Outcome(Kind.ACKNOWLEDGE, LEFT, ticket)
            else:
                outcome = self.dialogue.hear(utterance.text, utterance.confidence, facts, ticket)
            outcome = self._publish(utterance, outcome)
            turn_s = time.monotonic() - began
            self._out.conversation(self.dialogue.agent)
            self._out.account(outcome, utterance.transcription_s, turn_s)
            self._out.turn(self.dialogue.agent, self.dialogue.session, utterance.key, facts, outcome)
            self.failure = ""
            self._log(utterance, outcome, turn_s)
            return outcome
        except Exception as error:  # whatever it is: no action, and the node goes on
            self.failure = f"{type(error).__name__}: {error}"
            self._logger.error(f"could not understand {utterance.text[:100]!r}: {self.failure}")
            self._out.say(utterance.key, Kind.REFUSE, FAILED)
            return Outcome(Kind.REFUSE, FAILED, ticket)
        finally:
            with self.dialogue.lock, self._count_lock:
                self.waiting -= 1
                self._undecided.discard(utterance.key)
            self._changed()

    def _facts(self) -> dict[str, str | int | float]:
        known = self.note(lambda book: book.facts())
        return {key: value for key, value in known.items() if key in self._told}

    def _wants_no_more(self, utterance: Utterance) -> bool:
        """Whether an utterance that took back those before it says no more, and can mean nothing else in hand."""
        idle = self.note(lambda book: book.idle)
        return is_call_off(utterance.text) and idle and not self.dialogue.confirming

    def _publish(self, utterance: Utterance, outcome: Outcome) -> Outcome:
        """Send what may be sent; a stop that came meanwhile has called it off."""
        with self.dialogue.lock:
            self._undecided.discard(utterance.key)
            if self._closed or not self.dialogue.valid(outcome.ticket):
                outcome = self.dialogue.called_off(outcome)
            if outcome.steps and outcome.steps[0].action.skill == "stop":
                self._keeping.stop(True)
            number = self._keeping.write(self.dialogue.agent, Message(utterance.key, utterance.text, outcome))
            self._send(Message(utterance.key, utterance.text, outcome))
            self._keeping.sent(number)
            self.dialogue.agent.settle()
        return outcome

    def _send(self, message: Message) -> None:
        outcome = message.outcome
        for report in outcome.reports:
            self._out.report(report, message.words)
        if not outcome.held:
            for step in outcome.steps:
                self._act(step, message.utterance_id)
        self._out.say(message.utterance_id, outcome.kind, outcome.text)

    def _send_unsent(self) -> None:
        unsent = self._keeping.unsent(self._max_age_s)
        until = time.monotonic() + WAIT_FOR_LISTENERS_S
        while unsent and not self._out.heard and time.monotonic() < until and not self._closed:
            time.sleep(0.05)
        for number, message in unsent:
            with self.dialogue.lock:
                if self._closed:
                    return
                if self.dialogue.stopped and message.outcome.steps:
                    refused = replace(message.outcome, kind=Kind.REFUSE, text=STOPPED, steps=())
                    message = replace(message, outcome=refused)
                self._logger.warning(f"sent after a restart: {message.words[:100]!r} -> {message.outcome.text!r}")
                self._send(message)
                self._keeping.sent(number)

    def _act(self, step: Step, utterance_id: UUID) -> None:
        self.note(lambda book: book.issued(step.action_id, step.action, step.plan_id))
        self._out.act(step, utterance_id)

    def _reset(self, session: UUID) -> None:
        self.dialogue.reset(session)
        self._keeping.begin(session)
        self.failure = ""
        self._changed()
        self._out.conversation(self.dialogue.agent)
        self._keeping.digest(self.dialogue.agent)

    def _log(self, utterance: Utterance, outcome: Outcome, turn_s: float) -> None:
        acts = ", ".join(step.action.skill for step in (*outcome.steps, *outcome.reports)) or "no action"
        said = f"{outcome.kind.name} {outcome.text!r}"
        self._logger.info(f"{utterance.text[:100]!r} -> {said}, {acts}, {turn_s * 1e3:.0f} ms")
