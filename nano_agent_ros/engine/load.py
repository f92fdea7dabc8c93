"""Engines by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .base import Engine, EngineError
from .self_check import check_engine, check_window

ENGINES = ("native", "torch", "tensorrt")


def open_engine(folder: str | Path, name: str = "native", *, self_check: bool = True, **options: Any) -> Engine:
    """Open an artifact folder with the engine of that name; `options` are those of its constructor.

    The engine answers the artifact's self-check before it is handed out; `self_check=False`, for tests of what is
    damaged on purpose, leaves that out. Raises EngineError for an unknown name or option, for an engine that fails the
    self-check, and for whatever keeps it from running the artifact.
    """
    engine = _open(folder, name, options)
    if self_check:
        check_window(**{key: options[key] for key in ("window", "sinks") if key in options})
        check_engine(engine, folder)
    return engine


def _open(folder: str | Path, name: str, options: dict[str, Any]) -> Engine:
    try:
        if name == "native":
            from .native_engine import NativeEngine

            return NativeEngine(folder, **options)
        if name == "torch":
            from .torch_engine import TorchEngine

            return TorchEngine(folder, **options)
        if name == "tensorrt":
            from .tensorrt_engine import TensorRTEngine

            return TensorRTEngine(folder, **options)
    except TypeError as e:
        raise EngineError(f"engine {name!r} does not take these options: {e}") from e
    except ImportError as e:
        raise EngineError(f"engine {name!r} needs a library that is not installed: {e}") from e
    raise EngineError(f"there is no engine {name!r}; known are {', '.join(ENGINES)}")
