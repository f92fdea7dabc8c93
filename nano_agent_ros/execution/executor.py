"""Runs plans on a robot: one plan at a time, its steps in order, each past the safety gate, each end acknowledged."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from uuid import UUID

from nano_agent_ros.execution.back_end import BackEnd, Report
from nano_agent_ros.execution.plan import Awaited, Blocking, Plan, Step
from nano_agent_ros.robot.status import Fault, State, Status
from nano_agent_ros.safety.gate import Gate
from nano_agent_ros.safety.order import Order, Refused, RobotView
from nano_agent_ros.safety.policy import CALMING

MEMORY = 10_000  # actions whose last status is remembered
NIL = UUID(int=0)
NEW_PLANS = ("queue", "replace", "refuse")
BROKEN = "another step of its plan was not done"


@dataclass(frozen=True)
class Settings:
    """`new_plan`: what becomes of a plan that comes while another runs. `blocking`: of skills that are not HARD.
    `at_once`: skills that, as the only step of a plan, begin beside whatever runs. Times in seconds."""

    new_plan: str = "queue"
    max_plans: int = 8
    step_timeout_s: float = 5.0
    answer_timeout_s: float = 5.0
    blocking: Mapping[str, Blocking] = field(default_factory=dict)
    at_once: tuple[str, ...] = ("set_speed",)


@dataclass
class _Control:
    """A stop, cancel, pause or resume: done when the robot has said so of each of these steps."""

    step: Step
    waits_for: list[Step]
    done: Callable[[Step], bool]


class Executor:
    """Takes actions, has a back end carry them out, and tells of every change through `publish`.

    `alarm` is called with the reason when the executor itself has to stop the robot: it is where it must not be, or did
    not answer in time. Times are seconds of the clock of the orders' stamps and never go back. `post` may be called
    from any thread, also from within the back end's methods; everything else is not thread safe.
    """

    def __init__(
        self,
        gate: Gate,
        back_end: BackEnd,
        publish: Callable[[Status], None],
        settings: Settings | None = None,
        alarm: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Begin with nothing in hand."""
        self.gate = gate
        self.robot = RobotView()
        self.paused = False
        self._back_end = back_end
        self._publish = publish
        self._settings = settings or Settings()
        self._alarm = alarm
        self._now = float("-inf")
        self._reports: SimpleQueue[Report] = SimpleQueue()
        self._arriving: dict[UUID, Plan] = {}
        self._asking: Plan | None = None
        self._plans: list[Plan] = []
        self._controls: list[_Control] = []
        self._last: OrderedDict[UUID, Status] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether the robot has anything in hand, or anything waits to be begun."""
        return bool(self._plans)

    @property
    def question(self) -> str:
        """What a person is asked; empty if nothing waits for a yes."""
        return self._asking.awaiting()[0].status.message if self._asking else ""

    def status_of(self, action_id: UUID) -> Status | None:
        """The last status of an action, or None if it never came (or very long ago)."""
        return self._last.get(action_id)

    def current(self) -> list[Status]:
        """How the actions that the robot has in hand are getting on."""
        return [step.status for step in self._steps() if step.in_hand]

    def post(self, report: Report) -> None:
        """Note a report of the back end, from any thread; the next `tick` takes it up."""
        self._reports.put(report)

    def receive(self, order: Order, now: float) -> bool:
        """Take an action; False if one came under its id before, which changes nothing."""
        self._now = now
        arriving = (step.order.action_id for plan in self._arriving.values() for step in plan.steps.values())
        if order.action_id in self._last or order.action_id in arriving:
            return False
        if order.action_id == NIL or not 0 <= order.step < order.step_count:
            self._tell(self._fresh(order), State.REJECTED, Fault.INVALID_ARGUMENT, "action_id or step cannot be used")
        elif order.skill in (*CALMING, "resume"):
            self._control(order)
        else:
            self._collect(order)
        self.tick(now)
        return True

    def tick(self, now: float) -> None:
        """Take up reports, let fail what waits too long, watch the robot, and begin what may begin."""
        self._now = now
        while True:
            try:
                self._take(self._reports.get_nowait())
            except Empty:
                break
        self._expire()
        self._watch()
        if self._plans:
            self.gate.keep(now)
        self._advance()
        self._plans = [plan for plan in self._plans if not plan.over]
        self.paused = self.paused and self.busy
        self._conclude()

    def stop(self, now: float) -> None:
        """Let nothing move any more until `acknowledge`, and drop whatever was planned."""
        self._now = now
        self._stop()
        self.tick(now)

    def drop(self, now: float) -> None:
        """Have the robot give up everything; no stop that somebody has to acknowledge."""
        self._now = now
        self._back_end.stop()
        self._end(self._everything(), Fault.NONE, "the executor has ended")

    def acknowledge(self, now: float) -> str:
        """Let new actions pass; nothing of before goes on. Returns why not, or an empty string."""
        self.tick(now)
        if any(step.in_hand for step in self._steps()):
            return "the robot has not confirmed yet that it has stopped"
        return "" if self.gate.acknowledge(now) else "there was no stop"

    def confirm(self, yes: bool, now: float) -> str:
        """Answer the question that is open. Returns why that does not count, or an empty string."""
        self._now = now
        plan, self._asking = self._asking, None
        if plan is None:
            return "nothing waits for a yes"
        asked, plan.asked_s = plan.awaiting(), None
        agreed = yes and all(self.gate.confirm(step.order.action_id, now) for step in asked)
        if not agreed:
            self._reject(plan, asked, Fault.NOT_CONFIRMED, "the yes came too late" if yes else "a person said no")
        elif plan in self._plans:
            for step in asked:
                self._tell(step, State.WAITING)
        else:
            self._judge(plan)
        self.tick(now)
        return "the yes came too late" if yes and not agreed else ""

    def _collect(self, order: Order) -> None:
        plan = self._arriving.get(order.plan_id)
        if plan is None:
            plan = Plan(order.plan_id, order.step_count, self._now)
        known = any(p.plan_id == order.plan_id for p in (*self._plans, *([self._asking] if self._asking else [])))
        if known or order.step in plan.steps or order.step_count != plan.count:
            why = "its plan is known already, with other steps"
            self._tell(self._fresh(order), State.REJECTED, Fault.DUPLICATE, why)
            return
        self._arriving[order.plan_id] = plan
        plan.steps[order.step] = self._fresh(order)
        if plan.complete:
            del self._arriving[order.plan_id]
            self._judge(plan)

    def _judge(self, plan: Plan) -> None:
        """All or nothing: a plan of which any step is refused is not begun."""
        replaces = self._replaces(plan)
        view, questions = self.robot if replaces else self._view_after_all(), []
        for step in plan.in_order():
            verdict = self.gate.check(step.order, self._now, view)
            if isinstance(verdict, Refused) and verdict.code is not Fault.NOT_CONFIRMED:
                return self._reject(plan, [step], verdict.code, verdict.reason)
            if not self._back_end.has(step.order.skill):
                why = f"no back end of this robot has the skill '{step.order.skill}'"
                return self._reject(plan, [step], Fault.UNKNOWN_SKILL, why)
            if isinstance(verdict, Refused):
                questions.append((step, verdict.reason))
            view = self.gate.after(step.order, view)
        if questions:
            self._ask(plan, questions)
        else:
            self._enqueue(plan, replaces)

    def _replaces(self, plan: Plan) -> bool:
        """Whether a plan ends those before it, rather than wait for its turn."""
        order, holder = plan.steps[0].order, self.gate.holder(self._now)
        takes_over = holder not in (None, order.source) and order.source in self.gate.policy.operators
        urgent = any(plan.priority > other.priority for other in self._plans)
        return takes_over or urgent or self._settings.new_plan == "replace"

    def _enqueue(self, plan: Plan, replaces: bool) -> None:
        others = [p for p in self._plans if not p.ending]
        beside = self._beside(plan)
        if replaces and not beside:
            self._end(others, Fault.REPLACED, "replaced by another plan")
            self.paused = False
        elif others and not beside and self._settings.new_plan == "refuse":
            return self._reject(plan, [plan.steps[0]], Fault.PRECONDITION, "the robot is busy with another plan")
        elif len(others) > self._settings.max_plans:
            return self._reject(plan, [plan.steps[0]], Fault.PRECONDITION, "too many plans wait already")
        for step in plan.in_order():
            self._tell(step, State.WAITING)
        self._plans.append(plan)

    def _ask(self, plan: Plan, questions: Iterable[tuple[Step, str]]) -> None:
        before, self._asking, plan.asked_s = self._asking, plan, self._now
        if before is not None and before is not plan:
            # One question at a time, as between people: the newer one counts.
            self._reject(before, before.awaiting(), Fault.NOT_CONFIRMED, "another question came before the answer")
        for step, question in questions:
            self._tell(step, State.AWAITING_CONFIRMATION, message=question)

    def _advance(self) -> None:
        """Begin what may begin of the first plan, which keeps its place until the robot has ended it, and beside it."""
        if self.paused or self.gate.stopped:
            return
        first = next((plan for plan in self._plans if not plan.over and not self._beside(plan)), None)
        for plan in [p for p in self._plans if p is first or self._beside(p)]:
            while plan.asked_s is None and (step := plan.next_step()) is not None:
                self._begin(plan, step)

    def _beside(self, plan: Plan) -> bool:
        return plan.count == 1 and plan.steps[0].order.skill in self._settings.at_once

    def _begin(self, plan: Plan, step: Step) -> None:
        verdict = self.gate.check(step.order, self._now, self.robot)
        if isinstance(verdict, Refused):
            if verdict.code is Fault.NOT_CONFIRMED:
                return self._ask(plan, [(step, verdict.reason)])
            return self._reject(plan, [step], verdict.code, verdict.reason)
        step.started, step.parked = True, False
        step.expect(Awaited.START, self._due())
        self._back_end.start(step.order, verdict.max_speed_mps)

    def _take(self, report: Report) -> None:
        plan = next((p for p in self._plans if any(s.order.action_id == report.action_id for s in p.in_order())), None)
        step = next((s for s in plan.in_order() if s.order.action_id == report.action_id), None) if plan else None
        if plan is None or step is None or not step.in_hand:
            return
        if step.parked and report.state is State.CANCELED:
            # The robot cannot hold: it has given the step up, and gets it again when told to go on.
            step.started, step.awaited = False, Awaited.NOTHING
            return self._tell(step, State.PAUSED, progress=step.status.progress)
        if step.awaited is Awaited.HOLD and report.state is State.RUNNING and not step.parked:
            self._back_end.pause(report.action_id)  # it had not begun yet when it was first asked to hold
        if report.fault is Fault.NO_ROBOT and step.awaited is not Awaited.START:
            self._tell(step, State.FAILED, Fault.NO_ROBOT, report.message)
            return self._halt(report.message)  # whatever it was doing, nobody can say that it has ended
        progress = report.progress if report.state is State.RUNNING else None
        progress = 1.0 if report.state is State.FINISHED else progress
        if step.awaited.met_by(report.state):
            step.awaited = Awaited.NOTHING
        fault, message = report.fault, report.message
        if report.state is State.CANCELED and not message:
            fault, message = plan.why
        self._tell(step, report.state, fault, message, progress)
        if report.state.final and report.state is not State.FINISHED and not plan.ending:
            self._end([plan], Fault.NONE, BROKEN)

    def _expire(self) -> None:
        for plan in list(self._arriving.values()):
            if self._now - plan.arrived_s > self._settings.step_timeout_s:
                self._reject(plan, list(plan.in_order()), Fault.TIMEOUT, "the rest of its plan never arrived")
        asking = self._asking
        if asking is not None and self._now - (asking.asked_s or 0.0) > self.gate.policy.confirm_timeout_s:
            self._reject(asking, asking.awaiting(), Fault.NOT_CONFIRMED, "nobody agreed in time")
        steps = [step for step in self._steps() if step.in_hand and step.awaited is not Awaited.NOTHING]
        late = [step for step in steps if self._now > step.due_s]
        for step in late:
            self._tell(step, State.FAILED, Fault.NO_ROBOT, f"the robot did not say in time {step.awaited.value}")
        if late:
            name, awaited = late[0].order.skill, late[0].awaited.value
            self._halt(f"the robot did not say of '{name}' within {self._settings.answer_timeout_s:g} s {awaited}")

    def _watch(self) -> None:
        if any(step.in_hand and step.drives for step in self._steps()) and not self.gate.stopped:
            refusal = self.gate.watch(self._now, self.robot)
            if refusal is not None:
                self._halt(refusal.reason)

    def _halt(self, reason: str) -> None:
        self._stop(f"stopped: {reason}")
        self._alarm(reason)

    def _stop(self, message: str = "stopped") -> list[Step]:
        self.gate.stop(self._now)
        self._back_end.stop()
        self.paused = False
        for control in self._controls:
            if control.step.order.skill != "stop":
                self._tell(control.step, State.CANCELED, Fault.STOPPED, message)
        return self._end(self._everything(), Fault.STOPPED, message)

    def _end(self, plans: Iterable[Plan], fault: Fault, message: str) -> list[Step]:
        """Begin no further step of these plans; returns the steps whose end the robot has yet to confirm."""
        waits = []
        for plan in plans:
            plan.why = plan.why if plan.ending else (fault, message)
            plan.ending, plan.asked_s = True, None
            self._arriving.pop(plan.plan_id, None)
            if plan is self._asking:
                self._asking = None
            for step in plan.in_order():
                if step.in_hand:
                    step.parked = False
                    step.expect(Awaited.END, self._due())
                    self._back_end.cancel(step.order.action_id)
                    waits.append(step)
                elif not step.over:
                    self._tell(step, State.CANCELED, fault, message)
        return waits

    def _reject(self, plan: Plan, steps: Iterable[Step], fault: Fault, message: str) -> None:
        for step in steps:
            self._tell(step, State.REJECTED, fault, message)
        self._end([plan], Fault.NONE, BROKEN)

    def _control(self, order: Order) -> None:
        step = self._fresh(order)
        if order.skill == "stop":
            self._await(step, self._stop(), lambda s: s.over)
        elif order.skill == "cancel":
            self.paused = False
            self._await(step, self._end(self._everything(), Fault.NONE, ""), lambda s: s.over)
        elif order.skill == "pause":
            self._pause(step)
        else:
            self._resume(step)

    def _pause(self, control: Step) -> None:
        held = [s for s in self._steps() if s.in_hand and s.blocking is not Blocking.NONE]
        stubborn = next((s.order.skill for s in held if not self._can_hold(s.order.skill)), None)
        if not self._plans or self.paused:
            return self._tell(control, State.FAILED, Fault.PRECONDITION, "nothing is running")
        if stubborn is not None:
            why = f"this robot cannot hold '{stubborn}' and go on later; cancel it instead"
            return self._tell(control, State.FAILED, Fault.PRECONDITION, why)
        self.paused = True
        for step in held:
            step.expect(Awaited.HOLD, self._due())
            if self._back_end.can_pause(step.order.skill):
                self._back_end.pause(step.order.action_id)
            else:
                step.parked = True
                self._back_end.cancel(step.order.action_id)
        self._await(control, held, lambda s: s.over or s.status.state is State.PAUSED)

    def _resume(self, control: Step) -> None:
        verdict = self.gate.check(control.order, self._now, self.robot)
        if isinstance(verdict, Refused):
            return self._tell(control, State.REJECTED, verdict.code, verdict.reason)
        if not self.paused:
            return self._tell(control, State.FAILED, Fault.PRECONDITION, "nothing is held")
        self.paused = False
        held = [s for s in self._steps() if s.status.state is State.PAUSED]
        for plan in list(self._plans):
            for step in [s for s in plan.in_order() if s in held and s.in_hand]:
                again = self.gate.check(step.order, self._now, self.robot)
                if isinstance(again, Refused):
                    self._end([plan], again.code, again.reason)
                else:
                    step.expect(Awaited.START, self._due())
                    self._back_end.resume(step.order.action_id)
        self._await(control, held, lambda s: s.over or s.status.state is State.RUNNING)

    def _can_hold(self, skill: str) -> bool:
        return self._back_end.can_pause(skill) or self._back_end.can_restart(skill)

    def _await(self, control: Step, steps: list[Step], done: Callable[[Step], bool]) -> None:
        self._tell(control, State.RUNNING)
        self._controls.append(_Control(control, steps, done))

    def _conclude(self) -> None:
        for control in self._controls:
            if any(step.status.fault is Fault.NO_ROBOT for step in control.waits_for):
                self._tell(control.step, State.FAILED, Fault.NO_ROBOT, "the robot did not confirm it in time")
            elif all(map(control.done, control.waits_for)):
                self._tell(control.step, State.FINISHED, progress=1.0)
        self._controls = [control for control in self._controls if not control.step.over]

    def _everything(self) -> list[Plan]:
        asking = [self._asking] if self._asking and self._asking not in self._plans else []
        return [*self._plans, *asking, *self._arriving.values()]

    def _steps(self) -> list[Step]:
        return [step for plan in self._plans for step in plan.in_order()]

    def _view_after_all(self) -> RobotView:
        view = self.robot
        for step in (s for plan in self._plans if not plan.ending for s in plan.in_order()):
            view = view if step.over else self.gate.after(step.order, view)
        return view

    def _due(self) -> float:
        return self._now + self._settings.answer_timeout_s

    def _fresh(self, order: Order) -> Step:
        rule = self.gate.policy.skills.get(order.skill)
        blocking = self._settings.blocking.get(order.skill, Blocking.HARD)
        status = Status(order.action_id, order.skill, State.WAITING)
        return Step(order, status, blocking, drives=rule is not None and rule.drives)

    def _tell(
        self, step: Step, state: State, fault: Fault = Fault.NONE, message: str = "", progress: float | None = None
    ) -> None:
        known = step.order.action_id in self._last
        if known and step.over:
            return
        progress = step.status.progress if progress is None else progress
        status = replace(step.status, state=state, fault=fault, message=message, progress=progress)
        changed = not known or status != step.status
        step.status = status
        self._last[step.order.action_id] = status
        while len(self._last) > MEMORY:
            self._last.popitem(last=False)
        if changed:
            self._publish(status)
