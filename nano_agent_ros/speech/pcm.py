"""PCM samples as they cross a border: bytes or typed arrays to float32 frames, everything about them checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nano_agent_ros.speech.audio import SpeechError

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000
MOST_CHANNELS = 64
LONGEST_S = 10.0
"""More in one piece than this is no stream that a person can be answered from."""


class BadAudio(SpeechError):
    """A piece of sound that says something impossible of itself; the message names it."""


@dataclass(frozen=True)
class Piece:
    """Sound that follows on what came before it.

    frames: float32 [n, channels] within [-1, 1]; began_s: when it was captured, in seconds of whatever clock, 0 if
    unknown; position: frames since the stream began, None if the sender does not count.
    """

    frames: np.ndarray
    sample_rate: int
    began_s: float = 0.0
    position: int | None = None

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.frames) / self.sample_rate


def _s24(data: np.ndarray) -> np.ndarray:
    parts = data.reshape(-1, 3).astype(np.int32)
    return ((parts[:, 2] << 24 | parts[:, 1] << 16 | parts[:, 0] << 8) / 2**31).astype(np.float32)


ENCODINGS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "S16LE": (2, lambda data: data.view("<i2").astype(np.float32) / 2**15),
    "S24LE": (3, _s24),
    "S32LE": (4, lambda data: (data.view("<i4") / 2**31).astype(np.float32)),
    "F32LE": (4, lambda data: data.view("<f4").astype(np.float32)),
    "U8": (1, lambda data: (data.astype(np.float32) - 128) / 2**7),
}
"""Bytes of a sample, and what makes float32 of uint8 [n * bytes]."""


def decode(data: bytes | np.ndarray, encoding: str, sample_rate: int, channels: int) -> np.ndarray:
    """Float32 frames [n, channels] of interleaved bytes; raises BadAudio."""
    if encoding not in ENCODINGS:
        raise BadAudio(f"encoding {encoding[:40]!r} is unknown; there are {', '.join(ENCODINGS)}")
    _check(sample_rate, channels)
    width, convert = ENCODINGS[encoding]
    raw = np.frombuffer(data, np.uint8)
    if len(raw) % (width * channels):
        raise BadAudio(
            f"{len(raw)} bytes of {encoding} are no whole number of samples of {channels} channels (it sends other "
            "channels or another encoding than it says)"
        )
    return interleaved(convert(raw), sample_rate, channels)


def interleaved(samples: np.ndarray, sample_rate: int, channels: int) -> np.ndarray:
    """Float32 [n * channels] as frames [n, channels]; raises BadAudio if that, or the rate, cannot be."""
    _check(sample_rate, channels)
    if not len(samples):
        raise BadAudio("there are no samples in it")
    if len(samples) % channels:
        raise BadAudio(f"{len(samples)} samples are no whole number of {channels} channels")
    if len(samples) / channels > LONGEST_S * sample_rate:
        raise BadAudio(f"{len(samples) / channels / sample_rate:.0f} s in one piece; {LONGEST_S:.0f} s at most")
    return np.asarray(samples, np.float32).reshape(-1, channels)


def _check(sample_rate: int, channels: int) -> None:
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise BadAudio(f"a sample rate of {sample_rate} Hz is not within {LOWEST_RATE} to {HIGHEST_RATE}")
    if not 1 <= channels <= MOST_CHANNELS:
        raise BadAudio(f"{channels} channels are not within 1 to {MOST_CHANNELS}")


def encode_s16(samples: np.ndarray) -> bytes:
    """Float32 [n] within [-1, 1] as S16LE."""
    return np.round(np.clip(samples, -1.0, 1.0) * (2**15 - 1)).astype("<i2").tobytes()
