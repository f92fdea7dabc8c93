"""What the engine asks of the machine that its graph runs on: the GPU (runtime.py) or, for tests, NumPy."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Memory = Any  # the tensors of one conversation, on the device


class Device(Protocol):
    """Runs the engines of one model. A memory has two sides of ssm and conv tensors: a run reads `side`, writes the
    other one; who calls turns it over by `flip`. Names are those of bindings.py."""

    def new_memory(self) -> Memory:
        """All tensors zero, side 0."""
        ...

    def flip(self, memory: Memory) -> None:
        """Make the other side the one that is read."""
        ...

    def step(
        self, memory: Memory, hidden: np.ndarray, positions: np.ndarray, ring_positions: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Run the step on hidden float16 [T, hidden]; return logits float32 [R, vocab] of `rows` int32 [R]."""
        ...

    def replay(self, memory: Memory, count: int) -> None:
        """Run the replay over the first `count` >= 1 tokens of the last step of this memory."""
        ...

    def store(self, memory: Memory, offset: int, slot: int, count: int) -> None:
        """Copy keys and values of `count` tokens of the last step, from the one at `offset`, into the ring's slots."""
        ...

    def copy(self, source: Memory, target: Memory) -> None:
        """Copy the side that is read and the ring."""
        ...

    def read(self, memory: Memory, name: str) -> np.ndarray:
        """A state tensor of the side that is read, or a tensor of the ring."""
        ...

    def write(self, memory: Memory, name: str, values: np.ndarray) -> None:
        """Set what `read` returns."""
        ...
