"""A plan in the hands of the executor: its steps, which of them may begin, and whether it is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from nano_agent_ros.robot.status import Fault, State, Status
from nano_agent_ros.safety.order import Order


class Blocking(Enum):
    """What a step that is not over yet holds up: nothing, later steps that drive, or every later step of its plan."""

    NONE = "none"
    SOFT = "soft"
    HARD = "hard"


class Awaited(Enum):
    """What the robot has to say next of a step that it was given."""

    NOTHING = "nothing"
    START = "that it has it"
    HOLD = "that it holds"
    END = "that it has ended"

    def met_by(self, state: State) -> bool:
        """Whether a report of this state is what was awaited."""
        return state.final or self is Awaited.START or (self is Awaited.HOLD and state is State.PAUSED)


@dataclass
class Step:
    """One action. `started`: the robot has it; `parked`: it is to be given up for now and begun again later."""

    order: Order
    status: Status
    blocking: Blocking = Blocking.HARD
    drives: bool = False
    started: bool = False
    parked: bool = False
    awaited: Awaited = Awaited.NOTHING
    due_s: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status.state.final

    @property
    def in_hand(self) -> bool:
        """Whether the robot has it and has not said that it ended."""
        return self.started and not self.over

    def expect(self, awaited: Awaited, due_s: float) -> None:
        """The robot has to say this by then; an end that is awaited already stays due."""
        if self.awaited is not Awaited.END:
            self.awaited, self.due_s = awaited, due_s


@dataclass
class Plan:
    """The steps of one reply. `asked_s`: since when it waits for a yes; `ending`: no further step of it begins,
    and `why`."""

    plan_id: UUID
    count: int
    arrived_s: float
    steps: dict[int, Step] = field(default_factory=dict)
    asked_s: float | None = None
    ending: bool = False
    why: tuple[Fault, str] = (Fault.NONE, "")

    @property
    def complete(self) -> bool:
        """Whether all its steps have arrived."""
        return len(self.steps) >= self.count

    @property
    def over(self) -> bool:
        """Whether nothing more comes of any step."""
        return all(step.over for step in self.steps.values())

    @property
    def priority(self) -> int:
        """The highest priority of its steps."""
        return max(step.order.priority for step in self.steps.values())

    def in_order(self) -> Iterator[Step]:
        """The steps in their order."""
        return (self.steps[number] for number in sorted(self.steps))

    def next_step(self) -> Step | None:
        """The step that may begin now: no step before it that is not over holds it up."""
        step = next((s for s in self.in_order() if not s.started and not s.over), None)
        if step is None or self.ending:
            return None
        for earlier in self.in_order():
            if earlier is step:
                return step
            if earlier.in_hand and (
                earlier.blocking is Blocking.HARD or (earlier.blocking is Blocking.SOFT and step.drives)
            ):
                return None
        return None

    def awaiting(self) -> list[Step]:
        """The steps for which a yes is missing."""
        return [step for step in self.in_order() if step.status.state is State.AWAITING_CONFIRMATION]
