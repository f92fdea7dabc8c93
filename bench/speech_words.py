"""bench.speech: what is understood of commands by condition, voice and hotwords, and how long a transcription takes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nano_agent_ros.skills import Site
from nano_agent_ros.speech import Endpointer, Transcriber

from .harness import Row
from .sound import RATE, mix, reverberate, room, warehouse
from .voices import PIPER, speak
from .word_errors import Rate, Score, Sentence, rate, score

SITE = "warehouse"
LEAD_S, TAIL_S = 0.5, 2.2
RT60_S = 0.6
CONDITIONS: dict[str, tuple[bool, float | None]] = {
    "clean": (False, None),
    "20 dB": (False, 20.0),
    "10 dB": (False, 10.0),
    "5 dB": (False, 5.0),
    "reverberant": (True, None),
    "reverberant, 10 dB": (True, 10.0),
}
"""Whether in a room of RT60_S, and the ratio of speech to noise."""

WITH, WITHOUT, DEFAULTS = "hotwords", "no hotwords", "faster-whisper defaults"
ALLOWED_SHARE, ALLOWED_S = 0.35, 0.3
"""A transcription may take this share of its audio's length, and these seconds."""


@dataclass(frozen=True)
class Said:
    """A sentence as a voice says it, float32 [n]."""

    sentence: Sentence
    voice: str
    sound: np.ndarray


@dataclass(frozen=True)
class Heard:
    """One transcript, judged. audio_s: of the utterances found in the sound; latency_s: of transcribing them."""

    said: Said
    condition: str
    way: str
    text: str
    score: Score
    audio_s: float
    latency_s: float


