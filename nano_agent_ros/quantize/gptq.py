"""GPTQ: round the inputs of a layer one after the other, each making up for the errors of those before it.

Frantar et al. 2022, in the form of Chee et al. 2023 (QuIP, theorem 6), which needs no inverse: with the mean of x x^T
factored as R R^T, R upper triangular, the squared error of the layer's output is |E R|^2 for E = W - Q, and column j
of it is least if w_j + sum over k < j of E_k R_kj / R_jj is what gets rounded. Inputs are taken in their own order:
those that matter most first (act-order), inside what the groups allow, changed nothing measurable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nano_agent_ros.model.config import NemotronHConfig

from .calibration import Activations, Moments, is_head, last_name, loader, norm_name
from .grid import HIGHEST, LOWEST, Quantized, check_group
from .int4 import GROUP, QuantizeError
from .methods import LayerResult, LayerWeights
from .scales import find_scales

DAMPING = 0.1  # of the mean squared input, added to each: little feedback where few inputs were seen
_ROWS_AT_ONCE = 4096
_FACTOR_BLOCK = 256


class Gptq:
    """Quantizes the layers of a network in order, each on what the quantized ones before it give."""

    def __init__(self, config: NemotronHConfig, tokens: Sequence[np.ndarray], group_size: int):
        """`tokens`: sequences of ids, int64 [T] each."""
        self._config, self._group_size = config, group_size
        self._activations = Activations(config, tokens)
        self.begin, self.resume = self._activations.begin, self._activations.resume

    def layer(self, weights: LayerWeights) -> LayerResult:
        """Quantize one layer and carry the activations over it. Raises QuantizeError."""
        index, activations = weights.index, self._activations
        norm = weights.vectors[norm_name(self._config, index)]
        last = None if is_head(self._config, index) else last_name(self._config, index)
        feedback = Feedback.of(Moments.of(activations.normed(norm)), self._group_size)
        done = {
            name: quantize_matrix(matrix, feedback, weights.bits[name])
            for name, matrix in weights.matrices.items()
            if name != last
        }
        if last is not None:
            inner = activations.inner(index, norm, loader(weights, LayerResult(done)))
            feedback = Feedback.of(Moments.of(inner), self._group_size)
            done[last] = quantize_matrix(weights.matrices[last], feedback, weights.bits[last])
            activations.advance(index, inner, loader(weights, LayerResult({last: done[last]})))
        return LayerResult({name: done[name] for name in weights.matrices})


@dataclass(frozen=True)
class Feedback:
    """How the errors of some inputs are made up for by those after them: `factor` [in, in] float32 is R."""

    factor: np.ndarray
    group_size: int

    @staticmethod
    def of(moments: Moments, group_size: int, damping: float = DAMPING) -> Feedback:
        """Factor the moments of a layer's inputs. Their `gram` becomes the factor: there is no room for both at 4B."""
        cols = len(moments.magnitude)
        check_group(cols, group_size)
        if not np.isfinite(moments.scale):
            raise QuantizeError("the calibration text drives its inputs to infinity or NaN")
        moments.gram[np.diag_indices(cols)] += np.float32(damping * moments.scale or 1.0)
        backwards = moments.gram[::-1, ::-1]
        factor_in_place(backwards)
        return Feedback(moments.gram, group_size)


def factor_in_place(a: np.ndarray) -> None:
    """Replace a symmetric positive definite a [n, n] by its lower Cholesky factor, in blocks. Raises QuantizeError."""
    for begin in range(0, len(a), _FACTOR_BLOCK):
        end = min(begin + _FACTOR_BLOCK, len(a))
        try:
            corner = np.linalg.cholesky(a[begin:end, begin:end])
        except np.linalg.LinAlgError:
            raise QuantizeError("its inputs over the calibration text cannot be factored; give more text") from None
        a[begin:end, begin:end] = corner
        a[begin:end, end:] = 0
        a[end:, begin:end] = a[end:, begin:end] @ np.linalg.inv(corner).T
        below = np.ascontiguousarray(a[end:, begin:end])
        for at in range(0, len(below), _FACTOR_BLOCK):
            columns = slice(end + at, end + at + _FACTOR_BLOCK)
            a[end + at :, columns] -= below[at:] @ below[at : at + _FACTOR_BLOCK].T


def quantize_matrix(w: np.ndarray, feedback: Feedback, bits: int) -> Quantized:
    """Quantize w, float32 [rows, cols]; a matrix that lies on the grid already comes back as it is."""
    rows, cols = w.shape
    q = np.empty((rows, cols), dtype=np.int8)
    scales = np.empty((rows, cols // GROUP), dtype=np.float16)
    for begin in range(0, rows, _ROWS_AT_ONCE):
        block = slice(begin, min(begin + _ROWS_AT_ONCE, rows))
        _quantize_block(w[block], feedback, bits, q[block], scales[block])
    return Quantized(q, scales, bits)


def _quantize_block(w: np.ndarray, feedback: Feedback, bits: int, q: np.ndarray, scales: np.ndarray) -> None:
    """Fill q [rows, cols] and scales [rows, cols / 64] in place, group by group."""
    group_size, factor = feedback.group_size, feedback.factor
    errors = np.empty((w.shape[1], w.shape[0]), dtype=np.float32)  # [input, row]
    for begin in range(0, w.shape[1], group_size):
        end = begin + group_size
        diagonal = np.diagonal(factor)[begin:end]
        pull = factor[:end, begin:end] / diagonal
        own = np.ascontiguousarray(w[:, begin:end].T)
        target = own + pull[:begin].T @ errors[:begin]
        group_scales = find_scales(np.ascontiguousarray(target.T), bits, np.square(diagonal))
        s = group_scales.astype(np.float32)
        for j in range(group_size):
            wanted = target[j] + pull[begin : begin + j, j] @ errors[begin : begin + j]
            steps = np.divide(wanted, s, out=np.zeros_like(wanted), where=s > 0)
            np.clip(np.rint(steps, out=steps), LOWEST[bits], HIGHEST[bits], out=steps)
            q[:, begin + j] = steps
            errors[begin + j] = own[j] - steps * s
        scales[:, begin // GROUP : end // GROUP] = group_scales[:, None]
