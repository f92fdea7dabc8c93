"""Matrices that stay in the weights file: rows of them come as float32 when they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import int4, int8
from .grid import Quantized
from .int4 import GROUP, PANEL_ROWS, dequantize_rows

_ROWS_AT_ONCE = 1024


class StoredMatrix:
    """One tensor [rows, cols] of a weights file, mapped; `matrix[begin:end]` is float32, dequantized if need be.

    Tables of floats can be indexed by an array of row numbers as well. `kind` is that of the artifact.
    """

    def __init__(self, path: Path, kind: str, rows: int, cols: int, offset: int):
        self.kind, self.shape = kind, (rows, cols)
        if kind.startswith("int"):
            panels = (-(-rows // PANEL_ROWS), cols // GROUP, int4.PANEL_BYTES if self.bits == 4 else int8.BLOCK_BYTES)
            self._raw = np.memmap(path, "|u1", "r", offset, panels)
        else:
            self._raw = np.memmap(path, {"float32": "<f4", "float16": "<f2"}[kind], "r", offset, self.shape)

    @property
    def bits(self) -> int:
        """Bits of an integer kind."""
        return 4 if self.kind == "int4_panels" else 8

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Return rows as float32 [n, cols]; panels take slices of step 1 only."""
        if not self.kind.startswith("int"):
            return np.array(self._raw[index], dtype=np.float32)
        assert isinstance(index, slice) and index.step in (None, 1)
        begin, end, _ = index.indices(self.shape[0])
        out = np.empty((max(end - begin, 0), self.shape[1]), dtype=np.float32)
        for at in range(begin, end, _ROWS_AT_ONCE):
            upto = min(at + _ROWS_AT_ONCE, end)
            out[at - begin : upto - begin] = dequantize_rows(*self._unpack(at, upto))
        return out

    def quantized(self) -> Quantized:
        """The integers and scales of the whole matrix, of a kind in panels."""
        return Quantized(*self._unpack(0, self.shape[0]), self.bits)

    def _unpack(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        first = begin // PANEL_ROWS
        panels = np.asarray(self._raw[first : -(-end // PANEL_ROWS)])
        q, scales = (int4 if self.bits == 4 else int8).unpack_panels(panels, end - first * PANEL_ROWS)
        return q[begin - first * PANEL_ROWS :], scales[begin - first * PANEL_ROWS :]
