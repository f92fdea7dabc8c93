"""The two graphs of an engine, layer by layer: `step` and `replay`, from named inputs to named outputs."""

from __future__ import annotations

from collections.abc import Mapping

from nano_agent_ros.model.config import ATTENTION, MAMBA

from .attention import Visible, attention
from .bindings import HIDDEN, LOGITS, POSITIONS, RING, ROWS, Bindings, following
from .mamba import Order, advance, mamba
from .mlp import mlp, rms_norm
from .ops import Ops, Tensor


def step(ops: Ops, bindings: Bindings, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Advance by T tokens: `bindings.step_inputs()` to `bindings.step_outputs()`, by name.

    The residual stream is float32. Only the rows that `rows` names go through the final norm and the output head.
    """
    config, ring = bindings.config, bindings.ring_size
    outputs: dict[str, Tensor] = {}
    positions = inputs[POSITIONS]
    order = Order.of(ops, positions)
    visible = Visible.of(ops, positions, inputs[RING], ring.window, ring.sinks)
    x = ops.single(inputs[HIDDEN])
    for i, kind in enumerate(config.layers):
        layer, stem = f"layers.{i}", f"backbone.layers.{i}"
        u = ops.half(rms_norm(ops, x, ops.parameter(f"{stem}.norm.weight"), config.layer_norm_epsilon))
        if kind == MAMBA:
            ssm, conv = f"{layer}.ssm", f"{layer}.conv"
            y, recorded, new_ssm, new_conv = mamba(ops, config, f"{stem}.mixer", order, u, inputs[ssm], inputs[conv])
            outputs |= {following(ssm): new_ssm, following(conv): new_conv, f"{layer}.recorded": recorded}
        elif kind == ATTENTION:
            keys, values = f"{layer}.keys", f"{layer}.values"
            y, own_keys, own_values = attention(ops, config, f"{stem}.mixer", visible, u, inputs[keys], inputs[values])
            outputs |= {f"{keys}.fresh": own_keys, f"{values}.fresh": own_values}
        else:
            y = mlp(ops, f"{stem}.mixer", u)
        x = x + y
    last = rms_norm(
        ops, ops.take_rows(x, inputs[ROWS]), ops.parameter("backbone.norm_f.weight"), config.layer_norm_epsilon
    )
    outputs[LOGITS] = ops.single(ops.linear(ops.half(last), "lm_head"))
    return outputs


def replay(ops: Ops, bindings: Bindings, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state after the first n tokens of a step: `bindings.replay_inputs()` to `bindings.next_state()`, by name."""
    order = Order.of(ops, inputs[POSITIONS])
    outputs: dict[str, Tensor] = {}
    for i, kind in enumerate(bindings.config.layers):
        if kind == MAMBA:
            layer = f"layers.{i}"
            ssm, conv = advance(
                ops,
                bindings.config,
                f"backbone.{layer}.mixer",
                order,
                inputs[f"{layer}.recorded"],
                inputs[f"{layer}.ssm"],
                inputs[f"{layer}.conv"],
            )
            outputs |= {following(f"{layer}.ssm"): ssm, following(f"{layer}.conv"): conv}
    return outputs
