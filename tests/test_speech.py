"""Speech: from a sound file to utterances to text, with the real Silero VAD and Whisper tiny."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.word_errors import word_errors
from nano_agent_ros.speech import (
    EndpointConfig,
    Endpointer,
    SpeechError,
    Transcriber,
    Utterance,
    WavSource,
    is_stop,
)
from nano_agent_ros.speech.vad import WINDOW, SileroVad
from nano_agent_ros.speech.whisper import find_model

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "config/audio/demo.wav"
STOPS = ROOT / "tests/audio/stops.flac"
QUIET = ROOT / "tests/audio/quiet_starts.flac"
RATE = 16_000


def lines_of(path: Path) -> list[str]:
    lines = path.with_suffix(".txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def utterances_of(path: Path, config: EndpointConfig | None = None) -> list[Utterance]:
    source, endpointer = WavSource(path), Endpointer(config)
    found = [utterance for chunk in source.chunks() for utterance in endpointer.feed(chunk)]
    source.close()
    return found + endpointer.flush()


def words_of(text: str) -> list[str]:
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    words = re.sub(r"[^\w\s]", "", text.casefold()).split()
    return [str(numbers.index(word)) if word in numbers else word for word in words]


@pytest.fixture(scope="module")
def demo() -> np.ndarray:
    return soundfile.read(DEMO, dtype="float32")[0]


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    return utterances_of(DEMO)


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    site = yaml.safe_load((ROOT / "config/sites/warehouse.yaml").read_text())
    kinds = [site[kind].values() for kind in ("locations", "objects", "people")]
    return Transcriber(hotwords=[alias for kind in kinds for entry in kind for alias in entry["aliases"]])


# Endpointing


def test_the_stream_gives_the_probabilities_that_faster_whisper_gives_for_the_whole(demo: np.ndarray) -> None:
    from faster_whisper.vad import get_vad_model

    audio = demo[: len(demo) // WINDOW * WINDOW]
    whole = get_vad_model()(audio).reshape(-1)
    vad = SileroVad()
    pieces = np.concatenate([vad(audio[i : i + 7 * WINDOW]) for i in range(0, len(audio), 7 * WINDOW)])
    np.testing.assert_allclose(pieces, whole, atol=1e-4)


def test_every_line_of_the_demo_is_one_utterance(utterances: list[Utterance]) -> None:
    assert len(utterances) == len(lines_of(DEMO))


def onset(levels: np.ndarray, near: int) -> int:
    """Where the word around `near` begins: behind the last 0.1 s of silence. Levels are RMS of 5 ms."""
    loud = levels > 10 ** (-60 / 20)
    first = near
    while loud[max(0, first - 20) : first].any():
        first -= 1
    return first


@pytest.mark.parametrize("snr_db", [60, 10])
def test_the_first_consonant_is_kept_however_quiet_it_is(snr_db: float) -> None:
    clean = soundfile.read(QUIET, dtype="float32")[0]
    levels = np.sqrt(np.mean(clean[: len(clean) // 80 * 80].reshape(-1, 80) ** 2, axis=1))
    noise = np.random.default_rng(5).standard_normal(len(clean)) * np.sqrt(np.mean(clean**2)) * 10 ** (-snr_db / 20)
    audio = (clean + noise).astype(np.float32)
    lost = 0
    for pre_roll_s in (EndpointConfig().pre_roll_s, 0.0):
        endpointer = Endpointer(EndpointConfig(pre_roll_s=pre_roll_s))
        found = endpointer.feed(audio) + endpointer.flush()
        assert len(found) == len(lines_of(QUIET))
        for utterance in found:
            first, last = round(utterance.start_s * 200), round(utterance.end_s * 200)
            begins_s = onset(levels, first + int(np.argmax(levels[first:last]))) / 200
            if pre_roll_s:
                assert utterance.start_s <= begins_s - 0.05
            else:
                lost += utterance.start_s > begins_s
    assert lost > len(found) / 2, "it is the pre-roll that keeps them"


def test_an_utterance_is_the_audio_of_its_times(utterances: list[Utterance], demo: np.ndarray) -> None:
    for utterance in utterances:
        first, last = round(utterance.start_s * RATE), round(utterance.end_s * RATE)
        np.testing.assert_allclose(utterance.samples, demo[first:last], atol=1e-6)


def test_nothing_loud_is_left_outside_the_utterances(utterances: list[Utterance], demo: np.ndarray) -> None:
    rest = demo.copy()
    for utterance in utterances:
        rest[round(utterance.start_s * RATE) : round(utterance.end_s * RATE)] = 0
    assert np.abs(rest).max() < 0.05 < np.abs(demo).max()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=60))
def test_how_the_stream_is_cut_into_chunks_changes_nothing(sizes: list[int]) -> None:
    audio = soundfile.read(DEMO, dtype="float32", stop=8 * RATE)[0]
    whole = Endpointer()
    expected = whole.feed(audio) + whole.flush()
    pieces, found, at = Endpointer(), [], 0
    for size in sizes:
        found += pieces.feed(audio[at : at + size])
        at += size
    found += pieces.feed(audio[at:]) + pieces.flush()
    assert [(u.start_s, u.end_s) for u in found] == [(u.start_s, u.end_s) for u in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.samples, theirs.samples)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.9]), min_size=1, max_size=150),
    st.floats(0.05, 0.8),
    st.floats(0.0, 0.3),
    st.floats(0.0, 1.0),
)
def test_utterances_never_overlap_nor_outgrow_the_limit(
    probabilities: list[float], end_silence_s: float, min_speech_s: float, roll_s: float
) -> None:
    config = EndpointConfig(0.5, end_silence_s, min_speech_s, 2.0, roll_s, roll_s)
    rest = iter(probabilities)
    endpointer = Endpointer(config, vad=lambda samples: np.array([next(rest) for _ in range(len(samples) // WINDOW)]))
    audio = np.arange(len(probabilities) * WINDOW, dtype=np.float32)
    found = endpointer.feed(audio) + endpointer.flush()
    end = 0.0
    for utterance in found:
        assert end <= utterance.start_s < utterance.end_s <= len(audio) / RATE
        assert utterance.duration_s <= config.max_utterance_s + WINDOW / RATE
        np.testing.assert_array_equal(
            utterance.samples, audio[round(utterance.start_s * RATE) :][: len(utterance.samples)]
        )
        end = utterance.end_s


def test_speech_without_a_pause_is_cut_at_the_limit_and_none_of_it_is_lost(utterances: list[Utterance]) -> None:
    speech = np.concatenate([u.samples[3_000:-3_000] for u in utterances[:5]])
    endpointer = Endpointer(EndpointConfig(max_utterance_s=3.0))
    found = endpointer.feed(speech) + endpointer.flush()
    assert len(found) >= 3 and found[0].truncated and not found[-1].truncated
    for before, after in zip(found, found[1:], strict=False):
        assert before.duration_s <= 3.1
        assert after.start_s == pytest.approx(before.end_s)


def test_speech_that_the_stream_ends_in_is_flushed(utterances: list[Utterance]) -> None:
    endpointer = Endpointer()
    audio = utterances[1].samples
    assert endpointer.feed(audio[: len(audio) // 2]) == []
    assert endpointer.speaking
    (utterance,) = endpointer.flush()
    assert utterance.end_s == pytest.approx(len(audio) // 2 / RATE)
    assert not endpointer.speaking


def test_a_click_shorter_than_min_speech_is_dropped(utterances: list[Utterance]) -> None:
    audio = np.concatenate([utterances[7].samples, np.zeros(RATE, np.float32)])
    assert len(Endpointer().feed(audio)) == 1
    assert Endpointer(EndpointConfig(min_speech_s=2.0)).feed(audio) == []


def test_noise_and_hum_are_no_speech() -> None:
    random = np.random.default_rng(0)
    noise = 0.05 * random.standard_normal(5 * RATE).astype(np.float32)
    hum = 0.2 * np.sin(np.arange(5 * RATE) * 2 * np.pi * 50 / RATE).astype(np.float32)
    for audio in (noise, hum, np.zeros(5 * RATE, np.float32)):
        endpointer = Endpointer()
        assert endpointer.feed(audio) + endpointer.flush() == []


@pytest.mark.parametrize(
    ("option", "value"), [("threshold", 1.5), ("end_silence_s", -1.0), ("max_utterance_s", 60.0), ("pre_roll_s", 20.0)]
)
def test_an_impossible_endpoint_option_is_refused_by_name(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        EndpointConfig(**{option: value})


def test_audio_that_is_not_finite_never_reaches_the_vad() -> None:
    with pytest.raises(ValueError, match="finite"):
        Endpointer().feed(np.full(WINDOW, np.nan, np.float32))


# Sound files


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [
        (8_000, 1, "PCM_16"),
        (11_025, 1, "PCM_U8"),
        (16_000, 2, "PCM_24"),
        (22_050, 1, "FLOAT"),
        (44_100, 2, "PCM_16"),
        (48_000, 6, "PCM_32"),
        (96_000, 1, "DOUBLE"),
    ],
)
def test_any_format_gives_the_same_utterances(
    tmp_path: Path, demo: np.ndarray, utterances: list[Utterance], rate: int, channels: int, subtype: str
) -> None:
    audio = soxr.resample(demo, RATE, rate)
    soundfile.write(tmp_path / "other.wav", np.repeat(audio[:, None], channels, axis=1), rate, subtype=subtype)
    assert sum(len(chunk) for chunk in WavSource(tmp_path / "other.wav").chunks()) == pytest.approx(len(demo), abs=2)
    found = utterances_of(tmp_path / "other.wav")
    assert len(found) == len(utterances)
    for ours, theirs in zip(found, utterances, strict=True):
        assert ours.start_s == pytest.approx(theirs.start_s, abs=0.1)
        assert ours.end_s == pytest.approx(theirs.end_s, abs=0.15)


def test_a_file_can_be_paced_as_a_microphone_and_closed_from_outside(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(60 * RATE), RATE)
    source = WavSource(tmp_path / "long.wav", realtime=True)
    chunks = source.chunks()
    began = time.monotonic()
    heard = sum(len(next(chunks)) for _ in range(5)) / RATE
    assert time.monotonic() - began >= heard - 0.15
    threading.Timer(0.2, source.close).start()
    assert sum(len(chunk) for chunk in chunks) < 55 * RATE


def test_a_silent_file_gives_no_utterance_and_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(3 * RATE), RATE)
    source = WavSource(tmp_path / "silent.wav")
    endpointer = Endpointer()
    assert [u for chunk in source.chunks() for u in endpointer.feed(chunk)] + endpointer.flush() == []
    assert source.levels.silent and "silent" in source.report()


def test_samples_that_are_not_finite_in_a_file_become_silence(tmp_path: Path) -> None:
    audio = np.full(RATE, 0.5, np.float32)
    audio[100:200], audio[300:400], audio[500] = np.nan, np.inf, 7.0
    soundfile.write(tmp_path / "broken.wav", audio, RATE, subtype="FLOAT")
    heard = np.concatenate(list(WavSource(tmp_path / "broken.wav").chunks()))
    assert np.isfinite(heard).all() and np.abs(heard).max() <= 1.0
    assert not heard[100:200].any() and not heard[300:400].any()


def test_a_truncated_file_is_heard_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "cut.wav").write_bytes(DEMO.read_bytes()[: 4 * 2 * RATE])
    (only,) = utterances_of(tmp_path / "cut.wav")
    assert only.end_s < 4.0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "does not exist"),
        (b"", "empty"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "corrupt or not audio"),
        (b"go to dock three\n" * 100, "corrupt or not audio"),
        (bytes(range(256)) * 40, "corrupt or not audio"),
        ("header", "holds no samples"),
        ("folder", "not a file"),
    ],
)
def test_a_bad_file_is_named_with_the_way_out(tmp_path: Path, content: bytes | str | None, complaint: str) -> None:
    path = tmp_path / "bad.wav"
    if content == "header":
        soundfile.write(path, np.zeros(0), RATE)
    elif content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(SpeechError, match=complaint) as caught:
        WavSource(path)
    assert "bad.wav" in str(caught.value)


# Transcription


def test_whisper_tiny_understands_the_demo(utterances: list[Utterance], transcriber: Transcriber) -> None:
    errors = length = 0
    for utterance, line in zip(utterances, lines_of(DEMO), strict=True):
        heard = transcriber.transcribe(utterance)
        errors += word_errors(words_of(line), words_of(heard.text))
        length += len(words_of(line))
        assert 0.4 < heard.confidence <= 1.0 and heard.no_speech_prob < 0.5
        assert heard.language == "en" and heard.audio_s == pytest.approx(utterance.duration_s)
        assert heard.latency_s > 0 and not heard.rejected
    assert errors / length <= 0.1


def test_spoken_stops_stop_and_talk_of_stopping_does_not(transcriber: Transcriber) -> None:
    for utterance, line in zip(utterances_of(STOPS), lines_of(STOPS), strict=True):
        mentioned = line in ("Don't stop.", "Stop at dock three.", "Take me to the bus stop.")
        heard = transcriber.transcribe(utterance).text
        assert is_stop(heard) is not mentioned, (line, heard)


@pytest.mark.parametrize("snr_db", [10, 5])
def test_spoken_stops_stop_in_noise(transcriber: Transcriber, snr_db: float) -> None:
    spectrum = np.fft.rfft(np.random.default_rng(4).standard_normal(4 * RATE))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)))
    for utterance, line in zip(utterances_of(STOPS), lines_of(STOPS), strict=True):
        if line in ("Stop.", "Stop right there!", "Robot, stop.", "Emergency stop!", "Stop, stop, stop!"):
            noise = pink[: len(utterance.samples)]
            level = np.sqrt(np.mean(utterance.samples**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
            heard = transcriber.transcribe((utterance.samples + level * noise).astype(np.float32))
            assert is_stop(heard.text), (line, heard)


def test_nothing_is_heard_in_noise(transcriber: Transcriber) -> None:
    random = np.random.default_rng(1)
    for level in (0.003, 0.05, 0.3):
        for seconds in (0.3, 1.0, 4.0):
            noise = np.clip(level * random.standard_normal(int(seconds * RATE)), -1, 1).astype(np.float32)
            heard = transcriber.transcribe(noise)
            assert heard.text == "" and heard.rejected


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (np.zeros(0, np.float32), "too short"),
        (np.ones(800, np.float32), "too short"),
        (np.zeros(RATE, np.float32), "silent"),
        (np.full(RATE, np.nan, np.float32), "not finite"),
        (np.zeros((RATE, 2), np.float32), "not mono"),
    ],
)
def test_audio_that_holds_no_speech_is_rejected_with_a_reason(
    transcriber: Transcriber, audio: np.ndarray, reason: str
) -> None:
    heard = transcriber.transcribe(audio)
    assert heard.text == "" and heard.confidence == 0.0 and reason in heard.rejected


def test_a_model_that_is_not_here_is_an_error_and_never_a_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []

    def refuse(*arguments: object, **options: object) -> None:
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for model in ("large-v3", "no-such-model", "someone/some-model", str(tmp_path / "none")):
        with pytest.raises(SpeechError, match="tiny-bundled"):
            Transcriber(model)
    (tmp_path / "half").mkdir()
    for name in ("model.bin", "config.json", "vocabulary.txt"):
        shutil.copy(Path(find_model("tiny-bundled")) / name, tmp_path / "half")
    with pytest.raises(SpeechError, match="half lacks tokenizer.json"):
        Transcriber(str(tmp_path / "half"))
    assert not asked


def test_a_damaged_model_is_an_error(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(SpeechError, match="cannot be loaded"):
        Transcriber(str(tmp_path))


def test_an_english_model_refuses_another_language() -> None:
    with pytest.raises(SpeechError, match="English only"):
        Transcriber(language="de")


def test_speech_needs_no_pytorch() -> None:
    program = (
        "import sys, numpy; from nano_agent_ros.speech import *; Endpointer();"
        "Transcriber().transcribe(numpy.ones(16000, numpy.float32));"
        "assert not {'torch', 'transformers', 'sounddevice'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)
