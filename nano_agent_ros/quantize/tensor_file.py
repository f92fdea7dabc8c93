"""Safetensors files read and written tensor by tensor, without PyTorch (NumPy has no bfloat16)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "|u1", "I8": "|i1", "I64": "<i8", "I32": "<i4",
}  # fmt: skip
_MOST_HEADER_BYTES = 100_000_000


class TensorFileError(ValueError):
    """A safetensors file that is damaged or cut short; names the file."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file; `offset` counts from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of a safetensors file by name; raises TensorFileError if header and size do not fit."""
    try:
        size = path.stat().st_size
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if not 0 < length <= min(_MOST_HEADER_BYTES, size - 8):
                raise TensorFileError(f"{path} is no safetensors file, or cut short")
            header = json.loads(f.read(length))
    except OSError as e:
        raise TensorFileError(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        if isinstance(e, TensorFileError):
            raise
        raise TensorFileError(f"{path}: its header is damaged") from e
    start = 8 + length
    try:
        entries = {name: _entry(name, e, start) for name, e in header.items() if name != "__metadata__"}
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise TensorFileError(f"{path}: its header is damaged ({e})") from e
    end = max((e.offset + e.nbytes for e in entries.values()), default=start)
    if end != size:
        raise TensorFileError(f"{path} has {size} bytes, its header asks for {end}: it was cut short or changed")
    return entries


def _entry(name: str, raw: Mapping[str, Any], start: int) -> TensorEntry:
    begin, end = (int(v) for v in raw["data_offsets"])
    shape = tuple(int(v) for v in raw["shape"])
    nbytes = end - begin
    if begin < 0 or any(v < 0 for v in shape) or nbytes != math.prod(shape) * np.dtype(_DTYPES[raw["dtype"]]).itemsize:
        raise ValueError(f"tensor {name}")
    return TensorEntry(name, raw["dtype"], shape, start + begin, nbytes)


def read_tensor(path: Path, entry: TensorEntry) -> np.ndarray:
    """Read one tensor; floating-point ones come as float32, whatever their dtype in the file."""
    rows = entry.shape[0] if entry.shape else 1
    return read_rows(path, entry, rows, 0, rows).reshape(entry.shape)


def read_rows(path: Path, entry: TensorEntry, rows: int, begin: int, end: int) -> np.ndarray:
    """Read rows begin to end of a tensor seen as [rows, ...]; return them flat, floating-point ones as float32."""
    width = math.prod(entry.shape) // rows if rows else 0
    offset = entry.offset + begin * width * np.dtype(_DTYPES[entry.dtype]).itemsize
    raw = np.fromfile(path, dtype=_DTYPES[entry.dtype], count=(end - begin) * width, offset=offset)
    if len(raw) != (end - begin) * width:
        raise TensorFileError(f"{path} is shorter than its header says")
    if entry.dtype == "BF16":
        wide = np.zeros((len(raw), 2), dtype="<u2")  # a bfloat16 is the upper half of a float32
        wide[:, 1] = raw
        return wide.view("<f4").reshape(-1)
    return raw.astype(np.float32) if entry.dtype in ("F64", "F16") else raw


def layout_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], alignment: int
) -> tuple[bytes, list[TensorEntry]]:
    """Lay out tensors (name to dtype and shape) in order, each at a multiple of `alignment` bytes in the file.

    Returns the first bytes of the file and the entries in file order. Safetensors allows no holes, so what lies
    between two tensors is itself a uint8 tensor named `padding.N`.
    """
    raw: dict[str, dict[str, Any]] = {}
    at = 0

    def put(name: str, dtype: str, shape: tuple[int, ...]) -> None:
        nonlocal at
        nbytes = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        raw[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes

    for i, (name, (dtype, shape)) in enumerate(tensors.items()):
        put(name, dtype, shape)
        if at % alignment:
            put(f"padding.{i}", "U8", (-at % alignment,))
    text = json.dumps(raw, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % alignment)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, [_entry(name, e, start) for name, e in raw.items()]
