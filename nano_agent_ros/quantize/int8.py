"""Symmetric INT8 in groups of inputs, and its layout in panels of 16 rows: the finer sibling of int4.

A group of weights w that share a row becomes q in -127..127 and one float16 scale s >= 0, and stands for q * s:

    s = float16(max|w| / 127)    q = clip(round_half_to_even(w / s), -127, 127)      (float32 division)

where float16 is too coarse for that s (below 6e-5 its steps stay 6e-8 wide) the next larger one is taken, so that the
largest weight is never clipped by more than half a step.
"""

from __future__ import annotations

import numpy as np

from .int4 import GROUP, PANEL_ROWS, QuantizeError
from .panel_scales import read_scales, write_scales

BLOCK_BYTES = 1056
_VALUE_BYTES = 1024
_ROWS_AT_ONCE = 64


def quantize_rows(w: np.ndarray, group_size: int = GROUP) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a float32 matrix w [rows, cols]; cols must be a multiple of `group_size`, and that of 64.

    Returns q [rows, cols] int8 in -127..127 and scales [rows, cols / 64] float16. Raises QuantizeError for a shape
    that is not divisible, for NaN or infinity, and for weights too large for a float16 scale.
    """
    w = np.asarray(w, dtype=np.float32)
    if w.ndim != 2 or group_size % GROUP or w.shape[1] % group_size or not w.size:
        raise QuantizeError(f"shape {w.shape} is no matrix whose input dimension is a multiple of {group_size}")
    rows, cols = w.shape
    q = np.empty((rows, cols), dtype=np.int8)
    scales = np.empty((rows, cols // GROUP), dtype=np.float16)
    for begin in range(0, rows, _ROWS_AT_ONCE):
        block = w[begin : begin + _ROWS_AT_ONCE]
        end = begin + len(block)
        block_q, block_scales = _quantize_groups(block.reshape(-1, group_size))
        q[begin:end] = block_q.reshape(block.shape)
        scales[begin:end] = np.repeat(block_scales.reshape(len(block), -1), group_size // GROUP, axis=1)
    return q, scales


def _quantize_groups(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize groups w [n, group_size] float32 to q like w, int8, and scales [n] float16."""
    peak = np.abs(w).max(axis=1)
    if not np.isfinite(peak).all():
        raise QuantizeError("it holds NaN or infinity")
    if peak.max() > np.finfo(np.float16).max:
        raise QuantizeError(f"its largest weight {peak.max():.3g} is beyond float16")
    scales = find_scales(peak)
    s = scales.astype(np.float32)[:, None]
    steps = np.divide(w, s, out=np.zeros_like(w), where=s > 0)
    np.rint(steps, out=steps)
    np.clip(steps, -127, 127, out=steps)
    return steps.astype(np.int8), scales


def find_scales(peak: np.ndarray) -> np.ndarray:
    """The float16 scales [n] of groups whose largest magnitudes are `peak`, float32 [n]."""
    scales = (peak / np.float32(127)).astype(np.float16)
    too_small = scales.astype(np.float32) * np.float32(127.5) < peak
    scales[too_small] = np.nextafter(scales[too_small], np.float16(np.inf))
    return scales


def packed_nbytes(rows: int, cols: int) -> int:
    """Size in bytes of a matrix [rows, cols] in panels."""
    return -(-rows // PANEL_ROWS) * (cols // GROUP) * BLOCK_BYTES


def pack_panels(q: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Interleave q [rows, cols] and scales [rows, cols / 64] to uint8 [panels, cols / 64, 1056].

    Panel p holds rows 16 p to 16 p + 15; rows beyond the last are zero. In one block, byte 64 j + 4 n + k (j < 16,
    n < 16, k < 4) holds of row n input 4 j + k, as q + 128; bytes 1024 to 1055 hold the 16 scales, little-endian.
    """
    rows, cols = q.shape
    panels, groups = -(-rows // PANEL_ROWS), cols // GROUP
    stored = np.full((panels * PANEL_ROWS, cols), 128, dtype=np.uint8)
    stored[:rows] = q.view(np.uint8) ^ 128  # q + 128
    quads = stored.view(np.uint32).reshape(panels, PANEL_ROWS, groups, 16)  # [panel, n, group, j], k in one
    by_group = np.ascontiguousarray(quads.transpose(0, 2, 3, 1)).view(np.uint8)
    packed = np.empty((panels, groups, BLOCK_BYTES), dtype=np.uint8)
    packed[:, :, :_VALUE_BYTES] = by_group.reshape(panels, groups, _VALUE_BYTES)
    write_scales(packed, scales)
    return packed


def unpack_panels(packed: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Undo pack_panels: q [rows, cols] int8 and scales [rows, cols / 64] float16."""
    panels, groups, _ = packed.shape
    quads = packed[:, :, :_VALUE_BYTES].view(np.uint32).reshape(panels, groups, 16, PANEL_ROWS)  # k = 0..3 in one
    stored = np.ascontiguousarray(quads.transpose(0, 3, 1, 2))
    q = (stored.view(np.uint8) ^ 128).view(np.int8).reshape(panels * PANEL_ROWS, groups * GROUP)
    return q[:rows], read_scales(packed, rows)
