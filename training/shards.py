"""Token shards to batches.

A shard is an .npz with `tokens` and `weights` (loss weight of each token), flat, and `offsets` (start of each
conversation, and the end). Conversations that begin with the same prefix (system prompt, skills, site) form one unit:
the prefix goes through the network once and every conversation goes on from its state, so the longest part of a
prompt is paid for once. Other conversations are batched with those of like length.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.weights import USER

PREFIX_WEIGHT_BELOW = 0.05  # tokens of a leading run with less weight than this are the prefix
OPEN_AT_START, OPEN_BY = 0.06, 0.2  # curriculum: the share of (short) units to begin with, and when all take part


@dataclass(frozen=True)
class Block:
    """Token ids [rows, T], int64, padded at the right with 0, and float32 loss weights [rows, T] (0 for padding)."""

    tokens: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Unit:
    """What goes through the network together: an optional prefix [1, P], and blocks that continue it."""

    prefix: Block | None
    blocks: tuple[Block, ...]
    length: int  # of its longest conversation, prefix included

    @property
    def processed(self) -> int:
        """Tokens that the network computes, padding included."""
        return sum(b.tokens.size for b in (*self.blocks, *([self.prefix] if self.prefix else [])))

    @property
    def total_weight(self) -> float:
        """Sum of the loss weights of all tokens that are predicted."""
        first = 0 if self.prefix else 1
        prefix = float(self.prefix.weights[:, 1:].sum()) if self.prefix else 0.0
        return prefix + sum(float(b.weights[:, first:].sum()) for b in self.blocks)


def read_units(paths: list[Path], rows: int = 16, tokens_per_unit: int = 2048, reading: float = 1.0) -> list[Unit]:
    """Read shards and group them: at most `rows` conversations on a prefix, else `tokens_per_unit` in a batch.

    `reading` multiplies the weights of what is read (prompts and people's words), not those of replies.

    Raises ValueError, naming the file, for a shard that is not one.
    """
    shared: dict[bytes, list[tuple[np.ndarray, np.ndarray, int]]] = defaultdict(list)
    for path in paths:
        for tokens, weights in _conversations(path):
            above = np.flatnonzero(weights >= PREFIX_WEIGHT_BELOW)
            prefix = int(above[0]) if len(above) else 0
            weights[:prefix] *= reading
            weights[weights == np.float32(np.float16(USER))] *= reading
            shared[tokens[:prefix].tobytes()].append((tokens, weights, prefix))
    units, alone = [], []
    for members in shared.values():
        if len(members) == 1 or members[0][2] == 0:
            alone += [(t, w) for t, w, _ in members]
            continue
        for i in range(0, len(members), rows):
            part = members[i : i + rows]
            prefix = part[0][2]
            head = _block([(part[0][0][:prefix], part[0][1][:prefix])])
            blocks = _blocks([(t[prefix:], w[prefix:]) for t, w, _ in part], rows * 1024)
            units.append(Unit(head, blocks, prefix + max(b.tokens.shape[1] for b in blocks)))
    for block in _blocks(alone, tokens_per_unit):
        units.append(Unit(None, (block,), block.tokens.shape[1]))
    return sorted(units, key=lambda unit: unit.length)


def _conversations(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    try:
        with np.load(path) as shard:
            tokens, weights, offsets = shard["tokens"], shard["weights"], shard["offsets"]
    except (OSError, KeyError, ValueError) as e:
        raise ValueError(f"{path} is no token shard ({e}); write it with python -m training.encode") from e
    return [
        (tokens[a:b].astype(np.int64), weights[a:b].astype(np.float32))
        for a, b in zip(offsets[:-1], offsets[1:], strict=True)
    ]


def _blocks(rows: list[tuple[np.ndarray, np.ndarray]], tokens_per_block: int) -> tuple[Block, ...]:
    """Cut rows, sorted by length, so that a block has few tokens of padding and at most `tokens_per_block`."""
    rows = sorted(rows, key=lambda row: len(row[0]))
    blocks, current, used = [], [], 0
    for row in rows:
        longest = len(row[0])
        padded = longest * (len(current) + 1)
        wasteful = len(current) >= 4 and padded > 1.25 * (used + longest)
        if current and (wasteful or padded > tokens_per_block):
            blocks.append(_block(current))
            current, used = [], 0
        current.append(row)
        used += longest
    return (*blocks, _block(current)) if current else tuple(blocks)


def _block(rows: list[tuple[np.ndarray, np.ndarray]]) -> Block:
    length = max(len(tokens) for tokens, _ in rows)
    tokens, weights = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.float32)
    for i, (t, w) in enumerate(rows):
        tokens[i, : len(t)], weights[i, : len(w)] = t, w
    return Block(tokens, weights)


class Order:
    """Which unit comes next: those used least first, at random, the shorter ones alone at the beginning."""

    def __init__(self, count: int, seed: int):
        self.uses = np.zeros(count, np.int64)
        self.rng = np.random.default_rng(seed)

    def next(self, progress: float) -> int:
        """Index (units are sorted by length) at a progress of the run in [0, 1]: the share grows to 1."""
        count = len(self.uses)
        open_now = max(1, int(np.ceil(count * min(1.0, OPEN_AT_START + progress / OPEN_BY))))
        eligible = self.uses[:open_now]
        choice = int(self.rng.choice(np.flatnonzero(eligible == eligible.min())))
        self.uses[choice] += 1
        return choice
