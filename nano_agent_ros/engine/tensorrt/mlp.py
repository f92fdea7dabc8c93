"""What all layers share, and the feed-forward layer: squared ReLU, no gate."""

from __future__ import annotations

from .ops import Ops, Tensor


def linear(ops: Ops, x: Tensor, stem: str) -> Tensor:
    """x [T, inputs] half through a linear layer: [T, outputs] half."""
    return with_bias(ops, ops.linear(x, stem), stem)


def with_bias(ops: Ops, y: Tensor, stem: str) -> Tensor:
    """y [T, outputs] half plus the bias of a linear layer, if it has one."""
    bias = ops.parameter(f"{stem}.bias")
    return y if bias is None else ops.half(ops.single(y) + bias)


def rms_norm(ops: Ops, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension of x [T, n] float32; weight float32 [1, n]."""
    return x * ops.rsqrt(ops.mean(x * x, 1) + eps) * weight


def mlp(ops: Ops, stem: str, u: Tensor) -> Tensor:
    """down_proj(relu(up_proj(u)) ** 2) of u [T, hidden] half: [T, hidden] float32.

    The squares leave float16 as soon as an activation is above 255. So each token's activations are divided by the
    largest of them before they are squared, and the product is multiplied by its square.
    """
    up = ops.maximum(ops.single(linear(ops, u, f"{stem}.up_proj")), 0.0)
    peak = ops.maximum(ops.max(up, 1), 1e-6)
    unit = up * ops.reciprocal(peak)
    down = ops.single(ops.linear(ops.half(unit * unit), f"{stem}.down_proj")) * (peak * peak)
    bias = ops.parameter(f"{stem}.down_proj.bias")
    return down if bias is None else down + bias
