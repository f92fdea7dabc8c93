"""Write an artifact folder: tensor by tensor, going on where a run was cut off, and whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import EngineError

from .artifact import (
    ALIGNMENT,
    CONFIG,
    FLOAT16,
    FLOAT32,
    FORMAT,
    INT4,
    LAYOUT,
    MANIFEST,
    VERSION,
    WEIGHTS,
    ArtifactTensor,
    model_digest,
    sha256,
)
from .grid import quantize
from .int4 import GROUP, PANEL_ROWS, QuantizeError
from .self_check import write_self_check
from .tensor_file import layout_header

_PLAN, _DONE, _LOCK, _NEW, _OLD = "plan.json", "done.txt", "lock", "new", "old"


class ArtifactWriter:
    """Fills `.OUT.partial` beside OUT and puts it in OUT's place at the end.

    The place of every tensor in the weights file is settled at the start, so tensors can be written in any order, and
    what `done` names need not be written again. Use it as a context manager: an exception that a second try cannot
    cure (all but KeyboardInterrupt, OSError and MemoryError) removes the partial folder.
    """

    def __init__(self, out: Path, tensors: Sequence[ArtifactTensor], config_json: bytes, plan: Mapping[str, Any]):
        """Begin, or go on with what an earlier run of the same `plan` (any JSON: request and source) has left.

        Raises EngineError if `out` holds something that is no artifact, if a run of another plan was cut off there,
        or if one is going on.
        """
        if out.exists() and not out.is_dir():
            raise EngineError(f"{out} is a file; choose another name for the folder")
        if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
            raise EngineError(f"{out} is not empty and holds no artifact; choose another folder")
        self.out, self.work = out, out.absolute().parent / f".{out.absolute().name}.partial"
        self.folder = self.work / _NEW
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.work / _LOCK).open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EngineError(f"{out} is being written by another process; wait for it") from None

        start, entries = layout_header({t.name: t.stored_shape for t in tensors}, ALIGNMENT)
        places = {e.name: e for e in entries}
        self.tensors = {
            t.name: ArtifactTensor(t.name, t.kind, t.rows, t.cols, places[t.name].offset, places[t.name].nbytes)
            for t in tensors
        }
        size = entries[-1].offset + entries[-1].nbytes
        self._check_space(size)
        whole_plan = {"version": VERSION, "tensors": [asdict(t) for t in self.tensors.values()], **plan}
        self.done = self._done_before(json.loads(json.dumps(whole_plan)), size)
        if not self.done:
            (self.work / _DONE).unlink(missing_ok=True)
            with (self.folder / WEIGHTS).open("wb") as f:
                f.write(start)
                f.truncate(size)  # what no tensor fills is zeros
            _write_durably(self.work / _PLAN, json.dumps(whole_plan, indent=1).encode())
        self._config_json = config_json
        self._weights = (self.folder / WEIGHTS).open("r+b")
        self._log = (self.work / _DONE).open("ab")

    def __enter__(self) -> ArtifactWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, _: TracebackType | None) -> None:
        self._weights.close()
        self._log.close()
        if e is not None and not isinstance(e, KeyboardInterrupt | OSError | MemoryError):
            shutil.rmtree(self.work, ignore_errors=True)
        self._lock.close()

    @property
    def weights_path(self) -> Path:
        """The weights file while it is being filled; tensors that are `finished` can be read from it."""
        return self.folder / WEIGHTS

    def write(self, name: str, stored: np.ndarray, row: int = 0) -> None:
        """Put rows of a tensor in their place, `stored` as the file holds them (see stored_rows), from `row` on.

        Rows in panels begin at a multiple of 16.
        """
        data = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
        t = self.tensors[name]
        at = row // PANEL_ROWS * (t.nbytes // -(-t.rows // PANEL_ROWS)) if t.in_panels else row * (t.nbytes // t.rows)
        assert at + data.nbytes <= t.nbytes, f"{name}: {at} + {data.nbytes} bytes do not fit {t.nbytes}"
        self._weights.seek(t.offset + at)
        self._weights.write(data.data)

    def finished(self, *names: str) -> None:
        """Note that these tensors are complete, once they are on the disk."""
        self._weights.flush()
        os.fdatasync(self._weights.fileno())
        self._log.write("".join(f"{name}\n" for name in names).encode())
        self._log.flush()
        os.fdatasync(self._log.fileno())
        self.done.update(names)

    def complete(self, quantization: Mapping[str, Any], copies: Iterable[Path] = ()) -> str:
        """Take `copies` along under their names, write self-check and manifest; return the model digest."""
        missing = [name for name in self.tensors if name not in self.done]
        assert not missing, f"never written: {missing}"
        self._weights.flush()
        (self.folder / CONFIG).write_bytes(self._config_json)
        for path in copies:
            shutil.copyfile(path, self.folder / path.name)
        write_self_check(self.folder, self.tensors.values())
        for path in self.folder.iterdir():
            with path.open("rb") as f:
                os.fsync(f.fileno())
        return write_manifest(self.folder, list(self.tensors.values()), {**LAYOUT, **quantization})

    def publish(self) -> None:
        """Put the folder in the place of OUT."""
        self.folder.chmod(0o755)
        shutil.rmtree(self.work / _OLD, ignore_errors=True)
        if self.out.exists():
            self.out.rename(self.work / _OLD)
        self.folder.rename(self.out)
        shutil.rmtree(self.work)

    def _check_space(self, size: int) -> None:
        weights = self.folder / WEIGHTS
        taken = weights.stat().st_blocks * 512 if weights.exists() else 0
        free = shutil.disk_usage(self.folder).free
        if free < size - taken:
            shutil.rmtree(self.work) if not taken else None
            raise EngineError(
                f"{self.out} will take {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there; make room and try again"
            )

    def _done_before(self, plan: dict[str, Any], size: int) -> set[str]:
        """Names of the tensors that an earlier run has finished; raises EngineError if its plan was another."""
        try:
            before = json.loads((self.work / _PLAN).read_bytes())
            lines = (self.work / _DONE).read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, ValueError):
            return set()
        done = {line[:-1] for line in lines if line.endswith("\n")}
        if done and before != plan:
            self._lock.close()
            what = ", ".join(key for key in ("version", "request", "source") if before.get(key) != plan[key])
            raise EngineError(
                f"{self.work} holds an unfinished conversion to {self.out.name} that differs from this one ({what}); "
                f"finish it with its own options and source, or remove it: rm -r {self.work}"
            )
        weights = self.folder / WEIGHTS
        return done & set(self.tensors) if weights.exists() and weights.stat().st_size == size else set()


def stored_rows(t: ArtifactTensor, values: np.ndarray, group_size: int = GROUP) -> np.ndarray:
    """Return rows of a tensor, float32 [n, cols], as the weights file holds them."""
    if t.kind == FLOAT32:
        return values.astype("<f4", copy=False)
    if t.kind == FLOAT16:
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise QuantizeError(f"its largest value {np.abs(values).max():.3g} is beyond float16")
        return values.astype("<f2")
    return quantize(values, 4 if t.kind == INT4 else 8, group_size).pack()


CARD = "README.md"


def write_manifest(folder: Path, tensors: Sequence[ArtifactTensor], quantization: Mapping[str, Any]) -> str:
    """Write manifest.json for the files that lie in the folder; return the model digest.

    The model card is not among those that are checked: figures are written into it once the model is there.
    """
    paths = sorted(p for p in folder.iterdir() if p.name not in (MANIFEST, CARD) and not p.name.startswith("."))
    files = {p.name: {"nbytes": p.stat().st_size, "sha256": sha256(p)} for p in paths}
    table = [asdict(t) for t in tensors]
    digest = model_digest(files, table, quantization)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "model_digest": digest,
        "quantization": quantization,
        "config": json.loads((folder / CONFIG).read_bytes()),
        "files": files,
        "tensors": table,
    }
    _write_durably(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return digest


def _write_durably(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)
