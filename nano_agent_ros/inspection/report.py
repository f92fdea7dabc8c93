"""A defect report as the inspector keeps it: what DefectReport says, and what is needed to recognise it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any
from uuid import UUID

from nano_agent_ros.inspection.finding import Box
from nano_agent_ros.inspection.policy import Severity


class Source(IntEnum):
    """As in DefectReport."""

    SPOKEN = 0
    VISION = 1
    BOTH = 2


class Status(IntEnum):
    """As in DefectReport."""

    OPEN = 0
    CONFIRMED = 1
    DISMISSED = 2
    RESOLVED = 3


@dataclass(frozen=True)
class Evidence:
    """A picture on disk: its file name in the store's folder, and where in it the defect is, in pixels."""

    file: str
    region: Box


@dataclass(frozen=True)
class Report:
    """One defect. Times are Unix seconds; `pose` is (x m, y m, yaw rad) in the site's frame.

    `place` is where in the golden sample (fractions of it), None for what no camera has seen; `percent` the part of
    the picture; `words` what a person said of it.
    """

    report_id: UUID
    source: Source
    status: Status
    location_id: str
    defect_type: str
    severity: Severity
    confidence: float
    first_seen: float
    last_seen: float
    times_seen: int = 1
    object_id: str = ""
    object_class: str = ""
    description: str = ""
    recommended_action: str = ""
    words: str = ""
    place: tuple[float, float] | None = None
    percent: float | None = None
    pose: tuple[float, float, float] | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def standing(self) -> bool:
        """Whether it is neither dismissed nor resolved."""
        return self.status in (Status.OPEN, Status.CONFIRMED)

    def to_json(self) -> dict[str, Any]:
        """As JSON types, enums by name."""
        return {
            **asdict(self),
            "report_id": str(self.report_id),
            "source": self.source.name.lower(),
            "status": self.status.name.lower(),
            "severity": self.severity.name.lower(),
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Report:
        """What `to_json` made; raises KeyError, TypeError or ValueError for anything else."""
        evidence = tuple(Evidence(str(e["file"]), Box(**e["region"])) for e in content["evidence"])
        pairs = {key: tuple(content[key]) if content[key] is not None else None for key in ("place", "pose")}
        enums = {
            "report_id": UUID(content["report_id"]),
            "source": Source[content["source"].upper()],
            "status": Status[content["status"].upper()],
            "severity": Severity[content["severity"].upper()],
        }
        return Report(**{**content, **pairs, **enums, "evidence": evidence})
