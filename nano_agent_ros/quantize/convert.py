"""Make an artifact from a checkpoint, a few rows at a time and without PyTorch."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nano_agent_ros.errors import ConfigError

from .artifact import ArtifactTensor, sha256
from .grid import BITS
from .int4 import GROUP, PANEL_ROWS, QuantizeError
from .layers import quantize_layers
from .methods import METHODS, open_method
from .source import Checkpoint, ConversionError
from .table import ATTENTION_PROJECTIONS, HEAD, artifact_tensors
from .writer import ArtifactWriter, stored_rows

__all__ = ["ConversionError", "Request", "convert"]

_WEIGHTS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Request:
    """How to quantize: bits of the linear layers, inputs that share a scale, how to round, and what is kept finer.

    `head_bits` and `attention_bits` (q, k, v, o projections) are those of `bits` unless given. `calibration` is a text
    file, for methods that need one.
    """

    bits: int = 4
    group_size: int = GROUP
    method: str = "rtn"
    calibration: Path | None = None
    head_bits: int | None = None
    attention_bits: int | None = None

    def __post_init__(self) -> None:
        for bits in (self.bits, self.bits_of(HEAD), self.bits_of("q_proj.weight")):
            if bits not in BITS:
                raise ConversionError(f"weights of {bits} bits are not supported; choose 4 or 8")
        if self.method not in METHODS:
            raise ConversionError(f"there is no method {self.method!r}; known are {', '.join(METHODS)}")

    def bits_of(self, name: str) -> int:
        """Bits of the matrix of that name."""
        if name == HEAD:
            return self.head_bits or self.bits
        if name.removesuffix(".weight").endswith(ATTENTION_PROJECTIONS):
            return self.attention_bits or self.bits
        return self.bits

    def describe(self) -> dict[str, Any]:
        """What the manifest says of it: the same keys, the calibration text by its SHA-256. Raises OSError."""
        return asdict(self) | {
            "head_bits": self.bits_of(HEAD),
            "attention_bits": self.bits_of("q_proj.weight"),
            "calibration": None if self.calibration is None else sha256(self.calibration),
        }


def convert(
    checkpoint_dir: str | Path,
    out_dir: str | Path,
    progress: bool = True,
    request: Request | None = None,
    threads: int = 0,
) -> str:
    """Quantize a checkpoint folder to an artifact folder; return the model digest.

    Reads config.json, model.safetensors or its shards, and takes tokenizer, chat template and generation config along.
    Goes on where an earlier call with the same arguments was cut off. `threads`: 0 is one per core, at most 8. Needs
    memory for a few rows (rtn), or for one layer and the activations of the calibration text (gptq, awq). Raises
    ConversionError, ConfigError for the calibration, or EngineError if `out_dir` holds something else.
    """
    request, out = request or Request(), Path(out_dir)
    if threads < 0:
        raise ConversionError(f"{threads} threads cannot convert; give 1 or more, or 0 for one per core")
    checkpoint = Checkpoint(Path(checkpoint_dir))
    try:
        tensors = artifact_tensors(checkpoint.config, request.bits_of, request.group_size)
        checkpoint.check(tensors)
        described = request.describe()
        method = open_method(
            request.method, checkpoint.config, request.group_size, request.calibration, checkpoint.folder
        )
    except QuantizeError as e:
        raise ConversionError(f"{checkpoint.folder}: {e}") from e
    except OSError as e:
        raise ConversionError(f"cannot read {request.calibration}: {e.strerror}") from e
    plan = {"request": described, "source": checkpoint.fingerprint()}
    try:
        with ArtifactWriter(out, tensors, checkpoint.config_json, plan) as writer, _bar(writer, progress) as bar:
            try:
                if method is None:
                    round_to_nearest(checkpoint, writer, request.group_size, bar, threads)
                else:
                    quantize_layers(checkpoint, writer, method, request.bits_of, bar)
            except (QuantizeError, ConfigError) as e:
                raise ConversionError(f"{checkpoint.folder}: {bar.postfix}: {e}") from e
            bar.set_postfix_str("self-check and digests")
            digest = writer.complete(described, checkpoint.companions)
            writer.publish()
    except OSError as e:
        raise interrupted(out, e) from e
    return digest


def interrupted(out: Path, e: OSError) -> ConversionError:
    """What to say of a conversion that the system has stopped."""
    return ConversionError(
        f"{e.filename or out}: {e.strerror or e}; when that is cured, the same command goes on where it was"
    )


def round_to_nearest(
    checkpoint: Checkpoint, writer: ArtifactWriter, group_size: int, bar: tqdm[Any], threads: int = 0
) -> None:
    """Store every tensor that is not done, each in blocks of rows that stand alone."""

    def stored(t: ArtifactTensor, begin: int, end: int) -> np.ndarray:
        return stored_rows(t, checkpoint.rows(t, begin, end), group_size)

    with ThreadPoolExecutor(threads or min(len(os.sched_getaffinity(0)), 8)) as pool:
        for t in writer.tensors.values():
            bar.set_postfix_str(t.name, refresh=False)
            if t.name in writer.done:
                bar.update(t.rows * t.cols)
                continue
            for begin, end, rows in _in_blocks(pool, t, stored):
                writer.write(t.name, rows, begin)
                bar.update((end - begin) * t.cols)
            writer.finished(t.name)


def _bar(writer: ArtifactWriter, progress: bool) -> tqdm[Any]:
    total = sum(t.rows * t.cols for t in writer.tensors.values())
    bar = tqdm(total=total, unit="w", unit_scale=True, disable=not progress, dynamic_ncols=True)
    if writer.done and progress:
        bar.write(f"going on: {len(writer.done)} of {len(writer.tensors)} tensors were done", file=sys.stderr)
    return bar


def _in_blocks(
    pool: ThreadPoolExecutor, t: ArtifactTensor, stored: Callable[[ArtifactTensor, int, int], np.ndarray]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (begin, end, stored rows) in order, computed by the pool a few blocks ahead."""
    at_once = max(PANEL_ROWS, _WEIGHTS_AT_ONCE // t.cols // PANEL_ROWS * PANEL_ROWS)
    ahead: deque[tuple[int, int, Future[np.ndarray]]] = deque()
    for begin in range(0, t.rows, at_once):
        end = min(begin + at_once, t.rows)
        ahead.append((begin, end, pool.submit(stored, t, begin, end)))
        if len(ahead) > 2 * pool._max_workers:
            first, last, block = ahead.popleft()
            yield first, last, block.result()
    for first, last, block in ahead:
        yield first, last, block.result()
