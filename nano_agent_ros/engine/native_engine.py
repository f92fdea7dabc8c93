"""The default engine: C++ on the CPU, weights mapped from the artifact, a whole step in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.model.config import ATTENTION, MAMBA, NemotronHConfig
from nano_agent_ros.quantize.artifact import FLOAT16, FLOAT32, INT4, INT8, Artifact, read_artifact

from . import native_library as c
from .base import EngineError, Snapshot, StateSpec, TensorSpec
from .host_buffers import HostBuffers

_KINDS = {INT4: 0, FLOAT32: 1, FLOAT16: 2, INT8: 3}


class NativeState:
    """One conversation, held by the library; made by its engine only."""

    def __init__(self, engine: NativeEngine, handle: int):
        self._engine = engine  # keeps the weights mapped for as long as a state of theirs lives
        self._handle = handle
        self._free = engine._library.nano_state_free

    def __del__(self) -> None:
        self._free(self._handle)


class NativeEngine:
    """Runs an artifact folder; implements `Engine`.

    Any thread may call it: calls on one engine run one after another, each on all of the engine's threads.
    """

    name = "native"

    def __init__(
        self,
        folder: str | Path,
        *,
        threads: int = 0,
        window: int = 4096,
        sinks: int = 64,
        kernels: str = "auto",
        pin: str = "none",
        huge_pages: bool = False,
        verify: bool | None = None,
    ):
        """Open an artifact.

        `threads`: 0 is one per physical core, at most 8. Attention sees the last `window` tokens and the first
        `sinks` ones. `kernels`: "auto", or one of "avx512", "avxvnni", "avx2", "neon", "portable". `pin` binds threads
        to processors: "none", "auto" (one processor of each core) or a list like "0,2,4", the first for the calling
        thread while it is inside the engine. `huge_pages` copies the weights into huge pages instead of mapping the
        file: a start takes longer, and no other process shares them. `verify`: see `read_artifact`. Raises EngineError.
        """
        self._library = c.load_library()
        artifact = read_artifact(folder, verify)
        self.config = artifact.config
        self.model_digest = artifact.model_digest
        self.vocab_size = artifact.config.vocab_size
        self.spec = state_spec(artifact.config, window, sinks)
        self._buffers = HostBuffers()
        self._handle = self._open(artifact, threads, window, sinks, kernels, pin, huge_pages)
        self.kernels: str = self._library.nano_engine_kernels(self._handle).decode()
        self.threads: int = self._library.nano_engine_threads(self._handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.nano_engine_close(self._handle)

    def new_state(self) -> NativeState:
        """Return an empty state."""
        return self._state(self._library.nano_state_new(self._handle))

    def extend(self, state: NativeState, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """Advance by the tokens; return float32 logits [vocab], or [T, vocab] with `every`. Raises ValueError."""
        ids = np.asarray(tokens)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError("tokens must be a sequence of integer ids inside the vocabulary")
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        logits = np.empty((len(ids), self.vocab_size) if every else self.vocab_size, dtype=np.float32)
        self._check(
            self._library.nano_state_extend(
                self._own(state),
                ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)),
                len(ids),
                logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
                every,
            )
        )
        return logits

    def commit(self, state: NativeState, n: int) -> None:
        """Keep the first n of the tokens last extended by; after that, and after a snapshot, none are open."""
        if not 0 <= n < 1 << 63:
            raise ValueError(f"cannot keep {n} of the tokens last extended by")
        self._check(self._library.nano_state_commit(self._own(state), n))

    def fork(self, state: NativeState) -> NativeState:
        """Return an independent state with all tokens of this one; copies little, whatever the length."""
        return self._state(self._library.nano_state_fork(self._own(state)))

    def length(self, state: NativeState) -> int:
        """Number of tokens that the state has seen."""
        return self._check(self._library.nano_state_length(self._own(state)))

    def snapshot(self, state: NativeState) -> Snapshot:
        """Copy the state; what attention keeps is stored for the tokens seen, so a young state is small."""
        nbytes = self._check(self._library.nano_state_snapshot_size(self._own(state)))
        data = self._buffers.take(nbytes)
        self._check(self._library.nano_state_snapshot(self._own(state), _pointer(data), nbytes))
        return Snapshot(self.model_digest, self.length(state), data.data.toreadonly())

    def restore(self, snapshot: Snapshot) -> NativeState:
        """Return a new state equal to the snapshot.

        Raises EngineError for a damaged one, and for one of another model, attention window or set of kernels.
        """
        if snapshot.model_digest != self.model_digest:
            raise EngineError("the snapshot belongs to another model; start a new conversation")
        data = np.frombuffer(snapshot.data, dtype=np.uint8)
        state = self._state(self._library.nano_state_restore(self._handle, _pointer(data), len(data)))
        if self.length(state) != snapshot.length:
            raise EngineError("the snapshot is damaged: its length is not that of its data; start a new conversation")
        return state

    def _open(
        self, artifact: Artifact, threads: int, window: int, sinks: int, kernels: str, pin: str, huge_pages: bool
    ) -> int:
        tensors = (c.Tensor * len(artifact.tensors))(
            *(c.Tensor(t.name.encode(), _KINDS[t.kind], t.rows, t.cols, t.offset, t.nbytes) for t in artifact.tensors)
        )
        options = c.Options(threads, window, sinks, kernels.encode(), pin.encode(), huge_pages)
        options.model_digest[:] = bytes.fromhex(artifact.model_digest)
        handle = self._library.nano_engine_open(
            str(artifact.weights_path).encode(), _c_config(artifact.config), tensors, len(tensors), options
        )
        if not handle:
            raise EngineError(f"{artifact.folder}: {self._message()}")
        return int(handle)

    def _state(self, handle: int | None) -> NativeState:
        if not handle:
            raise EngineError(f"{self._message()}; start a new conversation")
        return NativeState(self, handle)

    def _own(self, state: NativeState) -> int:
        if state._engine is not self:
            raise ValueError("the state belongs to another engine; a snapshot can carry it over")
        return state._handle

    def _check(self, result: int) -> int:
        if result >= 0:
            return result
        raise (ValueError if result == c.INVALID else EngineError)(self._message())

    def _message(self) -> str:
        return str(self._library.nano_last_error().decode(errors="replace"))


def _pointer(data: np.ndarray) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def state_spec(config: NemotronHConfig, window: int, sinks: int) -> StateSpec:
    """The tensors of a state at their largest, reached after `sinks + window` tokens."""
    tensors = []
    for i, layer in enumerate(config.layers):
        if layer == MAMBA:
            ssm = (config.mamba_num_heads, config.mamba_head_dim, config.ssm_state_size)
            tensors.append(TensorSpec(f"layers.{i}.ssm", ssm, "float32"))
            tensors.append(TensorSpec(f"layers.{i}.conv", (config.conv_kernel - 1, config.conv_dim), "float32"))
    for i, layer in enumerate(config.layers):
        if layer == ATTENTION:
            kv = (sinks + window, 2, config.num_key_value_heads, config.head_dim)
            tensors.append(TensorSpec(f"layers.{i}.kv", kv, "float16"))
    return StateSpec(tuple(tensors))


def _c_config(config: NemotronHConfig) -> c.Config:
    low, high = config.time_step_limit
    return c.Config(
        config.vocab_size, config.hidden_size, config.intermediate_size, config.mamba_num_heads, config.mamba_head_dim,
        config.ssm_state_size, config.n_groups, config.conv_kernel, config.num_attention_heads,
        config.num_key_value_heads, config.head_dim, config.layer_norm_epsilon, low, high,
        config.hybrid_override_pattern.encode(),
    )  # fmt: skip
