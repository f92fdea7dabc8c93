"""What an inspection finds: regions of a picture that look unlike the golden sample, or that a detector named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """An upright rectangle in pixels; (x, y) is its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """In square pixels."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle, in pixels."""
        return self.x + self.width / 2, self.y + self.height / 2

    def iou(self, other: Box) -> float:
        """Intersection over union, in [0, 1]."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if across <= 0 or down <= 0:
            return 0.0
        return across * down / (self.area + other.area - across * down)

    def grown(self, margin: float) -> Box:
        """With `margin` pixels more on every side."""
        return Box(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)

    def scaled(self, factor: float) -> Box:
        """In pixels of a picture `factor` times as large."""
        return Box(self.x * factor, self.y * factor, self.width * factor, self.height * factor)


@dataclass(frozen=True)
class Candidate:
    """A type of defect (a value of report_defect.defect_type in the skills file) and how sure, in [0, 1]."""

    defect_type: str
    confidence: float


@dataclass(frozen=True)
class Shape:
    """What is measured of a region. Lengths are fractions of the picture's longer side, areas of the picture.

    `contrast` is in grey levels, positive where it is brighter than it should be; `elongation` is length over mean
    width (1: round); `solidity` is area over convex hull, in [0, 1]; `structure` tells whether edges are gone (-1) or
    new (+1), in [-1, 1].
    """

    area: float
    length: float
    contrast: float
    elongation: float
    solidity: float
    structure: float


@dataclass(frozen=True)
class Finding:
    """A region of one picture. `candidates` come most likely first.

    `box` is in pixels of the picture, `anchor` in those of the golden sample, where it stays while the camera moves
    (the same as `box` without one). `shape` is None for what a detector reported. `place` is the centre in the
    golden sample as fractions of its width and height, (0, 0) being the upper left corner.
    """

    box: Box
    anchor: Box
    place: tuple[float, float]
    candidates: tuple[Candidate, ...]
    area: float
    shape: Shape | None = None

    @property
    def best(self) -> Candidate:
        """The most likely type."""
        return self.candidates[0]
