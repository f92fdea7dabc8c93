"""The wake word by its sound: openWakeWord with a model of the user's own, beside names found in the transcript.

openWakeWord (https://github.com/dscripka/openWakeWord, Apache 2.0) is not installed with this package. The wake word
models that its authors offer are licensed CC BY-NC-SA 4.0, not for commercial use: none is named here, and a robot
needs one that was trained for its own name. The two models of sound that all of them stand on (melspectrogram and
embedding) are Apache 2.0; they are looked for beside the wake word's model first, then in openWakeWord's own folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.speech.audio import AudioSource, SpeechError

FRAME = 1280
"""Samples between two scores: 80 ms."""
QUIET_FRAMES = 12
"""Frames after the wake word in which it is not heard again: its score stays high for about a second."""
FEATURES = ("melspectrogram.onnx", "embedding_model.onnx")


class WakeWord:
    """Hears one wake word in a stream of sound. Its speed is that of onnxruntime on one thread."""

    def __init__(self, model: Path, threshold: float = 0.5) -> None:
        """Load an ONNX model in openWakeWord's form; raises SpeechError that says what is missing."""
        if not model.is_file():
            raise SpeechError(f"address.wake_word_model: there is no file {model}; train one for the robot's own name")
        if model.suffix != ".onnx":
            raise SpeechError(f"address.wake_word_model: {model.name} is no .onnx file; export the model as ONNX")
        try:
            library = importlib.import_module("openwakeword.model")
        except ImportError as error:
            raise SpeechError(
                f"address.wake_word_model needs openWakeWord ({error}): pip install openwakeword. Where that fails for "
                "want of tflite-runtime: pip install --no-deps openwakeword && pip install scipy scikit-learn requests"
            ) from error
        melspectrogram, embedding = (_feature_model(name, model, library) for name in FEATURES)
        try:
            self._model: Any = library.Model(
                wakeword_models=[str(model)],
                inference_framework="onnx",
                melspec_model_path=str(melspectrogram),
                embedding_model_path=str(embedding),
            )
        except Exception as error:  # onnxruntime has its own; an older openWakeWord takes other arguments
            reason = str(error).splitlines()[0]
            raise SpeechError(
                f"wake word model {model} cannot be loaded ({type(error).__name__}: {reason}); it must be a model for "
                "openWakeWord 0.5 or newer, in ONNX form"
            ) from error
        self.name = model.stem
        self._threshold = threshold
        self._rest = np.empty(0, np.int16)
        self._quiet = 0

    def hears(self, samples: np.ndarray) -> bool:
        """Take float32 [n] at 16 kHz within [-1, 1]; True if the wake word was said in it, once each time."""
        self._rest = np.concatenate([self._rest, (samples * 32767).astype(np.int16)])
        heard = False
        while len(self._rest) >= FRAME:
            frame, self._rest = self._rest[:FRAME], self._rest[FRAME:]
            score = max(map(float, self._model.predict(frame).values()))
            self._quiet -= self._quiet > 0
            if score >= self._threshold and not self._quiet:
                heard, self._quiet = True, QUIET_FRAMES
        return heard


class WakeWordSource:
    """A source of sound that tells, from the thread that takes its chunks, when the wake word is in it."""

    def __init__(self, source: AudioSource, wake_word: WakeWord, on_heard: Callable[[], None]) -> None:
        """Pass on what `source` yields."""
        self._source, self._wake_word, self._on_heard = source, wake_word, on_heard

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the chunks of the source."""
        for chunk in self._source.chunks():
            if self._wake_word.hears(chunk):
                self._on_heard()
            yield chunk

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def report(self) -> str:
        """What the source says, and that the wake word is listened for."""
        return f"{self._source.report()}; wake word {self._wake_word.name}"


def _feature_model(name: str, model: Path, library: Any) -> Path:
    own = Path(library.__file__).parent / "resources" / "models" / name
    for path in (model.with_name(name), own):
        if path.is_file():
            return path
    raise SpeechError(
        f"openWakeWord's {name} is missing; nothing is downloaded at run time: put it beside {model.name}, or fetch it "
        "once with python -c \"from openwakeword.utils import download_models as d; d(['none'])\""
    )
