"""Pause, resume, cancel and stop: commands about other actions, done when the robot has confirmed what they want."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nano_agent_ros.execution.back_end import BackEnd
from nano_agent_ros.execution.book import CONTROLS, Book
from nano_agent_ros.execution.intake import End
from nano_agent_ros.execution.plan import Awaited, Blocking, Plan, Step
from nano_agent_ros.robot.status import Fault, State
from nano_agent_ros.safety.order import Refused

TOLD_TO_STOP = "a stop was ordered"
BY_OPERATOR = {"stop": "stopped by an operator", "cancel": "an operator called it off"}


@dataclass
class _Pending:
    """A command, and what each of these steps has to come to until it is done."""

    step: Step
    waits_for: list[Step]
    done: Callable[[Step], bool]


class Controls:
    """Carries the commands out. A command that is a step of a longer plan leaves that plan alone."""

    def __init__(self, book: Book, back_end: BackEnd, end: End, stop: Callable[[str], list[Step]]) -> None:
        """`stop` stops the robot for the given reason and returns the steps whose end it has to confirm."""
        self._book = book
        self._back_end = back_end
        self._end = end
        self._stop = stop
        self._pending: list[_Pending] = []

    def obey(self, step: Step, own: Plan | None = None) -> None:
        """Do what the command wants; `own` is the plan that it is a step of."""
        step.started = True
        skill, operator = step.order.skill, step.order.source in self._book.gate.policy.operators
        if skill == "stop":
            self._await(step, self._stop(BY_OPERATOR[skill] if operator else TOLD_TO_STOP), lambda s: s.over)
        elif skill == "cancel":
            self._book.paused = False
            others = [plan for plan in self._book.everything() if plan is not own]
            why = BY_OPERATOR[skill] if operator else "it was called off"
            self._await(step, self._end(others, Fault.NONE, why), lambda s: s.over)
        elif skill == "pause":
            self._pause(step)
        else:
            self._resume(step)

    def give_up(self, message: str) -> None:
        """A stop ends every command but those to stop."""
        for pending in self._pending:
            if pending.step.order.skill != "stop":
                self._book.tell(pending.step, State.CANCELED, Fault.STOPPED, message)

    def conclude(self) -> None:
        """End the commands of which the robot has confirmed everything, or will not any more."""
        for pending in self._pending:
            if any(step.status.fault is Fault.NO_ROBOT for step in pending.waits_for):
                why = "the robot did not confirm it in time"
                self._book.tell(pending.step, State.FAILED, Fault.NO_ROBOT, why)
            elif all(map(pending.done, pending.waits_for)):
                self._book.tell(pending.step, State.FINISHED, progress=1.0)
        self._pending = [pending for pending in self._pending if not pending.step.over]

    def _pause(self, control: Step) -> None:
        book = self._book
        running = [step for plan in book.plans if not book.beside(plan) for step in plan.in_order() if step.in_hand]
        held = [s for s in running if s.blocking is not Blocking.NONE and s.order.skill not in CONTROLS]
        stubborn = next((s.order.skill for s in held if not self._can_hold(s.order.skill)), None)
        if not book.plans or book.paused:
            return book.tell(control, State.FAILED, Fault.PRECONDITION, "nothing is running")
        if stubborn is not None:
            why = f"this robot cannot hold '{stubborn}' and go on later; cancel it instead"
            return book.tell(control, State.FAILED, Fault.PRECONDITION, why)
        book.paused = True
        for step in held:
            book.expect(step, Awaited.HOLD)
            if self._back_end.can_pause(step.order.skill):
                self._back_end.pause(step.order.action_id)
            else:
                step.parked = True
                self._back_end.cancel(step.order.action_id)
        self._await(control, held, lambda s: s.over or s.status.state is State.PAUSED)

    def _resume(self, control: Step) -> None:
        book = self._book
        verdict = book.gate.check(control.order, book.now, book.robot)
        if isinstance(verdict, Refused):
            return book.tell(control, State.REJECTED, verdict.code, verdict.reason)
        if not book.paused:
            return book.tell(control, State.FAILED, Fault.PRECONDITION, "nothing is held")
        book.paused = False
        # Those that are still on their way to a hold as well.
        held = [s for s in book.steps() if s.status.state is State.PAUSED or s.awaited is Awaited.HOLD]
        for plan in list(book.plans):
            for step in [s for s in plan.in_order() if s in held and s.in_hand]:
                again = book.gate.check(step.order, book.now, book.robot)
                if isinstance(again, Refused):
                    self._end([plan], again.code, again.reason)
                elif not step.parked:
                    book.expect(step, Awaited.START)
                    self._back_end.resume(step.order.action_id)
        self._await(control, held, lambda s: s.over or s.status.state is State.RUNNING)

    def _can_hold(self, skill: str) -> bool:
        return self._back_end.can_pause(skill) or self._back_end.can_restart(skill)

    def _await(self, control: Step, steps: list[Step], done: Callable[[Step], bool]) -> None:
        self._book.tell(control, State.RUNNING)
        self._pending.append(_Pending(control, steps, done))
