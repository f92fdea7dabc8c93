"""Audio as the rest of the house hears it: 16 kHz mono float32 chunks, from a file or (microphone.py) a device."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr

from nano_agent_ros.errors import NanoAgentError

SAMPLE_RATE = 16_000
"""Hz, of every chunk, utterance and model input."""

SILENCE_PEAK_DBFS = -60.0
"""A recording whose loudest sample is below this holds nothing to hear."""


class SpeechError(NanoAgentError):
    """Audio cannot be read, captured or transcribed; the message names the cause and the way out."""


class AudioSource(Protocol):
    """Where speech comes from. `chunks` ends when the source does, or soon after `close` from any thread."""

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield float32 [n] at 16 kHz, mono, finite, within [-1, 1]; n varies. Raises SpeechError."""
        ...

    def close(self) -> None:
        """Release the file or device; harmless when repeated."""
        ...

    def report(self) -> str:
        """One line for a person: what the source is and how loud it was so far."""
        ...


class Converter:
    """Frames of any rate and channel count to 16 kHz mono, as a stream (soxr keeps its filter state)."""

    def __init__(self, sample_rate: int) -> None:
        """Convert from `sample_rate` Hz."""
        self._resampler = None
        if sample_rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32")

    def push(self, frames: np.ndarray, last: bool = False) -> np.ndarray:
        """Return float32 [m] for frames [n, channels]; `last` drains the filter. Channels are averaged.

        Samples that are not finite become silence: one of them would stay in the filters of all that follow.
        """
        mono = np.asarray(frames, dtype=np.float32).mean(axis=1)
        mono = np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(np.ascontiguousarray(mono), last=last)
        return np.clip(mono, -1.0, 1.0)


class LevelMeter:
    """Loudest sample and length of what has passed."""

    def __init__(self) -> None:
        self.peak = 0.0
        self.seconds = 0.0

    def add(self, samples: np.ndarray) -> None:
        """Take float32 [n] at 16 kHz into account."""
        if samples.size:
            self.peak = max(self.peak, float(np.abs(samples).max()))
            self.seconds += samples.size / SAMPLE_RATE

    @property
    def silent(self) -> bool:
        """Nothing above SILENCE_PEAK_DBFS has passed."""
        return self.peak < 10 ** (SILENCE_PEAK_DBFS / 20)

    def __str__(self) -> str:
        if self.peak == 0.0:
            return f"{self.seconds:.1f} s heard, all zero: silent"
        level = f"{self.seconds:.1f} s heard, peak {20 * math.log10(self.peak):.1f} dBFS"
        return f"{level}: silent" if self.silent else level


class WavSource:
    """A sound file (WAV of any rate, channel count and sample format; FLAC and OGG as well) as a source.

    `realtime` paces the chunks as a microphone would; otherwise they come as fast as they are taken.
    Raises SpeechError at once if the file is missing, empty or no audio. A silent file is no error: it yields
    no utterance, and `report()` says that it is silent.
    """

    def __init__(self, path: str | Path, *, realtime: bool = False, chunk_s: float = 0.1) -> None:
        """Open `path`; chunks hold about `chunk_s` seconds."""
        try:
            import soundfile
        except (ImportError, OSError) as error:
            raise SpeechError(f"audio files cannot be read: {error}; pip install soundfile") from error
        self.path = Path(path)
        self.realtime = realtime
        self.levels = LevelMeter()
        self._chunk_s = chunk_s
        self._closed = threading.Event()
        self._lock = threading.Lock()
        if not self.path.exists():
            raise SpeechError(f"audio file {self.path} does not exist; check the path")
        if not self.path.is_file():
            raise SpeechError(f"audio file {self.path} is not a file; give the path of a WAV file")
        if self.path.stat().st_size == 0:
            raise SpeechError(f"audio file {self.path} is empty (0 bytes); record it again")
        try:
            self._file = soundfile.SoundFile(self.path)
        except (soundfile.LibsndfileError, TypeError, OSError) as error:
            cause = getattr(error, "error_string", str(error))
            raise SpeechError(
                f"audio file {self.path} is corrupt or not audio ({cause}); give a WAV, FLAC or OGG file"
            ) from error
        if self._file.frames == 0:
            self._file.close()
            raise SpeechError(f"audio file {self.path} holds no samples (0 frames); record it again")

    @property
    def duration_s(self) -> float:
        """Length that the file's header gives, in seconds."""
        return float(self._file.frames / self._file.samplerate)

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the file once as float32 [n] at 16 kHz; raises SpeechError if it cannot be decoded to its end."""
        converter = Converter(self._file.samplerate)
        block = max(1, round(self._chunk_s * self._file.samplerate))
        started = time.monotonic()
        while not self._closed.is_set():
            try:
                with self._lock:
                    if self._closed.is_set():
                        return
                    frames = self._file.read(block, dtype="float32", always_2d=True)
            except RuntimeError as error:
                raise SpeechError(
                    f"audio file {self.path} is corrupt after {self.levels.seconds:.1f} s ({error}); record it again"
                ) from error
            last = len(frames) < block
            samples = converter.push(frames, last=last)
            self.levels.add(samples)
            if self.realtime:
                self._closed.wait(max(0.0, started + self.levels.seconds - time.monotonic()))
            if samples.size and not self._closed.is_set():
                yield samples
            if last:
                return

    def close(self) -> None:
        """End `chunks` after the chunk in hand and close the file."""
        self._closed.set()
        with self._lock:
            self._file.close()

    def report(self) -> str:
        """Name, format and level of the file."""
        channels = "1 channel" if self._file.channels == 1 else f"{self._file.channels} channels"
        return f"{self.path.name}: {self._file.samplerate} Hz, {channels}, {self.levels}"
