"""RMSNorm and the feed-forward layer of Nemotron-H: squared ReLU, no gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NemotronHConfig


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, in float32; shape and dtype of x."""
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0) squared."""
    return F.relu(x).square()


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, in float32; the result has the dtype of x."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed x, same shape and dtype."""
        return rms_norm(x, self.weight, self.eps)


class SquaredReLUMLP(nn.Module):
    """down_proj(relu(up_proj(x)) ** 2)."""

    def __init__(self, config: NemotronHConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [batch, T, hidden] to the same shape."""
        return self.down_proj(squared_relu(self.up_proj(x)))
