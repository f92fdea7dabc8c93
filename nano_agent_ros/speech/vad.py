"""Silero VAD as a stream: the ONNX network that faster-whisper carries, its state kept between calls."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nano_agent_ros.speech.audio import SpeechError

WINDOW = 512
"""Samples per probability: 32 ms at 16 kHz."""

CONTEXT = 64
"""Samples of the window before that the network sees as well."""


def find_silero() -> Path:
    """Return the newest Silero VAD file in the installed faster-whisper, which is not imported for it."""
    spec = find_spec("faster_whisper")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for folder in folders for file in Path(folder, "assets").glob("silero_vad_v*.onnx"))
    if not files:
        raise SpeechError("Silero VAD not found: it comes with faster-whisper; pip install 'faster-whisper>=1.2'")
    return files[-1]


class SileroVad:
    """Speech probability of successive windows. Source: github.com/snakers4/silero-vad (MIT), version 6."""

    def __init__(self, path: str | Path | None = None) -> None:
        """Load the network (one thread, about 20 ms); raises SpeechError if it is missing or damaged."""
        try:
            import onnxruntime
        except ImportError as error:
            raise SpeechError(f"speech detection needs onnxruntime: {error}; pip install onnxruntime") from error
        path = Path(path) if path else find_silero()
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), providers=["CPUExecutionProvider"], sess_options=options
            )
        except Exception as error:  # onnxruntime raises its own types, none of them exported
            raise SpeechError(f"voice activity model {path} cannot be loaded: {error}") from error
        self.reset()

    def reset(self) -> None:
        """Forget all that was heard."""
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [n] for the next n windows, float32 [n * 512] at 16 kHz."""
        windows = samples.reshape(-1, WINDOW)
        context = np.vstack([self._context, windows[:-1, -CONTEXT:]])
        network_input = np.concatenate([context, windows], axis=1)
        out, self._h, self._c = self._session.run(None, {"input": network_input, "h": self._h, "c": self._c})
        self._context = windows[-1, -CONTEXT:].copy()
        return np.asarray(out, dtype=np.float32).reshape(-1)
