"""The Nemotron-H network: embeddings, pre-norm residual layers of three kinds, final norm, output head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention import Attention, AttentionState
from .config import ATTENTION, MAMBA, NemotronHConfig
from .mamba2 import Mamba2, MambaState
from .mlp import RMSNorm, SquaredReLUMLP


@dataclass(frozen=True)
class NetworkState:
    """The state of every layer after `length` tokens (None for an MLP layer); never changed in place."""

    layers: tuple[MambaState | AttentionState | None, ...]
    length: int


class Layer(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, config: NemotronHConfig, kind: str):
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        if kind == MAMBA:
            self.mixer: nn.Module = Mamba2(config)
        elif kind == ATTENTION:
            self.mixer = Attention(config)
        else:
            self.mixer = SquaredReLUMLP(config)

    def forward(
        self, x: Tensor, state: MambaState | AttentionState | None
    ) -> tuple[Tensor, MambaState | AttentionState | None]:
        """Advance x [batch, T, hidden] through the layer from `state`; return it and the new state."""
        normed = self.norm(x.to(self.norm.weight.dtype))
        if isinstance(self.mixer, SquaredReLUMLP):
            return x + self.mixer(normed), None
        y, state = self.mixer(normed, state)
        return x + y, state


class NemotronH(nn.Module):
    """A `nemotron_h` causal language model; parameter names are the published ones below `backbone.`."""

    def __init__(self, config: NemotronHConfig):
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config.layers)
        self.norm_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embeddings.weight

    def forward(self, tokens: Tensor, state: NetworkState | None = None) -> tuple[Tensor, NetworkState]:
        """Advance by tokens [batch, T], int64, from `state` (None: empty).

        Returns the normed hidden states [batch, T, hidden] and the new state; `logits` turns any of them into logits.
        """
        x = self.embeddings(tokens)
        if self.config.residual_in_fp32:
            x = x.float()
        before = state.layers if state is not None else (None,) * len(self.layers)
        after = []
        for layer, layer_state in zip(self.layers, before, strict=True):
            x, layer_state = layer(x, layer_state)
            after.append(layer_state)
        length = tokens.shape[1] + (state.length if state is not None else 0)
        return self.norm_f(x.to(self.norm_f.weight.dtype)), NetworkState(tuple(after), length)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states [..., hidden] to float32 logits [..., vocab]."""
        return self.lm_head(hidden).float()


@torch.no_grad()
def initialise(network: NemotronH, seed: int) -> None:
    """Fill a network for training, as Mamba-2 does, deterministically by `seed`.

    A in [1, 16]; dt_bias such that softplus(dt_bias) is log-uniform in [time_step_min, time_step_max]; matrices normal
    with std 1/sqrt(fan in), those that write to the residual stream scaled by 1/sqrt(layers). Embeddings have std 1:
    smaller ones drown in what the first layers write, and the network does not learn to copy (docs/model.md).
    """
    config = network.config
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if name.endswith(("norm.weight", "norm_f.weight", "mixer.D")):
            parameter.fill_(1.0)
        elif name.endswith("A_log"):
            parameter.uniform_(1.0, 16.0, generator=generator).log_()
        elif name.endswith("dt_bias"):
            low, high = math.log(config.time_step_min), math.log(config.time_step_max)
            dt = parameter.uniform_(low, high, generator=generator).exp_().clamp_(min=config.time_step_floor)
            parameter.copy_(dt + torch.log(-torch.expm1(-dt)))
        elif name.endswith("conv1d.weight"):
            bound = 1.0 / math.sqrt(config.conv_kernel)
            parameter.uniform_(-bound, bound, generator=generator)
        elif parameter.dim() == 2:
            std = 1.0 if "embeddings" in name else 1.0 / math.sqrt(parameter.shape[1])
            if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
                std /= math.sqrt(len(config.layers))
            parameter.normal_(0.0, std, generator=generator)
        else:
            parameter.zero_()
