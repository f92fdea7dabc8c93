"""Where a golden sample lies in a picture: a map found from corners (ORB), refined by correlation (ECC).

Sources: Rublee et al., ORB, ICCV 2011; Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced Correlation
Coefficient Maximization, PAMI 2008. Both as OpenCV has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano_agent_ros.inspection.images import Frame
from nano_agent_ros.inspection.opencv import opencv

Matrix = NDArray[np.float64]

CORNERS = 1000
MIN_INLIERS = 12
MAX_SCALE = 1.25  # and its inverse: a picture from much nearer or farther shows other details
MAX_PERSPECTIVE = 0.1  # change of scale over half of the picture
COARSE = 320  # pixels of the longer side while refining
LIGHT = 24.0  # pixels: what varies more slowly than this is light, most likely
FLAT = 3.0  # grey levels: less variation than this is no structure that could be aligned


@dataclass(frozen=True)
class Features:
    """A picture made ready for alignment: grey float32 [h, w], the same without what varies slowly, the grey picture
    at `COARSE`, corners and their descriptors."""

    grey: NDArray[np.float32]
    detail: NDArray[np.float32]
    coarse: NDArray[np.float32]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8] | None

    @staticmethod
    def of(frame: Frame) -> Features:
        """From a picture of working size."""
        cv = opencv()
        grey8 = cv.cvtColor(frame, cv.COLOR_BGR2GRAY)
        keypoints, descriptors = cv.ORB_create(CORNERS, fastThreshold=12).detectAndCompute(grey8, None)
        points = np.array([k.pt for k in keypoints], dtype=np.float32).reshape(-1, 2)
        grey = cv.GaussianBlur(grey8, (0, 0), 1.0).astype(np.float32)
        detail = grey - cv.GaussianBlur(grey, (0, 0), LIGHT)
        scale = min(1.0, COARSE / max(grey.shape))
        coarse = cv.resize(grey, None, fx=scale, fy=scale, interpolation=cv.INTER_AREA)
        return Features(grey, detail, coarse, points, descriptors)


@dataclass(frozen=True)
class Alignment:
    """`matrix` [3, 3] maps pixels of the golden sample to those of the picture (a homography). `likeness` is the
    correlation of their detail where they overlap, in [-1, 1]; 1 where there is none that could be unlike."""

    matrix: Matrix
    likeness: float


def align(golden: Features, picture: Features) -> Alignment:
    """The best of several attempts: as it is, by corners without and with perspective, and the best of them refined."""
    best, error = np.eye(3), _error(golden, picture, np.eye(3))

    def tried(matrix: Matrix | None) -> None:
        nonlocal best, error
        if matrix is not None and _plausible(matrix):
            found = _error(golden, picture, matrix)
            # A map that is better by a hair does not count: noise alone can be fitted too.
            if found < 0.98 * error:
                best, error = matrix, found

    for matrix in _by_corners(golden, picture):
        tried(matrix)
    for perspective in (False, True):
        tried(_refined(golden, picture, best, perspective))
    return Alignment(best, _likeness(golden, picture, best))


def _by_corners(golden: Features, picture: Features) -> list[Matrix]:
    """A similarity, and a homography, that agree with enough of the corners."""
    cv = opencv()
    few = min(len(golden.points), len(picture.points)) < MIN_INLIERS
    if few or golden.descriptors is None or picture.descriptors is None:
        return []
    pairs = cv.BFMatcher(cv.NORM_HAMMING).knnMatch(golden.descriptors, picture.descriptors, k=2)
    good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < 0.8 * p[1].distance]
    if len(good) < MIN_INLIERS:
        return []
    source = golden.points[[m.queryIdx for m in good]]
    target = picture.points[[m.trainIdx for m in good]]
    found = []
    similar, inliers = cv.estimateAffinePartial2D(source, target, method=cv.RANSAC, ransacReprojThreshold=2.5)
    if similar is not None and int(inliers.sum()) >= MIN_INLIERS:
        found.append(np.vstack([similar, [0, 0, 1]]))
    tilted, inliers = cv.findHomography(source, target, cv.RANSAC, 2.5)
    if tilted is not None and int(inliers.sum()) >= 2 * MIN_INLIERS:
        found.append(np.asarray(tilted, dtype=np.float64))
    return found


def _refined(golden: Features, picture: Features, start: Matrix, perspective: bool) -> Matrix | None:
    """By correlation at the coarse size, which other brightness does not disturb; None if it does not converge."""
    cv = opencv()
    if golden.coarse.std() < FLAT or picture.coarse.std() < FLAT:
        return None
    factor = golden.coarse.shape[1] / golden.grey.shape[1]
    size = np.diag([factor, factor, 1.0])
    warp = (size @ start @ np.linalg.inv(size)).astype(np.float32)
    warp = warp if perspective else np.ascontiguousarray(warp[:2])
    kind = cv.MOTION_HOMOGRAPHY if perspective else cv.MOTION_AFFINE
    criteria = (cv.TERM_CRITERIA_EPS | cv.TERM_CRITERIA_COUNT, 60 if perspective else 40, 1e-4)
    try:
        _, warp = cv.findTransformECC(golden.coarse, picture.coarse, warp, kind, criteria, None, 5)
    except cv.error:
        return None
    full = np.asarray(warp, dtype=np.float64) if perspective else np.vstack([warp, [0, 0, 1]])
    matrix = np.linalg.inv(size) @ full @ size
    return np.asarray(matrix / matrix[2, 2], dtype=np.float64)


def _plausible(matrix: Matrix) -> bool:
    stretch = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    perspective = np.abs(matrix[2, :2]).max() * COARSE
    return bool(
        perspective < MAX_PERSPECTIVE
        and stretch[1] > 1 / MAX_SCALE
        and stretch[0] < MAX_SCALE
        and np.linalg.det(matrix[:2, :2]) > 0
    )


def _overlap(golden: Features, picture: Features, matrix: Matrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The detail of both, each with mean 0 and deviation 1, pixel by pixel where they overlap; empty if hardly."""
    cv = opencv()
    height, width = picture.grey.shape
    warped = cv.warpPerspective(golden.detail, matrix, (width, height), flags=cv.INTER_LINEAR, borderValue=-1e6)
    inside = warped > -256
    if inside.sum() < 0.3 * inside.size:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    a, b = warped[inside], picture.detail[inside]
    return (a - a.mean()) / max(float(a.std()), 1.0), (b - b.mean()) / max(float(b.std()), 1.0)


def _error(golden: Features, picture: Features, matrix: Matrix) -> float:
    a, b = _overlap(golden, picture, matrix)
    # A defect must not weigh more than the rest of the picture, whatever its contrast.
    return float(np.minimum(np.abs(a - b), 1.0).mean()) if a.size else float("inf")


def _likeness(golden: Features, picture: Features, matrix: Matrix) -> float:
    if golden.detail.std() < FLAT:
        return 1.0
    a, b = _overlap(golden, picture, matrix)
    return float((a * b).mean()) if a.size else 0.0
