"""Sound made by code: the noise of a warehouse, a room's echo, and speech in them at a given ratio.

Mono float32 at 16 kHz. Everything follows from its arguments and a seed: no recording is needed, and each figure can
be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

RATE = 16_000
FRAME = RATE // 50
"""Samples of a frame of level measurement: 20 ms."""

ACTIVE_DB = 30.0
"""Frames at most this far below the loud ones (95th percentile) are speech; the rest is pause."""

NOISE_DBFS = -30.0
"""Level of `warehouse` by itself; `mix` sets its own."""

PEOPLE_DB = -5.0
"""Level of the people in a hall against that of its machines."""


# Level


def power(samples: np.ndarray) -> float:
    """Mean square of float32 [n]."""
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def active_power(speech: np.ndarray) -> float:
    """Mean square of the frames in which somebody speaks: pauses and silence around do not count.

    Frames of 20 ms whose power is at most ACTIVE_DB below the 95th percentile of all that are not silent: a plain form
    of the active speech level of ITU-T P.56. Raises ValueError for silence.
    """
    frames = speech[: len(speech) // FRAME * FRAME].reshape(-1, FRAME)
    powers = np.mean(np.square(frames, dtype=np.float64), axis=1)
    sounding = powers[powers > 1e-10]
    if not sounding.size:
        raise ValueError("silence has no speech level")
    loud = np.percentile(sounding, 95)
    return float(powers[powers >= loud * 10 ** (-ACTIVE_DB / 10)].mean())


def voice_span(speech: np.ndarray) -> tuple[int, int]:
    """First sample of clean speech and the one behind its last, to 5 ms: less than ACTIVE_DB below its level."""
    step = FRAME // 4
    blocks = speech[: len(speech) // step * step].reshape(-1, step)
    powers = np.mean(np.square(blocks, dtype=np.float64), axis=1)
    loud = np.flatnonzero(powers >= active_power(speech) * 10 ** (-ACTIVE_DB / 10))
    return int(loud[0]) * step, (int(loud[-1]) + 1) * step


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return speech [n] with the first n samples of noise so loud that the ratio of their levels is `snr_db`.

    The ratio is that of `active_power(speech)` to the mean power of those n samples of noise. Where the sum would
    exceed 1, all of it is made quieter. Raises ValueError if the noise is shorter than the speech, or silent.
    """
    noise = noise[: len(speech)]
    if len(noise) < len(speech) or power(noise) == 0.0:
        raise ValueError(f"{len(noise)} samples of noise for {len(speech)} of speech, power {power(noise):.1e}")
    gain = np.sqrt(active_power(speech) / power(noise) / 10 ** (snr_db / 10))
    return _bounded(speech + np.float32(gain) * noise)


def level_to(samples: np.ndarray, dbfs: float) -> np.ndarray:
    """Return samples with a mean power of `dbfs` (0 dBFS: a power of 1), clipped where they exceed 1."""
    gain = np.sqrt(10 ** (dbfs / 10) / max(power(samples), 1e-20))
    return np.clip(samples * np.float32(gain), -1.0, 1.0).astype(np.float32)


def _bounded(samples: np.ndarray) -> np.ndarray:
    peak = float(np.abs(samples).max(initial=0.0))
    return (samples / peak if peak > 1.0 else samples).astype(np.float32)


# Rooms


