"""Engines by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .base import Engine, EngineError

ENGINES = ("native", "torch")


def open_engine(folder: str | Path, name: str = "native", **options: Any) -> Engine:
    """Open an artifact folder with the engine of that name; `options` are those of its constructor.

    Raises EngineError for an unknown name or option, and whatever keeps the engine from running the artifact.
    """
    try:
        if name == "native":
            from .native_engine import NativeEngine

            return NativeEngine(folder, **options)
        if name == "torch":
            from .torch_engine import TorchEngine

            return TorchEngine(folder, **options)
    except TypeError as e:
        raise EngineError(f"engine {name!r} does not take these options: {e}") from e
    except ImportError as e:
        raise EngineError(f"engine {name!r} needs a library that is not installed: {e}") from e
    raise EngineError(f"there is no engine {name!r}; known are {', '.join(ENGINES)}")