def chosen(sentences: Sequence[Sentence], voices: Sequence[str], count: int, seed: int) -> list[tuple[Sentence, str]]:
    """`count` pairs of a sentence and a voice, no sentence twice before each was said once.

    As many of each voice; but Piper's, which sounds like a person as espeak-ng's do not, says every second.
    """
    formant = [voice for voice in voices if voice != PIPER]
    if PIPER in voices and formant:
        voices = [each for voice in formant for each in (PIPER, voice)]
    random = np.random.default_rng(seed)
    order = [sentences[i] for _ in range(-(-count // len(sentences))) for i in random.permutation(len(sentences))]
    return [(sentence, voices[i % len(voices)]) for i, sentence in enumerate(order[:count])]


def spoken(pairs: Sequence[tuple[Sentence, str]], pause_s: float | None = None) -> list[Said]:
    """Speak them; with `pause_s`, the parts of each sentence alone, and so much silence between them.

    A part that more follows is spoken as before a comma: at a full stop "drive over to" sounds like "drive over tote".
    """
    said: dict[int, Said] = {}
    for voice in dict.fromkeys(voice for _, voice in pairs):
        mine = [(i, sentence) for i, (sentence, v) in enumerate(pairs) if v == voice]
        lines = [(s.text,) if pause_s is None else (*(f"{p}," for p in s.parts[:-1]), s.parts[-1]) for _, s in mine]
        sounds = iter(speak([line for parts in lines for line in parts], voice))
        silence = np.zeros(round((pause_s or 0.0) * RATE), np.float32)
        for (i, sentence), parts in zip(mine, lines, strict=True):
            pieces = [piece for _ in parts for piece in (silence, next(sounds))][1:]
            said[i] = Said(sentence, voice, np.concatenate(pieces))
    return [said[i] for i in range(len(pairs))]


def in_condition(speech: np.ndarray, condition: str, noise: np.ndarray, number: int) -> np.ndarray:
    """Speech as heard there, with LEAD_S before it and TAIL_S behind it; `number` chooses the place in the noise."""
    reverberant, snr_db = CONDITIONS[condition]
    padded = np.pad(speech, (round(LEAD_S * RATE), round(TAIL_S * RATE)))
    if reverberant:
        padded = reverberate(padded, room(RT60_S))[: len(padded)]
    if snr_db is None:
        return padded
    first = number * 79 * RATE // 10 % (len(noise) - len(padded))
    return mix(padded, noise[first:], snr_db)


def hall(said: Sequence[Said], seed: int) -> np.ndarray:
    """A minute of a warehouse's noise with people in it, who are the voices of `said`."""
    return warehouse(60.0, seed, [s.sound for s in said])


def words(said: Sequence[Said], options: argparse.Namespace) -> list[Heard]:
    """Every utterance in every condition, with hotwords and without; clean ones by the library's defaults as well."""
    ways = transcribers(options)
    for transcribe in ways.values():
        transcribe(said[0].sound)  # the first transcription takes longer
    noise = hall(said, options.seed)
    heard: list[Heard] = []
    rounds = [(condition, number) for condition in CONDITIONS for number in range(len(said))]
    for condition, number in progress(rounds, "words"):
        one = said[number]
        sound = in_condition(one.sound, condition, noise, number)
        endpointer = Endpointer()
        pieces = [utterance.samples for utterance in endpointer.feed(sound) + endpointer.flush()]
        audio_s = sum(map(len, pieces)) / RATE
        for way, transcribe in ways.items():
            if way == DEFAULTS and condition != "clean":
                continue
            begun = time.perf_counter()
            text = " ".join(map(transcribe, pieces))
            taken_s = time.perf_counter() - begun
            heard.append(Heard(one, condition, way, text, score(one.sentence, text), audio_s, taken_s))
    return heard


def transcribers(options: argparse.Namespace) -> dict[str, Callable[[np.ndarray], str]]:
    """Samples to text by each way."""
    from faster_whisper import WhisperModel

    from nano_agent_ros.speech.whisper import find_model

    names = Site.load(SITE).aliases()
    biased = Transcriber(options.model, hotwords=names, cpu_threads=options.threads)
    plain = Transcriber(options.model, hotwords=None, cpu_threads=options.threads)
    theirs = WhisperModel(find_model(options.model), "cpu", compute_type="int8", cpu_threads=options.threads)
    return {
        WITH: lambda samples: biased.transcribe(samples).text,
        WITHOUT: lambda samples: plain.transcribe(samples).text,
        DEFAULTS: lambda samples: " ".join(s.text for s in theirs.transcribe(samples, language="en")[0]),
    }


def rows(heard: Sequence[Heard], voices: Sequence[str], config: dict[str, Any]) -> list[Row]:
    """Error rates with their peers, and the time of transcriptions."""
    found: list[Row] = []
    for condition in CONDITIONS:
        for kind in ("words", "commands", "names"):
            rates = {way: _rate(heard, kind, condition=condition, way=way) for way in (WITH, WITHOUT, DEFAULTS)}
            for way in (WITH, WITHOUT, DEFAULTS) if condition == "clean" else (WITH, WITHOUT):
                peer = rates[WITHOUT] if way == WITH else None
                name = f"{kind} wrong, {condition}, {way}"
                found.append(_rate_row(name, rates[way], peer, WITHOUT, config))
    groups = [(f"{voice}, all conditions", {"voice": voice}) for voice in voices]
    if len(voices) > 1:
        groups = [(f"{c}, {PIPER}", {"condition": c, "voice": PIPER}) for c in CONDITIONS if PIPER in voices] + groups
    for title, which in groups:
        ours, peer = (_rate(heard, "words", way=way, **which) for way in (WITH, WITHOUT))
        if ours.utterances:
            found.append(_rate_row(f"words wrong, {title}", ours, peer, WITHOUT, config))
    return found + latency_rows(heard, config)


def latency_rows(heard: Sequence[Heard], config: dict[str, Any]) -> list[Row]:
    """Time of transcriptions, beside what they may take and beside the library's defaults on the same audio."""
    ours = [h for h in heard if h.way == WITH and h.audio_s]
    within = [h.latency_s <= ALLOWED_SHARE * h.audio_s + ALLOWED_S for h in ours]
    config = {**config, "transcriptions": len(ours), "audio_s": round(float(np.mean([h.audio_s for h in ours])), 2)}
    clean = [h.latency_s for h in ours if h.condition == "clean"]
    theirs = [h.latency_s for h in heard if h.way == DEFAULTS]
    name = f"transcribed within {ALLOWED_SHARE} x audio + {ALLOWED_S} s"
    found = [Row(name, 100 * float(np.mean(within)), "%", config=config)]
    for quantile in (50, 95):
        found.append(Row(f"transcription p{quantile}", _ms([h.latency_s for h in ours], quantile), "ms", config=config))
    for quantile in (50, 95):
        mine, peer = _ms(clean, quantile), _ms(theirs, quantile)
        found.append(Row(f"transcription p{quantile}, clean", mine, "ms", mine / peer, DEFAULTS, config=config))
    return found


def grid(heard: Sequence[Heard], voices: Sequence[str]) -> str:
    """Words, command words and names wrong by condition, and words by voice, each with its 95 % interval."""
    columns = [(kind, way) for kind in ("words", "names") for way in (WITH, WITHOUT)]
    lines = [f"{'% wrong [95 %]':28}" + "".join(f"{f'{kind}, {way}':>24}" for kind, way in columns)]
    groups: list[tuple[str, dict[str, str]]] = [(condition, {"condition": condition}) for condition in CONDITIONS]
    if PIPER in voices and len(voices) > 1:
        groups += [(f"{condition}, {PIPER}", {"condition": condition, "voice": PIPER}) for condition in CONDITIONS]
    groups += [(f"voice {voice}", {"voice": voice}) for voice in voices]
    for title, chosen_by in groups:
        rates = [_rate(heard, kind, way=way, **chosen_by) for kind, way in columns]
        if rates[0].utterances:
            cells = "".join(f"{f'{r.value:.1f} [{r.low:.1f}, {r.high:.1f}]':>24}" for r in rates)
            lines.append(f"{f'{title} ({rates[0].utterances})':28}{cells}")
    return "\n".join(lines)


def _rate(heard: Iterable[Heard], kind: str, way: str, condition: str = "", voice: str = "") -> Rate:
    counts = [
        getattr(h.score, kind)
        for h in heard
        if h.way == way and condition in ("", h.condition) and voice in ("", h.said.voice)
    ]
    return rate(counts)


def _rate_row(name: str, ours: Rate, peer: Rate | None, peer_name: str, config: dict[str, Any]) -> Row:
    ratio = ours.value / peer.value if peer and peer.value else None
    config = {**config, "low": ours.low, "high": ours.high, "utterances": ours.utterances}
    return Row(name, ours.value, "%", ratio, peer_name if ratio is not None else None, config=config)


def _ms(seconds: Sequence[float], quantile: float) -> float:
    return 1000 * float(np.percentile(seconds, quantile))


def progress(items: Sequence[Any], name: str) -> Any:
    """The items, with the time that is left on standard error."""
    return tqdm(items, desc=name, mininterval=2.0, bar_format="{desc}: {n} of {total}, {remaining} left")
