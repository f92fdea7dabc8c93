"""How loud sound is: since it began, and in the last seconds, for logs, diagnostics and the level meter."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

SILENCE_PEAK_DBFS = -60.0
"""A recording whose loudest sample is below this holds nothing to hear."""

FLOOR_DBFS = -120.0
"""What zero is shown as."""

CLIPPED = 0.999
"""Samples from here on count as clipped: the last 33 steps of 16 bits, where converters and drivers end."""

MUCH_CLIPPED = 0.001
"""Share of clipped samples that speech recognition suffers from."""

RECENT_S = 5.0
MUTED_S = 10.0
"""So long nothing but zeros: no open microphone is that quiet, but some that suppress noise pause for seconds."""


def dbfs(amplitude: float) -> float:
    """Decibels relative to full scale (1.0), not below FLOOR_DBFS; a full-scale sine has an RMS of -3.0."""
    return max(FLOOR_DBFS, 20 * math.log10(amplitude)) if amplitude > 0.0 else FLOOR_DBFS


@dataclass(frozen=True)
class Level:
    """What the last seconds were like: amplitudes within [0, 1], `clipped` a share of the samples."""

    seconds: float
    rms: float
    peak: float
    clipped: float
    zeros_s: float = 0.0

    @property
    def problem(self) -> str:
        """What a technician should look at; empty if nothing is wrong."""
        if self.zeros_s >= MUTED_S:
            return f"nothing but zeros for {self.zeros_s:.0f} s: is the microphone muted, or the wrong one?"
        if self.clipped > MUCH_CLIPPED:
            return f"too loud: {self.clipped:.1%} of the samples are clipped; turn the microphone's gain down"
        return ""

    def __str__(self) -> str:
        if self.seconds == 0.0:
            return "no sound yet"
        return f"RMS {dbfs(self.rms):.1f} dBFS, peak {dbfs(self.peak):.1f} dBFS"


class LevelMeter:
    """Takes all sound in; `recent` may be asked from any thread."""

    def __init__(self, window_s: float = RECENT_S) -> None:
        """`recent` tells of the last `window_s` seconds."""
        self.peak = 0.0
        self.seconds = 0.0
        self._window_s = window_s
        self._zeros_s = 0.0
        self._blocks: deque[tuple[float, float, float, int, int]] = deque()  # seconds, squares, peak, clipped, count
        self._lock = threading.Lock()

    def add(self, frames: np.ndarray, sample_rate: int = 16_000) -> None:
        """Take float32 [n] or [n, channels] into account; samples that are not finite count as zero."""
        if not frames.size:
            return
        loudness = np.abs(np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0))
        seconds, peak = len(frames) / sample_rate, float(loudness.max())
        squares = float(np.square(loudness, dtype=np.float64).sum())
        with self._lock:
            self.peak = max(self.peak, peak)
            self.seconds += seconds
            self._zeros_s = self._zeros_s + seconds if peak == 0.0 else 0.0
            self._blocks.append((seconds, squares, peak, int((loudness >= CLIPPED).sum()), frames.size))
            while sum(block[0] for block in self._blocks) - self._blocks[0][0] >= self._window_s:
                self._blocks.popleft()

    def recent(self) -> Level:
        """The last seconds."""
        with self._lock:
            if not self._blocks:
                return Level(0.0, 0.0, 0.0, 0.0)
            seconds, squares, peaks, clipped, counts = zip(*self._blocks, strict=True)
            count = sum(counts)
            return Level(
                sum(seconds), math.sqrt(sum(squares) / count), max(peaks), sum(clipped) / count, self._zeros_s
            )

    @property
    def silent(self) -> bool:
        """Nothing above SILENCE_PEAK_DBFS has passed."""
        return self.peak < 10 ** (SILENCE_PEAK_DBFS / 20)

    def __str__(self) -> str:
        if self.peak == 0.0:
            return f"{self.seconds:.1f} s heard, all zero: silent"
        level = f"{self.seconds:.1f} s heard, peak {dbfs(self.peak):.1f} dBFS"
        return f"{level}: silent" if self.silent else level
