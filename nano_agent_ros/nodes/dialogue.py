"""What may be sent to the robot: a conversation behind a stop that latches, confirmations and cool-downs. No ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from uuid import UUID, uuid4, uuid5

from nano_agent_ros.agent import CALLED_OFF, Agent, Turn
from nano_agent_ros.nodes.assent import is_no, is_yes
from nano_agent_ros.nodes.facts import doing
from nano_agent_ros.nodes.step import Step
from nano_agent_ros.safety import CALMING
from nano_agent_ros.skills import Action

STOPPED = "I am stopped. Say 'resume' to let me move again."


class Kind(IntEnum):
    """The kinds of Reply."""

    ANSWER = 0
    CLARIFY = 1
    CONFIRM = 2
    REFUSE = 3
    ACKNOWLEDGE = 4
    IGNORE = 5


@dataclass(frozen=True)
class Outcome:
    """What an utterance led to.

    `steps` are to be sent to the robot unless `held`: then they wait for a yes. `reports` are report_defect actions.
    `ticket` tells whether a stop or a cancellation has come since (see Dialogue.valid). `turn` is None if the model
    was not asked.
    """

    kind: Kind
    text: str
    ticket: int
    steps: tuple[Step, ...] = ()
    reports: tuple[Step, ...] = ()
    held: bool = False
    turn: Turn | None = None


class Dialogue:
    """One conversation. `hear` and `reset` belong to one thread; everything else may be called from any.

    A stop is in force from the moment it is called: what was heard before it, or is thought about at that moment,
    is not valid any more. Whoever sends actions does so while holding `lock`, after asking `valid`.
    """

    def __init__(
        self,
        agent: Agent,
        session: UUID,
        confirm_timeout_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
        stopped: bool = False,
    ) -> None:
        """Hold what needs confirmation for at most `confirm_timeout_s`; `stopped`: begin with a stop in force."""
        self.agent = agent
        self.session = session
        self.lock = threading.RLock()
        self.stopped = stopped
        self.confirm_timeout_s = confirm_timeout_s
        self._clock = clock
        self._ticket = 0
        self._held: Outcome | None = None
        self._held_since = 0.0
        self._accepted: dict[str, float] = {}

    def ticket(self) -> int:
        """A ticket for an utterance that is heard now; a stop, its release and a cancellation make it void."""
        with self.lock:
            return self._ticket

    def supersede(self) -> int:
        """A ticket for an utterance that is heard now and takes back those before it: their tickets become void."""
        with self.lock:
            self._ticket += 1
            return self._ticket

    def valid(self, ticket: int) -> bool:
        """Whether the ticket still holds."""
        with self.lock:
            return ticket == self._ticket

    @property
    def confirming(self) -> bool:
        """Whether a plan waits for a yes."""
        with self.lock:
            return self._held is not None and self._clock() - self._held_since <= self.confirm_timeout_s

    def stop(self) -> Step:
        """Let no action pass until `acknowledge_stop`; return the stop for the robot."""
        with self.lock:
            self.stopped = True
            return self._interrupt("stop")

    def cancel_all(self) -> Step:
        """Drop what is being thought about or held; return the cancellation for the robot."""
        with self.lock:
            return self._interrupt("cancel")

    def acknowledge_stop(self) -> bool:
        """Let actions pass again; False if there was no stop."""
        with self.lock:
            was_stopped, self.stopped = self.stopped, False
            if was_stopped:
                self._ticket += 1
            return was_stopped

    def reset(self, session: UUID) -> None:
        """Begin a new conversation. A stop stays in force."""
        with self.lock:
            self._ticket += 1
            self._held = None
            self.session = session
        self.agent.reset()

    def hear(self, text: str, confidence: float, facts: Mapping[str, str | int | float], ticket: int) -> Outcome:
        """Think about an utterance for as long as its ticket holds; raises NanoAgentError if the engine fails."""
        if not self.valid(ticket):
            return Outcome(Kind.REFUSE, self._why_void(), ticket)
        held = self._take_held()
        if held is not None and is_yes(text):
            return self._accept(replace(held, kind=Kind.ACKNOWLEDGE, ticket=ticket, held=False, turn=None))
        if held is not None and is_no(text):
            return Outcome(Kind.ACKNOWLEDGE, "All right, I won't.", ticket)
        turn = self.agent.hear(text, facts, lambda: not self.valid(ticket))
        if turn.kind == "cut":
            return Outcome(Kind.REFUSE, self._why_void(), ticket, turn=turn)
        if turn.kind != "act":
            return Outcome(Kind[turn.kind.upper()], turn.reply, ticket, turn=turn)
        outcome = self._plan(turn, confidence, ticket)
        if outcome.steps and outcome.steps[0].action.skill == "stop":
            with self.lock:
                self.stopped = True
            return outcome
        if any(step.action.requires_confirmation for step in outcome.steps):
            return self._hold(outcome)
        return self._accept(outcome)

    def called_off(self, outcome: Outcome) -> Outcome:
        """What is left of an outcome that must not be sent any more: its turn never happened, or led to nothing."""
        with self.lock:
            if outcome.held:
                self._held = None
            else:
                for step in outcome.steps:  # what had cooled down before it still has
                    self._accepted.pop(step.action.skill, None)
            turn = outcome.turn
            if turn is not None and turn.kind != "cut" and not self.agent.keep_cut_turns and self.agent.take_back():
                turn = None
            return Outcome(Kind.REFUSE, self._why_void(), outcome.ticket, turn=turn)

    def _why_void(self) -> str:
        return STOPPED if self.stopped else CALLED_OFF

    def _plan(self, turn: Turn, confidence: float, ticket: int) -> Outcome:
        numbered = [
            (uuid5(self.session, f"{turn.turn}/{i}"), replace(a, confidence=min(a.confidence, confidence)))
            for i, a in enumerate(turn.actions)
        ]
        plan_id = uuid5(self.session, str(turn.turn))
        moves = [(key, action) for key, action in numbered if action.skill != "report_defect"]
        # "…, then stop" ends a plan; only a stop that comes first stops the robot.
        end = next((i for i, (_, action) in enumerate(moves) if action.skill == "stop" and i > 0), len(moves))
        moves = moves[:1] if moves and moves[0][1].skill == "stop" else moves[:end]
        steps = tuple(Step(key, plan_id, i, len(moves), action) for i, (key, action) in enumerate(moves))
        reports = tuple(Step(key, plan_id, 0, 1, a) for key, a in numbered if a.skill == "report_defect")
        text = turn.reply or self._describe(steps, reports)
        return Outcome(Kind.ACKNOWLEDGE, text, ticket, steps, reports, turn=turn)

    def _describe(self, steps: tuple[Step, ...], reports: tuple[Step, ...]) -> str:
        if steps and steps[0].action.skill == "stop":
            return "Stopped. Say 'resume' to let me move again."
        site = self.agent.site
        parts = [doing(step.action, site) for step in steps]
        for report in reports:
            where = site.name_of(report.action.target_id) if report.action.target_id else "here"
            parts.append(f"noting {report.action.arguments['defect_type']}, {where}")
        text = ", then ".join(parts)
        return f"Okay: {text}." if text else "Okay."

    def _hold(self, outcome: Outcome) -> Outcome:
        with self.lock:
            if self.stopped:
                return self._refuse(outcome, STOPPED)
            question = outcome.text.removeprefix("Okay: ").rstrip(".")
            held = replace(outcome, kind=Kind.CONFIRM, text=f"Shall I go ahead with {question}? Yes or no?", held=True)
            # The words of the acknowledgement are kept for when the answer is yes.
            self._held, self._held_since = replace(outcome, reports=()), self._clock()
            return held

    def _take_held(self) -> Outcome | None:
        with self.lock:
            held = self._held if self.confirming else None
            self._held = None
            return held

    def _accept(self, outcome: Outcome) -> Outcome:
        with self.lock:
            if self.stopped and any(step.action.skill not in CALMING for step in outcome.steps):
                return self._refuse(outcome, STOPPED)
            now = self._clock()
            for step in outcome.steps:
                skill = step.action.skill
                left = self.agent.skills[skill].cooldown_s - (now - self._accepted.get(skill, float("-inf")))
                if left > 0:
                    return self._refuse(outcome, f"I have just done that. Ask me again in {left:.0f} seconds.")
            self._accepted.update({step.action.skill: now for step in outcome.steps})
            return outcome

    def _refuse(self, outcome: Outcome, text: str) -> Outcome:
        """Refuse the motion; a defect is noted all the same."""
        return replace(outcome, kind=Kind.REFUSE, text=text, steps=())

    def _interrupt(self, skill: str) -> Step:
        self._ticket += 1
        self._held = None
        key = uuid4()  # never one that was used before a restart: whoever knows it would take the stop for an old one
        return Step(key, key, 0, 1, Action(skill, {}, "none", False, 1.0, "", None))
