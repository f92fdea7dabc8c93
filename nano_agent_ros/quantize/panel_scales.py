"""The scales at the end of every block of a panel: one float16 for each of its 16 rows, little-endian."""

from __future__ import annotations

import numpy as np

PANEL_ROWS = 16
SCALE_BYTES = 2 * PANEL_ROWS


def write_scales(packed: np.ndarray, scales: np.ndarray) -> None:
    """Write scales [rows, groups] float16 into packed [panels, groups, bytes] uint8; rows beyond the last get 0."""
    panels, groups, _ = packed.shape
    stored = np.zeros((panels * PANEL_ROWS, groups), dtype="<f2")
    stored[: len(scales)] = scales
    by_group = np.ascontiguousarray(stored.reshape(panels, PANEL_ROWS, groups).transpose(0, 2, 1))
    packed[:, :, -SCALE_BYTES:] = by_group.view(np.uint8).reshape(panels, groups, SCALE_BYTES)


def read_scales(packed: np.ndarray, rows: int) -> np.ndarray:
    """Return the scales [rows, groups] float16 of packed [panels, groups, bytes] uint8."""
    panels, groups, _ = packed.shape
    by_group = np.ascontiguousarray(packed[:, :, -SCALE_BYTES:]).view("<f2")
    return by_group.transpose(0, 2, 1).reshape(panels * PANEL_ROWS, groups)[:rows].astype(np.float16)
