"""A checkpoint in the published layout, read by rows: config.json, and safetensors whole or in shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.model.config import NemotronHConfig

from .artifact import CONFIG, ArtifactTensor
from .table import EMBEDDINGS, HEAD
from .tensor_file import TensorEntry, TensorFileError, read_header, read_rows

COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "README.md",  # the model card
)


class ConversionError(NanoAgentError):
    """A checkpoint that cannot become an artifact; names the file or tensor."""


class Checkpoint:
    """A checkpoint folder whose headers were read; tensors go by their names in the artifact.

    Names below `model.` are read as `backbone.`; with tied embeddings lm_head.weight is the embedding table.
    """

    def __init__(self, folder: Path):
        """Read config.json and the headers of all shards; raises ConversionError."""
        self.folder = folder
        try:
            self.config = NemotronHConfig.from_json(folder)
            self._entries = _entries(folder)
        except (ConfigError, TensorFileError) as e:
            raise ConversionError(str(e)) from e
        self.config_json = (folder / CONFIG).read_bytes()

    @property
    def companions(self) -> list[Path]:
        """Files of the folder that an artifact takes along."""
        return [self.folder / name for name in COMPANIONS if (self.folder / name).exists()]

    def fingerprint(self) -> dict[str, Any]:
        """What tells this checkpoint from another: digest of the configuration, sizes and times of the weight files."""
        paths = sorted({path for path, _ in self._entries.values()})
        files = {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in paths}
        return {"config": hashlib.sha256(self.config_json).hexdigest(), "files": files}

    def check(self, tensors: Iterable[ArtifactTensor]) -> None:
        """Raise ConversionError for the first tensor that is missing or has another shape."""
        for t in tensors:
            name = self._name(t.name)
            if name not in self._entries:
                raise ConversionError(f"{self.folder} lacks tensor {name}, which its {CONFIG} asks for")
            shape = tuple(n for n in self._entries[name][1].shape if n != 1)
            wanted = tuple(n for n in (t.rows, t.cols) if n != 1)
            if shape != wanted:
                raise ConversionError(f"{self.folder}: tensor {name} has shape {shape}, {CONFIG} asks for {wanted}")

    def rows(self, t: ArtifactTensor, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Return rows of a tensor as float32 [n, cols]; raises ConversionError for NaN and infinity."""
        path, entry = self._entries[self._name(t.name)]
        values = read_rows(path, entry, t.rows, begin, t.rows if end is None else end).reshape(-1, t.cols)
        values = values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise ConversionError(f"{path}: tensor {entry.name} holds NaN or infinity; the checkpoint is damaged")
        return values

    def _name(self, name: str) -> str:
        return EMBEDDINGS if name == HEAD and self.config.tie_word_embeddings else name


def _entries(folder: Path) -> dict[str, tuple[Path, TensorEntry]]:
    """File and entry of every tensor, by published name."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        paths = [single]
    elif index.exists():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            paths = [folder / name for name in sorted(shards)]
        except (ValueError, KeyError, AttributeError, TypeError) as e:
            raise ConversionError(f"{index} is damaged ({e!r}); fetch it again") from e
    else:
        raise ConversionError(f"{folder} holds neither {single.name} nor {index.name}; is it a checkpoint folder?")
    found = {}
    for path in paths:
        for name, entry in read_header(path).items():
            own = "backbone." + name.removeprefix("model.") if name.startswith("model.") else name
            found[own.replace("backbone.embedding.", "backbone.embeddings.")] = (path, entry)
    return found
