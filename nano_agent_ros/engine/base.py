"""The interface of every engine: a recurrent state that is extended by tokens, committed, copied and restored."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nano_agent_ros.errors import NanoAgentError


class EngineError(NanoAgentError):
    """The model cannot be loaded or run; the message names the cause and the way out."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype (NumPy name) of one state tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class StateSpec:
    """Every tensor of a state, in the order in which a snapshot holds them."""

    tensors: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """Size of one state in bytes."""
        return sum(int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize for t in self.tensors)


@dataclass(frozen=True)
class Snapshot:
    """Host copy of a state: `length` tokens were committed to reach it.

    `data` is the engine's own layout: bytes, or a read-only memoryview of bytes that is good for as long as it is held.
    `bytes(snapshot.data)` is a copy where bytes are needed; files, sockets and hashes take either.
    """

    model_digest: str
    length: int
    data: bytes | memoryview

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over model, length and content, as hexadecimal; computed when it is first asked for."""
        h = hashlib.sha256(f"{self.model_digest}:{self.length}:".encode())
        h.update(self.data)
        return h.hexdigest()


class Engine(Protocol):
    """Runs one model. Engines hold weights only; everything that a conversation changes is in its State."""

    name: str
    model_digest: str
    vocab_size: int
    spec: StateSpec

    def new_state(self) -> Any:
        """Return an empty state (length 0)."""
        ...

    def extend(self, state: Any, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """Advance by T >= 1 tokens; return float32 logits [vocab] of the last, or [T, vocab] with `every`.

        Raises ValueError for no tokens or an id outside the vocabulary; the state is then unchanged.
        """
        ...

    def commit(self, state: Any, n: int) -> None:
        """Keep the first n (0 <= n <= T) of the tokens last extended by; raises ValueError otherwise."""
        ...

    def fork(self, state: Any) -> Any:
        """Return an independent state with all tokens of `state`; far cheaper than a snapshot that is restored.

        `state` stays as it is: its open tokens can still be taken back. In the fork none are open. Engines share
        between the two what neither changes.
        """
        ...

    def length(self, state: Any) -> int:
        """Number of tokens that the state has seen, those not yet committed included."""
        ...

    def snapshot(self, state: Any) -> Snapshot:
        """Copy the state to the host; tokens not yet committed are kept."""
        ...

    def restore(self, snapshot: Snapshot) -> Any:
        """Return a new state equal to the snapshot; raises EngineError for another model's or a damaged one."""
        ...
