"""The engine on NVIDIA GPUs: a TensorRT graph behind the `Engine` interface, its state resident on the device."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.quantize.artifact import Artifact, read_artifact

from .base import EngineError, Snapshot, StateSpec, TensorSpec
from .tensorrt.bindings import Bindings
from .tensorrt.device import Device, Memory
from .tensorrt.ring import Ring

_HEADER = struct.Struct("<8sQQQ16s32s")  # magic, length, window, sinks, dtype of halves, SHA-256 of what follows
_MAGIC = b"nanotrt1"
CHUNK = 128


@dataclass
class GraphState:
    """One conversation: `length` tokens in `memory`; `open` are those last extended by, if none was committed.

    `saved` is a copy of the memory from before the open tokens; only made where they took more than one step.
    """

    memory: Memory
    length: int = 0
    open: list[int] = field(default_factory=list)
    saved: Memory = None


class GraphEngine:
    """Implements `Engine` on any `Device`. A state is used by one thread at a time; states may be used by several."""

    name = "graph"

    def __init__(self, artifact: Artifact, bindings: Bindings, device: Device, half: str = "float16"):
        self.config, self.model_digest = artifact.config, artifact.model_digest
        self.vocab_size = artifact.config.vocab_size
        self._ring, self._bindings, self._device, self._half = bindings.ring_size, bindings, device, half
        self._embeddings = artifact.matrix("backbone.embeddings.weight")
        self.spec = StateSpec(
            tuple(
                TensorSpec(b.name, b.shape, "float16" if b.dtype == "half" else b.dtype)
                for b in (*bindings.state, *bindings.ring)
            )
        )

    def new_state(self) -> GraphState:
        """Return an empty state."""
        return GraphState(self._device.new_memory())

    def extend(self, state: GraphState, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """Advance by the tokens; return float32 logits [vocab], or [T, vocab] with `every`. Raises ValueError."""
        ids = [int(t) for t in tokens]
        if not ids or min(ids) < 0 or max(ids) >= self.vocab_size:
            raise ValueError(f"tokens must be one or more ids from 0 to {self.vocab_size - 1}")
        if len(ids) > self._ring.chunk:
            state.saved = state.saved or self._device.new_memory()
            self._device.copy(state.memory, state.saved)
        logits = [
            self._step(state, ids[at : at + self._ring.chunk], every) for at in range(0, len(ids), self._ring.chunk)
        ]
        state.open = ids
        return np.concatenate(logits) if every else logits[-1][0]

    def commit(self, state: GraphState, n: int) -> None:
        """Keep the first n of the tokens last extended by.

        Within the last step (128 tokens unless built otherwise) that reads no weights: the step before it is still
        there, and its kept tokens are replayed from what was recorded. Beyond it the kept tokens are run again.
        """
        tokens, state.open = state.open, []
        if not 0 <= n <= len(tokens):
            state.open = tokens
            raise ValueError(f"cannot keep {n} of the {len(tokens)} tokens last extended by")
        if n == len(tokens):
            return
        begun = (len(tokens) - 1) // self._ring.chunk * self._ring.chunk
        state.length -= len(tokens) - n
        if n < begun:
            self._device.copy(state.saved, state.memory)
            state.length -= n
            if n:
                self.extend(state, tokens[:n])
                state.open = []
            return
        self._device.flip(state.memory)
        if n > begun:
            self._device.replay(state.memory, n - begun)
            self._device.flip(state.memory)

    def _step(self, state: GraphState, ids: list[int], every: bool) -> np.ndarray:
        begin, end = state.length, state.length + len(ids)
        hidden = self._embeddings[np.asarray(ids)].astype(np.float16)
        rows = np.arange(len(ids)) if every else np.array([len(ids) - 1])
        logits = self._device.step(
            state.memory,
            hidden,
            np.arange(begin, end, dtype=np.int32),
            self._ring.positions(begin),
            rows.astype(np.int32),
        )
        for offset, slot, count in self._ring.runs(begin, end):
            self._device.store(state.memory, offset, slot, count)
        self._device.flip(state.memory)
        state.length = end
        return logits

    def fork(self, state: GraphState) -> GraphState:
        """Return an independent state with all tokens of `state`, copied on the device."""
        other = GraphState(self._device.new_memory(), state.length)
        self._device.copy(state.memory, other.memory)
        return other

    def length(self, state: GraphState) -> int:
        """Number of tokens that the state has seen."""
        return state.length

    def snapshot(self, state: GraphState) -> Snapshot:
        """Copy the state: a checked header, then ssm and conv of each Mamba layer, then what attention still sees."""
        state.open = []
        slots = [self._ring.slot(p) for p in self._ring.kept(state.length)]
        parts = [self._device.read(state.memory, b.name) for b in self._bindings.state]
        parts += [self._device.read(state.memory, b.name)[:, slots] for b in self._bindings.ring]
        data = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        head = self._header(state.length, hashlib.sha256(data).digest())
        return Snapshot(self.model_digest, state.length, head + data)

    def restore(self, snapshot: Snapshot) -> GraphState:
        """Return a new state equal to the snapshot. Raises EngineError for another model's or a damaged one."""
        if snapshot.model_digest != self.model_digest:
            raise EngineError("the snapshot belongs to another model; start a new conversation")
        content = bytes(snapshot.data)
        head, data = content[: _HEADER.size], content[_HEADER.size :]
        if len(head) < _HEADER.size:
            raise EngineError("the snapshot is damaged: it is cut off; start a new conversation")
        if head != self._header(snapshot.length, hashlib.sha256(data).digest()):
            raise EngineError(
                "the snapshot is damaged, another engine's, or was taken with another attention window or precision; "
                "start a new conversation"
            )
        slots = [self._ring.slot(p) for p in self._ring.kept(snapshot.length)]
        expected = [(b, b.shape) for b in self._bindings.state]
        expected += [(b, (b.shape[0], len(slots), b.shape[2])) for b in self._bindings.ring]
        state, at = GraphState(self._device.new_memory(), snapshot.length), 0
        for binding, shape in expected:
            dtype = self._host_dtype(binding.dtype)
            count = int(np.prod(shape))
            if len(data) - at < count * dtype.itemsize:
                raise EngineError("the snapshot is damaged: it is too short; start a new conversation")
            values = np.frombuffer(data, dtype, count, at).reshape(shape)
            at += values.nbytes
            if binding in self._bindings.ring:
                whole = np.zeros(binding.shape, dtype)
                whole[:, slots] = values
                values = whole
            self._device.write(state.memory, binding.name, values)
        if at != len(data):
            raise EngineError("the snapshot is damaged: it is too long; start a new conversation")
        return state

    def _header(self, length: int, digest: bytes) -> bytes:
        ring = self._ring
        return _HEADER.pack(_MAGIC, length, ring.window, ring.sinks, self._half.encode(), digest)

    def _host_dtype(self, dtype: str) -> np.dtype[Any]:
        """NumPy's dtype of a binding; bfloat16, which it lacks, travels as float16-sized integers."""
        if dtype != "half":
            return np.dtype(dtype)
        return np.dtype("uint16" if self._half == "bfloat16" else self._half)


