"""Regions of a difference, what is measured of them, and which types of defect their shape speaks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano_agent_ros.inspection.finding import Box, Candidate, Shape
from nano_agent_ros.inspection.opencv import opencv

JOIN = 5  # pixels: pieces of one defect are that near
MOST_REGIONS = 50
MOST_SURE = 0.8  # a shape alone never says more


@dataclass(frozen=True)
class Region:
    """A connected region at working size; `pixels` [h, w] bool lies at `box`."""

    box: Box
    pixels: NDArray[np.bool_]
    contrast: float
    count: int


def regions(excess: NDArray[np.float32], low: float, high: float, min_pixels: int) -> tuple[tuple[Region, ...], float]:
    """Regions in which the excess is above `low` (grey levels) and somewhere above `high`, the largest first.

    With them the fraction of the picture that is above `low`.
    """
    cv = opencv()
    weak = np.abs(excess) > low
    around = cv.getStructuringElement(cv.MORPH_ELLIPSE, (JOIN, JOIN))
    joined = cv.morphologyEx(weak.astype(np.uint8), cv.MORPH_CLOSE, around)
    count, labels, stats, _ = cv.connectedComponentsWithStats(joined, connectivity=8)
    strong = np.zeros(count, bool)
    strong[np.unique(labels[np.abs(excess) > high])] = True
    found = []
    for label in range(1, count):
        x, y, width, height, _ = (int(v) for v in stats[label])
        window = slice(y, y + height), slice(x, x + width)
        pixels = (labels[window] == label) & weak[window]
        size = int(pixels.sum())
        if strong[label] and size >= min_pixels:
            contrast = float(np.median(excess[window][pixels]))
            found.append(Region(Box(x, y, width, height), pixels, contrast, size))
    found.sort(key=lambda region: -region.count)
    return tuple(found[:MOST_REGIONS]), float(weak.mean())


def shape_of(region: Region, golden: NDArray[np.float32], picture: NDArray[np.float32]) -> Shape:
    """What is measured of a region; `golden` and `picture` are grey float32 [h, w], aligned."""
    cv = opencv()
    height, width = golden.shape
    contours, _ = cv.findContours(region.pixels.astype(np.uint8), cv.RETR_EXTERNAL, cv.CHAIN_APPROX_NONE)
    points = np.concatenate(contours)
    hull = max(float(cv.contourArea(cv.convexHull(points))), 1.0)
    _, sides, _ = cv.minAreaRect(points)
    length = max(*sides) + 1.0
    return Shape(
        area=region.count / (height * width),
        length=length / max(height, width),
        contrast=region.contrast,
        elongation=max(1.0, length / max(region.count / length, 1.0)),
        solidity=min(1.0, region.count / (hull + length)),
        structure=_structure(region, golden, picture),
    )


def _structure(region: Region, golden: NDArray[np.float32], picture: NDArray[np.float32]) -> float:
    """Edges gained (+) or lost (-) in and around the region, relative to all there were or are."""
    cv = opencv()
    box = region.box.grown(3)
    top, left = max(0, int(box.y)), max(0, int(box.x))
    window = slice(top, int(box.y + box.height)), slice(left, int(box.x + box.width))

    def edges(image: NDArray[np.float32]) -> float:
        part = image[window]
        across, down = cv.Sobel(part, cv.CV_32F, 1, 0), cv.Sobel(part, cv.CV_32F, 0, 1)
        return float(np.maximum(np.hypot(across, down) - 24.0, 0).mean())

    before, after = edges(golden), edges(picture)
    return (after - before) / max(after + before, 1.0)


def candidates_of(shape: Shape) -> tuple[Candidate, ...]:
    """Types of defect that a shape speaks for, most likely first; they sum to less than 1.

    Rules of thumb, no classifier: elongated and thin is a scratch (dark: perhaps a crack), a large region whose edges
    are gone is something missing, a soft compact region is dirt, and anything may be something else.
    """
    thin = _above(shape.elongation, 6.0, 2.0)
    large = _above(shape.area, 0.008, 0.003)
    gone = _above(-shape.structure, 0.25, 0.12)
    dark = _above(-shape.contrast, 0.0, 10.0)
    compact = _above(shape.solidity, 0.55, 0.1)
    soft = _above(0.15 - abs(shape.structure), 0.0, 0.1)
    scores = {
        "scratch": 3.0 * thin * (1.0 - 0.35 * dark),
        "crack": 3.0 * thin * 0.35 * dark,
        "missing": 3.0 * (1 - thin) * (0.3 + 0.7 * large) * gone,
        "dirty": 2.0 * (1 - thin) * compact * (1 - gone) * (0.3 + 0.7 * max(dark, soft)),
        "other": 0.5,
    }
    total = sum(scores.values())
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return tuple(Candidate(name, round(MOST_SURE * score / total, 3)) for name, score in ranked if score > 0.05 * total)


def _above(value: float, threshold: float, slope: float) -> float:
    """Near 1 well above the threshold, near 0 well below, 0.5 at it."""
    return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, (value - threshold) / slope))))
