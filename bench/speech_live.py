"""bench.speech: the listener node as it runs on a robot, its microphone a source of PulseAudio that is played to.

Times are from the end of the voice, as the sink's monitor had it, to the message at a subscriber in another process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .harness import Row
from .listening import TAIL_S, Answer, Ears, capture_delays
from .pulse import pulse_in
from .sound import RATE, mix
from .speech_ends import ADAPTIVE, FIXED
from .speech_words import ALLOWED_S, ALLOWED_SHARE, LEAD_S, SITE, Said, hall, progress, spoken
from .word_errors import Sentence, rate, score

STOPS = ("Stop.", "Robot, stop.", "Stop right there!", "Halt.", "Freeze.", "Emergency stop!", "Stop now please.")
SNR_DB = 10.0
IDLE_S = 10.0
SETTINGS: dict[str, dict[str, Any]] = {
    ADAPTIVE: {},
    FIXED: {"endpoint.short_silence_s": 0.6, "endpoint.long_silence_s": 0.6, "partial.every_s": 0.0},
}
"""The listener as it comes, and as a peer one that waits for whole utterances and an ordinary pause."""


def rows(folder: Path, said: Sequence[Said], options: argparse.Namespace, config: dict[str, Any]) -> list[Row]:
    """Time to stop and to the transcript, with and without noise, and the processor time of the listener."""
    voices = list(dict.fromkeys(one.voice for one in said))
    stops = spoken(
        [(Sentence(STOPS[i % len(STOPS)], (), (), ()), voices[i % len(voices)]) for i in range(options.live)]
    )
    commands = list(said[: options.live])
    noise = hall(said, options.seed)
    found: list[Row] = []
    peers: dict[str, dict[str, float]] = {}
    for way in (FIXED, ADAPTIVE):
        parameters = {**SETTINGS[way], "site": SITE, "audio.source": "mic"}
        parameters |= {"whisper.model": options.model, "whisper.threads": options.threads}
        with pulse_in(folder) as pulse, Ears(pulse, folder, parameters) as ears:
            shares, begun = {}, time.monotonic()
            if way == ADAPTIVE:
                spent = ears.listener.cpu_s()
                time.sleep(min(IDLE_S, 2.0 + options.live))
                shares["idle"] = (ears.listener.cpu_s() - spent) / (time.monotonic() - begun)
            begun, spent = time.monotonic(), ears.listener.cpu_s()
            told = _hear(ears, commands, noise, f"live, commands, {way}")
            shares["while somebody speaks"] = (ears.listener.cpu_s() - spent) / (time.monotonic() - begun)
            stopped = _hear(ears, stops, noise, f"live, stops, {way}")
        values = _values(commands, told, stopped)
        for name, (value, unit, count) in values.items():
            peer = peers.get(name, {}).get("value")
            ratio = value / peer if peer and unit == "ms" else None
            shown = {**config, "utterances": count, "snr_db": SNR_DB}
            found.append(Row(f"{name}, {way}", value, unit, ratio, FIXED if ratio is not None else None, config=shown))
            peers[name] = {"value": value}
        for when, share in shares.items():
            found.append(Row(f"processor, {when}, {way}", 100 * share, "% of a core", config=config))
    return found


def _hear(ears: Ears, said: Sequence[Said], noise: np.ndarray, title: str) -> list[Answer]:
    """Play each in noise and clean by turns."""
    answers = []
    for number, one in progress(list(enumerate(said)), title):
        speech = np.pad(one.sound, (round(LEAD_S * RATE), round(TAIL_S * RATE)))
        first = number * 5 * RATE % (len(noise) - len(speech))
        answers.append(ears.hear(speech, mix(speech, noise[first:], SNR_DB) if number % 2 == 0 else speech))
    return answers


def _values(
    commands: Sequence[Said], told: Sequence[Answer], stopped: Sequence[Answer]
) -> dict[str, tuple[float, str, int]]:
    """Name to value, unit and number of utterances."""
    values: dict[str, tuple[float, str, int]] = {}
    in_time = [answer.stop_s for answer in stopped if answer.stop_s is not None]
    values["stops heard"] = (100 * len(in_time) / max(len(stopped), 1), "%", len(stopped))
    for quantile in (50, 95):
        if in_time:
            value = 1000 * float(np.percentile(in_time, quantile))
            values[f"end of word to stop message p{quantile}"] = (value, "ms", len(in_time))
    came = [(one, answer) for one, answer in zip(commands, told, strict=True) if answer.transcript_s is not None]
    times = [answer.transcript_s for _, answer in came if answer.transcript_s is not None]
    for quantile in (50, 95):
        if times:
            value = 1000 * float(np.percentile(times, quantile))
            values[f"end of voice to transcript p{quantile}"] = (value, "ms", len(times))
    allowed = [ALLOWED_SHARE * len(one.sound) / RATE + ALLOWED_S for one, _ in came]
    if allowed:
        within = np.mean([seconds <= limit for seconds, limit in zip(times, allowed, strict=True)])
        name = f"transcript within {ALLOWED_SHARE} x audio + {ALLOWED_S} s of the voice"
        values[name] = (100 * float(within), "%", len(came))
    wrong = rate([score(one.sentence, answer.text).words for one, answer in zip(commands, told, strict=True)])
    values["words wrong through the microphone"] = (wrong.value, "%", wrong.utterances)
    return values


def capture_rows(folder: Path, options: argparse.Namespace, config: dict[str, Any]) -> list[Row]:
    """What capturing takes: from a sound to the chunk with it, and from the end of that chunk."""
    with pulse_in(folder) as pulse:
        delays = capture_delays(pulse, 40 if options.live > 1 else 10)
    config = {**config, "bursts": len(delays)}
    found = []
    for title, column in (("sound to its chunk", 0), ("end of a chunk to the chunk", 1)):
        times = [1000 * delay[column] for delay in delays]
        for quantile in (50, 95):
            found.append(Row(f"{title} p{quantile}", float(np.percentile(times, quantile)), "ms", config=config))
    return found
