"""The Mamba-2 layer: causal convolution, selective scan from a given state, gated group norm.

The scan S <- S * exp(dt * A) + dt * B (x), y = C S + D x exists twice: `scan_recurrent` is the definition, token by
token; `scan_chunked` is the matrix form of the SSD paper (Dao and Gu 2024, section 6), which training and long
prompts use. A test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NemotronHConfig


@dataclass(frozen=True)
class MambaState:
    """What a Mamba-2 layer remembers.

    `conv` [batch, conv_kernel - 1, conv_dim]: the last inputs of the convolution, oldest first.
    `ssm` [batch, heads, state, head_dim], float32: the state S (transposed against the published cache layout).
    """

    conv: Tensor
    ssm: Tensor


def scan_recurrent(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, ssm: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the recurrence token by token, in float32.

    x [batch, T, heads, head_dim]; dt [batch, T, heads] after softplus; a [heads], negative; b and c
    [batch, T, groups, state]; d [heads]; ssm [batch, heads, state, head_dim]. Returns y like x, and the last state.
    """
    per_group = x.shape[2] // b.shape[2]
    b, c = (t.float().repeat_interleave(per_group, dim=2) for t in (b, c))
    x = x.float()
    ys = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t] * a)[..., None, None]
        ssm = ssm * decay + torch.einsum("bhn,bhp->bhnp", b[:, t], x[:, t] * dt[:, t, :, None])
        ys.append(torch.einsum("bhn,bhnp->bhp", c[:, t], ssm) + d[:, None] * x[:, t])
    return torch.stack(ys, dim=1), ssm


