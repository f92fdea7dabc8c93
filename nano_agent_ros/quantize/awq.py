"""AWQ: make the inputs that matter most larger in the weights and smaller in what feeds them, then round.

Lin et al. 2023. The factor s of each input is mean|x|^alpha; alpha is searched for the least error of the layer's
output over the calibration text (alpha 0 is plain rounding). The network computes the same: what feeds the inputs is
divided by s, which is the norm before in_proj, q_proj, k_proj, v_proj, up_proj and lm_head, the gated norm before
out_proj, the rows of v_proj before o_proj (one factor for all the query heads that share them), and, since
relu(x)^2 is homogeneous, the rows of up_proj by sqrt(s) before down_proj. Rounding then takes for each group the scale
that does least to the output, which may clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nano_agent_ros.model.config import ATTENTION, MAMBA, NemotronHConfig

from .calibration import Activations, Moments, is_head, last_name, loader, norm_name
from .grid import Quantized, check_group, quantize
from .int4 import GROUP, QuantizeError
from .methods import LayerResult, LayerWeights
from .scales import find_scales, round_to

ALPHAS = tuple(i / 20 for i in range(20))
SEARCH_ROWS = 512  # of each matrix, evenly spread, that the search for alpha looks at
_LEAST_MAGNITUDE = 1e-3  # of the mean: inputs that the text hardly excites do not get extreme factors
_RIDGE = 0.01  # of the mean squared input, added to a group's moments: inputs never seen still count


class Awq:
    """Quantizes the layers of a network in order, each on what the quantized ones before it give."""

    def __init__(self, config: NemotronHConfig, tokens: Sequence[np.ndarray], group_size: int):
        """`tokens`: sequences of ids, int64 [T] each."""
        self._config, self._group_size = config, group_size
        self._activations = Activations(config, tokens)
        self.begin, self.resume = self._activations.begin, self._activations.resume

    def layer(self, weights: LayerWeights) -> LayerResult:
        """Quantize one layer and carry the activations over it. Raises QuantizeError."""
        index, activations, config = weights.index, self._activations, self._config
        norm = norm_name(config, index)
        last = None if is_head(config, index) else last_name(config, index)
        moments = _checked(Moments.of(activations.normed(weights.vectors[norm])))
        firsts = {name: matrix for name, matrix in weights.matrices.items() if name != last}
        factors = self._search(firsts, weights.bits, moments, moments.magnitude)
        scaled = {name: matrix * factors for name, matrix in firsts.items()}
        vectors = {norm: weights.vectors[norm] / factors}
        moments = _divided(moments, factors)
        done = {name: self._round(matrix, moments, weights.bits[name]) for name, matrix in scaled.items()}
        if last is None:
            return LayerResult(done, vectors)

        inner = activations.inner(index, vectors[norm], loader(weights, LayerResult(done, vectors)))
        inner_moments = _checked(Moments.of(inner))
        matrix = weights.matrices[last]
        shared = inner_moments.magnitude
        if config.layers[index] == ATTENTION:
            shared = _per_query_head(config, _per_value_row(config, shared))
        factors = self._search({last: matrix}, weights.bits, inner_moments, shared)
        inner_moments = _divided(inner_moments, factors)
        done[last] = self._round(matrix * factors, inner_moments, weights.bits[last])
        for piece in inner:
            piece /= factors
        vectors |= self._fold(weights, index, factors, scaled, moments, done)
        activations.advance(index, inner, loader(weights, LayerResult({last: done[last]}, vectors)))
        return LayerResult({name: done[name] for name in weights.matrices}, vectors)

    def _search(
        self, matrices: Mapping[str, np.ndarray], bits: Mapping[str, int], moments: Moments, magnitude: np.ndarray
    ) -> np.ndarray:
        """The factors [in] that matrices on the same inputs share: those of least error of their outputs."""
        samples = [(w[:: -(-len(w) // SEARCH_ROWS)], bits[name]) for name, w in matrices.items()]
        magnitude = np.maximum(magnitude, _LEAST_MAGNITUDE * float(magnitude.mean()) or 1.0)
        best, least = np.ones_like(magnitude), np.inf
        for alpha in ALPHAS:
            factors = magnitude ** np.float32(alpha)
            factors /= np.sqrt(factors.max() * factors.min())
            cost = 0.0
            for w, width in samples:
                error = quantize(w * factors, width, self._group_size).dequantize() / factors - w
                cost += float(np.einsum("ri,ri->", error @ moments.gram, error, dtype=np.float64))
            if cost < least:
                best, least = factors, cost
        return best

    def _round(self, w: np.ndarray, moments: Moments, bits: int) -> Quantized:
        """Quantize w [rows, in]; each group takes the scale that changes its own share of the output least."""
        rows, cols = w.shape
        size = self._group_size
        check_group(cols, size)
        q, scales = np.empty((rows, cols), dtype=np.int8), np.empty((rows, cols // GROUP), dtype=np.float16)
        for begin in range(0, cols, size):
            inputs = slice(begin, begin + size)
            metric = moments.gram[inputs, inputs] + np.eye(size, dtype=np.float32) * (_RIDGE * moments.scale or 1.0)
            group = np.ascontiguousarray(w[:, inputs])
            found = find_scales(group, bits, metric)
            q[:, inputs] = round_to(group, found, bits)
            scales[:, begin // GROUP : (begin + size) // GROUP] = found[:, None]
        return Quantized(q, scales, bits)

    def _fold(
        self,
        weights: LayerWeights,
        index: int,
        factors: np.ndarray,
        scaled: Mapping[str, np.ndarray],
        moments: Moments,
        done: dict[str, Quantized],
    ) -> dict[str, np.ndarray]:
        """Divide what feeds the last matrix by its factors [in]; return the changed vectors, change `done` in place.

        A matrix whose rows are divided is rounded again: its steps stay, but for what float16 does to their scales.
        """
        stem = f"backbone.layers.{index}.mixer"
        if self._config.layers[index] == MAMBA:
            return {f"{stem}.norm.weight": weights.vectors[f"{stem}.norm.weight"] / factors}
        if self._config.layers[index] == ATTENTION:
            source, divisor = f"{stem}.v_proj", _per_value_row(self._config, factors)
        else:
            source, divisor = f"{stem}.up_proj", np.sqrt(factors)
        name = f"{source}.weight"
        done[name] = self._round(scaled[name] / divisor[:, None], moments, weights.bits[name])
        bias = weights.vectors.get(f"{source}.bias")
        return {} if bias is None else {f"{source}.bias": bias / divisor}


def _checked(moments: Moments) -> Moments:
    if not np.isfinite(moments.scale):
        raise QuantizeError("the calibration text drives its inputs to infinity or NaN")
    return moments


def _divided(moments: Moments, factors: np.ndarray) -> Moments:
    """The moments of inputs that are divided by factors [in]."""
    return Moments(moments.gram / factors / factors[:, None], moments.magnitude / factors)


def _per_value_row(config: NemotronHConfig, per_input: np.ndarray) -> np.ndarray:
    """Mean over the query heads that share a value: o_proj inputs [q_dim] to v_proj rows [kv_dim]."""
    return per_input.reshape(config.num_key_value_heads, -1, config.head_dim).mean(axis=1).reshape(-1)


def _per_query_head(config: NemotronHConfig, per_row: np.ndarray) -> np.ndarray:
    """Repeat v_proj rows [kv_dim] for every query head that shares them: [q_dim]."""
    rows = per_row.reshape(config.num_key_value_heads, 1, config.head_dim)
    shared_by = config.num_attention_heads // config.num_key_value_heads
    return np.repeat(rows, shared_by, axis=1).reshape(-1)
