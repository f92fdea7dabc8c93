"""The compiled engine, found and declared: the C interface of native/nano_engine.h for ctypes."""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_uint8, c_uint64, c_void_p
from pathlib import Path

import nano_agent_ros.engine

from .base import EngineError

ABI_VERSION = 3
INVALID, DAMAGED = -1, -2
LIBRARY = "libnano_engine.so"


class Config(ctypes.Structure):
    """nano_config."""

    _fields_ = [
        *((name, c_int64) for name in (
            "vocab_size", "hidden_size", "intermediate_size", "mamba_heads", "mamba_head_dim", "state_size", "n_groups",
            "conv_kernel", "attention_heads", "kv_heads", "head_dim",
        )),
        ("norm_eps", c_double), ("dt_min", c_double), ("dt_max", c_double), ("pattern", c_char_p),
    ]  # fmt: skip


class Tensor(ctypes.Structure):
    """nano_tensor."""

    _fields_ = [
        ("name", c_char_p), ("kind", c_int64), ("rows", c_int64), ("cols", c_int64),
        ("offset", c_uint64), ("nbytes", c_uint64),
    ]  # fmt: skip


class Options(ctypes.Structure):
    """nano_options."""

    _fields_ = [
        ("threads", c_int64), ("window", c_int64), ("sinks", c_int64), ("kernels", c_char_p),
        ("pin", c_char_p), ("huge_pages", c_int64), ("model_digest", c_uint8 * 32),
    ]  # fmt: skip


_FUNCTIONS = {
    "nano_abi_version": (c_int, []),
    "nano_last_error": (c_char_p, []),
    "nano_engine_open": (c_void_p, [c_char_p, POINTER(Config), POINTER(Tensor), c_size_t, POINTER(Options)]),
    "nano_engine_close": (None, [c_void_p]),
    "nano_engine_kernels": (c_char_p, [c_void_p]),
    "nano_engine_threads": (c_int64, [c_void_p]),
    "nano_state_new": (c_void_p, [c_void_p]),
    "nano_state_free": (None, [c_void_p]),
    "nano_state_extend": (c_int, [c_void_p, POINTER(c_int64), c_int64, POINTER(c_float), c_int]),
    "nano_state_commit": (c_int, [c_void_p, c_int64]),
    "nano_state_length": (c_int64, [c_void_p]),
    "nano_state_fork": (c_void_p, [c_void_p]),
    "nano_state_snapshot_size": (c_int64, [c_void_p]),
    "nano_state_snapshot": (c_int, [c_void_p, POINTER(c_uint8), c_int64]),
    "nano_state_restore": (c_void_p, [c_void_p, POINTER(c_uint8), c_int64]),
}


@functools.cache
def load_library() -> ctypes.CDLL:
    """Return the engine's library: the file $NANO_ENGINE_LIB if that is set, else the one in the package's folders.

    Raises EngineError if it is missing, does not load, or was built from another version of the sources.
    """
    override = os.environ.get("NANO_ENGINE_LIB")
    places = [Path(override)] if override else [Path(folder) / LIBRARY for folder in _package_folders()]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        raise EngineError(
            f"{LIBRARY} is not built: none of {', '.join(map(str, places))} exists. Install the package "
            "(`pip install .` or `colcon build`), or set NANO_ENGINE_LIB to a built library"
        )
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as e:
        raise EngineError(f"{path} cannot be used ({e}); install the package again") from e
    if library.nano_abi_version() != ABI_VERSION:
        raise EngineError(f"{path} was built from another version of this package; install the package again")
    return library


def _package_folders() -> list[str]:
    """Folders that hold parts of this package: a source checkout's, and the installed one that it extends to."""
    own = list(nano_agent_ros.engine.__path__)
    parents = [str(Path(folder) / "engine") for folder in nano_agent_ros.__path__]
    return list(dict.fromkeys(own + parents))
