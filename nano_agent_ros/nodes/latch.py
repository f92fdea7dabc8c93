"""A stop that outlives the process: it is in force as long as a small file says so."""

from __future__ import annotations

from pathlib import Path


class StopLatch:
    """The file of a stop; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        """Where the file is."""
        self._path = path

    @property
    def stopped(self) -> bool:
        """Whether a stop was in force when the process before this one ended."""
        return self._path is not None and self._path.exists()

    def keep(self, stopped: bool) -> None:
        """Note whether a stop is in force; raises OSError if that cannot be written."""
        if self._path is None or stopped == self._path.exists():
            return
        if stopped:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        else:
            self._path.unlink(missing_ok=True)
