"""The engine's device without a GPU: the same graph, evaluated by NumPy. For tests, and for looking into things."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import network
from .bindings import HIDDEN, LOGITS, POSITIONS, RING, ROWS, Binding, Bindings, following
from .numpy_ops import NumpyOps
from .ops import HALF, Weights


@dataclass
class NumpyMemory:
    """The tensors of one conversation."""

    sides: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
    ring: dict[str, np.ndarray]
    written: dict[str, np.ndarray] = field(default_factory=dict)  # what the last step recorded, and its keys and values
    side: int = 0


class NumpyDevice:
    """Implements `Device`; `half` as in `NumpyOps`."""

    def __init__(self, weights: Weights, bindings: Bindings, half: str = "float16"):
        self._ops = NumpyOps(weights, half)
        self._bindings, self._half = bindings, half

    def new_memory(self) -> NumpyMemory:
        def zeros(bindings: tuple[Binding, ...]) -> dict[str, np.ndarray]:
            return {b.name: np.zeros(b.shape, self._half if b.dtype == HALF else b.dtype) for b in bindings}

        return NumpyMemory((zeros(self._bindings.state), zeros(self._bindings.state)), zeros(self._bindings.ring))

    def flip(self, memory: NumpyMemory) -> None:
        memory.side ^= 1

    def step(
        self,
        memory: NumpyMemory,
        hidden: np.ndarray,
        positions: np.ndarray,
        ring_positions: np.ndarray,
        rows: np.ndarray,
    ) -> np.ndarray:
        inputs = {HIDDEN: hidden, POSITIONS: positions, RING: ring_positions, ROWS: rows}
        outputs = network.step(self._ops, self._bindings, inputs | memory.sides[memory.side] | memory.ring)
        self._take(memory, outputs)
        memory.written = {b.name: outputs[b.name] for b in self._bindings.recorded + self._bindings.fresh}
        logits: np.ndarray = outputs[LOGITS]
        return logits

    def replay(self, memory: NumpyMemory, count: int) -> None:
        recorded = {b.name: memory.written[b.name][:count] for b in self._bindings.recorded}
        inputs = recorded | memory.sides[memory.side] | {POSITIONS: np.arange(count, dtype=np.int32)}
        self._take(memory, network.replay(self._ops, self._bindings, inputs))

    def _take(self, memory: NumpyMemory, outputs: dict[str, np.ndarray]) -> None:
        for b in self._bindings.state:
            memory.sides[1 - memory.side][b.name] = outputs[following(b.name)]

    def store(self, memory: NumpyMemory, offset: int, slot: int, count: int) -> None:
        for cached, fresh in zip(self._bindings.ring, self._bindings.fresh, strict=True):
            values = memory.written[fresh.name][:, offset : offset + count]
            memory.ring[cached.name][:, slot : slot + count] = values

    def copy(self, source: NumpyMemory, target: NumpyMemory) -> None:
        target.sides[target.side].update({name: t.copy() for name, t in source.sides[source.side].items()})
        target.ring.update({name: t.copy() for name, t in source.ring.items()})

    def read(self, memory: NumpyMemory, name: str) -> np.ndarray:
        return (memory.ring if name in memory.ring else memory.sides[memory.side])[name]

    def write(self, memory: NumpyMemory, name: str, values: np.ndarray) -> None:
        tensors = memory.ring if name in memory.ring else memory.sides[memory.side]
        tensors[name] = values.astype(tensors[name].dtype)
