"""Quantization-aware training: every linear layer computes as the engine will, gradients pass straight through.

Weights: INT4 in groups of 64 inputs with the float16 scales that `int4.quantize_rows` finds; they are found anew by
`refresh` and held in between. Activations: INT8 in groups of 64 with the scale max|x| / 127, as the native engine does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .int4 import GROUP, QuantizeError, dequantize_rows, quantize_rows


class _OnGrid(torch.autograd.Function):
    """q * s in the forward pass; the gradient reaches w where w / s is inside the range of INT4."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, scales: Tensor) -> Tensor:
        """Return w [rows, cols] rounded to multiples of scales [rows, cols / 64, 1]."""
        groups = w.unflatten(1, (-1, GROUP))
        steps = groups / scales
        ctx.save_for_backward((steps >= -8.5) & (steps <= 7.5))
        return (steps.round_().clamp_(-8, 7) * scales).view_as(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """Pass the gradient through, cut where the weight was clipped."""
        (inside,) = ctx.saved_tensors
        return (grads[0].unflatten(1, (-1, GROUP)) * inside).view_as(grads[0]), None


class Int4Weight(nn.Module):
    """Parametrization of one matrix [rows, cols]; holds the scales, float32 [rows, cols / 64, 1]."""

    scales: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("scales", torch.ones(weight.shape[0], weight.shape[1] // GROUP, 1))
        self.refresh(weight)

    @torch.no_grad()
    def refresh(self, weight: Tensor) -> None:
        """Find the scales of the float weight anew."""
        _, scales = quantize_rows(weight.detach().float().cpu().numpy())
        found = torch.from_numpy(scales).float()[..., None]
        self.scales.copy_(torch.where(found > 0, found, torch.ones_like(found)))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that the engine computes with."""
        return _OnGrid.apply(weight, self.scales)


def int8_activations(x: Tensor) -> Tensor:
    """Round x [..., cols] to 127 steps of the largest magnitude of its group of 64; straight-through gradient."""
    return x + _int8_error(x.detach())


def _int8_error(x: Tensor) -> Tensor:
    """What rounding to INT8 in groups of 64 changes of x [..., cols]."""
    groups = x.float().unflatten(-1, (-1, GROUP))
    scale = (groups.abs().amax(-1, keepdim=True) / 127.0).clamp(min=1e-12)
    return (torch.round(groups / scale) * scale).flatten(-2).to(x.dtype) - x


def begin(network: nn.Module, activations: bool = True) -> list[Int4Weight]:
    """Make every linear layer of the network compute in INT4 (and INT8 activations); return the parametrizations.

    Raises QuantizeError, naming the layer, if an input dimension is no multiple of 64.
    """
    made = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            if module.in_features % GROUP:
                raise QuantizeError(f"{name} has {module.in_features} inputs; INT4 needs a multiple of {GROUP}")
            made.append(Int4Weight(module.weight))
            parametrize.register_parametrization(module, "weight", made[-1])
            if activations:
                module.register_forward_pre_hook(_quantize_input)
    return made


def refresh(network: nn.Module) -> None:
    """Find the scales of all matrices anew, from the float weights as they are now."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrization: Any = module.parametrizations["weight"]  # type: ignore[index,union-attr]
            parametrization[0].refresh(parametrization.original)


def finish(network: nn.Module) -> None:
    """Turn back to plain layers whose weights lie on the grid: `quantize_rows` gives them back exactly.

    Embedding tables are rounded to float16, as the artifact holds them.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
            module._forward_pre_hooks.clear()
            with torch.no_grad():
                on_grid = module.weight.detach().numpy()
                again = dequantize_rows(*quantize_rows(on_grid))
                module.weight.copy_(torch.from_numpy(again))
        elif isinstance(module, nn.Embedding):
            with torch.no_grad():
                module.weight.copy_(module.weight.half())


def _quantize_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (int8_activations(inputs[0]), *inputs[1:])
