"""Compares a picture with the golden samples of its place. No weights: alignment, light, difference, shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.inspection.difference import Envelope, difference
from nano_agent_ros.inspection.finding import Box, Finding
from nano_agent_ros.inspection.images import Frame
from nano_agent_ros.inspection.opencv import opencv
from nano_agent_ros.inspection.regions import candidates_of, regions, shape_of
from nano_agent_ros.inspection.registration import Features, Matrix, align

WORKING_SIDE = 640


@dataclass(frozen=True)
class Settings:
    """What counts as a difference.

    `min_contrast` in grey levels, `min_area` as a fraction of the picture; a region must exceed `noise_factor` times
    the noise too. `tolerance` is how far pixels may be misplaced, in pixels of a picture of 640. A picture that is less
    like every golden sample than `min_likeness` (correlation), or of which more than `max_changed` differs, is not
    compared: it shows something else.
    """

    min_contrast: float = 14.0
    min_area: float = 1e-4
    noise_factor: float = 6.0
    tolerance: int = 1
    min_likeness: float = 0.5
    max_changed: float = 0.35


@dataclass(frozen=True)
class Inspection:
    """What a picture showed. `problem` says why it could not be compared; empty if it was."""

    findings: tuple[Finding, ...]
    likeness: float
    changed: float
    problem: str = ""


class Detector:
    """The golden samples of one place, made ready. Not thread-safe."""

    def __init__(self, goldens: Sequence[Frame], settings: Settings | None = None, mask: Frame | None = None) -> None:
        """`goldens`: at least one picture; `mask` is black where the first is not looked at. Raises ConfigError."""
        if not goldens:
            raise ConfigError("a place without golden samples cannot be inspected; add one: nano-agent golden add")
        self._settings = settings or Settings()
        self._size = goldens[0].shape[:2]
        if mask is not None and mask.shape != goldens[0].shape:
            raise ConfigError("mask.png is not of the size of the first golden sample")
        self._samples: list[tuple[Features, Envelope, Matrix]] = []
        for golden in goldens:
            small, _ = _working(golden)
            features = Features.of(small)
            to_first = np.eye(3)
            if self._samples:  # the mask and the places of findings are those of the first
                to_first = align(features, self._samples[0][0]).matrix
            hidden = None if mask is None else _moved(mask, small.shape, to_first)
            self._samples.append((features, Envelope.of(small, self._settings.tolerance, hidden), to_first))

    def inspect(self, frame: Frame) -> Inspection:
        """Compare a picture; what differs from every golden sample is a finding."""
        small, scale = _working(frame)
        features, settings = Features.of(small), self._settings
        alike = [(align(sample, features), i) for i, (sample, _, _) in enumerate(self._samples)]
        best = max(alignment.likeness for alignment, _ in alike)
        if best < settings.min_likeness:
            return Inspection((), best, 1.0, f"it is unlike every golden sample (likeness {best:.2f})")
        # A sample that is far less like it than the best shows another state of the place, badly aligned at that.
        used = [(a, i) for a, i in alike if a.likeness >= max(settings.min_likeness, best - 0.25)]
        excess = np.full(small.shape[:2], np.inf, np.float32)
        compared = np.ones(small.shape[:2], bool)
        noise = 0.0
        for alignment, index in used:
            diff = difference(self._samples[index][1], small, alignment.matrix)
            excess = np.where(np.abs(diff.excess) < np.abs(excess), diff.excess, excess)
            compared &= diff.compared
            noise = max(noise, diff.noise) if len(used) == 1 else (noise or diff.noise)
        excess = np.where(compared, excess, np.float32(0))
        low = max(0.5 * settings.min_contrast, 0.5 * settings.noise_factor * noise)
        high = max(settings.min_contrast, settings.noise_factor * noise)
        found, changed = regions(excess, low, high, max(4, round(settings.min_area * excess.size)))
        if changed > settings.max_changed:
            return Inspection((), best, changed, f"{changed:.0%} of it differs from the golden samples")
        alignment, index = max(used, key=lambda item: item[0].likeness)
        golden, _, to_first = self._samples[index]
        height, width = features.grey.shape
        warped = opencv().warpPerspective(golden.grey, alignment.matrix, (width, height), flags=1, borderMode=1)
        back = to_first @ np.linalg.inv(alignment.matrix)
        findings = []
        for region in found:
            shape = shape_of(region, warped, features.grey)
            anchor = _mapped(region.box, back).scaled(1 / self._scale)
            x, y = anchor.centre
            place = (_within(x / self._size[1]), _within(y / self._size[0]))
            box = region.box.scaled(1 / scale)
            findings.append(Finding(box, anchor, place, candidates_of(shape), shape.area, shape))
        return Inspection(tuple(findings), best, changed)

    @property
    def _scale(self) -> float:
        return WORKING_SIDE / max(self._size)


def _working(frame: Frame) -> tuple[Frame, float]:
    """The picture at working size, and how much smaller (or larger) that is."""
    cv = opencv()
    scale = WORKING_SIDE / max(frame.shape[:2])
    how = cv.INTER_AREA if scale < 1 else cv.INTER_LINEAR
    return (frame if scale == 1 else cv.resize(frame, None, fx=scale, fy=scale, interpolation=how)), scale


def _moved(mask: Frame, shape: tuple[int, ...], to_first: Matrix) -> Frame:
    """The first sample's mask as it lies in another one; white beyond it."""
    cv = opencv()
    small = cv.resize(mask, (shape[1], shape[0]), interpolation=cv.INTER_NEAREST)
    flags = cv.INTER_NEAREST | cv.WARP_INVERSE_MAP
    moved = cv.warpPerspective(small, to_first, (shape[1], shape[0]), flags=flags, borderValue=(255, 255, 255))
    return np.asarray(moved, dtype=np.uint8)


def _mapped(box: Box, matrix: Matrix) -> Box:
    corners = np.array([[box.x, box.y, 1], [box.x + box.width, box.y, 1], [box.x, box.y + box.height, 1],
                        [box.x + box.width, box.y + box.height, 1]])  # fmt: skip
    moved = corners @ matrix.T
    moved = moved[:, :2] / moved[:, 2:]
    (left, top), (right, bottom) = moved.min(axis=0), moved.max(axis=0)
    return Box(float(left), float(top), float(right - left), float(bottom - top))


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
