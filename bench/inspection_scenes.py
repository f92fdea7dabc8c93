"""Pictures of made-up parts, with known defects, taken again by a camera that moves in a light that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from nano_agent_ros.inspection.finding import Finding

SIZE = (480, 640)  # height, width


def part(seed: int) -> np.ndarray:
    """A panel with texture, seams, bolts, labels and a few boxes: how it ought to look, uint8 [h, w, 3]."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    base = rng.uniform(70, 180, 3)
    image = np.tile(base, (height, width, 1)).astype(np.float32)
    for scale, strength in ((120, 14), (30, 6), (6, 4), (1, 3)):
        coarse = rng.normal(0, strength, (height // scale + 2, width // scale + 2)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None]
    image = np.clip(image, 0, 255).astype(np.uint8)
    for x in np.sort(rng.integers(60, width - 60, 3)):
        cv2.line(image, (int(x), 0), (int(x) + int(rng.integers(-15, 15)), height), tuple(base * 0.55), 3, cv2.LINE_AA)
    for y in rng.integers(60, height - 60, 2):
        cv2.line(image, (0, int(y)), (width, int(y) + int(rng.integers(-15, 15))), tuple(base * 0.6), 2, cv2.LINE_AA)
    for x, y in zip(rng.integers(30, width - 30, 14), rng.integers(30, height - 30, 14), strict=True):
        cv2.circle(image, (int(x), int(y)), 8, tuple(base * 0.45), -1, cv2.LINE_AA)
        cv2.circle(image, (int(x) - 2, int(y) - 2), 3, tuple(np.minimum(base * 1.25, 255)), -1, cv2.LINE_AA)
    for corner in places(seed):
        draw_box(image, corner, rng.uniform(40, 230, 3), rng)
    return image


def places(seed: int) -> list[tuple[int, int]]:
    """Upper left corners of the boxes on a part."""
    rng = np.random.default_rng(seed + 10_000)
    return [(int(rng.integers(40, 150)) + 200 * i, int(rng.integers(60, 330))) for i in range(3)]


BOX = (70, 50)


def draw_box(image: np.ndarray, corner: tuple[int, int], colour: np.ndarray, rng: np.random.Generator) -> None:
    x, y = corner
    cv2.rectangle(image, (x, y), (x + BOX[0], y + BOX[1]), tuple(colour), -1)
    cv2.rectangle(image, (x, y), (x + BOX[0], y + BOX[1]), tuple(colour * 0.4), 2, cv2.LINE_AA)
    text = "".join(rng.choice(list("ABCDEFGHKLMNPRST23456789"), 4))
    cv2.putText(image, text, (x + 6, y + 32), cv2.FONT_HERSHEY_SIMPLEX, 0.6, tuple(colour * 0.3), 2, cv2.LINE_AA)


def scratch(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A thin bright line with a bend; returns the picture and the mask of the defect."""
    length, angle = rng.uniform(70, 160), rng.uniform(0, np.pi)
    middle = rng.uniform((130, 110), (SIZE[1] - 130, SIZE[0] - 110))
    half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    points = np.array([middle - half, middle + rng.uniform(-6, 6, 2), middle + half]).astype(np.int32)
    mask = np.zeros(SIZE, np.uint8)
    cv2.polylines(mask, [points], False, 255, int(rng.integers(2, 4)), cv2.LINE_AA)
    return _blended(image, mask, strength * rng.uniform(45, 75)), mask


def stain(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A soft dark spot."""
    middle = rng.uniform((80, 80), (SIZE[1] - 80, SIZE[0] - 80)).astype(int)
    mask = np.zeros(SIZE, np.uint8)
    axes = tuple(int(v) for v in rng.integers(14, 32, 2))
    cv2.ellipse(mask, tuple(int(v) for v in middle), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 4)
    return _blended(image, mask, -strength * rng.uniform(40, 60)), mask


def missing(image: np.ndarray, rng: np.random.Generator, corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One of the boxes is gone, and the panel behind it is seen."""
    x, y = corner
    mask = np.zeros(SIZE, np.uint8)
    cv2.rectangle(mask, (x - 2, y - 2), (x + BOX[0] + 2, y + BOX[1] + 2), 255, -1)
    around = cv2.dilate(mask, np.ones((25, 25), np.uint8)) & ~mask
    plain = np.median(image[around > 0], axis=0) + rng.normal(0, 4, (*SIZE, 3))
    return np.where(mask[:, :, None] > 0, np.clip(plain, 0, 255), image).astype(np.uint8), mask


DEFECTS = ("scratch", "dirty", "missing")


def spoiled(image: np.ndarray, kind: str, seed: int, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The part `seed` with a defect of that kind, and the mask of it; `strength` scales the contrast of marks."""
    rng = np.random.default_rng(seed + 20_000)
    if kind == "missing":
        return missing(image, rng, places(seed)[int(rng.integers(3))])
    return (scratch if kind == "scratch" else stain)(image, rng, strength)


@dataclass(frozen=True)
class View:
    """How a part is taken again, at most: `noise` in grey levels, `shift` in pixels, `turn` in degrees.

    `tilt` is how far the corners move against each other, in pixels; `blur` the deviation of a defocused lens, in
    pixels; `shadow` the part of the light that is missing beyond an edge across the picture.
    """

    noise: float = 4.0
    shift: float = 10.0
    turn: float = 2.0
    tilt: float = 0.0
    blur: float = 0.0
    shadow: float = 0.0


STRAIGHT = View(shift=0.0, turn=0.0)


def taken(image: np.ndarray, seed: int, view: View | None = None) -> np.ndarray:
    """Another picture of it: moved, nearer, in another light, with the camera's noise."""
    view = view or View()
    rng = np.random.default_rng(seed + 30_000)
    height, width = SIZE
    matrix = _movement(rng, view)
    moved = cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    light = rng.uniform(0.75, 1.25) + rng.uniform(-0.12, 0.12) * x + rng.uniform(-0.12, 0.12) * y
    angle = rng.uniform(0, 2 * np.pi)
    light *= 1 - view.shadow * (x * np.cos(angle) + y * np.sin(angle) > 0.4)
    lit = moved.astype(np.float32) * light[:, :, None] * rng.uniform(0.96, 1.04, 3) + rng.uniform(-6, 6)
    lit = cv2.GaussianBlur(lit, (0, 0), np.hypot(rng.uniform(0.4, 0.8), view.blur)) + rng.normal(
        0, view.noise, lit.shape
    )
    return np.clip(lit, 0, 255).astype(np.uint8)


def where(mask: np.ndarray, seed: int, view: View | None = None) -> np.ndarray:
    """Where the mask lies in `taken(image, seed, view)`, bool [h, w]."""
    matrix = _movement(np.random.default_rng(seed + 30_000), view or View())
    return cv2.warpPerspective(mask, matrix, (SIZE[1], SIZE[0])) > 60


def found_at(findings: Sequence[Finding], where: np.ndarray) -> Finding | None:
    """The finding that covers at least 30 percent of a defect."""
    for finding in findings:
        rows = slice(max(0, int(finding.box.y)), int(finding.box.y + finding.box.height) + 1)
        columns = slice(max(0, int(finding.box.x)), int(finding.box.x + finding.box.width) + 1)
        if where[rows, columns].sum() > 0.3 * where.sum():
            return finding
    return None


def _movement(rng: np.random.Generator, view: View) -> np.ndarray:
    height, width = SIZE
    angle = rng.uniform(-view.turn, view.turn)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, rng.uniform(0.98, 1.02))
    matrix[:, 2] += rng.uniform(-view.shift, view.shift, 2)
    corners = np.float32([[0, 0], [width, 0], [0, height], [width, height]])
    tilted = corners + rng.uniform(-view.tilt, view.tilt, (4, 2)).astype(np.float32)
    return cv2.getPerspectiveTransform(corners, tilted) @ np.vstack([matrix, [0, 0, 1]])


def _blended(image: np.ndarray, mask: np.ndarray, change: float) -> np.ndarray:
    return np.clip(image + (mask[:, :, None] / 255.0) * change, 0, 255).astype(np.uint8)
