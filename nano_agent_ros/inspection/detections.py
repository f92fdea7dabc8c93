"""What another detector found (vision_msgs/Detection2DArray, any version of it), as findings. No ROS is imported."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from nano_agent_ros.inspection.finding import Box, Candidate, Finding


def findings_of(
    array: Any, size: tuple[int, int], classes: Mapping[str, str], types: Collection[str], min_score: float
) -> tuple[Finding, ...]:
    """The detections of an array in a picture of `size` (width, height) as findings.

    A label is a type of defect itself, or `classes` says which it is; any other is "other". What scores less than
    `min_score`, has no size or lies beyond the picture is left out.
    """
    width, height = size
    found = []
    for detection in array.detections:
        centre = getattr(detection.bbox.center, "position", detection.bbox.center)  # vision_msgs 4, and before
        box = Box(
            float(centre.x) - detection.bbox.size_x / 2,
            float(centre.y) - detection.bbox.size_y / 2,
            float(detection.bbox.size_x),
            float(detection.bbox.size_y),
        )
        scores: dict[str, float] = {}
        for result in detection.results:
            hypothesis = getattr(result, "hypothesis", result)
            label = str(getattr(hypothesis, "class_id", None) or getattr(hypothesis, "id", ""))
            name = label if label in types else classes.get(label, "other")
            score = float(hypothesis.score)
            if math.isfinite(score) and score >= min_score:
                scores[name] = max(scores.get(name, 0.0), min(1.0, score))
        x, y = box.centre
        sizes_count = all(map(math.isfinite, (x, y))) and box.width > 0 and box.height > 0
        if scores and sizes_count and 0 <= x <= width and 0 <= y <= height:
            ranked = tuple(Candidate(n, s) for n, s in sorted(scores.items(), key=lambda item: -item[1]))
            area = min(1.0, box.area / (width * height))
            found.append(Finding(box, box, (x / width, y / height), ranked, area))
    return tuple(found)