class TensorRTEngine(GraphEngine):
    """Runs an artifact folder on the GPU with engines that `nano-agent build` has put into the cache."""

    name = "tensorrt"

    def __init__(
        self,
        folder: str | Path,
        *,
        window: int = 4096,
        sinks: int = 64,
        chunk: int = CHUNK,
        precision: str = "fp16",
        cache: str | Path | None = None,
        package: str | None = None,
        verify: bool | None = None,
    ):
        """Open an artifact whose engines were built with the same options.

        Attention sees the last `window` tokens and the first `sinks` ones; a step takes at most `chunk` tokens.
        `precision`: "fp16" or "bf16", of activations. `cache`: folder of the built engines, `package`: "tensorrt" or
        "tensorrt_rtx", both found if not given. Raises EngineError: no TensorRT, no GPU, or not built yet.
        """
        from .tensorrt import cache as store
        from .tensorrt import versions
        from .tensorrt.build import PRECISIONS

        options = store.Options(window, sinks, chunk, precision)
        artifact = read_artifact(folder, verify)
        trt = versions.load(package)
        from .tensorrt.runtime import CudaDevice, open_gpu

        gpu = open_gpu()
        plans = store.find(trt, artifact, options, (gpu.name, gpu.capability), cache)
        bindings = Bindings.of(artifact.config, options.ring)
        half = PRECISIONS[precision]
        super().__init__(artifact, bindings, CudaDevice(trt, gpu, bindings, plans), half)
        self._gpu = gpu


def state_bytes(artifact: Artifact, window: int, sinks: int, chunk: int = CHUNK) -> int:
    """Bytes of device memory of one conversation: both sides, the ring, and what a step records."""
    bindings = Bindings.of(artifact.config, Ring(window, sinks, chunk))
    twice = sum(2 * b.nbytes(1) for b in bindings.state)
    return twice + sum(b.nbytes(chunk) for b in (*bindings.ring, *bindings.recorded, *bindings.fresh))
