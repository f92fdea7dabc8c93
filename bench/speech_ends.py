"""bench.speech: when an utterance ends: how long after the voice, and how often in the middle of a sentence.

In the time of the stream, not of the clock: sound is fed in the chunks of a microphone as fast as it goes, and what a
transcription takes passes as sound before its words are taken into account, as it does on a robot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from nano_agent_ros.skills import Site
from nano_agent_ros.speech import Completeness, EndpointConfig, Endpointer, Transcriber, Utterance

from .harness import Row
from .sound import RATE, voice_span
from .speech_words import LEAD_S, SITE, Said, hall, in_condition, progress, spoken
from .word_errors import Sentence, rate

CHUNK_S = 0.1
"""Of the microphone (nano_agent_ros.speech.microphone)."""

HESITATION_S = 0.8
"""Longer than the ordinary pause that ends an utterance."""

ADAPTIVE, FIXED = "adaptive pause", "fixed pause"


def ends(
    sound: np.ndarray, voice_end: int, transcriber: Transcriber | None = None, reads: Completeness | None = None
) -> list[float]:
    """When utterances in float32 [n] were complete, in seconds from the voice's end (a sample, 2 s before the sound's).

    With `transcriber` and `reads` the pause that ends them adapts to the words before it; else it is the ordinary one.
    """
    endpointer = Endpointer(EndpointConfig())
    after_s: list[float] = []
    settled_at = -1.0
    expected: tuple[float, Utterance, str] | None = None  # from when on, of what, which words
    size = round(CHUNK_S * RATE)
    for first in range(0, len(sound), size):
        now_s = (first + size) / RATE
        if reads and expected is not None and now_s >= expected[0]:
            endpointer.expect(expected[1], reads.ending(expected[2]))
            expected = None
        after_s += [now_s - voice_end / RATE for _ in endpointer.feed(sound[first : first + size])]
        speech = endpointer.speech() if transcriber and endpointer.settled else None
        if transcriber and speech is not None and speech.utterance.end_s != settled_at:
            settled_at = speech.utterance.end_s
            said = transcriber.transcribe(speech.utterance)
            expected = (now_s + said.latency_s, speech.utterance, said.text)
    return after_s


def site_reader(site: Site) -> Completeness:
    """What the listener reads the endings of words with."""
    places = [name for each in (*site.locations.values(), *site.people.values()) for name in each.names]
    return Completeness(places, [name for each in site.objects.values() for name in each.names])


def rows(
    said: Sequence[Said], sentences: Sequence[Sentence], options: argparse.Namespace, config: dict[str, Any]
) -> list[Row]:
    """Time from the end of a voice to the utterance, sentences cut, both with the fixed pause as peer."""
    site = Site.load(SITE)
    reads = site_reader(site)
    transcriber = Transcriber(options.model, hotwords=site.aliases(), cpu_threads=options.threads)
    voices = list(dict.fromkeys(one.voice for one in said))
    split = [sentence for sentence in sentences if len(sentence.parts) > 1][: options.utterances]
    hesitant = spoken([(s, voices[i % len(voices)]) for i, s in enumerate(split)], pause_s=HESITATION_S)
    noise = hall(said, options.seed)
    found: list[Row] = []
    for title, condition, group in (("", "clean", said), ("", "10 dB", said), ("hesitation", "clean", hesitant)):
        times: dict[str, list[list[float]]] = {ADAPTIVE: [], FIXED: []}
        for number, one in progress(list(enumerate(group)), f"ends, {title or condition}"):
            sound = in_condition(one.sound, condition, noise, number)
            end = round(LEAD_S * RATE) + voice_span(one.sound)[1]
            times[FIXED].append(ends(sound, end))
            times[ADAPTIVE].append(ends(sound, end, transcriber, reads))
        if not title:
            found += _latency_rows(condition, times, config)
        found += _cut_rows(f"a hesitation of {HESITATION_S} s" if title else condition, times, config)
    return found


def _latency_rows(condition: str, times: dict[str, list[list[float]]], config: dict[str, Any]) -> list[Row]:
    last = {way: [after_s[-1] for after_s in each if after_s] for way, each in times.items()}
    found = []
    pairs = [(a[-1], f[-1]) for a, f in zip(times[ADAPTIVE], times[FIXED], strict=True) if a and f]
    for title, wanted in (("sooner", -1), ("later", 1)):
        share = 100 * float(np.mean([np.sign(round(a - f, 3)) == wanted for a, f in pairs])) if pairs else 0.0
        shown = {**config, "utterances": len(pairs)}
        found.append(Row(f"ended {title} than by the {FIXED}, {condition}", share, "%", config=shown))
    for quantile in (50, 95):
        value = {way: 1000 * float(np.percentile(each, quantile)) for way, each in last.items() if each}
        for way in value:
            peer = value.get(FIXED) if way == ADAPTIVE else None
            shown = {**config, "utterances": len(last[way])}
            name = f"end of voice to utterance p{quantile}, {condition}, {way}"
            ratio = value[way] / peer if peer else None
            found.append(Row(name, value[way], "ms", ratio, FIXED if peer else None, config=shown))
    return found


def _cut_rows(where: str, times: dict[str, list[list[float]]], config: dict[str, Any]) -> list[Row]:
    rates = {way: rate([(len(after_s) > 1, 1) for after_s in each]) for way, each in times.items() if each}
    found = []
    for way, cut in rates.items():
        shown = {**config, "low": cut.low, "high": cut.high, "utterances": cut.utterances}
        ratio = cut.value / rates[FIXED].value if way == ADAPTIVE and rates[FIXED].value else None
        peer = FIXED if ratio is not None else None
        found.append(Row(f"sentences cut, {where}, {way}", cut.value, "%", ratio, peer, config=shown))
    return found
