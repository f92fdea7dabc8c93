"""The simulated robot: a queue of actions, run one at a time over simulated time, stopped and paused at once."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, replace
from uuid import UUID

from nano_agent_ros.robot.behaviours import BEHAVIOURS, CannotDo, Phase, Task, World, phases
from nano_agent_ros.robot.kinematics import Body
from nano_agent_ros.robot.status import Fault, State, Status

__all__ = ["Command", "Fault", "SimulatedRobot", "State", "Status"]

MEMORY = 10_000  # action and plan ids that are remembered


@dataclass(frozen=True)
class Command:
    """One action to execute: step `step` of `step_count` of a plan."""

    action_id: UUID
    plan_id: UUID
    task: Task
    step: int = 0
    step_count: int = 1
    confirmed: bool = True


@dataclass
class _Job:
    command: Command
    status: Status
    phases: list[Phase]
    total_s: float = 0.0
    elapsed_s: float = 0.0
    waited_s: float = 0.0
    defect: str = ""


@dataclass
class _Plan:
    next_step: int = 0
    broken: bool = False


class SimulatedRobot:
    """Executes the steps of each plan in order; the rest of a plan is cancelled once a step of it did not finish.

    `stop` and `cancel` empty the queue, `pause` holds the action in hand until `resume`. `defects` maps a skill to what
    goes wrong half-way the next time that it is done. Time passes only in `step`. Methods return the changes of status
    that they caused, in order. Not thread safe.
    """

    def __init__(self, world: World, body: Body | None = None, step_timeout_s: float = 30.0) -> None:
        """Work in `world`; a step whose predecessor does not arrive within `step_timeout_s` fails."""
        self.world = world
        self.body = body or Body()
        self.paused = False
        self.defects: dict[str, str] = {}
        self._step_timeout_s = step_timeout_s
        self._queue: list[_Job] = []
        self._active: _Job | None = None
        self._seen: OrderedDict[UUID, Status] = OrderedDict()
        self._plans: OrderedDict[UUID, _Plan] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether an action is in hand or waits."""
        return self._active is not None or bool(self._queue)

    def status_of(self, action_id: UUID) -> Status | None:
        """The last status of an action, or None if it was never submitted (or very long ago)."""
        return self._seen.get(action_id)

    def current(self) -> Status | None:
        """Status of the action in hand."""
        return self._active.status if self._active else None

    def submit(self, command: Command) -> list[Status]:
        """Take an action. One that was submitted before is not executed again and changes nothing."""
        if command.action_id in self._seen:
            return []
        skill = command.task.skill
        if not command.confirmed:
            return self._refuse(command, Fault.NOT_CONFIRMED, "needs a person's agreement before it is sent here")
        if skill in self._AT_ONCE:
            return self._AT_ONCE[skill](self, command)
        if skill not in BEHAVIOURS:
            return self._refuse(command, Fault.UNKNOWN_SKILL, f"this robot has no skill '{skill}'")
        if self._plan(command).broken:
            return self._note(command, State.CANCELED, message="an earlier step of its plan did not finish")
        try:
            job = _Job(command, self._fresh(command), phases(command.task, self.world))
        except CannotDo as error:
            return self._refuse(command, Fault(error.code), str(error))
        except (TypeError, ValueError) as error:
            return self._refuse(command, Fault.INVALID_ARGUMENT, f"an argument cannot be used: {error}")
        if skill == "set_speed" and command.step_count == 1:
            job.phases[0].advance(self.body, 0.0)
            return self._note(command, State.FINISHED, progress=1.0)
        self._queue.append(job)
        return self._note(command, State.WAITING)

    def step(self, dt: float) -> list[Status]:
        """Let dt seconds of simulated time pass."""
        changes: list[Status] = []
        while dt > 0.0:
            if self._active is None and not self.paused:
                changes += self._start_next(dt)
            job = self._active
            if job is None or self.paused:
                self.body.rest(dt)
                break
            dt -= self._advance(job, dt, changes)
        return changes

    def cancel(self, action_id: UUID) -> list[Status]:
        """Give up one action and the rest of its plan."""
        job = next((j for j in self._jobs() if j.command.action_id == action_id), None)
        if job is None:
            return []
        return self._break_plan(job.command.plan_id)

    def stop(self) -> list[Status]:
        """Give up everything at once."""
        self.paused = False
        plans = dict.fromkeys(job.command.plan_id for job in self._jobs())
        return [change for plan in plans for change in self._break_plan(plan)]

    def _stop(self, command: Command) -> list[Status]:
        return [*self.stop(), *self._note(command, State.FINISHED, progress=1.0)]

    def _pause(self, command: Command) -> list[Status]:
        if self._active is None or self.paused:
            return self._note(command, State.FAILED, fault=Fault.PRECONDITION, message="nothing is running")
        self.paused = True
        held = self._update(self._active, state=State.PAUSED)
        return [held, *self._note(command, State.FINISHED, progress=1.0)]

    def _resume(self, command: Command) -> list[Status]:
        if self._active is None or not self.paused:
            return self._note(command, State.FAILED, fault=Fault.PRECONDITION, message="nothing is held")
        self.paused = False
        going = self._update(self._active, state=State.RUNNING)
        return [going, *self._note(command, State.FINISHED, progress=1.0)]

    _AT_ONCE = {"stop": _stop, "cancel": _stop, "pause": _pause, "resume": _resume}

    def _jobs(self) -> list[_Job]:
        return [*([self._active] if self._active else []), *self._queue]

    def _plan(self, command: Command) -> _Plan:
        plan = self._plans.setdefault(command.plan_id, _Plan())
        while len(self._plans) > MEMORY:
            self._plans.popitem(last=False)
        return plan

    def _start_next(self, dt: float) -> list[Status]:
        for job in self._queue:
            if job.command.step <= self._plan(job.command).next_step:
                self._queue.remove(job)
                self._active = job
                job.defect = self.defects.pop(job.command.task.skill, "")
                # How long it takes is found by doing it on copies.
                trial = replace(copy.deepcopy(self.body), obstacles=())
                try:
                    job.total_s = sum(phase.advance(trial, 1e6) for phase in copy.deepcopy(job.phases))
                except CannotDo as error:
                    return self._fail(job, Fault(error.code), str(error))
                return [self._update(job, state=State.RUNNING)]
            job.waited_s += dt
            if job.waited_s > self._step_timeout_s:
                self._queue.remove(job)
                return self._fail(job, Fault.TIMEOUT, "an earlier step of its plan never arrived")
        return []

    def _advance(self, job: _Job, dt: float, changes: list[Status]) -> float:
        used = 0.0
        try:
            while job.phases and used < dt:
                part = job.phases[0].advance(self.body, dt - used)
                used += part
                if used < dt:
                    job.phases.pop(0)
        except CannotDo as error:
            changes += self._fail(job, Fault(error.code), str(error))
            return used
        job.elapsed_s += used
        if job.defect and job.elapsed_s >= job.total_s / 2:
            changes += self._fail(job, Fault.UNKNOWN, job.defect)
        elif self.body.battery <= 0.0:
            changes += self._fail(job, Fault.PRECONDITION, "the battery is empty")
        elif not job.phases:
            self._active = None
            self._plan(job.command).next_step = job.command.step + 1
            changes.append(self._update(job, state=State.FINISHED, progress=1.0))
        else:
            self._update(job, progress=min(0.99, job.elapsed_s / job.total_s) if job.total_s else 0.0)
        return used

    def _fail(self, job: _Job, fault: Fault, message: str) -> list[Status]:
        if self._active is job:
            self._active = None
        failed = self._update(job, state=State.FAILED, fault=fault, message=message)
        return [failed, *self._break_plan(job.command.plan_id)]

    def _break_plan(self, plan_id: UUID) -> list[Status]:
        jobs = [job for job in self._jobs() if job.command.plan_id == plan_id]
        self._queue = [job for job in self._queue if job not in jobs]
        if self._active in jobs:
            self._active, self.paused = None, False
        self._plans.setdefault(plan_id, _Plan()).broken = True
        return [self._update(job, state=State.CANCELED) for job in jobs]

    def _fresh(self, command: Command) -> Status:
        return Status(command.action_id, command.task.skill, State.WAITING)

    def _refuse(self, command: Command, fault: Fault, message: str) -> list[Status]:
        changes = self._note(command, State.REJECTED, fault=fault, message=message)
        return changes + (self._break_plan(command.plan_id) if command.step_count > 1 else [])

    def _note(
        self, command: Command, state: State, progress: float = 0.0, fault: Fault = Fault.NONE, message: str = ""
    ) -> list[Status]:
        status = Status(command.action_id, command.task.skill, state, progress, fault, message)
        return [self._remember(status)]

    def _update(self, job: _Job, **changed: object) -> Status:
        job.status = replace(job.status, **changed)  # type: ignore[arg-type]
        return self._remember(job.status)

    def _remember(self, status: Status) -> Status:
        self._seen[status.action_id] = status
        while len(self._seen) > MEMORY:
            self._seen.popitem(last=False)
        return status
