"""How actions get on: the states and error codes of ActionStatus, for everything that executes actions. No ROS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID


class State(IntEnum):
    """The states of ActionStatus."""

    WAITING = 0
    AWAITING_CONFIRMATION = 1
    RUNNING = 2
    PAUSED = 3
    FINISHED = 4
    FAILED = 5
    CANCELED = 6
    REJECTED = 7

    @property
    def final(self) -> bool:
        """Whether nothing more comes of the action."""
        return self >= State.FINISHED


class Fault(IntEnum):
    """The error codes of ActionStatus."""

    NONE = 0
    UNKNOWN = 1
    UNKNOWN_SKILL = 2
    INVALID_ARGUMENT = 3
    STALE = 4
    DUPLICATE = 5
    STOPPED = 6
    BLOCKED = 7
    NOT_FOUND = 8
    TIMEOUT = 9
    PRECONDITION = 10
    NOT_CONFIRMED = 11
    NOT_ALLOWED = 12
    LIMIT = 13
    ZONE = 14
    NOT_IN_CHARGE = 15
    TOO_OFTEN = 16
    REPLACED = 17
    NO_ROBOT = 18


@dataclass(frozen=True)
class Status:
    """How an action is getting on; `progress` in [0, 1]."""

    action_id: UUID
    skill: str
    state: State
    progress: float = 0.0
    fault: Fault = Fault.NONE
    message: str = ""
