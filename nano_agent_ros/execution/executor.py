"""Runs plans on a robot: one plan at a time, its steps in order, each past the safety gate, each end acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from uuid import UUID

from nano_agent_ros.execution.back_end import BackEnd, Report
from nano_agent_ros.execution.book import CONTROLS, Book, Settings
from nano_agent_ros.execution.controls import TOLD_TO_STOP, Controls
from nano_agent_ros.execution.intake import BROKEN, Intake
from nano_agent_ros.execution.plan import Awaited, Plan, Step
from nano_agent_ros.robot.status import Fault, State, Status
from nano_agent_ros.safety.gate import Gate
from nano_agent_ros.safety.order import Order, Refused, RobotView

NIL = UUID(int=0)
STOP_AGAIN_S = 1.0  # how often a robot that did not answer is told again to stop


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
        self._back_end = back_end
        self._alarm = alarm
        self._book = Book(gate, settings or Settings(), publish)
        self._intake = Intake(self._book, back_end.has, self._end)
        self._controls = Controls(self._book, back_end, self._end, self._stop)
        self._reports: SimpleQueue[Report] = SimpleQueue()
        self._unheard = False  # whether the robot did not answer, so that it may not have heard of the stop
        self._stopped_at = float("-inf")

    @property
    def robot(self) -> RobotView:
        """Where the robot is, as far as it has said so."""
        return self._book.robot

    @robot.setter
    def robot(self, view: RobotView) -> None:
        self._book.robot = view

    @property
    def paused(self) -> bool:
        """Whether plans are held until `resume`."""
        return self._book.paused

    @property
    def busy(self) -> bool:
        """Whether the robot has anything in hand, or anything waits to be begun."""
        return bool(self._book.plans)

    @property
    def waiting(self) -> int:
        """Plans that wait for the one that runs."""
        return max(0, len(self._book.plans) - 1)

    @property
    def most_waiting(self) -> int:
        """Plans that may wait."""
        return self._book.settings.max_plans

    @property
    def question(self) -> str:
        """What a person is asked; empty if nothing waits for a yes."""
        return self._book.asking.awaiting()[0].status.message if self._book.asking else ""

    def status_of(self, action_id: UUID) -> Status | None:
        """The last status of an action, or None if it never came (or very long ago)."""
        return self._book.last.get(action_id)

    def current(self) -> list[Status]:
        """How the actions that the robot has in hand are getting on."""
        return [step.status for step in self._book.steps() if step.in_hand and step.order.skill not in CONTROLS]

    def post(self, report: Report) -> None:
        """Note a report of the back end, from any thread; the next `tick` takes it up."""
        self._reports.put(report)

    def retune(self, settings: Settings) -> None:
        """Go on with other settings. Nothing that was refused or is under way changes by that."""
        self._book.settings = settings

    def receive(self, order: Order, now: float) -> bool:
        """Take an action; False if one came under its id before, which changes nothing."""
        book, book.now = self._book, now
        usable = order.action_id != NIL and 0 <= order.step < order.step_count
        if order.skill == "stop" and (not usable or book.knows(order.action_id)):
            self.stop(now)  # no reason is good enough not to stop
        if book.knows(order.action_id):
            return False
        if not usable:
            why = "action_id or step cannot be used"
            book.tell(book.fresh(order), State.REJECTED, Fault.INVALID_ARGUMENT, why)
        elif order.skill == "stop" or (order.skill in CONTROLS and order.step_count == 1):
            self._controls.obey(book.fresh(order))
        else:
            step = self._intake.collect(order)
            if step is not None and order.skill in CONTROLS and order.step == 0:
                self._controls.obey(step, book.arriving[order.plan_id])
        self.tick(now)
        return True

    def tick(self, now: float) -> None:
        """Take up reports, let fail what waits too long, watch the robot, and begin what may begin."""
        book, book.now = self._book, now
        while True:
            try:
                self._take(self._reports.get_nowait())
            except Empty:
                break
        self._controls.conclude()
        self._intake.judge_complete()
        self._intake.expire()
        self._give_up_waiting()
        self._watch()
        self._insist()
        for plan in book.plans:
            if not plan.ending and any(
                step.over and step.status.state is not State.FINISHED for step in plan.in_order()
            ):
                self._end([plan], Fault.NONE, BROKEN)
        if book.plans:
            self.gate.keep(now)
        self._advance()
        book.plans = [plan for plan in book.plans if not plan.over]
        book.paused = book.paused and self.busy
        self._controls.conclude()

    def stop(self, now: float) -> None:
        """Let nothing move any more until `acknowledge`, and drop whatever was planned."""
        self._book.now = now
        self._stop(TOLD_TO_STOP)
        self.tick(now)

    def drop(self, now: float) -> None:
        """Have the robot give up everything; no stop that somebody has to acknowledge."""
        self._book.now = now
        self._back_end.stop()
        self._end(self._book.everything(), Fault.NONE, "the executor has ended")

    def acknowledge(self, now: float) -> str:
        """Let new actions pass; nothing of before goes on. Returns why not, or an empty string."""
        self.tick(now)
        if any(step.in_hand for step in self._book.steps()):
            return "the robot has not confirmed yet that it has stopped"
        self._unheard = False
        return "" if self.gate.acknowledge(now) else "there was no stop"

    def confirm(self, yes: bool, now: float) -> str:
        """Answer the question that is open. Returns why that does not count, or an empty string."""
        self._book.now = now
        why = self._intake.confirm(yes)
        self.tick(now)
        return why

    def _advance(self) -> None:
        """Begin what may begin of the first plan, which keeps its place until the robot has ended it, and beside it."""
        book = self._book
        first = next((plan for plan in book.plans if not plan.over and not book.beside(plan)), None)
        for plan in [p for p in book.plans if p is first or book.beside(p)]:
            while not book.paused and not self.gate.stopped and plan.asked_s is None:
                step = plan.next_step()
                if step is None:
                    break
                self._begin(plan, step)

    def _begin(self, plan: Plan, step: Step) -> None:
        if step.order.skill in CONTROLS:
            return self._controls.obey(step, plan)
        verdict = self.gate.check(step.order, self._book.now, self.robot)
        if isinstance(verdict, Refused):
            if verdict.code is Fault.NOT_CONFIRMED:
                return self._intake.ask(plan, [(step, verdict.reason)])
            return self._intake.reject(plan, [step], verdict.code, verdict.reason)
        step.started, step.parked = True, False
        self._book.expect(step, Awaited.START)
        self._back_end.start(step.order, verdict.max_speed_mps)

    def _take(self, report: Report) -> None:
        found = self._book.find(report.action_id)
        if found is None:
            return
        plan, step = found
        if step.parked and report.state is State.CANCELED:
            # The robot cannot hold: it has given the step up, and gets it again when told to go on.
            step.started, step.awaited = False, Awaited.NOTHING
            return self._book.tell(step, State.PAUSED, progress=step.status.progress)
        if step.awaited is Awaited.HOLD and report.state is State.RUNNING and not step.parked:
            self._back_end.pause(report.action_id)  # it had not begun yet when it was first asked to hold
        if report.state is State.PAUSED and not self.paused and not plan.ending:
            self._book.expect(step, Awaited.START)
            self._back_end.resume(report.action_id)  # it holds only now, after it was told to go on
            return
        if report.fault is Fault.NO_ROBOT and step.awaited is not Awaited.START:
            self._unheard = True
            self._book.tell(step, State.FAILED, Fault.NO_ROBOT, report.message)
            return self._halt(report.message)  # whatever it was doing, nobody can say that it has ended
        progress = {State.RUNNING: report.progress, State.FINISHED: 1.0}.get(report.state)
        if step.awaited.met_by(report.state):
            step.awaited = Awaited.NOTHING
        fault, message = report.fault, report.message
        if report.state is State.CANCELED and not message:
            fault, message = plan.why
        self._book.tell(step, report.state, fault, message, progress)

    def _give_up_waiting(self) -> None:
        """Stop a robot that has not said in time what it has to say."""
        book = self._book
        late = [s for s in book.steps() if s.in_hand and s.awaited is not Awaited.NOTHING and book.now > s.due_s]
        for step in late:
            book.tell(step, State.FAILED, Fault.NO_ROBOT, f"the robot did not say in time {step.awaited.value}")
        if late:
            self._unheard = True
            name, awaited, within_s = late[0].order.skill, late[0].awaited.value, book.settings.answer_timeout_s
            self._halt(f"the robot did not say of '{name}' within {within_s:g} s {awaited}")

    def _watch(self) -> None:
        if any(step.in_hand and step.drives for step in self._book.steps()) and not self.gate.stopped:
            refusal = self.gate.watch(self._book.now, self.robot)
            if refusal is not None:
                self._halt(refusal.reason)

    def _insist(self) -> None:
        """Whoever did not hear that it has to stop may hear it now."""
        if self._unheard and self.gate.stopped and self._book.now - self._stopped_at >= STOP_AGAIN_S:
            self._stopped_at = self._book.now
            self._back_end.stop()

    def _halt(self, reason: str) -> None:
        self._stop(reason)
        self._alarm(reason)

    def _stop(self, message: str) -> list[Step]:
        self.gate.stop(self._book.now)
        self._stopped_at = self._book.now
        self._back_end.stop()
        self._book.paused = False
        self._controls.give_up(message)
        return self._end(self._book.everything(), Fault.STOPPED, message)

    def _end(self, plans: Iterable[Plan], fault: Fault, message: str) -> list[Step]:
        """Begin no further step of these plans; returns the steps whose end the robot has yet to confirm."""
        waits, book = [], self._book
        for plan in plans:
            plan.why = plan.why if plan.ending else (fault, message)
            plan.ending, plan.asked_s = True, None
            book.arriving.pop(plan.plan_id, None)
            if plan is book.asking:
                book.asking = None
            for step in plan.in_order():
                if step.in_hand and step.order.skill not in CONTROLS:
                    step.parked = False
                    book.expect(step, Awaited.END)
                    self._back_end.cancel(step.order.action_id)
                    waits.append(step)
                elif not step.in_hand and not step.over:
                    book.tell(step, State.CANCELED, fault, message)
        return waits
