"""An utterance to text with a confidence, through Whisper, and nothing made up on silence and noise."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nano_agent_ros.speech.audio import SAMPLE_RATE, SpeechError
from nano_agent_ros.speech.endpoint import Utterance
from nano_agent_ros.speech.hallucination import believable, unhearable
from nano_agent_ros.speech.hotwords import hotwords_of
from nano_agent_ros.speech.whisper import BUNDLED, LONGEST_S, Decoded, Whisper


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


class Transcriber:
    """A loaded Whisper model. Never touches the network: a model that is not on this machine is a SpeechError."""

    def __init__(
        self,
        model: str = BUNDLED,
        *,
        language: str | None = "en",
        hotwords: Sequence[str] | None = (),
        own_words: Sequence[str] = (),
        beam_size: int = 3,
        cpu_threads: int = 2,
        device: str = "cpu",
        compute_type: str = "auto",
    ) -> None:
        """Load `model`: a faster-whisper name, a CTranslate2 folder, or "tiny-bundled".

        language: ISO 639-1, or None to detect it (multilingual models only). hotwords: names of the site that the
        decoder is biased towards, own_words: others that come before them; None for hotwords: towards nothing.
        beam_size: 1 (fastest) to 5. device: cpu, cuda or auto. compute_type: CTranslate2's type of weights, or auto:
        int8 on a CPU, float16 on a GPU that has it. Raises SpeechError, or ValueError for beam_size.
        """
        if not 1 <= beam_size <= 5:
            raise ValueError(f"beam_size {beam_size} is not within 1 to 5")
        self._whisper = Whisper(model, device=device, compute_type=compute_type, cpu_threads=cpu_threads)
        if not self._whisper.multilingual and language not in (None, "en"):
            raise SpeechError(
                f"speech model {model!r} understands English only, not {language!r}; use a multilingual model"
            )
        if language not in (None, *self._whisper.languages):
            raise SpeechError(f"speech model {model!r} knows no language {language!r}; give a code such as en or de")
        self.model = model
        self._language = language if self._whisper.multilingual else "en"
        self.hotwords = ""
        if hotwords is not None:
            self.hotwords = hotwords_of(hotwords, self._whisper.tokens, own_words, self._language)
        self._beam_size = beam_size

    @property
    def where(self) -> str:
        """Device and type of weights, as in "cpu int8"."""
        return f"{self._whisper.device} {self._whisper.compute_type}"

    def transcribe(self, audio: Utterance | np.ndarray, quick: bool = False) -> Transcription:
        """Return the text of an utterance, or of float32 [n] at 16 kHz; no text and a reason if there is none.

        `quick`: with a beam of 1, for what is transcribed again anyway.
        """
        began = time.monotonic()
        samples = audio.samples if isinstance(audio, Utterance) else np.asarray(audio, dtype=np.float32)
        audio_s = samples.size / SAMPLE_RATE
        unheard = unhearable(samples)
        if unheard:
            return Transcription("", 0.0, 1.0, self._language or "", audio_s, time.monotonic() - began, unheard)
        parts = self._parts(samples, 1 if quick else self._beam_size)
        texts = [part.text for part, _ in parts if part.text]
        confidence, no_speech = 0.0, 1.0  # no text: Whisper itself took it for silence
        if texts:
            spoken_s = sum(seconds for part, seconds in parts if part.text)
            logprob = sum(part.logprob * seconds for part, seconds in parts if part.text) / spoken_s
            confidence = min(1.0, math.exp(logprob))
            no_speech = max(part.no_speech_prob for part, _ in parts if part.text)
        text, rejected = believable(" ".join(texts), no_speech, audio_s, self.hotwords, confidence)
        latency_s = time.monotonic() - began
        return Transcription(text, confidence, no_speech, parts[0][0].language, audio_s, latency_s, rejected)

    def _parts(self, samples: np.ndarray, beam_size: int) -> list[tuple[Decoded, float]]:
        """Decode what Whisper hears at once, window by window; each with its seconds."""
        size = round(LONGEST_S * SAMPLE_RATE)
        parts = []
        for window in (samples[i : i + size] for i in range(0, samples.size, size)):
            seconds = window.size / SAMPLE_RATE
            most = 16 + round(12 * min(seconds, 15.0))  # tokens; bounds the time that a decoding loop takes
            parts.append((self._whisper.decode(window, self._language, self.hotwords, beam_size, most), seconds))
        return parts
