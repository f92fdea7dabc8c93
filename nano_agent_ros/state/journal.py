"""An append-only file of JSON records in which a record is whole or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .snapshot_file import StateFileError


class Journal:
    """Records in a file, one a line: the CRC-32 of the JSON text in hexadecimal, a space, the text.

    A record that `append` has returned from survives the process being killed; with `sync` a power failure too, at the
    price of waiting for the disk. What a crash has torn off at the end is dropped when the file is opened again.
    """

    def __init__(self, path: Path, sync: bool = False) -> None:
        """Open or create `path`; `records` are those that it holds. Raises StateFileError."""
        self.path, self._sync = path, sync
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes() if path.exists() else b""
            self.records, whole = _parse(content)
            self._file = path.open("ab", buffering=0)
            if whole < len(content):
                os.truncate(path, whole)
        except OSError as error:
            raise StateFileError(f"cannot use {path} ({error.strerror})") from error

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; raises StateFileError if it cannot be kept, and then nothing of it is there."""
        line, before = _line(record), self.nbytes
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._file.fileno(), before)
            raise StateFileError(f"cannot write {self.path} ({error.strerror}); is the disk full?") from error

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Put these records in the place of all that are in the file, in one step."""
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            with temporary.open("wb") as file:
                file.writelines(_line(record) for record in records)
                file.flush()
                os.fsync(file.fileno())
            self._file.close()
            os.replace(temporary, self.path)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise StateFileError(f"cannot write {self.path} ({error.strerror}); is the disk full?") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """The records up to the first line that is not whole, and the size of what they take up."""
    records, end = [], 0
    while (newline := content.find(b"\n", end)) >= 0:
        crc, _, text = content[end:newline].partition(b" ")
        if crc != b"%08x" % zlib.crc32(text):
            break
        records.append(json.loads(text))
        end = newline + 1
    return records, end
