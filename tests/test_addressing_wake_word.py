"""Claims about the wake word by its sound: openWakeWord itself where it is there, errors that help where it is not."""

from __future__ import annotations

import importlib.util
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nano_agent_ros.speech.audio import SAMPLE_RATE, SpeechError
from nano_agent_ros.speech.wake_word import FEATURES, WakeWord, WakeWordSource


def installed() -> bool:
    """Whether openWakeWord is there with the two models of sound that it fetches once."""
    spec = importlib.util.find_spec("openwakeword")
    folder = Path(spec.origin or "").parent / "resources" / "models" if spec else None
    return folder is not None and all((folder / name).is_file() for name in FEATURES)


needs_openwakeword = pytest.mark.skipif(not installed(), reason="openwakeword and its feature models are not installed")


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protocol buffer: a number, or bytes."""

    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_scorer(weights: np.ndarray, bias: float) -> bytes:
    """An ONNX model in openWakeWord's form: sigmoid(mean of float32 [1, 16, 96] over time · weights + bias), [1, 1]."""

    def node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
        names = b"".join(field(1, name.encode()) for name in inputs)
        return field(1, names + field(2, output.encode()) + field(4, kind.encode()) + b"".join(attributes))

    def tensor(name: str, values: np.ndarray) -> bytes:
        sizes = b"".join(field(1, size) for size in values.shape)
        raw = field(9, values.astype("<f4").tobytes())
        return field(5, sizes + field(2, 1) + field(8, name.encode()) + raw)

    def tensor_type(name: str, *sizes: int) -> bytes:
        shape = b"".join(field(1, field(1, size)) for size in sizes)
        return field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, shape)))

    axes = field(5, field(1, b"axes") + field(8, 1) + field(20, 7))
    flat = field(5, field(1, b"keepdims") + field(3, 0) + field(20, 2))
    graph = (
        node("ReduceMean", ["x"], "mean", axes, flat)
        + node("Gemm", ["mean", "w", "b"], "sum")
        + node("Sigmoid", ["sum"], "score")
        + field(2, b"wake")
        + tensor("w", weights.reshape(96, 1))
        + tensor("b", np.array([bias]))
        + field(11, tensor_type("x", 1, 16, 96))
        + field(12, tensor_type("score", 1, 1))
    )
    return field(1, 7) + field(7, graph) + field(8, field(1, b"") + field(2, 11))


def chirp(seconds: float) -> np.ndarray:
    """A sound that rises and falls, in place of a word."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * (700 * t + 120 * np.sin(2 * np.pi * 2 * t)))).astype(np.float32)


def noise(seconds: float) -> np.ndarray:
    return (0.02 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def wake_model(tmp_path_factory) -> Path:
    """A wake word model that knows the chirp from noise: the difference of their mean embeddings."""
    from openwakeword.utils import AudioFeatures

    features = AudioFeatures(inference_framework="onnx")

    def mean(samples: np.ndarray) -> np.ndarray:
        return features._get_embeddings((samples * 32767).astype(np.int16)).mean(axis=0)

    wake, other = mean(chirp(3.0)), mean(noise(3.0))
    weights = (wake - other) * 20 / ((wake - other) ** 2).sum()
    path = tmp_path_factory.mktemp("wake") / "chirp.onnx"
    path.write_bytes(onnx_scorer(weights, float(-weights @ (wake + other) / 2)))
    return path


class Sound:
    """A source of the samples, in chunks of a size that is no multiple of a frame."""

    def __init__(self, samples: np.ndarray) -> None:
        self.closed, self._samples = False, samples

    def chunks(self) -> Iterator[np.ndarray]:
        for at in range(0, len(self._samples), 1600):
            yield self._samples[at : at + 1600]

    def close(self) -> None:
        self.closed = True

    def report(self) -> str:
        return "a sound"


@needs_openwakeword
def test_the_wake_word_is_heard_once_each_time_it_is_said(wake_model):
    sound = np.concatenate([noise(4), chirp(2), noise(4), chirp(2), noise(3)])
    times: list[float] = []
    passed = 0

    def heard() -> None:
        times.append(passed / SAMPLE_RATE)

    source = WakeWordSource(Sound(sound), WakeWord(wake_model), heard)
    chunks = []
    for chunk in source.chunks():
        passed += len(chunk)
        chunks.append(chunk)
    assert np.array_equal(np.concatenate(chunks), sound)
    groups = [t for i, t in enumerate(times) if i == 0 or t - times[i - 1] > 3.0]
    assert len(groups) == 2 and 4 <= groups[0] <= 7 and 10 <= groups[1] <= 13, times
    assert "chirp" in source.report()


@needs_openwakeword
def test_noise_is_no_wake_word(wake_model):
    assert not WakeWord(wake_model).hears(noise(6))


@needs_openwakeword
def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(struct.pack("<Q", 12345))
    with pytest.raises(SpeechError, match=r"broken\.onnx cannot be loaded"):
        WakeWord(path)


def test_what_is_missing_is_named_with_the_way_out(tmp_path, monkeypatch):
    path = tmp_path / "sparky.onnx"
    with pytest.raises(SpeechError, match=r"there is no file .*sparky\.onnx"):
        WakeWord(path)
    path.touch()
    with pytest.raises(SpeechError, match=r"sparky\.tflite is no \.onnx"):
        (tmp_path / "sparky.tflite").touch()
        WakeWord(tmp_path / "sparky.tflite")
    for name in ("openwakeword", "openwakeword.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SpeechError, match="pip install openwakeword"):
        WakeWord(path)
