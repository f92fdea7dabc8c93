"""Where a golden sample lies in a picture: an affine map found from corners (ORB), refined by correlation (ECC).

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
COARSE = 320  # pixels of the longer side while refining
FLAT = 3.0  # grey levels: less variation than this is no structure that could be aligned


@dataclass(frozen=True)
class Features:
    """A picture made ready for alignment: grey float32 [h, w], the same at `COARSE`, corners and their descriptors."""

    grey: NDArray[np.float32]
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
        scale = min(1.0, COARSE / max(grey.shape))
        coarse = cv.resize(grey, None, fx=scale, fy=scale, interpolation=cv.INTER_AREA)
        return Features(grey, coarse, points, descriptors)


@dataclass(frozen=True)
class Alignment:
    """`matrix` [2, 3] maps pixels of the golden sample to those of the picture. `likeness` is the correlation of the
    two where they overlap, in [-1, 1]; 1 where there is no structure that could be unlike."""

    matrix: Matrix
    likeness: float


def align(golden: Features, picture: Features) -> Alignment:
    """The best of several attempts: as it is, by corners, and either refined."""
    starts = [np.eye(2, 3)]
    by_corners = _by_corners(golden, picture)
    if by_corners is not None:
        starts.insert(0, by_corners)
    best: tuple[float, Matrix] | None = None
    for start in starts:
        for matrix in (start, _refined(golden, picture, start)):
            if matrix is not None and _plausible(matrix):
                error = _error(golden, picture, matrix)
                # As it is counts as good as a map that is better by a hair: noise alone can be fitted too.
                if best is None or error < 0.98 * best[0]:
                    best = (error, matrix)
        if best is not None and by_corners is not None and _likeness(golden, picture, best[1]) > 0.9:
            break
    matrix = best[1] if best is not None else np.eye(2, 3)
    return Alignment(matrix, _likeness(golden, picture, matrix))


def _by_corners(golden: Features, picture: Features) -> Matrix | None:
    cv = opencv()
    few = min(len(golden.points), len(picture.points)) < MIN_INLIERS
    if few or golden.descriptors is None or picture.descriptors is None:
        return None
    pairs = cv.BFMatcher(cv.NORM_HAMMING).knnMatch(golden.descriptors, picture.descriptors, k=2)
    good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < 0.8 * p[1].distance]
    if len(good) < MIN_INLIERS:
        return None
    source = golden.points[[m.queryIdx for m in good]]
    target = picture.points[[m.trainIdx for m in good]]
    matrix, inliers = cv.estimateAffinePartial2D(source, target, method=cv.RANSAC, ransacReprojThreshold=2.5)
    if matrix is None or int(inliers.sum()) < MIN_INLIERS:
        return None
    return np.asarray(matrix, dtype=np.float64)


def _refined(golden: Features, picture: Features, start: Matrix) -> Matrix | None:
    """By correlation at the coarse size, which other brightness does not disturb; None if it does not converge."""
    cv = opencv()
    if golden.coarse.std() < FLAT or picture.coarse.std() < FLAT:
        return None
    factor = golden.coarse.shape[1] / golden.grey.shape[1]
    warp = start.astype(np.float32)
    warp[:, 2] *= factor
    criteria = (cv.TERM_CRITERIA_EPS | cv.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        _, warp = cv.findTransformECC(golden.coarse, picture.coarse, warp, cv.MOTION_AFFINE, criteria, None, 5)
    except cv.error:
        return None
    matrix = np.asarray(warp, dtype=np.float64)
    matrix[:, 2] /= factor
    return matrix


def _plausible(matrix: Matrix) -> bool:
    stretch = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(stretch[1] > 1 / MAX_SCALE and stretch[0] < MAX_SCALE and np.linalg.det(matrix[:, :2]) > 0)


def _overlap(golden: Features, picture: Features, matrix: Matrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The two pictures, each with mean 0 and deviation 1, pixel by pixel where they overlap; empty if hardly."""
    cv = opencv()
    height, width = picture.grey.shape
    warped = cv.warpAffine(golden.grey, matrix, (width, height), flags=cv.INTER_LINEAR, borderValue=-1.0)
    inside = warped >= 0
    if inside.sum() < 0.3 * inside.size:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    a, b = warped[inside], picture.grey[inside]
    return (a - a.mean()) / max(float(a.std()), 1.0), (b - b.mean()) / max(float(b.std()), 1.0)


def _error(golden: Features, picture: Features, matrix: Matrix) -> float:
    a, b = _overlap(golden, picture, matrix)
    # A defect must not weigh more than the rest of the picture, whatever its contrast.
    return float(np.minimum(np.abs(a - b), 1.0).mean()) if a.size else float("inf")


def _likeness(golden: Features, picture: Features, matrix: Matrix) -> float:
    if golden.grey.std() < FLAT:
        return 1.0
    a, b = _overlap(golden, picture, matrix)
    return float((a * b).mean()) if a.size else 0.0
