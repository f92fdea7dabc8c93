"""How well held-out replies are predicted, the right words before each token given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nano_agent_ros.model.attention import AttentionState
from nano_agent_ros.model.mamba2 import MambaState
from nano_agent_ros.model.network import NemotronH, NetworkState
from training.shards import Unit

REPLY_WEIGHT = 0.99  # tokens of at least this weight are the model's own


@dataclass(frozen=True)
class Validation:
    """Over reply tokens: mean cross entropy (nats), share of tokens right; share of replies with every token right."""

    reply_loss: float
    token_accuracy: float
    reply_accuracy: float
    replies: int


def repeated(state: NetworkState, rows: int) -> NetworkState:
    """The state of one sequence, for `rows` sequences that continue it; gradients flow back to the one."""
    layers = []
    for layer in state.layers:
        if isinstance(layer, MambaState):
            layers.append(MambaState(layer.conv.expand(rows, -1, -1), layer.ssm.expand(rows, -1, -1, -1)))
        elif isinstance(layer, AttentionState):
            k, v = (t.expand(rows, -1, -1, -1) for t in (layer.k, layer.v))
            layers.append(AttentionState(k, v, layer.positions))
        else:
            layers.append(None)
    return NetworkState(tuple(layers), state.length)


@torch.no_grad()
def validate(network: NemotronH, units: list[Unit], tokens: int, bf16: bool = False) -> Validation:
    """Validate on units spread evenly over all lengths, about `tokens` tokens of them."""
    stride = max(1, sum(u.processed for u in units) // tokens)
    losses, right, whole = [], [], []
    for unit in units[stride // 2 :: stride]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            state, last = None, None
            if unit.prefix is not None:
                hidden, state = network(torch.from_numpy(unit.prefix.tokens))
                last = hidden[:, -1:]
            for block in unit.blocks:
                rows = block.tokens.shape[0]
                ids = torch.from_numpy(block.tokens)
                hidden, _ = network(ids[:, :-1], repeated(state, rows) if state is not None else None)
                if last is not None:
                    hidden = torch.cat((last.expand(rows, -1, -1), hidden), dim=1)
                first = ids.shape[1] - hidden.shape[1]
                is_reply = torch.from_numpy(block.weights[:, first:] >= REPLY_WEIGHT)
                logits = network.logits(hidden[is_reply])
                losses.append(F.cross_entropy(logits, ids[:, first:][is_reply], reduction="none").numpy())
                hit = logits.argmax(-1) == ids[:, first:][is_reply]
                right.append(hit.numpy())
                whole += _whole_replies(is_reply.numpy(), hit.numpy())
    return Validation(
        float(np.concatenate(losses).mean()), float(np.concatenate(right).mean()), float(np.mean(whole)), len(whole)
    )


def _whole_replies(is_reply: np.ndarray, hit: np.ndarray) -> list[bool]:
    """For each run of reply tokens in a row: whether all of them were right."""
    placed = np.zeros(is_reply.shape, dtype=bool)
    placed[is_reply] = hit
    replies = []
    for reply, ok in zip(is_reply, placed, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], reply.astype(np.int8), [0]))))
        replies += [bool(ok[a:b].all()) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return replies
