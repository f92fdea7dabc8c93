"""How plans come in: collected, judged as a whole, asked about, and given their place among the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nano_agent_ros.execution.book import CONTROLS, Book
from nano_agent_ros.execution.plan import Plan, Step
from nano_agent_ros.robot.status import Fault, State
from nano_agent_ros.safety.order import Order, Refused

NEW_PLANS = ("queue", "replace", "refuse")
BROKEN = "another step of its plan was not done"

End = Callable[[Iterable[Plan], Fault, str], list[Step]]
"""Ends plans with this fault and reason; returns the steps that the robot still has."""


class Intake:
    """What happens to a plan before it may run."""

    def __init__(self, book: Book, has: Callable[[str], bool], end: End) -> None:
        """`has` tells whether the robot can do a skill."""
        self._book = book
        self._has = has
        self._end = end

    def collect(self, order: Order) -> Step | None:
        """Take a step of a plan, which is judged once it is complete; None if it cannot be one."""
        book, step = self._book, self._book.fresh(order)
        plan = book.arriving.get(order.plan_id)
        if plan is None:
            plan = Plan(order.plan_id, order.step_count, book.now)
        known = any(p.plan_id == order.plan_id and p is not plan for p in book.everything())
        if known or order.step in plan.steps or order.step_count != plan.count:
            book.tell(step, State.REJECTED, Fault.DUPLICATE, "its plan is known already, with other steps")
            return None
        book.arriving[order.plan_id] = plan
        plan.steps[order.step] = step
        return step

    def judge_complete(self) -> None:
        """Judge every plan of which all steps have come."""
        for plan in [plan for plan in self._book.arriving.values() if plan.complete]:
            del self._book.arriving[plan.plan_id]
            self._judge(plan)

    def confirm(self, yes: bool) -> str:
        """Answer the question that is open. Returns why that does not count, or an empty string."""
        book = self._book
        plan, book.asking = book.asking, None
        if plan is None:
            return "nothing waits for a yes"
        asked, plan.asked_s = plan.awaiting(), None
        agreed = yes and all(book.gate.confirm(step.order.action_id, book.now) for step in asked)
        if not agreed:
            self.reject(plan, asked, Fault.NOT_CONFIRMED, "the yes came too late" if yes else "a person said no")
        elif plan in book.plans:
            for step in asked:
                book.tell(step, State.WAITING)
        else:
            self._judge(plan)
        return "the yes came too late" if yes and not agreed else ""

    def ask(self, plan: Plan, questions: Iterable[tuple[Step, str]]) -> None:
        """Have a plan wait for a person's yes."""
        book = self._book
        before, book.asking, plan.asked_s = book.asking, plan, book.now
        if before is not None and before is not plan:
            # One question at a time, as between people: the newer one counts.
            self.reject(before, before.awaiting(), Fault.NOT_CONFIRMED, "another question came before the answer")
        for step, question in questions:
            book.tell(step, State.AWAITING_CONFIRMATION, message=question)

    def reject(self, plan: Plan, steps: Iterable[Step], fault: Fault, message: str) -> None:
        """Refuse these steps and with them the plan."""
        for step in steps:
            self._book.tell(step, State.REJECTED, fault, message)
        self._end([plan], Fault.NONE, BROKEN)

    def expire(self) -> None:
        """Let fail what waited too long for its other steps, or for a yes."""
        book = self._book
        for plan in list(book.arriving.values()):
            if book.now - plan.arrived_s > book.settings.step_timeout_s:
                self.reject(plan, list(plan.in_order()), Fault.TIMEOUT, "the rest of its plan never arrived")
        asking = book.asking
        if asking is not None and book.now - (asking.asked_s or 0.0) > book.gate.policy.confirm_timeout_s:
            self.reject(asking, asking.awaiting(), Fault.NOT_CONFIRMED, "nobody agreed in time")

    def _judge(self, plan: Plan) -> None:
        """All or nothing: a plan of which any step is refused is not begun."""
        book, replaces = self._book, self._replaces(plan)
        view, questions = book.robot if replaces else book.view_after_all(), []
        # A command to cancel, pause or resume that comes first was obeyed when it came.
        for step in [step for step in plan.in_order() if not step.started and not step.over]:
            verdict = book.gate.check(step.order, book.now, view)
            if isinstance(verdict, Refused) and verdict.code is not Fault.NOT_CONFIRMED:
                return self.reject(plan, [step], verdict.code, verdict.reason)
            if step.order.skill not in CONTROLS and not self._has(step.order.skill):
                why = f"no back end of this robot has the skill '{step.order.skill}'"
                return self.reject(plan, [step], Fault.UNKNOWN_SKILL, why)
            if isinstance(verdict, Refused):
                questions.append((step, verdict.reason))
            view = book.gate.after(step.order, view)
        if questions:
            self.ask(plan, questions)
        else:
            self._enqueue(plan, replaces)

    def _replaces(self, plan: Plan) -> bool:
        """Whether a plan ends those before it, rather than wait for its turn."""
        book, order = self._book, plan.steps[0].order
        holder = book.gate.holder(book.now)
        takes_over = holder not in (None, order.source) and order.source in book.gate.policy.operators
        urgent = any(plan.priority > other.priority for other in book.plans)
        return takes_over or urgent or book.settings.new_plan == "replace"

    def _enqueue(self, plan: Plan, replaces: bool) -> None:
        book = self._book
        others = [p for p in book.plans if not p.ending]
        beside = book.beside(plan)
        if replaces and not beside:
            operator = plan.steps[0].order.source in book.gate.policy.operators
            why = "an operator gave another order" if operator else "another order came first"
            self._end(others, Fault.REPLACED, why)
            book.paused = False
        elif others and not beside and book.settings.new_plan == "refuse":
            return self.reject(plan, [plan.steps[0]], Fault.PRECONDITION, "the robot is busy with another plan")
        elif len(others) > book.settings.max_plans:
            return self.reject(plan, [plan.steps[0]], Fault.PRECONDITION, "too many plans wait already")
        for step in plan.in_order():
            if not step.started and not step.over:
                book.tell(step, State.WAITING)
        book.plans.append(plan)
