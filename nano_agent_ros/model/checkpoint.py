"""Checkpoints in the published Hugging Face layout: config.json and safetensors, whole or in shards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nano_agent_ros.errors import NanoAgentError

from .config import NemotronHConfig
from .network import NemotronH

_PREFIXES = ("backbone.", "model.")


class CheckpointError(NanoAgentError):
    """A checkpoint folder that lacks a file or tensor, or holds one of the wrong shape; names it."""


def load_checkpoint(folder: str | Path, dtype: torch.dtype = torch.float32) -> NemotronH:
    """Return the network of a checkpoint folder, in evaluation mode, its weights converted to `dtype`.

    Reads `config.json` and `model.safetensors`, or the shards that `model.safetensors.index.json` lists; tensors may be
    named below `backbone.` or `model.`. Raises ConfigError or CheckpointError.
    """
    folder = Path(folder)
    config = NemotronHConfig.from_json(folder)
    with torch.device("meta"):
        network = NemotronH(config)
    weights: dict[str, torch.Tensor] = {}
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as f:
                for name in f.keys():  # noqa: SIM118 - safe_open is no mapping
                    weights[_own_name(name)] = f.get_tensor(name).to(dtype)
        except (OSError, SafetensorError) as e:
            raise CheckpointError(f"cannot read {path}: {e}; fetch the file again") from e
    if config.tie_word_embeddings and "embeddings.weight" in weights:
        weights["lm_head.weight"] = weights["embeddings.weight"]

    expected = {name: tuple(p.shape) for name, p in network.named_parameters(remove_duplicate=False)}
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise CheckpointError(f"{folder} lacks {len(missing)} tensors that config.json asks for, first {missing[0]!r}")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise CheckpointError(f"{folder}: {name!r} is {tuple(weights[name].shape)}, config.json asks for {shape}")
    network.load_state_dict({name: weights[name] for name in expected}, assign=True)
    if config.tie_word_embeddings:
        network.lm_head.weight = network.embeddings.weight
    return network.eval()


def save_checkpoint(network: NemotronH, folder: str | Path) -> None:
    """Write config.json and model.safetensors, which `transformers` loads too; the weights file is replaced at once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tied = network.config.tie_word_embeddings
    weights = {
        _published_name(name): value.detach().contiguous()
        for name, value in network.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    temporary = folder / "model.safetensors.tmp"
    save_file(weights, temporary, metadata={"format": "pt"})
    os.replace(temporary, folder / "model.safetensors")
    (folder / "config.json").write_text(network.config.to_json(), encoding="utf-8")


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    if not index.exists():
        raise CheckpointError(f"{folder} holds neither {single.name} nor {index.name}; is it a model folder?")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as e:
        raise CheckpointError(f"{index} is damaged ({e!r}); fetch it again") from e
    for name in names:
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} lacks the shard {name} that {index.name} lists")
    return [folder / name for name in names]


def _own_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _published_name(name: str) -> str:
    return name if name == "lm_head.weight" else "backbone." + name
