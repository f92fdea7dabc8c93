"""What has been reported, and whether something new is the same: by camera twice, or by a camera and a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from nano_agent_ros.inspection.finding import Candidate
from nano_agent_ros.inspection.policy import Policy, Severity
from nano_agent_ros.inspection.position import contradicts
from nano_agent_ros.inspection.report import Report, Source, Status
from nano_agent_ros.inspection.tracking import Seen

NEAR = 0.12  # of the picture: two places that far apart may be the same
ALIKE = (
    frozenset({"scratch", "crack", "worn", "torn", "broken"}),
    frozenset({"dirty", "spill", "leak", "rust", "worn"}),
    frozenset({"missing", "broken", "loose", "misaligned", "bent"}),
    frozenset({"dent", "bent", "dirty", "broken"}),
)
"""Types between which the shape of a region does not tell."""


@dataclass(frozen=True)
class Spoken:
    """A defect that a person reported: what of DefectReport matters here. `time` in Unix seconds."""

    report_id: UUID
    time: float
    location_id: str
    object_id: str
    defect_type: str
    severity: Severity
    words: str
    confidence: float
    pose: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Change:
    """What is to be published: `report` in its new state; `dismissed` is what it takes the place of, if anything.

    `picture` tells whether a picture of it is worth keeping now.
    """

    report: Report
    dismissed: Report | None = None
    picture: bool = False


class ReportBook:
    """The standing reports of a site. Not thread-safe."""

    def __init__(
        self,
        policy: Policy,
        describe: Callable[[Report], str],
        window_s: float = 900.0,
        known: Iterable[Report] = (),
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """A person and a camera speak of the same thing within `window_s`; `describe` writes the description."""
        self._policy, self._describe, self.window_s, self._new_id = policy, describe, window_s, new_id
        self.reports: dict[UUID, Report] = {r.report_id: r for r in known}

    def seen(self, seen: Seen, location: str, pose: tuple[float, float, float] | None, now: float) -> Change:
        """A camera's finding at `location`: a new report, or one that is known and seen again."""
        finding = seen.finding
        percent = 100.0 * finding.area
        known = self._seen_before(finding.place, location, finding.candidates, now)
        if known is None:
            candidate = finding.best
            report = Report(
                self._new_id(), Source.VISION, Status.OPEN, location, candidate.defect_type, Severity.UNKNOWN,
                candidate.confidence, now, now, place=finding.place, percent=percent, pose=pose,
            )  # fmt: skip
            return self._change(self._judged(report), picture=True)
        source = Source.VISION if known.source is Source.VISION else Source.BOTH
        joined = known.source is Source.SPOKEN
        report = replace(
            known, source=source, status=Status.CONFIRMED, last_seen=now, times_seen=known.times_seen + 1,
            place=finding.place, percent=max(percent, known.percent or 0.0), pose=known.pose or pose,
            confidence=_both(known.confidence, finding.best.confidence) if joined else known.confidence,
        )  # fmt: skip
        return self._change(self._judged(report), picture=joined or not known.evidence)

    def spoken(self, spoken: Spoken) -> Change | None:
        """A person's report; None if it is known and nothing follows, else what a camera saw of it, joined with it."""
        if spoken.report_id in self.reports:
            return None
        report = Report(
            spoken.report_id, Source.SPOKEN, Status.OPEN, spoken.location_id, spoken.defect_type, spoken.severity,
            spoken.confidence, spoken.time, spoken.time, object_id=spoken.object_id, description=spoken.words,
            words=spoken.words, pose=spoken.pose,
        )  # fmt: skip
        camera = self._meant(report)
        if camera is None:
            # What the person said stays as they said it; the policy speaks only where they did not.
            report = self._judged(report)
            self.reports[report.report_id] = report
            return Change(report)
        joined = replace(
            camera, source=Source.BOTH, status=Status.CONFIRMED, defect_type=spoken.defect_type, words=spoken.words,
            object_id=spoken.object_id, last_seen=max(camera.last_seen, spoken.time),
            severity=max(camera.severity, spoken.severity), confidence=_both(camera.confidence, spoken.confidence),
        )  # fmt: skip
        dismissed = replace(report, status=Status.DISMISSED, recommended_action=f"see report {camera.report_id}")
        self.reports[dismissed.report_id] = dismissed
        change = self._change(self._judged(joined))
        return replace(change, dismissed=dismissed)

    def still_there(self, report_id: UUID, now: float) -> None:
        """Note that a camera sees what it has reported; nothing follows from that."""
        report = self.reports.get(report_id)
        if report is not None:
            self.reports[report_id] = replace(report, last_seen=max(report.last_seen, now))

    def keep(self, report: Report) -> None:
        """Note a report's new state, such as its evidence."""
        self.reports[report.report_id] = report

    def forget(self, but: Iterable[UUID]) -> None:
        """Forget all reports but these."""
        kept = set(but)
        self.reports = {key: report for key, report in self.reports.items() if key in kept}

    def _change(self, report: Report, picture: bool = False) -> Change:
        report = replace(report, description=self._describe(report))
        self.reports[report.report_id] = report
        return Change(report, picture=picture)

    def _judged(self, report: Report) -> Report:
        """With severity and action by the policy; a severity that a person named, or that it had, is never lowered."""
        severity, action = self._policy.judge(report.defect_type, report.percent, report.location_id)
        return replace(report, severity=max(severity, report.severity), recommended_action=action)

    def _seen_before(
        self, place: tuple[float, float], location: str, candidates: Sequence[Candidate], now: float
    ) -> Report | None:
        """The standing report that a finding belongs to: of the same place in the picture, else what a person meant."""
        here = [r for r in self.reports.values() if r.standing and r.location_id == location and location]
        placed = [r for r in here if r.place is not None and math.dist(r.place, place) <= NEAR]
        if placed:
            return min(placed, key=lambda r: math.dist(r.place or place, place))
        told = [
            r
            for r in here
            if r.source is Source.SPOKEN
            and abs(now - r.last_seen) <= self.window_s
            and any(_alike(r.defect_type, c.defect_type) for c in candidates)
            and not contradicts(r.words, place)
        ]
        return max(told, key=lambda r: r.last_seen, default=None)

    def _meant(self, report: Report) -> Report | None:
        """What a camera saw that a person may have meant: the same place and type, not long before, nothing against."""
        choices = [
            r
            for r in self.reports.values()
            if r.standing
            and r.source is not Source.SPOKEN
            and r.location_id == report.location_id != ""
            and abs(report.first_seen - r.last_seen) <= self.window_s
            and _alike(report.defect_type, r.defect_type)
            and not (r.place and contradicts(report.words, r.place))
        ]
        return max(choices, key=lambda r: (r.defect_type == report.defect_type, r.last_seen), default=None)


def _alike(one: str, other: str) -> bool:
    return one == other or "other" in (one, other) or any({one, other} <= group for group in ALIKE)


def _both(one: float, other: float) -> float:
    """Two that are independent agree."""
    return 1.0 - (1.0 - one) * (1.0 - other)
