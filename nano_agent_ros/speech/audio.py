"""Audio as the rest of the house hears it: 16 kHz mono float32 chunks, from a file or (microphone.py) a device."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.speech.levels import LevelMeter

SAMPLE_RATE = 16_000
"""Hz, of every chunk, utterance and model input."""


class SpeechError(NanoAgentError):
    """Audio cannot be read, captured or transcribed; the message names the cause and the way out."""


class AudioSource(Protocol):
    """Where speech comes from. `chunks` ends when the source does, or soon after `close` from any thread."""

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield float32 [n] at 16 kHz, mono, finite, within [-1, 1]; n varies. Raises SpeechError.

        An empty chunk (n = 0) says that sound is missing here: what was being said then is cut off.
        """
        ...

    def close(self) -> None:
        """Release the file or device; harmless when repeated."""
        ...

    def report(self) -> str:
        """One line for a person: what the source is and how loud it was so far."""
        ...


class MeteredSource(AudioSource, Protocol):
    """A source that can be watched while it is listened to, from any thread."""

    levels: LevelMeter
    trouble: str
    """Why nothing is heard for the moment; empty if all is well. The source itself sees to it that it ends."""

    def problem(self) -> str:
        """What a technician should look at although sound comes; empty if nothing is wrong."""
        ...

    def details(self) -> dict[str, object]:
        """What a technician wants to know, for diagnostics."""
        ...


class Converter:
    """Frames of any rate and channel count to 16 kHz mono, as a stream (soxr keeps its filter state)."""

    def __init__(self, sample_rate: int, channel: int | None = None) -> None:
        """Convert from `sample_rate` Hz; take `channel` (0 is the first) alone, or the average of all."""
        self._channel = channel
        self._resampler = None
        if sample_rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32")

    def push(self, frames: np.ndarray, last: bool = False) -> np.ndarray:
        """Return float32 [m] for frames [n, channels]; `last` drains the filter.

        Samples that are not finite become silence: one of them would stay in the filters of all that follow.
        """
        frames = np.asarray(frames, dtype=np.float32)
        mono = frames.mean(axis=1) if self._channel is None else frames[:, self._channel]
        mono = np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(np.ascontiguousarray(mono), last=last)
        return np.clip(mono, -1.0, 1.0)


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
        self.trouble = ""
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

    def problem(self) -> str:
        """Nothing: files are quiet and loud as they are."""
        return ""

    def details(self) -> dict[str, object]:
        """Name and format of the file."""
        return {"file": self.path.name, "sample_rate_hz": self._file.samplerate, "channels": self._file.channels}

    def report(self) -> str:
        """Name, format and level of the file."""
        channels = "1 channel" if self._file.channels == 1 else f"{self._file.channels} channels"
        return f"{self.path.name}: {self._file.samplerate} Hz, {channels}, {self.levels}"
