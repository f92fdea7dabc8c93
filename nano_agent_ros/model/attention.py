"""Grouped-query attention without any position encoding, with its key/value cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NemotronHConfig


@dataclass(frozen=True)
class AttentionState:
    """Keys and values of the tokens that can still be seen, each [batch, kv_heads, kept, head_dim].

    `positions` [kept], int64, ascending: the place of each in the sequence.
    """

    k: Tensor
    v: Tensor
    positions: Tensor


class Attention(nn.Module):
    """Causal softmax attention; the order of tokens reaches it only through the Mamba layers around it.

    With `window` set a token sees itself, the `window - 1` before it and the first `sinks` of the sequence, and the
    state keeps no more than that (attention sinks: Xiao et al. 2023).
    """

    def __init__(self, config: NemotronHConfig):
        super().__init__()
        self.head_dim = config.head_dim
        self.window: int | None = None
        self.sinks = 0
        self.q_proj = nn.Linear(config.hidden_size, config.q_dim, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, config.kv_dim, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, config.kv_dim, bias=config.attention_bias)
        self.o_proj = nn.Linear(config.q_dim, config.hidden_size, bias=config.attention_bias)

    def forward(self, x: Tensor, state: AttentionState | None) -> tuple[Tensor, AttentionState]:
        """Attend from x [batch, T, hidden] to itself and the state's tokens; return like x, and the new state."""
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        own = torch.arange(length, device=x.device)
        positions = own
        if state is not None:
            own = own + (int(state.positions[-1]) + 1 if len(state.positions) else 0)
            k, v = torch.cat((state.k, k), dim=2), torch.cat((state.v, v), dim=2)
            positions = torch.cat((state.positions, own))
        mask = positions <= own[:, None]
        if self.window is not None:
            mask &= (positions > own[:, None] - self.window) | (positions < self.sinks)
        if torch.is_grad_enabled():
            y = _attend(q, k, v, mask)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        if self.window is not None:
            kept = (positions > own[-1] - self.window) | (positions < self.sinks)
            k, v, positions = k[:, :, kept], v[:, :, kept], positions[kept]
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1)), AttentionState(k, v, positions)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of q [batch, heads, T, head_dim] as two products: with gradients, on CPUs, faster than the fused."""
    batch, heads, length, head_dim = q.shape
    kv_heads, total = k.shape[1], k.shape[2]
    rows = (heads // kv_heads) * length
    scores = (q * head_dim**-0.5).reshape(batch, kv_heads, rows, head_dim) @ k.transpose(-1, -2)
    probabilities = _masked_softmax(scores.view(batch, heads, length, total), mask)
    return (probabilities.view(batch, kv_heads, rows, total) @ v).view(batch, heads, length, head_dim)


def _masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax, in float32, of scores [batch, heads, T, total] where mask [T, total] is true; the dtype of scores."""
    return scores.float().masked_fill(~mask, -torch.inf).softmax(-1).to(scores.dtype)
