"""Grouped-query attention over a ring of cached keys and values and the tokens of the step, as a graph.

The two parts are never joined: a concatenation would copy the cache in every layer and step. Each has a softmax of its
own, and the two are merged by their peaks and sums (as flash decoding merges its splits). If a token sees nothing of
the ring, that part's peak is `NEVER` and its share 0. Attention has no positions: the ring's order does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from nano_agent_ros.model.config import NemotronHConfig

from .mamba import NEVER
from .mlp import linear, with_bias
from .ops import Ops, Tensor


@dataclass(frozen=True)
class Visible:
    """Which of the ring's tokens [1, 1, T, slots] and of the step's own [1, 1, T, T] each token sees."""

    cached: Tensor
    fresh: Tensor

    @classmethod
    def of(cls, ops: Ops, positions: Tensor, ring_positions: Tensor, window: int, sinks: int) -> Visible:
        """From places in the sequence, int32: of the T tokens, and of the tokens in the slots (`ring.EMPTY` for none).

        A token sees itself, the `window` - 1 before it and the first `sinks` of the sequence.
        """
        own = ops.reshape(positions, 1, 1, -1, 1)

        def seen(others: Tensor) -> Tensor:
            kept = ops.either(ops.at_most(own - others, window - 1), ops.at_most(others, sinks - 1))
            return ops.both(ops.at_most(others, own), kept)

        return cls(seen(ops.reshape(ring_positions, 1, 1, 1, -1)), seen(ops.reshape(positions, 1, 1, 1, -1)))


def attention(
    ops: Ops, config: NemotronHConfig, stem: str, visible: Visible, u: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend from u [T, hidden] half; keys and values half [kv_heads, slots, head_dim] are the ring.

    Returns y [T, hidden] float32 and the step's own keys and values [kv_heads, T, head_dim] half.
    """
    kv_heads, head_dim = config.num_key_value_heads, config.head_dim
    per_kv = config.num_attention_heads // kv_heads
    qkv = ops.linear(u, *(f"{stem}.{name}" for name in ("q_proj", "k_proj", "v_proj")))
    q, own_keys, own_values = (
        with_bias(ops, ops.columns(qkv, begin, end), f"{stem}.{name}")
        for name, begin, end in (
            ("q_proj", 0, config.q_dim),
            ("k_proj", config.q_dim, config.q_dim + config.kv_dim),
            ("v_proj", config.q_dim + config.kv_dim, config.q_dim + 2 * config.kv_dim),
        )
    )
    q = ops.transpose(ops.reshape(q * head_dim**-0.5, -1, kv_heads, per_kv, head_dim), 1, 2, 0, 3)
    merged = ops.reshape(q, kv_heads, -1, head_dim)  # the heads that share a key in one product: it is read once
    slots = keys.shape[1]
    own_keys, own_values = (
        ops.transpose(ops.reshape(t, -1, kv_heads, head_dim), 1, 0, 2) for t in (own_keys, own_values)
    )
    own_k, own_v = (ops.reshape(t, kv_heads, 1, -1, head_dim) for t in (own_keys, own_values))

    cached = ops.single(ops.reshape(ops.matmul(merged, keys, transpose_b=True), kv_heads, per_kv, -1, slots))
    fresh = ops.single(ops.matmul(q, own_k, transpose_b=True))
    cached, cached_peak, cached_sum = _exponentials(ops, cached, visible.cached)
    fresh, fresh_peak, fresh_sum = _exponentials(ops, fresh, visible.fresh)
    from_cache = ops.matmul(ops.reshape(ops.half(cached), kv_heads, -1, slots), values)
    from_cache = ops.single(ops.reshape(from_cache, kv_heads, per_kv, -1, head_dim))
    from_step = ops.single(ops.matmul(ops.half(fresh), own_v))

    peak = ops.maximum(cached_peak, fresh_peak)
    cached_share, fresh_share = ops.exp(cached_peak - peak), ops.exp(fresh_peak - peak)
    total = cached_sum * cached_share + fresh_sum * fresh_share
    y = (from_cache * cached_share + from_step * fresh_share) * ops.reciprocal(total)
    y = ops.reshape(ops.transpose(y, 2, 0, 1, 3), -1, config.q_dim)
    return ops.single(linear(ops, ops.half(y), f"{stem}.o_proj")), own_keys, own_values


def _exponentials(ops: Ops, scores: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp(scores - peak) where seen, their peak and their sum along the last dimension."""
    scores = ops.where(seen, scores, NEVER)
    peak = ops.max(scores, 3)
    values = ops.exp(scores - peak)
    return values, peak, ops.sum(values, 3)
