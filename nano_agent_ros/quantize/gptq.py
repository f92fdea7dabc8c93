"""GPTQ: round the inputs of a layer one after the other, each making up for the errors of those before it.

Frantar et al. 2022, in the form of Chee et al. 2023 (QuIP, theorem 6), which needs no inverse: with the mean of x x^T
factored as R R^T, R upper triangular, the squared error of the layer's output is |E R|^2 for E = W - Q, and column j
of it is least if w_j + sum over k < j of E_k R_kj / R_jj is what gets rounded.
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
_DAMPING_AT_MOST = 1.0
_ROWS_AT_ONCE = 4096
_DOUBLE_UP_TO = 4096  # inputs; beyond, the factor in float64 would take more memory than a conversion may


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
    """How the errors of some inputs are made up for by those after them.

    `order` [in]: the inputs in the order of rounding, group by group: first the groups, and within a group the inputs,
    that matter most. `factor` [in, in] float32: R, rows and columns in that order.
    """

    order: np.ndarray
    factor: np.ndarray
    group_size: int

    @staticmethod
    def of(moments: Moments, group_size: int, damping: float = DAMPING) -> Feedback:
        """Factor the moments of a layer's inputs; more damping is tried where they are too close to singular."""
        cols = len(moments.magnitude)
        check_group(cols, group_size)
        if not np.isfinite(moments.scale):
            raise QuantizeError("the calibration text drives its inputs to infinity or NaN")
        weight = np.diagonal(moments.gram).reshape(-1, group_size)
        groups = np.argsort(-weight.sum(axis=1), kind="stable")
        inside = np.argsort(-weight[groups], axis=1, kind="stable")
        order = (groups[:, None] * group_size + inside).reshape(-1)
        dtype = np.float64 if cols <= _DOUBLE_UP_TO else np.float32
        while True:
            backwards = moments.gram[np.ix_(order[::-1], order[::-1])].astype(dtype, copy=False)
            backwards[np.diag_indices(cols)] += damping * moments.scale or 1.0
            try:
                lower = np.linalg.cholesky(backwards)
                break
            except np.linalg.LinAlgError:
                damping *= 10
                if damping > _DAMPING_AT_MOST:
                    raise QuantizeError("its inputs over the calibration text cannot be factored") from None
        return Feedback(order, lower[::-1, ::-1].astype(np.float32), group_size)


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
    """Fill q [rows, cols] and scales [rows, cols / 64] in place, group by group in the order of rounding."""
    group_size, factor = feedback.group_size, feedback.factor
    per_group = group_size // GROUP
    errors = np.empty((w.shape[1], w.shape[0]), dtype=np.float32)  # [input in the order of rounding, row]
    for begin in range(0, w.shape[1], group_size):
        end = begin + group_size
        inputs = feedback.order[begin:end]
        pull = factor[:end, begin:end] / np.diagonal(factor)[begin:end]
        target = w[:, inputs].T + pull[:begin].T @ errors[:begin]
        importance = np.square(np.diagonal(factor)[begin:end])
        group_scales = find_scales(np.ascontiguousarray(target.T), bits, importance)
        s = group_scales.astype(np.float32)
        for j in range(group_size):
            wanted = target[j] + pull[begin : begin + j, j] @ errors[begin : begin + j]
            steps = np.divide(wanted, s, out=np.zeros_like(wanted), where=s > 0)
            np.clip(np.rint(steps, out=steps), LOWEST[bits], HIGHEST[bits], out=steps)
            q[:, inputs[j]] = steps
            errors[begin + j] = w[:, inputs[j]] - steps * s
        first = int(inputs.min()) // GROUP
        scales[:, first : first + per_group] = group_scales[:, None]
