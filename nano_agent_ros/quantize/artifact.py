"""The artifact folder: what every engine is built from. Layout byte by byte: docs/artifact.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.config import NemotronHConfig

from . import int4, int8
from .int4 import GROUP, PANEL_ROWS
from .stored import StoredMatrix
from .tensor_file import TensorFileError, read_header

FORMAT, VERSION = "nano_agent_ros", 2
MANIFEST, WEIGHTS, CONFIG = "manifest.json", "weights.safetensors", "config.json"
INT4, INT8, FLOAT32, FLOAT16 = "int4_panels", "int8_panels", "float32", "float16"
KINDS = (INT4, INT8, FLOAT32, FLOAT16)
ALIGNMENT = 64
VERIFY_UP_TO_BYTES = 64 << 20
WAY_OUT = "convert the checkpoint again, or fetch the artifact again"
_BLOCK_BYTES = {INT4: int4.PANEL_BYTES, INT8: int8.BLOCK_BYTES}
LAYOUT = {
    "symmetric": True, "block_inputs": GROUP, "scale_dtype": "float16",
    "panel_rows": PANEL_ROWS, "block_bytes": _BLOCK_BYTES,
}  # fmt: skip


@dataclass(frozen=True)
class ArtifactTensor:
    """One tensor of the weights file: a matrix [rows, cols], or a vector with cols 1; kind says how it is stored."""

    name: str
    kind: str
    rows: int
    cols: int
    offset: int = 0
    nbytes: int = 0

    @property
    def in_panels(self) -> bool:
        """Whether it is stored as integers in panels of 16 rows."""
        return self.kind in _BLOCK_BYTES

    @property
    def stored_nbytes(self) -> int:
        """Size in the file that kind and shape ask for."""
        if self.in_panels:
            return -(-self.rows // PANEL_ROWS) * (self.cols // GROUP) * _BLOCK_BYTES[self.kind]
        return self.rows * self.cols * (4 if self.kind == FLOAT32 else 2)

    @property
    def stored_shape(self) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape in the safetensors header."""
        if self.in_panels:
            return "U8", (-(-self.rows // PANEL_ROWS), self.cols // GROUP, _BLOCK_BYTES[self.kind])
        return ("F32" if self.kind == FLOAT32 else "F16"), (self.rows, self.cols)


@dataclass(frozen=True)
class Artifact:
    """A folder whose files were found whole. `quantization` is that of the manifest: bits, group size, method."""

    folder: Path
    config: NemotronHConfig
    model_digest: str
    tensors: tuple[ArtifactTensor, ...]
    quantization: Mapping[str, Any]

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    def tensor(self, name: str) -> np.ndarray:
        """Return one tensor as float32 [rows, cols] (vectors: [rows]), dequantized; raises KeyError."""
        found = self._find(name)
        values = self.matrix(name)[:]
        return values if found.cols > 1 else values.reshape(found.rows)

    def matrix(self, name: str) -> StoredMatrix:
        """Return one tensor that stays in the file: what is taken from it by rows comes as float32; raises KeyError."""
        found = self._find(name)
        return StoredMatrix(self.weights_path, found.kind, found.rows, found.cols, found.offset)

    def _find(self, name: str) -> ArtifactTensor:
        for t in self.tensors:
            if t.name == name:
                return t
        raise KeyError(name)


def read_artifact(folder: str | Path, verify: bool | None = None) -> Artifact:
    """Check an artifact folder and return what it holds.

    The digest over the tensor table, sizes and the header of the weights are always checked. SHA-256 of files: of all
    if `verify` is True, of none if it is False, of those of at most 64 MiB (about 0.1 s) if it is None. Raises
    EngineError that names the file and the way out.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        files, digest = manifest["files"], manifest["model_digest"]
        intact = model_digest(files, manifest["tensors"], manifest["quantization"]) == digest
        tensors = tuple(ArtifactTensor(**t) for t in manifest["tensors"])
        sizes = {name: int(entry["nbytes"]) for name, entry in files.items()}
        quantization = dict(manifest["quantization"])
        intact = intact and all(quantization[key] == value for key, value in LAYOUT.items())
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise EngineError(f"{folder / MANIFEST} is damaged ({e!r}); {WAY_OUT}") from e
    if not intact:
        raise EngineError(f"{folder / MANIFEST} is damaged: its digest does not fit its content; {WAY_OUT}")
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            raise EngineError(f"{path} is missing; {WAY_OUT}")
        if path.stat().st_size != size:
            raise EngineError(f"{path} has {path.stat().st_size} bytes instead of {size}; {WAY_OUT}")
        if verify or (verify is None and size <= VERIFY_UP_TO_BYTES):
            check_sha256(path, files[name])
    _check_table(folder / WEIGHTS, tensors)
    try:
        config = NemotronHConfig.from_json(folder / CONFIG)
    except ConfigError as e:
        raise EngineError(f"{e}; {WAY_OUT}") from e
    if manifest.get("config") != json.loads((folder / CONFIG).read_bytes()):
        raise EngineError(f"{folder / MANIFEST} is damaged: its config is not that of {CONFIG}; {WAY_OUT}")
    return Artifact(folder, config, digest, tensors, quantization)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder, of which only format and version were checked; raises EngineError."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise EngineError(f"cannot read {path} ({e.strerror}); such a folder is made by converting a checkpoint") from e
    except ValueError as e:
        raise EngineError(f"{path} is damaged ({e}); {WAY_OUT}") from e
    if not isinstance(manifest, dict) or not str(manifest.get("format")).startswith(FORMAT):
        raise EngineError(f"{path} does not describe an artifact of format {FORMAT}; {WAY_OUT}")
    if manifest.get("version") != VERSION:
        raise EngineError(
            f"{path} has version {manifest.get('version')!r}, this package reads version {VERSION}; "
            "convert the checkpoint again with this package"
        )
    if manifest["format"] != FORMAT:
        raise EngineError(f"{path} is damaged: its format is {manifest['format']!r}; {WAY_OUT}")
    return manifest


def model_digest(
    files: Mapping[str, Mapping[str, Any]], tensors: Sequence[Mapping[str, Any]], quantization: Mapping[str, Any]
) -> str:
    """SHA-256 over all that the logits depend on: weights and configuration (their digests), and how to read them."""
    content = {
        "weights": files[WEIGHTS]["sha256"],
        "config": files[CONFIG]["sha256"],
        "tensors": tensors,
        "quantization": quantization,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_sha256(path: Path, entry: Mapping[str, Any]) -> None:
    """Hold a file against its entry in the manifest; raises EngineError."""
    if sha256(path) != entry.get("sha256"):
        raise EngineError(f"{path} is damaged (its SHA-256 differs); {WAY_OUT}")


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    h = hashlib.sha256()
    with path.open("rb") as f:
        while piece := f.read(1 << 20):
            h.update(piece)
    return h.hexdigest()


def _check_table(weights: Path, tensors: tuple[ArtifactTensor, ...]) -> None:
    """Hold the manifest's tensor table against the header of the weights file."""
    try:
        header = read_header(weights)
    except TensorFileError as e:
        raise EngineError(f"{e}; {WAY_OUT}") from e
    for t in tensors:
        entry = header.get(t.name)
        if (
            entry is None
            or t.kind not in KINDS
            or (entry.dtype, entry.shape) != t.stored_shape
            or (entry.offset, entry.nbytes) != (t.offset, t.nbytes)
            or t.nbytes != t.stored_nbytes
        ):
            raise EngineError(f"{weights}: tensor {t.name} is not as {MANIFEST} says; {WAY_OUT}")
