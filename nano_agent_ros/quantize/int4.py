"""Symmetric INT4 in groups of 64 inputs, and its layout in panels of 16 rows.

A group of 64 weights w that share a row becomes q in -8..7 and one positive float16 scale s, and stands for q * s:

    q = clip(round_half_to_even(w / s), -8, 7)      (float32 division)

with s, among the candidates float16(max|w| / t) for t in DIVISORS, and the least-squares scale for the best one's q,
the one of least sum((w - q * s)**2). The integer t make the search exact on weights that already are q * s for some
float16 s: they come back as the same values, so weights that quantization-aware training has put on the grid survive.
"""

from __future__ import annotations

import numpy as np

from .panel_scales import PANEL_ROWS, read_scales, write_scales

GROUP = 64
PANEL_BYTES = 544
_NIBBLE_BYTES = 512
DIVISORS = (8.0, 7.0, 7.5, 6.5, 8.5, 9.0, 9.5, 10.0, 11.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
_LEAST_EXACT_PEAK = 1e-3  # from here on every candidate scale is a float16 of full precision
_WEIGHTS_AT_ONCE = 1 << 19  # many enough that threads seldom wait for the interpreter


class QuantizeError(ValueError):
    """A matrix that has no INT4 form; says why."""


def quantize_rows(w: np.ndarray, group_size: int = GROUP) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a float32 matrix w [rows, cols]; cols must be a multiple of `group_size`, and that of 64.

    Returns q [rows, cols] int8 in -8..7 and scales [rows, cols / 64] float16, >= 0; a larger group's scale is repeated.
    Raises QuantizeError for a shape that is not divisible, for NaN or infinity, and for weights too large for a
    float16 scale.
    """
    w = np.asarray(w, dtype=np.float32)
    if w.ndim != 2 or group_size % GROUP or w.shape[1] % group_size or not w.size:
        raise QuantizeError(f"shape {w.shape} is no matrix whose input dimension is a multiple of {group_size}")
    rows, cols = w.shape
    q = np.empty((rows, cols), dtype=np.int8)
    scales = np.empty((rows, cols // group_size), dtype=np.float16)
    at_once = max(1, _WEIGHTS_AT_ONCE // cols)
    for begin in range(0, rows, at_once):
        block = np.ascontiguousarray(w[begin : begin + at_once])
        end = begin + len(block)
        block_q, block_scales = _quantize_groups(block.reshape(-1, group_size))
        q[begin:end] = block_q.reshape(block.shape)
        scales[begin:end] = block_scales.reshape(len(block), -1)
    return q, np.repeat(scales, group_size // GROUP, axis=1)


def dequantize_rows(q: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the float32 matrix that q [rows, cols] and scales [rows, cols / 64] stand for."""
    groups = q.astype(np.float32).reshape(*scales.shape, GROUP)
    groups *= scales.astype(np.float32)[:, :, None]
    return groups.reshape(q.shape)


def fake_quantize(w: np.ndarray, group_size: int = GROUP) -> np.ndarray:
    """Return w [rows, cols] as the engine will see it, float32; applying it twice changes nothing."""
    return dequantize_rows(*quantize_rows(w, group_size))


def _quantize_groups(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize groups w [n, group_size] float32 to q like w, int8, and scales [n] float16."""
    peak = np.abs(w).max(axis=1)
    if not np.isfinite(peak).all():
        raise QuantizeError("it holds NaN or infinity")
    if peak.max() > np.finfo(np.float16).max:
        raise QuantizeError(f"its largest weight {peak.max():.3g} is beyond float16")
    scales = np.zeros(len(w), dtype=np.float16)
    error = np.full(len(w), np.inf, dtype=np.float32)
    steps = np.empty_like(w)
    exact = peak.min() >= _LEAST_EXACT_PEAK
    for divisor in DIVISORS:
        candidate = (peak / np.float32(divisor)).astype(np.float16)
        _keep_better(w, candidate, scales, error, steps, inside=exact and divisor <= 7)
    q = _round(w, scales, np.empty_like(w))
    weight = np.einsum("ng,ng->n", q, q)
    fitted = np.divide(np.einsum("ng,ng->n", w, q), weight, out=np.zeros_like(weight), where=weight > 0)
    if _keep_better(w, fitted.astype(np.float16), scales, error, steps):
        _round(w, scales, q)
    return q.astype(np.int8), scales


def _round(w: np.ndarray, scales: np.ndarray, out: np.ndarray, inside: bool = False) -> np.ndarray:
    """Fill and return out like w [n, group_size]: the float32 integers in -8..7 nearest to w / scales [n].

    `inside` says that none can lie outside.
    """
    divisors = np.where(scales > 0, scales, np.float16(np.inf)).astype(np.float32)
    np.divide(w, divisors[:, None], out=out)
    np.rint(out, out=out)
    return out if inside else np.clip(out, np.float32(-8), np.float32(7), out=out)


def _keep_better(
    w: np.ndarray,
    candidate: np.ndarray,
    scales: np.ndarray,
    error: np.ndarray,
    steps: np.ndarray,
    inside: bool = False,
) -> bool:
    """Replace scales [n] and error [n] in place wherever the candidate scales [n] give a smaller error; say if any."""
    _round(w, candidate, steps, inside)
    np.multiply(steps, candidate.astype(np.float32)[:, None], out=steps)
    np.subtract(w, steps, out=steps)
    trial_error = np.einsum("ng,ng->n", steps, steps)
    better = trial_error < error
    np.copyto(error, trial_error, where=better)
    np.copyto(scales, candidate, where=better)
    return bool(better.any())


def packed_nbytes(rows: int, cols: int) -> int:
    """Size in bytes of a matrix [rows, cols] in panels."""
    return -(-rows // PANEL_ROWS) * (cols // GROUP) * PANEL_BYTES


def pack_panels(q: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Interleave q [rows, cols] and scales [rows, cols / 64] to uint8 [panels, cols / 64, 544].

    Panel p holds rows 16 p to 16 p + 15; rows beyond the last are zero. In one block, byte 64 j + 4 n + k (j < 8,
    n < 16, k < 4) holds of row n input 8 j + k in its low nibble and input 8 j + 4 + k in its high one, each as q + 8;
    bytes 512 to 543 hold the 16 scales, little-endian.
    """
    rows, cols = q.shape
    panels, groups = -(-rows // PANEL_ROWS), cols // GROUP
    stored = np.full((panels * PANEL_ROWS, cols), 8, dtype=np.uint8)
    stored[:rows] = q.view(np.uint8) + np.uint8(8)
    halves = stored.view(np.uint32).reshape(panels, PANEL_ROWS, groups, 8, 2)  # [panel, n, group, j, half], k in one
    pairs = halves[..., 0] | halves[..., 1] << np.uint32(4)
    packed = np.empty((panels, groups, PANEL_BYTES), dtype=np.uint8)
    packed[:, :, :_NIBBLE_BYTES].view(np.uint32).reshape(panels, groups, 8, PANEL_ROWS)[:] = pairs.transpose(0, 2, 3, 1)
    write_scales(packed, scales)
    return packed


def unpack_panels(packed: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Undo pack_panels: q [rows, cols] int8 and scales [rows, cols / 64] float16."""
    panels, groups, _ = packed.shape
    pairs = packed[:, :, :_NIBBLE_BYTES].view(np.uint32).reshape(panels, groups, 8, PANEL_ROWS)  # k = 0..3 in one
    stored = np.empty((panels, PANEL_ROWS, groups, 8, 2), dtype=np.uint32)
    stored[..., 0] = (pairs & np.uint32(0x0F0F0F0F)).transpose(0, 3, 1, 2)
    stored[..., 1] = (pairs >> np.uint32(4) & np.uint32(0x0F0F0F0F)).transpose(0, 3, 1, 2)
    q = stored.view(np.int8).reshape(panels * PANEL_ROWS, groups * GROUP)
    q -= 8
    return q[:rows], read_scales(packed, rows)
