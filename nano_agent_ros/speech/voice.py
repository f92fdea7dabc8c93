"""What a voice is: text to sound by a program. None of them is imported, and text is never one of their arguments."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np

from nano_agent_ros.speech.audio import SpeechError

WORDS_PER_MINUTE = 165
"""Of rate 1."""

QUIET_DBFS = -50.0
MARGIN_S = 0.02
"""Sound below that is cut off at both ends, but for so much of it."""

SILENT = "replies are still published on the topic reply"


@dataclass(frozen=True)
class VoiceConfig:
    """How to speak; the parameters of the node `speaker` of these names, which docs/nodes.md describes."""

    engine: str = "auto"
    voice: str = ""
    language: str = "en"
    rate: float = 1.0
    command: str = ""
    timeout_s: float = 10.0
    start_timeout_s: float = 60.0


@dataclass(frozen=True)
class Sound:
    """What was synthesised: float32 [n] within [-1, 1], mono, at `sample_rate` Hz."""

    samples: np.ndarray
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


class Synthesizer(Protocol):
    """A voice. One thread calls `synthesize`; `close` may be called from any."""

    name: str

    def synthesize(self, sentence: str) -> Sound:
        """Speak a sentence of `speakable.sentences` into memory; raises SpeechError, and may be called again then."""
        ...

    def close(self) -> None:
        """End what runs; a `synthesize` in progress, and every later one, raises SpeechError."""
        ...


def decode(file: bytes) -> Sound:
    """A WAV file (or another that libsndfile reads), as sound without the silence around it; raises SpeechError."""
    import soundfile

    try:
        samples, sample_rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise SpeechError(f"{len(file)} bytes that are no sound file ({error})") from error
    mono = np.nan_to_num(samples.mean(axis=1), nan=0.0, posinf=0.0, neginf=0.0).clip(-1.0, 1.0)
    loud = np.flatnonzero(np.abs(mono) > 10 ** (QUIET_DBFS / 20))
    if not loud.size:
        raise SpeechError(f"{len(mono) / sample_rate:.1f} s of silence")
    margin = round(MARGIN_S * sample_rate)
    return Sound(mono[max(0, loud[0] - margin) : loud[-1] + 1 + margin].astype(np.float32), sample_rate)


def start(name: str, command: Sequence[str], errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a program with pipes, in a process group of its own; raises SpeechError."""
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    except OSError as error:
        raise SpeechError(f"voice {name}: {command[0]} cannot be started: {error.strerror}; {SILENT}") from error


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started, at once; harmless when repeated."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
