"""One action of a plan with the ids under which robots and reports know it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from nano_agent_ros.skills import Action


@dataclass(frozen=True)
class Step:
    """Step `step` of `step_count` of a plan. The ids are the same each time that the same turn is replayed."""

    action_id: UUID
    plan_id: UUID
    step: int
    step_count: int
    action: Action
