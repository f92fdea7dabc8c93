"""The scale of a group of weights, chosen by what its errors do to the layer's output instead of by their size."""

from __future__ import annotations

import numpy as np

from . import int8
from .grid import HIGHEST, LOWEST
from .int4 import DIVISORS, QuantizeError

_WEIGHTS_AT_ONCE = 1 << 16


def find_scales(w: np.ndarray, bits: int, metric: np.ndarray) -> np.ndarray:
    """Return the float16 scales [n] of groups w, float32 [n, g], of which one group of one row is one line.

    With 4 bits the candidates are those of `int4.quantize_rows`, and the one of least e^T metric e wins, e being the
    error of the group; `metric` is [g, g], or [g] for a diagonal. With 8 bits the scale is that of `int8`, as clipping
    does not pay there. Raises QuantizeError for NaN, infinity, and weights beyond float16.
    """
    peak = np.abs(w).max(axis=1)
    if not np.isfinite(peak).all():
        raise QuantizeError("it holds NaN or infinity")
    if peak.max() > np.finfo(np.float16).max:
        raise QuantizeError(f"its largest weight {peak.max():.3g} is beyond float16")
    if bits == 8:
        return int8.find_scales(peak)
    scales = np.empty(len(w), dtype=np.float16)
    at_once = max(1, _WEIGHTS_AT_ONCE // w.shape[1])
    for begin in range(0, len(w), at_once):
        rows = slice(begin, begin + at_once)
        scales[rows] = _least_error(w[rows], peak[rows], bits, metric)
    return scales


def round_to(w: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    """The steps of w [n, g] on the grids of scales [n], as float32; 0 where the scale is."""
    s = scales.astype(np.float32)[:, None]
    steps = np.divide(w, s, out=np.zeros_like(w), where=s > 0)
    return np.clip(np.rint(steps, out=steps), LOWEST[bits], HIGHEST[bits], out=steps)


def _least_error(w: np.ndarray, peak: np.ndarray, bits: int, metric: np.ndarray) -> np.ndarray:
    best = np.zeros(len(w), dtype=np.float16)
    least = np.full(len(w), np.inf, dtype=np.float32)

    def try_scales(scales: np.ndarray) -> None:
        error = w - round_to(w, scales, bits) * scales.astype(np.float32)[:, None]
        cost = np.einsum("ng,ng->n", error * metric if metric.ndim == 1 else error @ metric, error)
        better = cost < least
        least[better], best[better] = cost[better], scales[better]

    for divisor in DIVISORS:
        try_scales((peak / np.float32(divisor)).astype(np.float16))
    steps = round_to(w, best, bits)
    weighted = steps * metric if metric.ndim == 1 else steps @ metric
    weight = np.einsum("ng,ng->n", weighted, steps)
    fitted = np.divide(np.einsum("ng,ng->n", weighted, w), weight, out=np.zeros_like(weight), where=weight > 0)
    try_scales(np.clip(fitted, 0, np.finfo(np.float16).max).astype(np.float16))
    return best
