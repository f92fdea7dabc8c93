"""The log of a recorder: MCAP files one after another, in bounds, each readable whatever happens to the process."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nano_agent_ros.recording.mcap_files import Entry, LogError, McapFile, is_finished, recover

_log = logging.getLogger(__name__)


class Log:
    """Files `YYYYMMDDTHHMMSS-N.mcap` in a folder, the oldest deleted when all take too much. For one thread."""

    def __init__(
        self,
        folder: Path,
        max_file_bytes: int,
        max_total_bytes: int,
        attachments: Mapping[str, bytes] | None = None,
        metadata: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use `folder`; a file that a killed process left without its end gets one. Raises LogError, ConfigError."""
        self.folder = folder
        self._max_file, self._max_total = max_file_bytes, max_total_bytes
        self._attachments, self._metadata, self._clock = attachments or {}, metadata or {}, clock
        self._file: McapFile | None = None
        self._begun = 0
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in folder.glob(".*.new"):
                path.unlink()
            for path in self.files():
                if not is_finished(path):
                    _log.warning("%s had no end; %s", path, "completed" if recover(path) else "it was empty")
            self._make_room()
        except BlockingIOError as error:
            raise LogError(f"another recorder writes in {folder}; set record_dir") from error
        except OSError as error:
            raise LogError(f"cannot use {folder} ({error.strerror}); set record_dir") from error

    @property
    def path(self) -> Path | None:
        """The file that is being written; None before the first message."""
        return self._file.path if self._file else None

    def files(self) -> list[Path]:
        """All files, oldest first."""
        return sorted(self.folder.glob("*.mcap"))

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files())

    def write(self, entry: Entry, schema_name: str, schema: Mapping[str, Any]) -> None:
        """Add a message; raises LogError if it cannot be kept. The next one begins another file then."""
        try:
            if self._file is None:
                self._file = self._begin()
            self._file.write(entry, schema_name, schema)
            if self._file.nbytes > self._max_file:
                self.finish()
        except OSError as error:
            raise self._given_up(error) from error

    def flush(self) -> None:
        """Hand what was written to the system: from then on it survives the process being killed."""
        try:
            if self._file is not None:
                self._file.flush()
                self._make_room()
        except OSError as error:
            raise self._given_up(error) from error

    def close(self) -> None:
        """Finish the file in hand, and let another recorder use the folder."""
        try:
            self.finish()
        finally:
            self._lock.close()

    def finish(self) -> None:
        """Finish the file in hand; the next message begins another."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
                self._make_room()
        except OSError as error:
            raise LogError(f"cannot finish {file.path if file else self.folder} ({error.strerror})") from error

    def _begin(self) -> McapFile:
        now = self._clock()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        path = self.folder / f"{stamp}-{self._begun:03d}.mcap"
        while path.exists():
            self._begun += 1
            path = path.with_name(f"{stamp}-{self._begun:03d}.mcap")
        self._begun += 1  # a name that was deleted is not used again: by their names the files are in order
        return McapFile(path, self._attachments, self._metadata, round(now * 1e9))

    def _make_room(self) -> None:
        files = self.files()
        size = sum(path.stat().st_size for path in files)
        for path in files:
            if size <= self._max_total or path == self.path:
                return
            size -= path.stat().st_size
            path.unlink()

    def _given_up(self, error: OSError) -> LogError:
        file, self._file = self._file, None
        if file is not None:
            file.abandon()
        return LogError(f"cannot write in {self.folder} ({error.strerror}); is the disk full?")