def scan_chunked(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, ssm: Tensor | None, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Compute what `scan_recurrent` does with matrix products over chunks; ssm None is the zero state.

    Products that all heads of a group share (C B^T) are taken once per group, and the heads of a group are laid side
    by side where they multiply the same matrix. Decays and the state are float32; the products follow autocast.
    """
    batch, length, heads, head_dim = x.shape
    groups, state = b.shape[2], b.shape[3]
    per_group = heads // groups
    chunk_size = min(chunk_size, length)
    pad = -length % chunk_size
    if pad:
        x, dt, b, c = (F.pad(t, (0, 0) * (t.dim() - 2) + (0, pad)) for t in (x, dt, b, c))
    chunks = (length + pad) // chunk_size
    x = x.view(batch, chunks, chunk_size, groups, per_group, head_dim)
    dt = dt.view(batch, chunks, chunk_size, groups, per_group)
    b, c = (t.view(batch, chunks, chunk_size, groups, state).transpose(2, 3) for t in (b, c))

    # log decay from the start of the chunk through each token: [batch, chunks, groups, per_group, chunk]
    log_decay = torch.cumsum(dt * a.view(groups, per_group), dim=2).permute(0, 1, 3, 4, 2)
    dtx, added = _scan_inputs(x, dt, log_decay)

    causal = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=x.device).tril()
    y = _decayed(c @ b.transpose(-1, -2), log_decay, causal) @ dtx

    added = (b.transpose(-1, -2) @ added).float().view(batch, chunks, groups, state, per_group, head_dim)
    whole = torch.exp(log_decay[..., -1])[:, :, :, None, :, None]
    start = x.new_zeros(added[:, 0].shape, dtype=torch.float32) if ssm is None else _grouped(ssm, groups)
    starts = []
    for decay, more in zip(whole.unbind(1), added.unbind(1), strict=True):
        starts.append(start)
        start = start * decay + more
    carried = torch.stack(starts, dim=1).view(batch, chunks, groups, state, per_group * head_dim)

    from_start = (c @ carried.to(c.dtype)).view(batch, chunks, groups, chunk_size, per_group, head_dim)
    y = _scan_outputs(y, from_start, log_decay, x, d.view(groups, per_group, 1))
    y = y.reshape(batch, chunks * chunk_size, heads, head_dim)[:, :length]
    return y, start.transpose(2, 3).reshape(batch, heads, state, head_dim)


def _scan_inputs(x: Tensor, dt: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """What each token adds within its chunk, dt * x, and what of it is left at the chunk's end.

    x [batch, chunks, chunk, groups, per_group, head_dim]; the first is [batch, chunks, groups, per_group, chunk,
    head_dim], the second has the heads of a group side by side: [batch, chunks, groups, chunk, per_group * head_dim].
    """
    dtx = (x * dt[..., None]).to(x.dtype).permute(0, 1, 3, 4, 2, 5)
    to_end = torch.exp(log_decay[..., -1:] - log_decay).to(x.dtype)
    return dtx, (dtx * to_end[..., None]).transpose(3, 4).flatten(4)


def _decayed(scores: Tensor, log_decay: Tensor, causal: Tensor) -> Tensor:
    """C B^T [batch, chunks, groups, chunk, chunk] of a group, decayed for each of its heads; 0 for later tokens."""
    between = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(~causal, -torch.inf)
    return scores[:, :, :, None] * torch.exp(between).to(scores.dtype)


def _scan_outputs(y: Tensor, from_start: Tensor, log_decay: Tensor, x: Tensor, d: Tensor) -> Tensor:
    """The chunk's own part y, what the state at its start gives, and D x: [batch, chunks, chunk, groups, …] like x."""
    from_start = from_start * torch.exp(log_decay).to(x.dtype).transpose(-1, -2)[..., None]
    return y.permute(0, 1, 4, 2, 3, 5) + from_start.transpose(2, 3) + x * d.to(x.dtype)


def _grouped(ssm: Tensor, groups: int) -> Tensor:
    """[batch, heads, state, head_dim] to [batch, groups, state, per_group, head_dim]."""
    batch, heads, state, head_dim = ssm.shape
    return ssm.view(batch, groups, heads // groups, state, head_dim).transpose(2, 3)


def gated_group_norm(y: Tensor, gate: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """RMSNorm of y * silu(gate) over groups of the last dimension, in float32; the dtype of gate."""
    gated = (y.float() * F.silu(gate.float())).unflatten(-1, (groups, -1))
    normed = gated * torch.rsqrt(gated.square().mean(-1, keepdim=True) + eps)
    return (normed.flatten(-2) * weight).to(gate.dtype)


def causal_conv_silu(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """SiLU of the depthwise convolution of padded [batch, kernel - 1 + T, dim] with weight [dim, 1, kernel].

    As shifted sums, which is faster on CPUs; returns [batch, T, dim].
    """
    taps = weight.squeeze(1).t().contiguous().to(padded.dtype)
    length = padded.shape[1] + 1 - taps.shape[0]
    out = padded[:, :length] * taps[0]
    for k in range(1, taps.shape[0]):
        out = torch.addcmul(out, padded[:, k : k + length], taps[k])
    return F.silu(out if bias is None else out + bias.to(padded.dtype))


class GatedGroupNorm(nn.Module):
    """RMSNorm over groups of y * silu(gate): the gate comes first (`norm_before_gate=False`)."""

    def __init__(self, dim: int, groups: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.groups = groups
        self.eps = eps

    def forward(self, y: Tensor, gate: Tensor) -> Tensor:
        """Gate and norm y [..., dim] by gate [..., dim], in float32; return the dtype of gate."""
        return gated_group_norm(y, gate, self.weight, self.groups, self.eps)


class Mamba2(nn.Module):
    """One Mamba-2 mixer with the parameter names of the published checkpoints."""

    def __init__(self, config: NemotronHConfig):
        super().__init__()
        self.config = config
        self.in_proj = nn.Linear(config.hidden_size, config.in_proj_dim, bias=config.use_bias)
        self.conv1d = nn.Conv1d(
            config.conv_dim, config.conv_dim, config.conv_kernel, groups=config.conv_dim, bias=config.use_conv_bias
        )
        self.dt_bias = nn.Parameter(torch.zeros(config.mamba_num_heads))
        self.A_log = nn.Parameter(torch.zeros(config.mamba_num_heads))
        self.D = nn.Parameter(torch.ones(config.mamba_num_heads))
        self.norm = GatedGroupNorm(config.d_inner, config.n_groups, config.layer_norm_epsilon)
        self.out_proj = nn.Linear(config.d_inner, config.hidden_size, bias=config.use_bias)

    def forward(self, u: Tensor, state: MambaState | None, chunked: bool = True) -> tuple[Tensor, MambaState]:
        """Map u [batch, T, hidden] to the same shape, starting from `state` (None: empty); return the new state too.

        dt is clamped to `time_step_limit`, as in the original implementation and in `transformers`' decoding;
        `transformers`' prefill clamps it to `time_step_min` instead.
        """
        cfg = self.config
        batch, length, _ = u.shape
        gate, conv_input, dt = self.in_proj(u).split([cfg.d_inner, cfg.conv_dim, cfg.mamba_num_heads], dim=-1)

        past = conv_input.new_zeros(batch, cfg.conv_kernel - 1, cfg.conv_dim) if state is None else state.conv
        conv_input = torch.cat((past, conv_input), dim=1)
        xbc = causal_conv_silu(conv_input, self.conv1d.weight, self.conv1d.bias)
        group_states = cfg.n_groups * cfg.ssm_state_size
        x, b, c = xbc.split([cfg.d_inner, group_states, group_states], dim=-1)

        dt = F.softplus(dt.float() + self.dt_bias.float()).clamp(*cfg.time_step_limit)
        a = -torch.exp(self.A_log.float())
        x = x.unflatten(-1, (cfg.mamba_num_heads, cfg.mamba_head_dim))
        b, c = (t.unflatten(-1, (cfg.n_groups, cfg.ssm_state_size)) for t in (b, c))
        ssm = None if state is None else state.ssm
        if chunked:
            y, ssm = scan_chunked(x, dt, a, b, c, self.D.float(), ssm, cfg.chunk_size)
        else:
            if ssm is None:
                ssm = u.new_zeros(batch, cfg.mamba_num_heads, cfg.ssm_state_size, cfg.mamba_head_dim).float()
            y, ssm = scan_recurrent(x, dt, a, b, c, self.D.float(), ssm)
        y = self.norm(y.flatten(-2), gate)
        return self.out_proj(y), MambaState(conv_input[:, length:], ssm)
