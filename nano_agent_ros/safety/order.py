"""What the gate judges: one action as it was sent, and what is known of the robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import Fault
from nano_agent_ros.safety.policy import Risk

Value = str | int | float | bool

LOW, NORMAL, HIGH, EMERGENCY = range(4)
"""The priorities of RobotAction."""


@dataclass(frozen=True)
class Order:
    """Step `step` of `step_count` of a plan: a RobotAction without ROS.

    Numbers in `arguments` are SI. `pose` is in `frame_id`, which is the site's if it is empty. `stamp_s` is when it
    was decided, by the clock of the gate's `now`. `requires_confirmation`: a person has to agree; `confirmed`: one has.
    """

    action_id: UUID
    plan_id: UUID
    skill: str
    arguments: Mapping[str, Value] = field(default_factory=dict)
    stamp_s: float = 0.0
    step: int = 0
    step_count: int = 1
    target_id: str = ""
    pose: Pose | None = None
    frame_id: str = ""
    source: str = ""
    priority: int = NORMAL
    risk: Risk = Risk.NONE
    requires_confirmation: bool = False
    confirmed: bool = False


@dataclass(frozen=True)
class RobotView:
    """Where the robot was when it last said so: `pose` in the site's frame, or None if it never has."""

    pose: Pose | None = None
    stamp_s: float = 0.0


@dataclass(frozen=True)
class Allowed:
    """It may be done, at no more than `max_speed_mps` if that is given. `replaced` lost command to this source."""

    max_speed_mps: float | None = None
    replaced: str | None = None


@dataclass(frozen=True)
class Refused:
    """It must not be done; `reason` is for people. NOT_CONFIRMED alone can still be mended, by `Gate.confirm`."""

    code: Fault
    reason: str


Verdict = Allowed | Refused
