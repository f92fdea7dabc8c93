"""The Mamba-2 mixer as a graph: convolution, step sizes and the scan of T tokens in matrix form, all in float32.

One form serves every T. With T = 1 it is the recurrence: the decay matrix is the number 1, the sum over time the step's
own. So decode and prefill share one engine, and with it one copy of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nano_agent_ros.model.config import NemotronHConfig

from .mlp import linear
from .ops import Ops, Tensor

NEVER = -1e30  # minus infinity, before exp: a builder may assume that there is no infinity


@dataclass(frozen=True)
class Order:
    """Which token comes before which: `causal` [1, 1, T, T] true and `lower` [T, T] 1.0 where column <= row."""

    causal: Tensor
    lower: Tensor

    @classmethod
    def of(cls, ops: Ops, positions: Tensor) -> Order:
        """From the places of the T tokens in the sequence, int32 [T], ascending."""
        causal = ops.at_most(ops.reshape(positions, 1, 1, 1, -1), ops.reshape(positions, 1, 1, -1, 1))
        lower = ops.at_most(ops.reshape(positions, 1, -1), ops.reshape(positions, -1, 1))
        return cls(causal, ops.where(lower, ops.constant(np.ones((1, 1))), 0.0))


def mamba(
    ops: Ops, config: NemotronHConfig, stem: str, order: Order, u: Tensor, ssm: Tensor, conv: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Advance u [T, hidden] half through the mixer.

    ssm float32 [groups, heads per group, state, head_dim]; conv half [kernel - 1, conv_dim], oldest first. Returns y
    [T, hidden] float32, what `advance` needs to repeat the step (half [T, conv_dim + heads]), the new ssm and conv.
    """
    projected = linear(ops, u, f"{stem}.in_proj")
    gate = ops.single(ops.columns(projected, 0, config.d_inner))
    recorded = ops.columns(projected, config.d_inner, config.in_proj_dim)
    scan, conv = _inputs(ops, config, stem, order, recorded, conv)
    y = _gated_norm(ops, config, ops.parameter(f"{stem}.norm.weight"), _outputs(ops, config, scan, order, ssm), gate)
    return ops.single(linear(ops, ops.half(y), f"{stem}.out_proj")), recorded, _next_state(ops, scan, ssm), conv


def advance(
    ops: Ops, config: NemotronHConfig, stem: str, order: Order, recorded: Tensor, ssm: Tensor, conv: Tensor
) -> tuple[Tensor, Tensor]:
    """The new ssm and conv after the tokens of `recorded` [n, conv_dim + heads]; no large weights are read."""
    scan, conv = _inputs(ops, config, stem, order, recorded, conv)
    return _next_state(ops, scan, ssm), conv


@dataclass(frozen=True)
class _Scan:
    """What the scan multiplies, float32; heads stand as [groups, heads per group].

    x [.., .., T, head_dim]; b and c [groups, 1, T, state]; dt [.., .., T, 1] and its transpose `dt_row` [.., .., 1, T];
    `since` [.., .., T, 1]: logarithm of the decay from before the first token through this one, `since_row` its
    transpose, `whole` [.., .., 1, 1] through the last; d [groups, heads per group, 1, 1].
    """

    x: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    dt: Tensor
    dt_row: Tensor
    since: Tensor
    since_row: Tensor
    whole: Tensor


