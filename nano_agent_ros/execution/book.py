"""What the executor knows: the plans in its hands, the question that is open, and how every action got on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from nano_agent_ros.execution.plan import Awaited, Blocking, Plan, Step
from nano_agent_ros.robot.status import Fault, State, Status
from nano_agent_ros.safety.gate import Gate
from nano_agent_ros.safety.order import Order, RobotView
from nano_agent_ros.safety.policy import CALMING

MEMORY = 10_000  # actions whose last status is remembered
CONTROLS = (*CALMING, "resume")
"""Skills that concern other actions, and that the executor does itself."""


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


class Book:
    """The state of the executor, shared by its parts. `now` is the time that the caller said last."""

    def __init__(self, gate: Gate, settings: Settings, publish: Callable[[Status], None]) -> None:
        """Begin with nothing in hand; every change of a status goes to `publish`."""
        self.gate = gate
        self.settings = settings
        self.now = float("-inf")
        self.robot = RobotView()
        self.paused = False
        self.plans: list[Plan] = []
        self.arriving: dict[UUID, Plan] = {}
        self.asking: Plan | None = None
        self.last: OrderedDict[UUID, Status] = OrderedDict()
        self._publish = publish

    def knows(self, action_id: UUID) -> bool:
        """Whether an action came before."""
        return action_id in self.last or any(
            step.order.action_id == action_id for plan in self.arriving.values() for step in plan.in_order()
        )

    def everything(self) -> list[Plan]:
        """All plans, those that are not complete or wait for a yes as well."""
        asking = [self.asking] if self.asking and self.asking not in self.plans else []
        return [*self.plans, *asking, *self.arriving.values()]

    def steps(self) -> list[Step]:
        """The steps of all plans that may run."""
        return [step for plan in self.plans for step in plan.in_order()]

    def find(self, action_id: UUID) -> tuple[Plan, Step] | None:
        """An action that the robot has, with its plan."""
        pairs = ((plan, step) for plan in self.plans for step in plan.in_order())
        return next((pair for pair in pairs if pair[1].order.action_id == action_id and pair[1].in_hand), None)

    def beside(self, plan: Plan) -> bool:
        """Whether a plan does not wait for the others."""
        return plan.count == 1 and plan.steps[0].order.skill in self.settings.at_once

    def view_after_all(self) -> RobotView:
        """Where the robot will be once it has done everything that is planned."""
        view = self.robot
        for step in (s for plan in self.plans if not plan.ending for s in plan.in_order()):
            view = view if step.over else self.gate.after(step.order, view)
        return view

    def fresh(self, order: Order) -> Step:
        """An action that has just come."""
        rule = self.gate.policy.skills.get(order.skill)
        blocking = self.settings.blocking.get(order.skill, Blocking.HARD)
        status = Status(order.action_id, order.skill, State.WAITING)
        return Step(order, status, blocking, drives=rule is not None and rule.drives)

    def expect(self, step: Step, awaited: Awaited) -> None:
        """The robot has to say this in time."""
        step.expect(awaited, self.now + self.settings.answer_timeout_s)

    def tell(
        self, step: Step, state: State, fault: Fault = Fault.NONE, message: str = "", progress: float | None = None
    ) -> None:
        """Note and publish how an action is getting on; what has ended stays ended."""
        known = step.order.action_id in self.last
        if known and step.over:
            return
        progress = step.status.progress if progress is None else progress
        status = replace(step.status, state=state, fault=fault, message=message, progress=progress)
        changed = not known or status != step.status
        step.status = status
        self.last[step.order.action_id] = status
        while len(self.last) > MEMORY:
            self.last.popitem(last=False)
        if changed:
            self._publish(status)
