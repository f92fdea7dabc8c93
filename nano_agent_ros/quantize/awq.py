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
from nano_agent_ros.model.reference import Load

from .calibration import Activations, Moments, is_head, last_name, norm_name
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
        first_names = [name for name in weights.matrices if name != last]

        moments = _checked(Moments.of(activations.normed(weights.vectors[norm])))
        factors = self._search(weights, first_names, moments, moments.magnitude)
        tensors = fold_into_norm({**weights.vectors, **weights.matrices}, norm, first_names, factors)
        moments = _divided(moments, factors)
        done = {name: self._round(tensors[name], moments, weights.bits[name]) for name in first_names}
        if last is not None:
            inner = activations.inner(index, tensors[norm], _running(tensors, done))
            inner_moments = _checked(Moments.of(inner))
            factors = self._search(weights, [last], inner_moments, shared_magnitude(config, index, inner_moments))
            folded = fold_into_layer(config, index, tensors, factors)
            for name in first_names:
                if folded[name] is not tensors[name]:  # its steps stay, but for what float16 does to the scales
                    done[name] = self._round(folded[name], moments, weights.bits[name])
            done[last] = self._round(folded[last], _divided(inner_moments, factors), weights.bits[last])
            for piece in inner:
                piece /= factors
            activations.advance(index, inner, _running(folded, {last: done[last]}))
            tensors = folded
        changed = {n: tensors[n] for n, before in weights.vectors.items() if tensors[n] is not before}
        return LayerResult({name: done[name] for name in weights.matrices}, changed)

    def _search(
        self, weights: LayerWeights, names: Sequence[str], moments: Moments, magnitude: np.ndarray
    ) -> np.ndarray:
        """The factors [in] that matrices on the same inputs share: those of least error of their outputs."""
        matrices = [(weights.matrices[name], weights.bits[name]) for name in names]
        samples = [(w[:: -(-len(w) // SEARCH_ROWS)], bits) for w, bits in matrices]
        magnitude = np.maximum(magnitude, _LEAST_MAGNITUDE * float(magnitude.mean()) or 1.0)
        best, least = np.ones_like(magnitude), np.inf
        for alpha in ALPHAS:
            factors = magnitude ** np.float32(alpha)
            factors /= np.sqrt(factors.max() * factors.min())
            cost = 0.0
            for w, bits in samples:
                error = quantize(w * factors, bits, self._group_size).dequantize() / factors - w
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


def fold_into_norm(
    tensors: Mapping[str, np.ndarray], norm: str, names: Sequence[str], factors: np.ndarray
) -> dict[str, np.ndarray]:
    """Divide the weight of `norm` by factors [in] and multiply the inputs of the matrices `names` by them."""
    folded = {name: tensors[name] * factors for name in names}
    return {**tensors, norm: tensors[norm] / factors, **folded}


def fold_into_layer(
    config: NemotronHConfig, index: int, tensors: Mapping[str, np.ndarray], factors: np.ndarray
) -> dict[str, np.ndarray]:
    """Multiply the inputs of the last matrix of layer `index` by factors [in], and divide what makes them.

    In an attention layer the factors must be the same for all query heads that share a value (`shared_magnitude`).
    """
    stem, last = f"backbone.layers.{index}.mixer", last_name(config, index)
    folded = {**tensors, last: tensors[last] * factors}
    if config.layers[index] == MAMBA:
        return folded | {f"{stem}.norm.weight": tensors[f"{stem}.norm.weight"] / factors}
    if config.layers[index] == ATTENTION:
        source, divisor = f"{stem}.v_proj", _per_value_row(config, factors)
    else:
        source, divisor = f"{stem}.up_proj", np.sqrt(factors)
    folded[f"{source}.weight"] = tensors[f"{source}.weight"] / divisor[:, None]
    if f"{source}.bias" in tensors:
        folded[f"{source}.bias"] = tensors[f"{source}.bias"] / divisor
    return folded


def shared_magnitude(config: NemotronHConfig, index: int, moments: Moments) -> np.ndarray:
    """Magnitude [in] of the last matrix's inputs, in an attention layer over the query heads that share a value."""
    if config.layers[index] != ATTENTION:
        return moments.magnitude
    rows = _per_value_row(config, moments.magnitude).reshape(config.num_key_value_heads, 1, config.head_dim)
    return np.repeat(rows, config.num_attention_heads // config.num_key_value_heads, axis=1).reshape(-1)


def _running(tensors: Mapping[str, np.ndarray], done: Mapping[str, Quantized]) -> Load:
    """A layer's tensors with those matrices that are quantized as they will run."""
    return {**tensors, **{name: matrix.dequantize() for name, matrix in done.items()}}.__getitem__


def _checked(moments: Moments) -> Moments:
    if not np.isfinite(moments.scale):
        raise QuantizeError("the calibration text drives its inputs to infinity or NaN")
    return moments


def _divided(moments: Moments, factors: np.ndarray) -> Moments:
    """The moments of inputs that are divided by factors [in]; in place, as there is no room for two at 4B."""
    np.divide(moments.gram, factors, out=moments.gram)
    np.divide(moments.gram, factors[:, None], out=moments.gram)
    return Moments(moments.gram, moments.magnitude / factors)


def _per_value_row(config: NemotronHConfig, per_input: np.ndarray) -> np.ndarray:
    """Mean over the query heads that share a value: o_proj inputs [q_dim] to v_proj rows [kv_dim]."""
    return per_input.reshape(config.num_key_value_heads, -1, config.head_dim).mean(axis=1).reshape(-1)
