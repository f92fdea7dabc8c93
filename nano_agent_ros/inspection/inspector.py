"""The inspector: pictures, detections and people's reports in, changes of defect reports out. No ROS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from nano_agent_ros.inspection.book import Change, ReportBook, Spoken
from nano_agent_ros.inspection.detector import Detector, Settings
from nano_agent_ros.inspection.finding import Finding
from nano_agent_ros.inspection.golden import Goldens
from nano_agent_ros.inspection.images import Frame, to_file
from nano_agent_ros.inspection.policy import Policy
from nano_agent_ros.inspection.report import Report
from nano_agent_ros.inspection.store import Store, StoreError
from nano_agent_ros.inspection.tracking import Seen, Tracker
from nano_agent_ros.skills import Site

_log = logging.getLogger(__name__)
Pose = tuple[float, float, float]
Stamp = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Looked:
    """What came of a picture: reports that changed, and why it was not compared (empty if it was)."""

    changes: tuple[Change, ...] = ()
    problem: str = ""


class Inspector:
    """One camera of one robot. Not thread-safe.

    `failure` says why the last report could not be kept on disk; empty if it could. A report goes out all the same.
    """

    def __init__(
        self,
        goldens: Goldens,
        store: Store,
        policy: Policy,
        describe: Callable[[Report], str],
        settings: Settings | None = None,
        min_pictures: int = 3,
        forget_s: float = 3.0,
        window_s: float = 900.0,
        jpeg_quality: int = 90,
    ) -> None:
        """Go on with the reports that `store` holds; the rest is as in Tracker, ReportBook and Detector."""
        self.goldens, self.store, self.policy = goldens, store, policy
        self.failure = ""
        self._settings, self._quality = settings, jpeg_quality
        self._book = ReportBook(policy, describe, window_s, store.reports)
        self._by_comparison = Tracker(min_pictures, forget_s=forget_s)
        self._by_detector = Tracker(min_pictures, forget_s=forget_s)
        self._reported_as: dict[tuple[Tracker, int], UUID] = {}
        self._location: str | None = None
        self._detector: Detector | None = None
        self._detector_of: tuple[str, Stamp] | None = None

    def retune(
        self, settings: Settings, min_pictures: int, forget_s: float, window_s: float, jpeg_quality: int
    ) -> None:
        """Go on with other thresholds; what was reported stays reported."""
        self._settings, self._quality, self._book.window_s = settings, jpeg_quality, window_s
        for tracker in (self._by_comparison, self._by_detector):
            tracker.min_pictures, tracker.forget_s = min_pictures, forget_s
        self._detector_of = None  # the golden samples are made ready anew

    def look(self, frame: Frame, location: str, pose: Pose | None, now: float) -> Looked:
        """Compare a picture with the golden samples of where the robot is; `now` in Unix seconds."""
        self._arrive(location)
        if not location:
            return Looked(problem="the robot is at no location of the site")
        detector = self._detector_at(location)
        if detector is None:
            return Looked(problem=f"{location} has no golden sample")
        inspection = detector.inspect(frame)
        if inspection.problem:
            return Looked(problem=inspection.problem)
        return Looked(self._merged(self._by_comparison, inspection.findings, frame, location, pose, now))

    def detected(
        self, findings: Sequence[Finding], frame: Frame | None, location: str, pose: Pose | None, now: float
    ) -> tuple[Change, ...]:
        """Take what another detector found; `frame` is the picture that it belongs to, if there is one."""
        self._arrive(location)
        return self._merged(self._by_detector, findings, frame, location, pose, now)

    def told(self, spoken: Spoken) -> Change | None:
        """Take what a person reported; None if it was known."""
        change = self._book.spoken(spoken)
        if change is None:
            return None
        for report in filter(None, (change.report, change.dismissed)):
            self._keep(report)
        return change

    def _merged(
        self,
        tracker: Tracker,
        findings: Sequence[Finding],
        frame: Frame | None,
        location: str,
        pose: Pose | None,
        now: float,
    ) -> tuple[Change, ...]:
        """Take the findings of a picture; reports of what has become certain with it."""
        changes = []
        for seen in tracker.update(findings, now):
            change = self._reported(seen, frame, location, pose, now)
            self._reported_as[tracker, seen.key] = change.report.report_id
            changes.append(change)
        for key in tracker.present:
            self._book.still_there(self._reported_as[tracker, key], now)
        self._reported_as = {each: r for each, r in self._reported_as.items() if each[0].knows(each[1])}
        return tuple(changes)

    def _reported(self, seen: Seen, frame: Frame | None, location: str, pose: Pose | None, now: float) -> Change:
        change = self._book.seen(seen, location, pose, now)
        picture = to_file(frame, ".jpg", self._quality) if change.picture and frame is not None else None
        return replace(change, report=self._keep(change.report, seen.finding, picture))

    def _keep(self, report: Report, finding: Finding | None = None, picture: bytes | None = None) -> Report:
        try:
            report = self.store.put(report, picture, finding.box if finding else None)
            self.failure = ""
        except StoreError as error:
            self.failure = str(error)
            _log.error("a report is published but not kept: %s", error)
        self._book.keep(report)
        self._book.forget(but=(r.report_id for r in self.store.reports))
        return report

    def _arrive(self, location: str) -> None:
        """What was seen elsewhere must not be merged with what is seen here."""
        if location != self._location:
            self._by_comparison.clear()
            self._by_detector.clear()
            self._location = location

    def _detector_at(self, location: str) -> Detector | None:
        """The detector for a place, made anew when its golden samples have changed."""
        paths = self.goldens.paths(location)
        stamp = tuple((str(p), p.stat().st_mtime_ns) for p in paths)
        if self._detector_of != (location, stamp):
            self._detector = None
            if paths:
                frames, mask = self.goldens.load(location), self.goldens.mask(location)
                self._detector = Detector(frames, self._settings, mask)
            self._detector_of = (location, stamp)
        return self._detector


def location_at(site: Site, x: float, y: float, near_m: float) -> str:
    """The id of the nearest location within `near_m` metres of (x, y) in the site's frame; empty if there is none."""
    posed = [(((p.pose[0] - x) ** 2 + (p.pose[1] - y) ** 2) ** 0.5, p.id) for p in site.locations.values() if p.pose]
    distance, nearest = min(posed, default=(near_m + 1, ""))
    return nearest if distance <= near_m else ""
