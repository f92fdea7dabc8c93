"""The state after the system prompt, kept on disk: it is computed once for a model and a configuration."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import Engine, EngineError

from .snapshot_file import StateFileError, read_snapshot, write_snapshot

_log = logging.getLogger(__name__)
KEEP = 4


def default_folder() -> Path:
    """$NANO_AGENT_CACHE, else nano_agent_ros in the user's cache folder."""
    if chosen := os.environ.get("NANO_AGENT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nano_agent_ros"


def identity(engine: Engine, tokens: Sequence[int]) -> str:
    """Digest of all that a state after a prompt depends on: engine, model, window, prompt."""
    h = hashlib.sha256(f"{engine.name}:{engine.model_digest}:{engine.spec}:".encode())
    h.update(np.asarray(tokens, dtype="<i8").tobytes())
    return h.hexdigest()


class PrefixCache:
    """States after a prompt in a folder, at most `keep` of them: those used last stay."""

    def __init__(self, folder: Path | None = None, keep: int = KEEP) -> None:
        """Use `folder` (default: `default_folder()`/prefix); it is made when the first state is written."""
        self.folder = folder if folder is not None else default_folder() / "prefix"
        self._keep = keep

    @staticmethod
    def none() -> PrefixCache:
        """A cache that keeps nothing."""
        return PrefixCache(keep=0)

    def state(self, engine: Engine, tokens: Sequence[int]) -> Any:
        """Return a state of `engine` after `tokens`, from disk if it is there, else computed and written.

        A file that is damaged, or of another model, prompt, engine or window, is logged and replaced. A disk that
        cannot be written is logged; the state is returned all the same.
        """
        if self._keep == 0:
            return _computed(engine, tokens)
        path = self.folder / f"{identity(engine, tokens)}.state"
        if path.exists():
            try:
                snapshot, note = read_snapshot(path)
                if note.get("tokens") != len(tokens) or snapshot.length != len(tokens):
                    raise StateFileError(f"{path} is of another prompt")
                state = engine.restore(snapshot)
                os.utime(path)
                return state
            except (StateFileError, EngineError, OSError) as error:
                _log.warning("the prompt is computed anew: %s", error)
        state = _computed(engine, tokens)
        try:
            write_snapshot(path, engine.snapshot(state), {"tokens": len(tokens)})
            self._tidy()
        except (StateFileError, OSError) as error:
            _log.warning("the state after the prompt is not kept: %s", error)
        return state

    def _tidy(self) -> None:
        by_age = sorted(self.folder.glob("*.state"), key=lambda p: p.stat().st_mtime, reverse=True)
        for path in by_age[self._keep :]:
            path.unlink(missing_ok=True)


def _computed(engine: Engine, tokens: Sequence[int]) -> Any:
    state = engine.new_state()
    engine.extend(state, tokens)
    return state
