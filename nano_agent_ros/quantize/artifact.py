"""The artifact folder: what every engine is built from. Layout byte by byte: docs/artifact.md."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.config import NemotronHConfig

from .int4 import (
    GROUP,
    PANEL_BYTES,
    PANEL_ROWS,
    dequantize_rows,
    pack_panels,
    packed_nbytes,
    quantize_rows,
    unpack_panels,
)
from .tensor_file import TensorFileError, layout_header, read_header

FORMAT, VERSION = "nano_agent_ros-int4", 1
MANIFEST, WEIGHTS, CONFIG = "manifest.json", "weights.safetensors", "config.json"
INT4, FLOAT32, FLOAT16 = "int4_panels", "float32", "float16"
ALIGNMENT = 64
VERIFY_UP_TO_BYTES = 64 << 20
_QUANTIZATION = {
    "bits": 4, "symmetric": True, "group_size": GROUP, "scale_dtype": "float16",
    "panel_rows": PANEL_ROWS, "panel_bytes": PANEL_BYTES,
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
    def stored_nbytes(self) -> int:
        """Size in the file that kind and shape ask for."""
        if self.kind == INT4:
            return packed_nbytes(self.rows, self.cols)
        return self.rows * self.cols * (4 if self.kind == FLOAT32 else 2)

    @property
    def stored_shape(self) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape in the safetensors header."""
        if self.kind == INT4:
            return "U8", (-(-self.rows // PANEL_ROWS), self.cols // GROUP, PANEL_BYTES)
        return ("F32" if self.kind == FLOAT32 else "F16"), (self.rows, self.cols)


@dataclass(frozen=True)
class Artifact:
    """A folder whose files were found whole."""

    folder: Path
    config: NemotronHConfig
    model_digest: str
    tensors: tuple[ArtifactTensor, ...]

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    def tensor(self, name: str) -> np.ndarray:
        """Return one tensor as float32 [rows, cols] (vectors: [rows]), dequantized; raises KeyError."""
        found = {t.name: t for t in self.tensors}[name]
        dtype = {INT4: "|u1", FLOAT32: "<f4", FLOAT16: "<f2"}[found.kind]
        shape = found.stored_shape[1]
        raw = np.fromfile(self.weights_path, dtype, math.prod(shape), offset=found.offset).reshape(shape)
        if found.kind == INT4:
            return dequantize_rows(*unpack_panels(raw, found.rows))
        return raw.astype(np.float32).reshape((found.rows, found.cols) if found.cols > 1 else found.rows)


def write_artifact(
    folder: Path,
    config_json: bytes,
    tensors: Sequence[ArtifactTensor],
    load: Callable[[ArtifactTensor], np.ndarray],
    copies: Iterable[Path] = (),
) -> str:
    """Write an artifact to `folder`, tensor by tensor, and return its model digest.

    `load` gives the float32 [rows, cols] of each tensor, in order; `copies` are files to take along under their names.
    The folder appears whole or not at all: everything is written beside it and then renamed. Raises EngineError if
    `folder` exists and holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise EngineError(f"{folder} is not empty and holds no artifact; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        placed = _write_weights(new / WEIGHTS, tensors, load)
        (new / CONFIG).write_bytes(config_json)
        for path in copies:
            shutil.copyfile(path, new / path.name)
        files = {p.name: {"nbytes": p.stat().st_size, "sha256": _sha256(p)} for p in sorted(new.iterdir())}
        digest = _model_digest(files)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "model_digest": digest,
            "quantization": _QUANTIZATION,
            "config": json.loads(config_json),
            "files": files,
            "tensors": [asdict(t) for t in placed],
        }
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        new.chmod(0o755)
        _replace_folder(new, folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return digest


def read_artifact(folder: str | Path, verify: bool | None = None) -> Artifact:
    """Check an artifact folder and return what it holds.

    Sizes and the tensor table are always checked, the SHA-256 of every file if `verify`; None verifies if the weights
    are at most 64 MiB (about 0.1 s). Raises EngineError that names the file and the way out.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    try:
        files, digest = manifest["files"], manifest["model_digest"]
        tensors = tuple(ArtifactTensor(**t) for t in manifest["tensors"])
        sizes = {name: int(entry["nbytes"]) for name, entry in files.items()}
        intact = manifest["quantization"] == _QUANTIZATION and _model_digest(files) == digest
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise EngineError(f"{folder / MANIFEST} is damaged ({e!r}); {_WAY_OUT}") from e
    if not intact:
        raise EngineError(f"{folder / MANIFEST} is damaged: digest or quantization do not fit; {_WAY_OUT}")
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            raise EngineError(f"{path} is missing; {_WAY_OUT}")
        if path.stat().st_size != size:
            raise EngineError(f"{path} has {path.stat().st_size} bytes instead of {size}; {_WAY_OUT}")
    if verify is None:
        verify = sizes[WEIGHTS] <= VERIFY_UP_TO_BYTES
    if verify:
        for name in files:
            if _sha256(folder / name) != files[name]["sha256"]:
                raise EngineError(f"{folder / name} is damaged (its SHA-256 differs); {_WAY_OUT}")
    _check_table(folder / WEIGHTS, tensors)
    try:
        config = NemotronHConfig.from_json(folder / CONFIG)
    except ConfigError as e:
        raise EngineError(f"{e}; {_WAY_OUT}") from e
    return Artifact(folder, config, digest, tensors)


_WAY_OUT = "convert the checkpoint again, or fetch the artifact again"


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise EngineError(f"cannot read {path} ({e.strerror}); such a folder is made by converting a checkpoint") from e
    except ValueError as e:
        raise EngineError(f"{path} is damaged ({e}); {_WAY_OUT}") from e
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise EngineError(f"{path} does not describe an artifact of format {FORMAT}; {_WAY_OUT}")
    if manifest.get("version") != VERSION:
        raise EngineError(
            f"{path} has version {manifest.get('version')!r}, this package reads version {VERSION}; "
            "convert the checkpoint again with this package"
        )
    return manifest


def _check_table(weights: Path, tensors: tuple[ArtifactTensor, ...]) -> None:
    """Hold the manifest's tensor table against the header of the weights file."""
    try:
        header = read_header(weights)
    except TensorFileError as e:
        raise EngineError(f"{e}; {_WAY_OUT}") from e
    for t in tensors:
        entry = header.get(t.name)
        if (
            entry is None
            or t.kind not in (INT4, FLOAT32, FLOAT16)
            or (entry.dtype, entry.shape) != t.stored_shape
            or (entry.offset, entry.nbytes) != (t.offset, t.nbytes)
            or t.nbytes != t.stored_nbytes
        ):
            raise EngineError(f"{weights}: tensor {t.name} is not as {MANIFEST} says; {_WAY_OUT}")


def _write_weights(
    path: Path, tensors: Sequence[ArtifactTensor], load: Callable[[ArtifactTensor], np.ndarray]
) -> list[ArtifactTensor]:
    start, entries = layout_header({t.name: t.stored_shape for t in tensors}, ALIGNMENT)
    wanted = {t.name: t for t in tensors}
    placed = []
    with path.open("wb") as f:
        f.write(start)
        for entry in entries:
            if entry.name not in wanted:
                f.write(bytes(entry.nbytes))
                continue
            t = wanted[entry.name]
            f.write(_stored(t, load(t)).tobytes())
            placed.append(ArtifactTensor(t.name, t.kind, t.rows, t.cols, entry.offset, entry.nbytes))
        f.flush()
        os.fsync(f.fileno())
    return placed


def _stored(t: ArtifactTensor, values: np.ndarray) -> np.ndarray:
    values = values.reshape(t.rows, t.cols)
    if t.kind == INT4:
        return pack_panels(*quantize_rows(values))
    return values.astype("<f4" if t.kind == FLOAT32 else "<f2")


def _replace_folder(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(old / folder.name)
    new.rename(folder)
    shutil.rmtree(old)


def _sha256(path: Path) -> str:
    h = hashlib.sha256()
    with path.open("rb") as f:
        while piece := f.read(1 << 20):
            h.update(piece)
    return h.hexdigest()


def _model_digest(files: dict[str, dict[str, Any]]) -> str:
    """SHA-256 over the digests of weights and configuration, which are what the logits depend on."""
    return hashlib.sha256(f"{files[WEIGHTS]['sha256']}:{files[CONFIG]['sha256']}".encode()).hexdigest()
