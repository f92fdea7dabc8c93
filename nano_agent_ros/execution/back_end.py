"""What an executor needs of whatever moves the robot: one small interface, one class for each kind of robot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.robot.status import Fault, State
from nano_agent_ros.safety.order import Order

MEMORY = 1000  # actions whose back end is remembered


@dataclass(frozen=True)
class Report:
    """What a back end says of an action that it was given. A final state is the robot's own word that it has ended."""

    action_id: UUID
    state: State
    progress: float = 0.0
    fault: Fault = Fault.NONE
    message: str = ""


class BackEnd(ABC):
    """Gives actions to a robot and reports how they get on, through `report`, from any thread.

    No method waits. Every action that was started ends in exactly one final report; an action that cannot be started
    is reported as REJECTED or FAILED with the reason.
    """

    def __init__(self, report: Callable[[Report], None]) -> None:
        """Call `report` with whatever becomes known of an action."""
        self.report = report

    @abstractmethod
    def has(self, skill: str) -> bool:
        """Whether it knows how to do this skill."""

    @abstractmethod
    def start(self, order: Order, max_speed_mps: float | None) -> None:
        """Have an action begun, at no more than that speed."""

    @abstractmethod
    def cancel(self, action_id: UUID) -> None:
        """Ask the robot to give up an action; it has when its final report comes."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the robot to give up everything, by the shortest way."""

    def can_pause(self, skill: str) -> bool:
        """Whether the robot can hold an action of this skill and go on with it."""
        return False

    def pause(self, action_id: UUID) -> None:
        """Ask the robot to hold an action; it does when PAUSED is reported."""
        raise RuntimeError(f"{type(self).__name__} cannot hold an action; ask can_pause before")

    def resume(self, action_id: UUID) -> None:
        """Ask the robot to go on with a held action; it does when RUNNING is reported."""
        raise RuntimeError(f"{type(self).__name__} cannot hold an action; ask can_pause before")

    def can_restart(self, skill: str) -> bool:
        """Whether an action that was given up half-way may be begun again to the same end, as a drive to a goal."""
        return False

    def close(self) -> None:
        """Report nothing any more."""
        self.report = lambda report: None


class Router(BackEnd):
    """Several back ends as one: each skill goes to the first that has it."""

    def __init__(self, back_ends: Sequence[BackEnd]) -> None:
        """Raises ConfigError without any."""
        if not back_ends:
            raise ConfigError("no back end is configured; set back_ends, such as ['simulated']")
        super().__init__(back_ends[0].report)
        self._back_ends = tuple(back_ends)
        self._by_action: OrderedDict[UUID, BackEnd] = OrderedDict()

    def has(self, skill: str) -> bool:
        """Whether any of them has it."""
        return any(back_end.has(skill) for back_end in self._back_ends)

    def start(self, order: Order, max_speed_mps: float | None) -> None:
        """Have it begun by the first that has the skill."""
        back_end = next((b for b in self._back_ends if b.has(order.skill)), None)
        if back_end is None:
            why = f"no back end of this robot has the skill '{order.skill}'; give it one in the mapping file"
            self.report(Report(order.action_id, State.REJECTED, fault=Fault.UNKNOWN_SKILL, message=why))
            return
        self._by_action[order.action_id] = back_end
        while len(self._by_action) > MEMORY:
            self._by_action.popitem(last=False)
        back_end.start(order, max_speed_mps)

    def cancel(self, action_id: UUID) -> None:
        """Cancel it where it was begun."""
        if action_id in self._by_action:
            self._by_action[action_id].cancel(action_id)

    def stop(self) -> None:
        """Stop all of them."""
        for back_end in self._back_ends:
            back_end.stop()

    def can_pause(self, skill: str) -> bool:
        """As the back end that has the skill."""
        return next((b.can_pause(skill) for b in self._back_ends if b.has(skill)), False)

    def pause(self, action_id: UUID) -> None:
        """Hold it where it was begun."""
        self._by_action[action_id].pause(action_id)

    def resume(self, action_id: UUID) -> None:
        """Go on where it was begun."""
        self._by_action[action_id].resume(action_id)

    def can_restart(self, skill: str) -> bool:
        """As the back end that has the skill."""
        return next((b.can_restart(skill) for b in self._back_ends if b.has(skill)), False)

    def close(self) -> None:
        """Close all of them."""
        for back_end in self._back_ends:
            back_end.close()
