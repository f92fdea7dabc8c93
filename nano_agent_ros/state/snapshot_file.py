"""One snapshot of an engine's state in one file: whole or not there, and damage is always noticed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nano_agent_ros.engine.base import Snapshot
from nano_agent_ros.errors import NanoAgentError

MAGIC = b"NANOSTATE1\n"
_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 1 << 24


class StateFileError(NanoAgentError):
    """A snapshot file that cannot be read or written; names the file and the way out."""


def write_snapshot(path: Path, snapshot: Snapshot, note: Mapping[str, Any], sync: bool = True) -> None:
    """Write `snapshot` and `note` (JSON types) to `path`, replacing what was there in one step.

    A reader, and a process that comes after a crash at any moment, sees the old file or the new one. With `sync` that
    holds for a power failure too. Raises StateFileError.
    """
    header = json.dumps(
        {
            "model_digest": snapshot.model_digest,
            "length": snapshot.length,
            "nbytes": len(snapshot.data),
            "digest": snapshot.digest,
            "note": note,
        }
    ).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + _LENGTH.pack(len(header)) + hashlib.sha256(header).digest() + header)
                file.write(snapshot.data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise StateFileError(f"cannot write {path} ({error.strerror}); is the disk full?") from error


def read_snapshot(path: Path) -> tuple[Snapshot, dict[str, Any]]:
    """Return the snapshot and the note of a file. Raises StateFileError if it is missing, cut short or damaged."""
    try:
        with path.open("rb") as file:
            header = _read_header(path, file.read(len(MAGIC) + _LENGTH.size + 32), file)
            data = file.read()
    except OSError as error:
        raise StateFileError(f"cannot read {path} ({error.strerror})") from error
    snapshot = Snapshot(header["model_digest"], header["length"], data)
    if len(data) != header["nbytes"] or snapshot.digest != header["digest"]:
        raise StateFileError(f"{path} is damaged; delete it")
    return snapshot, header["note"]


def _read_header(path: Path, start: bytes, file: Any) -> dict[str, Any]:
    whole = len(MAGIC) + _LENGTH.size + 32
    if len(start) < whole or not start.startswith(MAGIC):
        raise StateFileError(f"{path} is no state of this version, or is damaged; delete it")
    (length,) = _LENGTH.unpack_from(start, len(MAGIC))
    raw = file.read(min(length, _LARGEST_HEADER))
    if len(raw) != length or hashlib.sha256(raw).digest() != start[-32:]:
        raise StateFileError(f"{path} is damaged; delete it")
    return dict(json.loads(raw))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
