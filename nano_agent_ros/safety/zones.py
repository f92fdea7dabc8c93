"""Planar geometry of zones: does a straight way come too close to a polygon? Metres, in the site's frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nano_agent_ros.skills.site import Zone

Point = tuple[float, float]


def clearance(zone: Zone, way: Sequence[Point]) -> float:
    """The least distance of a polyline (one point or more) from a zone, 0 if it enters it; inf without a polygon."""
    if not zone.polygon:
        return math.inf
    if any(zone.contains(*point) for point in way):
        return 0.0
    legs = list(zip(way, way[1:], strict=False)) or [(way[0], way[0])]
    return min(_between(leg, edge) for leg in legs for edge in _edges(zone.polygon))


def length(way: Sequence[Point]) -> float:
    """Length of a polyline."""
    return sum(math.dist(a, b) for a, b in zip(way, way[1:], strict=False))


def _edges(polygon: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    for i, point in enumerate(polygon):
        yield polygon[i - 1], point


def _between(one: tuple[Point, Point], other: tuple[Point, Point]) -> float:
    """Distance of two segments."""
    if _cross(one, other):
        return 0.0
    ends = [(p, other) for p in one] + [(p, one) for p in other]
    return min(_to_segment(point, segment) for point, segment in ends)


def _cross(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    (a, b), (c, d) = one, other
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: Point, b: Point, p: Point) -> float:
    turn = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    return math.copysign(1.0, turn) if turn else 0.0


def _to_segment(point: Point, segment: tuple[Point, Point]) -> float:
    (x, y), ((ax, ay), (bx, by)) = point, segment
    dx, dy = bx - ax, by - ay
    square = dx * dx + dy * dy
    t = 0.0 if square == 0.0 else min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) / square))
    return math.hypot(x - ax - t * dx, y - ay - t * dy)