def _inputs(
    ops: Ops, config: NemotronHConfig, stem: str, order: Order, recorded: Tensor, conv: Tensor
) -> tuple[_Scan, Tensor]:
    groups, per_group = config.n_groups, config.mamba_num_heads // config.n_groups
    states = groups * config.ssm_state_size
    fresh = ops.columns(recorded, 0, config.conv_dim)
    padded = ops.concat(conv, fresh)
    mixed = _convolved(ops, config, stem, padded, fresh)
    dt = _step_sizes(ops, config, stem, ops.columns(recorded, config.conv_dim, config.conv_dim + groups * per_group))
    logs = dt * (ops.exp(ops.parameter(f"{stem}.A_log")) * -1.0)
    since = ops.matmul(order.lower, logs)

    def by_head(values: Tensor, *shape: int) -> Tensor:
        return ops.reshape(ops.transpose(values, 1, 0), groups, per_group, *shape)

    def by_group(begin: int) -> Tensor:
        columns = ops.columns(mixed, begin, begin + states)
        return ops.transpose(ops.reshape(columns, -1, groups, 1, config.ssm_state_size), 1, 2, 0, 3)

    x = ops.reshape(ops.columns(mixed, 0, config.d_inner), -1, groups, per_group, config.mamba_head_dim)
    scan = _Scan(
        x=ops.transpose(x, 1, 2, 0, 3),
        b=by_group(config.d_inner),
        c=by_group(config.d_inner + states),
        d=ops.reshape(ops.parameter(f"{stem}.D"), groups, per_group, 1, 1),
        dt=by_head(dt, -1, 1),
        dt_row=by_head(dt, 1, -1),
        since=by_head(since, -1, 1),
        since_row=by_head(since, 1, -1),
        whole=by_head(ops.sum(logs, 0), 1, 1),
    )
    return scan, ops.last_rows(padded, config.conv_kernel - 1, fresh)


def _convolved(ops: Ops, config: NemotronHConfig, stem: str, padded: Tensor, fresh: Tensor) -> Tensor:
    """silu of the causal depthwise convolution, as shifted sums: [T, conv_dim] float32."""
    taps = ops.parameter(f"{stem}.conv1d.weight")
    total = ops.parameter(f"{stem}.conv1d.bias")
    for k in range(config.conv_kernel):
        tap = ops.reshape(ops.columns(taps, k, k + 1), 1, config.conv_dim)
        term = ops.single(ops.rows_like(padded, k, fresh)) * tap
        total = term if total is None else total + term
    return total * ops.sigmoid(total)


def _step_sizes(ops: Ops, config: NemotronHConfig, stem: str, raw: Tensor) -> Tensor:
    """softplus(raw + dt_bias) within time_step_limit, float32 [T, heads], in the form that cannot overflow."""
    raw = ops.single(raw) + ops.parameter(f"{stem}.dt_bias")
    dt = ops.maximum(raw, 0.0) + ops.log(ops.exp(ops.abs(raw) * -1.0) + 1.0)
    low, high = config.time_step_limit
    if low > 0:
        dt = ops.maximum(dt, low)
    return ops.minimum(dt, high) if np.isfinite(high) else dt


def _outputs(ops: Ops, config: NemotronHConfig, scan: _Scan, order: Order, ssm: Tensor) -> Tensor:
    """y = C S + D x for each token, [T, d_inner]: from the tokens of this step, and from the state before it.

    The decay between two tokens is the exponential of a difference of sums, masked before the exponential: above the
    diagonal it would overflow.
    """
    decay = ops.exp(ops.where(order.causal, scan.since - scan.since_row, NEVER))
    scores = ops.matmul(scan.c, scan.b, transpose_b=True)
    within = ops.matmul(scores * decay * scan.dt_row, scan.x)
    before = ops.matmul(scan.c, ssm) * ops.exp(scan.since)
    y = within + before + scan.x * scan.d
    return ops.reshape(ops.transpose(y, 2, 0, 1, 3), -1, config.d_inner)


def _next_state(ops: Ops, scan: _Scan, ssm: Tensor) -> Tensor:
    """S after the last token: what is left of S, and of B dt x of each token, at the end."""
    added = scan.x * (ops.exp(scan.whole - scan.since) * scan.dt)
    return ssm * ops.exp(scan.whole) + ops.matmul(scan.b, added, transpose_a=True)


def _gated_norm(ops: Ops, config: NemotronHConfig, weight: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """RMSNorm over groups of y * silu(gate), all [T, d_inner] float32."""
    gated = ops.reshape(y * (gate * ops.sigmoid(gate)), -1, config.n_groups, config.group_dim)
    normed = gated * ops.rsqrt(ops.mean(gated * gated, 2) + config.layer_norm_epsilon)
    return ops.reshape(normed, -1, config.d_inner) * weight
