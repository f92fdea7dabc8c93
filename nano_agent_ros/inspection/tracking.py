"""Findings that stay: merged over pictures, so that one bad picture reports nothing and a defect reports once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nano_agent_ros.inspection.finding import Candidate, Finding

MARGIN = 8.0  # pixels: the box of a thin scratch is allowed to tremble


@dataclass(frozen=True)
class Seen:
    """A finding that was there in `pictures` pictures. Its candidates are the mean of what each picture spoke for.

    `key` stands for it as long as it stays.
    """

    key: int
    finding: Finding
    pictures: int
    first_s: float
    last_s: float


@dataclass
class _Track:
    key: int
    finding: Finding
    first_s: float
    last_s: float
    pictures: int = 1
    confirmed: bool = False
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        for candidate in finding.candidates:
            self.sums[candidate.defect_type] = self.sums.get(candidate.defect_type, 0.0) + candidate.confidence

    def seen(self) -> Seen:
        means = {name: value / self.pictures for name, value in self.sums.items()}
        ranked = tuple(Candidate(n, round(c, 3)) for n, c in sorted(means.items(), key=lambda item: -item[1]))
        f = self.finding
        merged = Finding(f.box, f.anchor, f.place, ranked, f.area, f.shape)
        return Seen(self.key, merged, self.pictures, self.first_s, self.last_s)


class Tracker:
    """The findings of one place. Boxes are compared where they lie in the golden sample (`anchor`)."""

    def __init__(self, min_pictures: int = 3, min_iou: float = 0.2, forget_s: float = 3.0) -> None:
        """Something is there once seen in `min_pictures`, with never more than `forget_s` seconds in between.

        Two boxes with at least `min_iou` in common are the same thing.
        """
        self.min_pictures, self._min_iou, self.forget_s = min_pictures, min_iou, forget_s
        self._tracks: list[_Track] = []
        self._begun = 0
        self.present: tuple[int, ...] = ()  # keys of what is certain and was there in the last picture

    def update(self, findings: Sequence[Finding], now_s: float) -> list[Seen]:
        """Take the findings of one picture; return those that are now certain, each once."""
        self._tracks = [t for t in self._tracks if now_s - t.last_s <= self.forget_s]
        free = list(self._tracks)
        confirmed = []
        for finding in sorted(findings, key=lambda f: -f.area):
            track = self._closest(finding, free)
            if track is None:
                self._begun += 1
                track = _Track(self._begun, finding, now_s, now_s)
                self._tracks.append(track)
            else:
                free.remove(track)
                track.finding, track.last_s, track.pictures = finding, now_s, track.pictures + 1
            track.add(finding)
            if not track.confirmed and track.pictures >= self.min_pictures:
                track.confirmed = True
                confirmed.append(track.seen())
        self.present = tuple(t.key for t in self._tracks if t.confirmed and t.last_s == now_s)
        return confirmed

    def knows(self, key: int) -> bool:
        """Whether it is not forgotten yet."""
        return any(track.key == key for track in self._tracks)

    def clear(self) -> None:
        """Forget everything, as when the robot has moved to another place."""
        self._tracks.clear()
        self.present = ()

    def _closest(self, finding: Finding, tracks: Sequence[_Track]) -> _Track | None:
        box = finding.anchor.grown(MARGIN)
        overlaps = [(box.iou(track.finding.anchor.grown(MARGIN)), -i) for i, track in enumerate(tracks)]
        overlap, index = max(overlaps, default=(0.0, 0))
        return tracks[-index] if overlap >= self._min_iou else None
