"""What the machine allows and what a step of the network asks for: the two sides of every "share of the limit"."""

from __future__ import annotations

import ctypes
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nano_agent_ros.engine.base import StateSpec
from nano_agent_ros.engine.native_library import load_library
from nano_agent_ros.quantize.artifact import INT4, INT8, Artifact

EMBEDDINGS = "backbone.embeddings.weight"  # looked up, one row a token
LM_HEAD = "lm_head.weight"  # multiplied for the last token only
PREFETCH_BYTES = (0, 2048)  # which of the two reads faster differs from machine to machine
LARGEST_PROBE = 1 << 28  # far more than caches hold


@dataclass(frozen=True)
class Limits:
    """Measured: bytes per second read by all threads, INT8 multiply-accumulates per second (None: not known here)."""

    bandwidth: float
    int8_macs: float | None


@dataclass(frozen=True)
class Work:
    """What the network must read and compute, by its shapes: bytes of weights and of state per step, and MACs.

    `state_bytes` is the recurrent state, read and written once; `kv_bytes` is one position of the attention layers.
    """

    weight_bytes: int
    state_bytes: int
    kv_bytes: int
    window: int
    body_macs: int
    head_macs: int

    @staticmethod
    def of(artifact: Artifact, spec: StateSpec) -> Work:
        """Count what is in an artifact and in the state of its engine."""
        read = [t for t in artifact.tensors if t.name != EMBEDDINGS]
        linear = {t.name: t.rows * t.cols for t in read if t.kind in (INT4, INT8)}
        kv = [t for t in spec.tensors if t.name.endswith(".kv")]
        kv_bytes = sum(math.prod(t.shape[1:]) * np.dtype(t.dtype).itemsize for t in kv)
        head = linear.pop(LM_HEAD, 0)
        return Work(
            weight_bytes=sum(t.nbytes for t in read),
            state_bytes=spec.nbytes - sum(math.prod(t.shape) * np.dtype(t.dtype).itemsize for t in kv),
            kv_bytes=kv_bytes,
            window=kv[0].shape[0] if kv else 0,
            body_macs=sum(linear.values()),
            head_macs=head,
        )

    def bytes_per_step(self, depth: int) -> int:
        """Bytes that a step at `depth` cannot do without, however many tokens it takes."""
        return self.weight_bytes + 2 * self.state_bytes + self.kv_bytes * min(depth, self.window)

    def least_seconds(self, tokens: int, depth: int, limits: Limits) -> float:
        """What a step of `tokens` would take if reading or INT8 products were all that it cost, whichever is more."""
        reading = self.bytes_per_step(depth) / limits.bandwidth
        macs = tokens * self.body_macs + self.head_macs
        return max(reading, macs / limits.int8_macs) if limits.int8_macs else reading


def read_bandwidth(threads: int, nbytes: int, repeats: int = 3) -> float:
    """Bytes per second over a working set of `nbytes` (at most 256 MiB is taken): the better median of two loops."""
    size = max(min(nbytes, LARGEST_PROBE), threads * 4096)
    probe = _function("nano_probe_read", 4)
    return max(
        _median(lambda out, n=ahead: probe(threads, size, n, repeats, out), repeats) for ahead in PREFETCH_BYTES
    )


def int8_peak(threads: int, repeats: int = 3) -> float | None:
    """Multiply-accumulates per second of the processor's byte dot product; None where the probe knows none."""
    probe = _function("nano_probe_int8", 2)
    try:
        return _median(lambda out: probe(threads, repeats, out), repeats)
    except ValueError:
        return None


def measure(threads: int, nbytes: int) -> Limits:
    """Both limits, now."""
    return Limits(read_bandwidth(threads, nbytes), int8_peak(threads))


def _function(name: str, integers: int) -> Callable[..., int]:
    function = getattr(load_library(), name)
    function.restype = ctypes.c_int
    function.argtypes = [*[ctypes.c_int64] * integers, ctypes.POINTER(ctypes.c_double)]
    return function


def _median(call: Callable[..., int], repeats: int) -> float:
    rates = (ctypes.c_double * repeats)()
    code = call(rates)
    if code != 0:
        raise ValueError(f"the probe could not run (code {code}); fewer threads, or free memory")
    return statistics.median(rates)
