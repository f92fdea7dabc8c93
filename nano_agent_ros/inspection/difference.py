"""Where a picture differs from a golden sample, whatever the light: how far each pixel is out of what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nano_agent_ros.inspection.images import Frame
from nano_agent_ros.inspection.opencv import opencv
from nano_agent_ros.inspection.registration import Matrix

LIGHT = 24.0  # pixels: what varies more slowly than this is light, most likely
FOCUS = (0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # pixels by which one picture may be sharper than the other
ALIKE = (0.85, 1.18)  # sharpness of two pictures of the same focus
BLOCK = 8  # pixels along each side: the light is fitted to means of blocks
MIN_BLOCKS = 60
BLUR = 0.15  # of an edge's contrast: another focus makes it steeper or less so
SATURATED = 248.0  # grey levels: what is brighter may be of any brightness
SMOOTH = 1.0  # pixels: against the noise of the camera


@dataclass(frozen=True)
class Envelope:
    """What a golden sample allows: at each pixel and channel the least and the most within `radius` pixels around.

    So a picture that is aligned to within `radius` pixels does not differ along edges. `low`, `high` and `middle` are
    float32 [h, w, 3], `looked_at` is 1 where the mask is not black, 0 elsewhere, float32 [h, w].
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    middle: NDArray[np.float32]
    looked_at: NDArray[np.float32]
    radius: int

    @staticmethod
    def of(frame: Frame, radius: int, mask: Frame | None) -> Envelope:
        """From a golden sample of working size, and a mask of the same size or None."""
        cv = opencv()
        smooth = cv.GaussianBlur(frame.astype(np.float32), (0, 0), SMOOTH)
        looked_at = np.ones(frame.shape[:2], np.float32) if mask is None else (mask[:, :, 0] > 127).astype(np.float32)
        return Envelope._around(smooth, radius, looked_at)

    def blurred(self, sigma: float) -> Envelope:
        """Of the same sample, out of focus."""
        return Envelope._around(opencv().GaussianBlur(self.middle, (0, 0), sigma), self.radius, self.looked_at)

    @staticmethod
    def _around(middle: NDArray[np.float32], radius: int, looked_at: NDArray[np.float32]) -> Envelope:
        cv = opencv()
        around = cv.getStructuringElement(cv.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return Envelope(cv.erode(middle, around), cv.dilate(middle, around), middle, looked_at, radius)


@dataclass(frozen=True)
class Difference:
    """How far each pixel of the picture lies outside the envelope.

    `excess` [h, w] float32: the most of the three channels, in grey levels, positive where it is too bright, 0 inside.
    `compared` [h, w] bool: where there is something to compare with. `noise` is the deviation of a pixel that is
    as it should be, in grey levels.
    """

    excess: NDArray[np.float32]
    compared: NDArray[np.bool_]
    noise: float


def difference(golden: Envelope, frame: Frame, matrix: Matrix) -> Difference:
    """Compare a picture of working size; `matrix` maps the golden sample to it."""
    cv = opencv()
    height, width = frame.shape[:2]

    def warp(image: NDArray[np.float32], border: float = 0.0) -> NDArray[np.float32]:
        value = (border,) * 4
        warped = cv.warpPerspective(image, matrix, (width, height), flags=cv.INTER_LINEAR, borderValue=value)
        return np.asarray(warped, dtype=np.float32)

    smooth = np.asarray(cv.GaussianBlur(frame.astype(np.float32), (0, 0), SMOOTH), dtype=np.float32)
    compared = warp(golden.looked_at) > 0.999
    compared = cv.erode(compared.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    middle = warp(golden.middle)
    focus = _focus(middle, smooth, compared)
    if focus > 0:
        golden = golden.blurred(focus)
        middle = warp(golden.middle)
    elif focus < 0:
        smooth = np.asarray(cv.GaussianBlur(smooth, (0, 0), -focus), dtype=np.float32)
    gain, offset = _light(middle, smooth, compared)
    low, high = warp(golden.low), warp(golden.high)
    slack = BLUR * (high - low)
    low, high = low - slack, high + slack
    high = np.where(high < SATURATED, high * gain + offset, np.inf)
    low = np.minimum(low * gain + offset, SATURATED)
    over, under = np.maximum(smooth - high, 0), np.maximum(low - smooth, 0)
    signed = over - under
    most = np.abs(signed).argmax(axis=2)
    excess = np.take_along_axis(signed, most[:, :, None], axis=2)[:, :, 0]
    inner = smooth - np.clip(middle * gain + offset, 0, 255)
    noise = 1.4826 * float(np.median(np.abs(inner[compared]))) if compared.any() else 0.0
    return Difference(np.where(compared, excess, np.float32(0)), compared, noise)


def _focus(golden: NDArray[np.float32], picture: NDArray[np.float32], compared: NDArray[np.bool_]) -> float:
    """By how much (Gaussian, in pixels) the golden sample is to be blurred to be as sharp as the picture; negative if
    it is the picture that is to be; 0 if they are about alike."""
    cv = opencv()
    whole = compared[::2, ::2]
    if whole.sum() < 0.3 * whole.size:
        return 0.0

    def grey(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        blurred = cv.GaussianBlur(image, (0, 0), sigma) if sigma else image
        detail = blurred - cv.GaussianBlur(blurred, (0, 0), LIGHT)
        values = detail[::2, ::2][whole]
        return np.asarray((values - values.mean()) / max(float(values.std()), 1.0), dtype=np.float32)

    def edges(image: NDArray[np.float32]) -> float:
        return float(cv.Laplacian(image, cv.CV_32F)[compared].std()) / max(float(image[compared].std()), 1.0)

    one, two = golden.mean(axis=2), picture.mean(axis=2)
    sharper = edges(one) / max(edges(two), 1e-6)
    if ALIKE[0] < sharper < ALIKE[1]:
        return 0.0
    sharp, other = (one, grey(two, 0.0)) if sharper > 1 else (two, grey(one, 0.0))
    errors = [float(np.minimum(np.abs(grey(sharp, sigma) - other), 1.0).mean()) for sigma in (0.0, *FOCUS)]
    best = int(np.argmin(errors))
    if best == 0 or errors[best] > 0.95 * errors[0]:
        return 0.0
    return FOCUS[best - 1] if sharper > 1 else -FOCUS[best - 1]


def _light(
    golden: NDArray[np.float32], picture: NDArray[np.float32], compared: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain [h, w, 3] (a quadratic surface) and offset [1, 1, 3] by which the light of the picture differs.

    Fitted to small blocks with weights (Tukey) that leave out those in which something else differs.
    """
    cv = opencv()
    height, width = compared.shape
    size = max(1, width // BLOCK), max(1, height // BLOCK)
    whole = cv.resize(compared.astype(np.float32), size, interpolation=cv.INTER_AREA) > 0.999
    was = cv.resize(golden, size, interpolation=cv.INTER_AREA)[whole]
    now = cv.resize(picture, size, interpolation=cv.INTER_AREA)[whole]
    gain, offset = np.ones((height, width, 3), np.float32), np.zeros((1, 1, 3), np.float32)
    if len(was) < MIN_BLOCKS:
        return gain, offset
    blocks = _surface(*size)[whole.ravel()]
    pixels = _surface(width, height)
    for channel in range(3):
        unclipped = (was[:, channel] < SATURATED) & (now[:, channel] < SATURATED)
        if unclipped.sum() >= MIN_BLOCKS:
            factors, constant = _fitted(blocks[unclipped], was[unclipped, channel], now[unclipped, channel])
            gain[:, :, channel] = np.clip(pixels @ factors.astype(np.float32), 0.3, 3.0).reshape(height, width)
            offset[:, :, channel] = constant
    return gain, offset


@lru_cache(maxsize=8)
def _surface(width: int, height: int) -> NDArray[np.float32]:
    """Terms of a quadratic surface at each pixel, [height * width, 6]."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6).astype(np.float32)


def _fitted(
    surface: NDArray[np.float32], was: NDArray[np.float32], now: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    design = np.column_stack([surface * was[:, None], np.ones_like(was)]).astype(np.float64)
    # A picture of one brightness says nothing about offset against gain: then gain it is.
    ridge = np.diag([1e-3 * len(was)] * 6 + [0.1])
    prior = np.array([1.0, 0, 0, 0, 0, 0, 0])
    weights = np.ones(len(was))
    for _ in range(8):
        weighted = design * weights[:, None]
        factors = np.linalg.solve(design.T @ weighted + ridge, weighted.T @ now + ridge @ prior)
        off = np.abs(design @ factors - now)
        limit = 4.685 * max(1.4826 * float(np.median(off)), 1.0)
        weights = np.clip(1 - (off / limit) ** 2, 0, None) ** 2
    return factors[:6], float(factors[6])