@lru_cache(maxsize=8)
def room(rt60_s: float, direct_db: float = 3.0, seed: int = 0) -> np.ndarray:
    """Impulse response [n] of a room: the direct sound, then noise that decays by 60 dB in `rt60_s`.

    `direct_db`: how much more energy the direct sound has than all that follows. Energy 1 in all. Source: Polack's
    statistical model of late reverberation.
    """
    count = round(1.5 * rt60_s * RATE)
    decay = np.exp(-np.log(1000.0) * np.arange(count) / RATE / rt60_s)
    tail = np.random.default_rng(seed).standard_normal(count) * decay
    tail[: RATE // 500] = 0.0  # nothing comes back within 2 ms
    response = tail / np.sqrt(np.sum(tail**2) * 10 ** (direct_db / 10))
    response[0] = 1.0
    return np.asarray(response / np.sqrt(np.sum(response**2)), np.float32)


def reverberate(speech: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return speech [n] in a room, [n + m - 1]: the echo of its end included."""
    size = len(speech) + len(response) - 1
    width = 1 << (size - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(speech, width) * np.fft.rfft(response, width), width)[:size]
    return _bounded(heard)


def rt60_of(response: np.ndarray) -> float:
    """Seconds in which a room's response decays by 60 dB: Schroeder's backward integration, -5 to -35 dB, times two."""
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decay_db = 10 * np.log10(np.maximum(energy / energy[0], 1e-12))
    inside = np.flatnonzero((decay_db <= -5) & (decay_db >= -35))
    slope = np.polyfit(inside / RATE, decay_db[inside], 1)[0]
    return float(-60.0 / slope)


# Noise


def warehouse(seconds: float, seed: int, speech: Sequence[np.ndarray] = (), dbfs: float = NOISE_DBFS) -> np.ndarray:
    """Noise of a hall, float32 [seconds * RATE], at `dbfs`: fans, a motor, reversing alarms, impacts.

    With `speech` there are people as well, whom nobody understands: `babble`, by PEOPLE_DB louder than all the rest.
    """
    count, random = round(seconds * RATE), np.random.default_rng(seed)
    parts = [(fans, 0.0), (motor, -4.0), (alarms, -6.0), (impacts, -2.0)]
    hall = sum(level_to(make(count, random), NOISE_DBFS + gain_db) for make, gain_db in parts)
    assert isinstance(hall, np.ndarray)
    if speech:
        hall = hall + level_to(babble(count, random, speech), 10 * np.log10(power(hall)) + PEOPLE_DB)
    return level_to(hall, dbfs)


def fans(count: int, random: np.random.Generator) -> np.ndarray:
    """Ventilation: noise that falls by 5 dB an octave, and the passing of the blades."""
    air = _shaped(count, random, lambda hz: np.maximum(hz, 40.0) ** -0.83)
    t = np.arange(count) / RATE
    blades = sum(np.sin(2 * np.pi * 87.0 * k * t + random.uniform(0, 6.28)) / k**1.5 for k in range(1, 6))
    return np.asarray(air / np.sqrt(power(air)) + 0.4 * blades, np.float32)


def motor(count: int, random: np.random.Generator) -> np.ndarray:
    """A truck's drive: mains hum with harmonics, and a whine that follows the speed."""
    t = np.arange(count) / RATE
    hum = sum(np.sin(2 * np.pi * 50.0 * k * t + random.uniform(0, 6.28)) / k for k in range(1, 9))
    knots = np.arange(0, count + 4 * RATE, 2 * RATE)
    hz = np.interp(np.arange(count), knots, random.uniform(300.0, 1800.0, len(knots)))
    loud = np.interp(np.arange(count), knots, random.uniform(0.0, 1.0, len(knots)))
    turns = 2 * np.pi * np.cumsum(hz) / RATE
    return np.asarray(hum + loud * (np.sin(turns) + 0.5 * np.sin(2 * turns) + 0.3 * np.sin(3 * turns)), np.float32)


def alarms(count: int, random: np.random.Generator) -> np.ndarray:
    """Reversing trucks: series of beeps of half a second at 1 to 1.4 kHz, near and far, with pauses of some seconds."""
    heard, at = np.zeros(count, np.float32), round(random.uniform(0, 3) * RATE)
    while at < count:
        hz, loud = random.uniform(1000.0, 1400.0), random.uniform(0.2, 1.0)
        for _ in range(random.integers(3, 9)):
            t = np.arange(min(RATE // 2, max(count - at, 0))) / RATE
            edge = np.minimum(1.0, np.minimum(t, 0.5 - t) / 0.01)
            tone = np.sin(2 * np.pi * hz * t) + 0.3 * np.sin(6 * np.pi * hz * t)
            heard[at : at + len(t)] += (loud * edge * tone).astype(np.float32)
            at += RATE
        at += round(random.uniform(2, 10) * RATE)
    return heard


def impacts(count: int, random: np.random.Generator) -> np.ndarray:
    """Pallets set down, tools dropped: every second and a half a thud or a clang, some of them loud."""
    heard, at = np.zeros(count, np.float32), 0.0
    while (at := at + random.exponential(1.5)) * RATE < count:
        first, t = int(at * RATE), np.arange(RATE) / RATE
        thud = random.standard_normal(RATE) * np.exp(-t / random.uniform(0.01, 0.06))
        tones = random.uniform(300.0, 5000.0, 4)
        clang = sum(np.sin(2 * np.pi * hz * t) * np.exp(-t / random.uniform(0.03, 0.3)) for hz in tones)
        hit = random.lognormal(0.0, 0.8) * (thud + random.uniform(0, 1) * clang)
        heard[first : first + RATE] += hit[: max(count - first, 0)].astype(np.float32)
    return heard


def babble(
    count: int, random: np.random.Generator, speech: Sequence[np.ndarray], speakers: int = 5, overlap: float = 0.7
) -> np.ndarray:
    """Several people at once, each speaking `overlap` of the time: utterances backwards, so that no word is in it."""
    heard = np.zeros(count, np.float32)
    for _ in range(speakers):
        at, loud = -round(random.uniform(0, 2) * RATE), random.uniform(0.3, 1.0)
        while at < count:
            said = speech[random.integers(len(speech))][::-1]
            first = max(at, 0)
            piece = said[first - at : count - at]
            heard[first : first + len(piece)] += np.float32(loud / np.sqrt(active_power(said))) * piece
            at += round(len(said) * (1 + random.exponential((1 - overlap) / overlap)))
    return heard


def _shaped(count: int, random: np.random.Generator, amplitude: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Gaussian noise with a spectrum, in pieces of half a minute that pass into each other."""
    piece, fade = 30 * RATE, RATE // 10
    heard = np.zeros(count + piece + fade, np.float32)
    ramp = np.sqrt(np.linspace(0.0, 1.0, fade))
    for first in range(0, count, piece):
        size = piece + fade
        spectrum = np.fft.rfft(random.standard_normal(size)) * amplitude(np.fft.rfftfreq(size, 1 / RATE))
        part = np.fft.irfft(spectrum, size)
        part[:fade] *= ramp
        part[-fade:] *= ramp[::-1]
        heard[first : first + size] += part.astype(np.float32)
    return heard[:count]
