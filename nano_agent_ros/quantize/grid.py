"""A matrix on the grid that the artifact stores: integers of 4 or 8 bits times one float16 scale a group of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import int4, int8
from .int4 import GROUP, QuantizeError

BITS = (4, 8)
HIGHEST = {4: 7, 8: 127}
LOWEST = {4: -8, 8: -127}


@dataclass(frozen=True)
class Quantized:
    """q int8 [rows, cols] inside LOWEST[bits]..HIGHEST[bits], scales float16 [rows, cols / 64], stands for q * scale.

    A scale that is shared by more than 64 inputs is repeated, once for each 64 of them: the artifact knows no other.
    """

    q: np.ndarray
    scales: np.ndarray
    bits: int

    def dequantize(self) -> np.ndarray:
        """The float32 matrix [rows, cols] that the engines compute with."""
        return int4.dequantize_rows(self.q, self.scales)

    def pack(self) -> np.ndarray:
        """The uint8 panels of the weights file: [panels, cols / 64, 544 or 1056]."""
        return (int4 if self.bits == 4 else int8).pack_panels(self.q, self.scales)


def quantize(w: np.ndarray, bits: int = 4, group_size: int = GROUP) -> Quantized:
    """Round w, float32 [rows, cols], to the nearest point of the best grid that `bits` and `group_size` allow.

    `group_size` is a multiple of 64 that divides cols. Every row stands alone. Raises QuantizeError.
    """
    check_group(w.shape[1] if w.ndim == 2 else 0, group_size)
    q, scales = (int4 if bits == 4 else int8).quantize_rows(w, group_size)
    return Quantized(q, scales, bits)


def check_group(cols: int, group_size: int) -> None:
    """Raise QuantizeError if groups of that size do not fill rows of `cols` inputs, or are no multiple of 64."""
    if group_size < GROUP or group_size % GROUP:
        raise QuantizeError(f"group size {group_size} is no multiple of {GROUP}")
    if not cols or cols % group_size:
        raise QuantizeError(f"{cols} inputs, which groups of {group_size} do not fill")
