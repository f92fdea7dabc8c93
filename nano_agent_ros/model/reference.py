"""The whole network in plain float32 NumPy: what conversion checks and calibrates with, where PyTorch is not at hand.

It loads a network layer by layer, so that one of 4 billion weights needs memory for one layer at a time, and is written
to be read: the scan is the recurrence, token by token. It equals `model/network.py` (a test holds them together).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .config import ATTENTION, MAMBA, MLP, NemotronHConfig

Load = Callable[[str], np.ndarray]
"""Gives a tensor by its published name, float32 (the two tables may be anything whose rows can be indexed and turn
into float32); raises KeyError for one that the model has not. It is called anew whenever a layer is run."""

Observe = Callable[[str, np.ndarray], None]
"""Is told of each linear layer before it is run: its name without `.weight`, and its inputs, float32 [B * T, in]."""

EMBEDDINGS, FINAL_NORM, HEAD = "backbone.embeddings.weight", "backbone.norm_f.weight", "lm_head"
LAST_LINEAR = {MAMBA: "out_proj", ATTENTION: "o_proj", MLP: "down_proj"}
_HEAD_ROWS_AT_ONCE = 8192
_QUERIES_AT_ONCE = 1024


def reference_logits(
    config: NemotronHConfig, load: Load, tokens: np.ndarray, observe: Observe | None = None, last: int | None = None
) -> np.ndarray:
    """Run tokens [B, T] (ids) from the empty state; return float32 logits [B, T, vocab], or of the `last` positions."""
    hidden = embed(load, tokens)
    for index in range(len(config.layers)):
        hidden = run_layer(config, index, hidden, load, observe)
    return head_logits(config, hidden if last is None else hidden[:, -last:], load, observe)


def embed(load: Load, tokens: np.ndarray) -> np.ndarray:
    """Look up tokens [B, T]; return float32 [B, T, hidden]."""
    return np.asarray(load(EMBEDDINGS)[np.asarray(tokens)], dtype=np.float32)


def run_layer(
    config: NemotronHConfig, index: int, hidden: np.ndarray, load: Load, observe: Observe | None = None
) -> np.ndarray:
    """Run layer `index` over hidden, float32 [B, T, hidden], from its empty state; return the same shape."""
    normed = rms_norm(hidden, load(f"backbone.layers.{index}.norm.weight"), config.layer_norm_epsilon)
    inner = run_inner(config, index, normed, load, observe)
    return hidden + run_last(config, index, inner, load, observe)


def run_inner(
    config: NemotronHConfig, index: int, normed: np.ndarray, load: Load, observe: Observe | None = None
) -> np.ndarray:
    """Run the mixer of layer `index` over its normed inputs [B, T, hidden] up to what its last linear layer takes."""
    inner = {MAMBA: _mamba, ATTENTION: _attention, MLP: _mlp}[config.layers[index]]
    return inner(config, f"backbone.layers.{index}.mixer", normed, load, observe)


def run_last(
    config: NemotronHConfig, index: int, inner: np.ndarray, load: Load, observe: Observe | None = None
) -> np.ndarray:
    """Run the last linear layer of layer `index` over [B, T, in]; return what is added to the residual stream."""
    kind = config.layers[index]
    bias = {MAMBA: config.use_bias, ATTENTION: config.attention_bias, MLP: config.mlp_bias}[kind]
    return _linear(f"backbone.layers.{index}.mixer.{LAST_LINEAR[kind]}", inner, load, observe, bias)


def head_logits(config: NemotronHConfig, hidden: np.ndarray, load: Load, observe: Observe | None = None) -> np.ndarray:
    """Final norm and head: hidden [B, T, hidden] to float32 logits [B, T, vocab], by blocks of the vocabulary."""
    normed = rms_norm(hidden, load(FINAL_NORM), config.layer_norm_epsilon)
    if observe is not None:
        observe(HEAD, normed.reshape(-1, normed.shape[-1]))
    try:
        table = load(f"{HEAD}.weight")
    except KeyError:
        if not config.tie_word_embeddings:
            raise
        table = load(EMBEDDINGS)
    logits = np.empty((*normed.shape[:-1], config.vocab_size), dtype=np.float32)
    for begin in range(0, config.vocab_size, _HEAD_ROWS_AT_ONCE):
        rows = np.asarray(table[begin : begin + _HEAD_ROWS_AT_ONCE], dtype=np.float32)
        np.matmul(normed, rows.T, out=logits[..., begin : begin + len(rows)])
    return logits


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """x / rms(x) * weight over the last dimension, float32."""
    mean_square = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
    return x / np.sqrt(mean_square + np.float32(eps)) * weight.reshape(-1)


def scan(x: np.ndarray, dt: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """S <- S * exp(dt * a) + dt * x (x) b, y = S c + d * x, token by token from S = 0.

    x [B, T, heads, head_dim]; dt [B, T, heads] after softplus; a [heads], negative; b and c [B, T, groups, state];
    d [heads]; all float32. Returns y like x.
    """
    batch, length, heads, head_dim = x.shape
    groups, states = b.shape[2:]
    rows = heads // groups * head_dim  # of the state that share b and c
    decay = np.repeat(np.exp(dt * a), head_dim, axis=2).reshape(batch, length, groups, rows, 1)
    dtx = (x * dt[..., None]).reshape(batch, length, groups, rows, 1)
    s = np.zeros((batch, groups, rows, states), dtype=np.float32)
    added = np.empty_like(s)
    y = np.empty((batch, length, groups, rows, 1), dtype=np.float32)
    for t in range(length):
        s *= decay[:, t]
        np.multiply(dtx[:, t], b[:, t, :, None, :], out=added)
        s += added
        np.matmul(s, c[:, t, :, :, None], out=y[:, t])
    return y.reshape(x.shape) + d[:, None] * x


def _mamba(config: NemotronHConfig, stem: str, u: np.ndarray, load: Load, observe: Observe | None) -> np.ndarray:
    batch, length, _ = u.shape
    projected = _linear(f"{stem}.in_proj", u, load, observe, config.use_bias)
    gate, conv_input, dt = np.split(projected, (config.d_inner, config.d_inner + config.conv_dim), axis=-1)

    taps = load(f"{stem}.conv1d.weight").reshape(config.conv_dim, config.conv_kernel)
    padded = np.pad(conv_input, ((0, 0), (config.conv_kernel - 1, 0), (0, 0)))
    xbc = np.zeros_like(conv_input)
    for k in range(config.conv_kernel):
        xbc += padded[:, k : k + length] * taps[:, k]
    if config.use_conv_bias:
        xbc += load(f"{stem}.conv1d.bias").reshape(-1)
    xbc = _silu(xbc)
    group_states = config.n_groups * config.ssm_state_size
    x, b, c = np.split(xbc, (config.d_inner, config.d_inner + group_states), axis=-1)

    dt = np.logaddexp(np.float32(0), dt + load(f"{stem}.dt_bias").reshape(-1))  # softplus
    dt = np.clip(dt, *(np.float32(limit) for limit in config.time_step_limit))
    y = scan(
        x.reshape(batch, length, config.mamba_num_heads, config.mamba_head_dim),
        dt,
        -np.exp(load(f"{stem}.A_log").reshape(-1)),
        b.reshape(batch, length, config.n_groups, config.ssm_state_size),
        c.reshape(batch, length, config.n_groups, config.ssm_state_size),
        load(f"{stem}.D").reshape(-1),
    )
    gated = y.reshape(batch, length, config.n_groups, config.group_dim) * _silu(gate).reshape(
        batch, length, config.n_groups, config.group_dim
    )
    weight = load(f"{stem}.norm.weight").reshape(-1)
    return rms_norm(gated, np.ones(1, np.float32), config.layer_norm_epsilon).reshape(batch, length, -1) * weight


def _attention(config: NemotronHConfig, stem: str, u: np.ndarray, load: Load, observe: Observe | None) -> np.ndarray:
    batch, length, _ = u.shape
    q, k, v = (
        _linear(f"{stem}.{name}", u, load, observe, config.attention_bias)
        .reshape(batch, length, -1, config.head_dim)
        .transpose(0, 2, 1, 3)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    shared_by = config.num_attention_heads // config.num_key_value_heads
    out = np.empty((batch, length, config.num_attention_heads, config.head_dim), dtype=np.float32)
    for i in range(batch):
        for head in range(config.num_attention_heads):
            keys, values = k[i, head // shared_by], v[i, head // shared_by]
            for begin in range(0, length, _QUERIES_AT_ONCE):  # blocks of queries: long texts need no matrix T x T
                end = min(begin + _QUERIES_AT_ONCE, length)
                scores = q[i, head, begin:end] @ keys[:end].T * np.float32(config.head_dim**-0.5)
                scores[np.arange(end) > np.arange(begin, end)[:, None]] = -np.inf
                scores = np.exp(scores - scores.max(axis=1, keepdims=True))
                out[i, begin:end, head] = scores / scores.sum(axis=1, keepdims=True) @ values[:end]
    return out.reshape(batch, length, -1)


def _mlp(config: NemotronHConfig, stem: str, u: np.ndarray, load: Load, observe: Observe | None) -> np.ndarray:
    up = _linear(f"{stem}.up_proj", u, load, observe, config.mlp_bias)
    return np.square(np.maximum(up, 0))


def _linear(stem: str, x: np.ndarray, load: Load, observe: Observe | None, bias: bool) -> np.ndarray:
    if observe is not None:
        observe(stem, x.reshape(-1, x.shape[-1]))
    y = x @ load(f"{stem}.weight").T
    return y + load(f"{stem}.bias").reshape(-1) if bias else y


def _silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x); written so that no exponential overflows."""
    small = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1 / (1 + small), small / (1 + small))
