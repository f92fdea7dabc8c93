"""The reference engine: the PyTorch network behind the `Engine` interface, written to be read, not to be fast."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.attention import Attention, AttentionState
from nano_agent_ros.model.checkpoint import CheckpointError, load_checkpoint
from nano_agent_ros.model.config import ATTENTION, MAMBA, NemotronHConfig
from nano_agent_ros.model.mamba2 import MambaState
from nano_agent_ros.model.network import NemotronH, NetworkState
from nano_agent_ros.quantize.artifact import MANIFEST, Artifact, read_artifact

from .base import EngineError, Snapshot, StateSpec, TensorSpec

_HEADER = struct.Struct("<8sQQQ32s")  # magic, length, window, sinks, SHA-256 of what follows
_MAGIC = b"nanotrc1"


@dataclass
class TorchState:
    """One conversation: the network's state `kept` before the last extend, the tokens of it, and the state `now`."""

    kept: NetworkState
    now: NetworkState
    open: list[int] = field(default_factory=list)


class TorchEngine:
    """Runs an artifact folder with its dequantized weights, or a checkpoint folder with its own, in float32."""

    name = "torch"

    def __init__(self, folder: str | Path, *, threads: int = 0, window: int = 4096, sinks: int = 64):
        """Open a folder that holds an artifact or a checkpoint.

        `threads`: 0 leaves PyTorch's setting. Attention sees the last `window` tokens and the first `sinks` ones.
        Raises EngineError.
        """
        if window < 1 or sinks < 0:
            raise EngineError(f"window {window} and sinks {sinks}: there must be at least 1 and 0 tokens")
        folder = Path(folder)
        if (folder / MANIFEST).exists():
            artifact = read_artifact(folder)
            self.model_digest = artifact.model_digest
            self._network = _dequantized(artifact)
        else:
            try:
                self._network = load_checkpoint(folder)
            except (ConfigError, CheckpointError) as e:
                raise EngineError(str(e)) from e
            self.model_digest = _checkpoint_digest(folder)
        if threads:
            torch.set_num_threads(threads)
        self.config = self._network.config
        self.vocab_size = self.config.vocab_size
        self.window, self.sinks = window, sinks
        for module in self._network.modules():
            if isinstance(module, Attention):
                module.window, module.sinks = window, sinks
        self.spec = _state_spec(self.config, window, sinks)

    def new_state(self) -> TorchState:
        """Return an empty state."""
        empty = _empty(self.config)
        return TorchState(empty, empty)

    def extend(self, state: TorchState, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """Advance by the tokens; return float32 logits [vocab], or [T, vocab] with `every`. Raises ValueError."""
        ids = [int(t) for t in tokens]
        if not ids or min(ids) < 0 or max(ids) >= self.vocab_size:
            raise ValueError(f"tokens must be one or more ids from 0 to {self.vocab_size - 1}")
        with torch.inference_mode():
            hidden, after = self._network(torch.tensor([ids]), state.now)
            logits = self._network.logits(hidden[0] if every else hidden[0, -1])
        state.kept, state.now, state.open = state.now, after, ids
        return logits.numpy()

    def commit(self, state: TorchState, n: int) -> None:
        """Keep the first n of the tokens last extended by: those are fed again from the state before them."""
        if not 0 <= n <= len(state.open):
            raise ValueError(f"cannot keep {n} of the {len(state.open)} tokens last extended by")
        if n == 0 and state.open:
            state.now = state.kept
        elif n < len(state.open):
            with torch.inference_mode():
                _, state.now = self._network(torch.tensor([state.open[:n]]), state.kept)
        state.kept, state.open = state.now, []

    def fork(self, state: TorchState) -> TorchState:
        """Return an independent state with all tokens of this one; a network's state is never changed in place."""
        return TorchState(state.now, state.now)

    def length(self, state: TorchState) -> int:
        """Number of tokens that the state has seen."""
        return state.now.length

    def snapshot(self, state: TorchState) -> Snapshot:
        """Copy the state: a checked header, then the tensors of each layer in order."""
        state.kept, state.open = state.now, []
        data = b"".join(t.float().numpy().tobytes() for layer in state.now.layers for t in _tensors(layer))
        head = _HEADER.pack(_MAGIC, state.now.length, self.window, self.sinks, hashlib.sha256(data).digest())
        return Snapshot(self.model_digest, state.now.length, head + data)

    def restore(self, snapshot: Snapshot) -> TorchState:
        """Return a new state equal to the snapshot. Raises EngineError for another model's or a damaged one."""
        if snapshot.model_digest != self.model_digest:
            raise EngineError("the snapshot belongs to another model; start a new conversation")
        head, data = snapshot.data[: _HEADER.size], snapshot.data[_HEADER.size :]
        if len(head) < _HEADER.size:
            raise EngineError("the snapshot is damaged: it is cut off; start a new conversation")
        magic, length, window, sinks, digest = _HEADER.unpack(head)
        if magic != _MAGIC or length != snapshot.length or hashlib.sha256(data).digest() != digest:
            raise EngineError("the snapshot is damaged, or another engine's; start a new conversation")
        if (window, sinks) != (self.window, self.sinks):
            raise EngineError(
                f"the snapshot was taken with attention window {window} and {sinks} sinks, "
                f"the engine has {self.window} and {self.sinks}; start a new conversation"
            )
        state = _filled(self.config, length, _positions(length, window, sinks), np.frombuffer(data, dtype="<f4"))
        return TorchState(state, state)


def _dequantized(artifact: Artifact) -> NemotronH:
    """The network with the very weights that the artifact stands for; a tied head is stored, and so its own matrix."""
    config = NemotronHConfig.from_dict(artifact.config.to_dict() | {"tie_word_embeddings": False})
    network = NemotronH(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            stored = name if name.startswith("lm_head") else "backbone." + name
            try:
                values = artifact.tensor(stored)
            except KeyError:
                raise EngineError(f"{artifact.folder} lacks tensor {stored}; convert the checkpoint again") from None
            parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
    return network.eval()


def _checkpoint_digest(folder: Path) -> str:
    """SHA-256 over config.json and all safetensors files."""
    h = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as f:
            while piece := f.read(1 << 20):
                h.update(piece)
    return h.hexdigest()


def _tensors(layer: MambaState | AttentionState | None) -> tuple[torch.Tensor, ...]:
    """What a layer's state holds, without the batch dimension; positions follow from the length."""
    if isinstance(layer, MambaState):
        return layer.conv[0].contiguous(), layer.ssm[0].contiguous()
    if isinstance(layer, AttentionState):
        return layer.k[0].contiguous(), layer.v[0].contiguous()
    return ()


def _positions(length: int, window: int, sinks: int) -> torch.Tensor:
    """Places of the tokens that are kept after `length` of them."""
    places = torch.arange(length)
    return places[(places >= length - window) | (places < sinks)]


def _empty(config: NemotronHConfig) -> NetworkState:
    state_size = sum(int(np.prod(t.shape)) for t in _state_spec(config, 0, 0).tensors)
    return _filled(config, 0, torch.arange(0), np.zeros(state_size, dtype=np.float32))


def _filled(config: NemotronHConfig, length: int, positions: torch.Tensor, values: np.ndarray) -> NetworkState:
    """The state after `length` tokens from its values, one after the other as `snapshot` writes them."""
    kept = len(positions)
    tensors = []
    for spec in _state_spec(config, kept, 0).tensors:
        size = int(np.prod(spec.shape))
        if size > len(values):
            raise EngineError("the snapshot is damaged: it is too short; start a new conversation")
        tensors.append(torch.from_numpy(values[:size].reshape(spec.shape).copy())[None])
        values = values[size:]
    if len(values):
        raise EngineError("the snapshot is damaged: it is too long; start a new conversation")
    pairs = iter(zip(tensors[::2], tensors[1::2], strict=True))
    layers: list[MambaState | AttentionState | None] = []
    for kind in config.layers:
        if kind == MAMBA:
            layers.append(MambaState(*next(pairs)))
        elif kind == ATTENTION:
            layers.append(AttentionState(*next(pairs), positions))
        else:
            layers.append(None)
    return NetworkState(tuple(layers), length)


def _state_spec(config: NemotronHConfig, window: int, sinks: int) -> StateSpec:
    """The tensors of a state, at their largest, in the order of a snapshot."""
    tensors = []
    for i, kind in enumerate(config.layers):
        if kind == MAMBA:
            ssm = (config.mamba_num_heads, config.ssm_state_size, config.mamba_head_dim)
            tensors.append(TensorSpec(f"layers.{i}.conv", (config.conv_kernel - 1, config.conv_dim), "float32"))
            tensors.append(TensorSpec(f"layers.{i}.ssm", ssm, "float32"))
        elif kind == ATTENTION:
            kv = (config.num_key_value_heads, window + sinks, config.head_dim)
            tensors += [TensorSpec(f"layers.{i}.{name}", kv, "float32") for name in ("k", "v")]
    return StateSpec(tuple(tensors))
