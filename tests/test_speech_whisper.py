"""Claims about Whisper's one pass: its shortened window, the words that it is biased towards, and where it may run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.skills import Site
from nano_agent_ros.speech import SpeechError, Transcriber
from nano_agent_ros.speech.hotwords import BUDGET, COMMANDS, hotwords_of
from nano_agent_ros.speech.whisper import BUNDLED, LONGEST_S, SHORTEST_S, SPARE_S, Whisper, place, window_s

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper(BUNDLED)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(ROOT / "config/audio/demo.wav", dtype="float32")[0]


# The window


@settings(deadline=None)
@given(st.floats(0.0, 40.0))
def test_the_window_holds_the_audio_and_some_nothing(audio_s: float) -> None:
    assert SHORTEST_S <= window_s(audio_s) <= LONGEST_S
    assert window_s(audio_s) >= min(LONGEST_S, audio_s + SPARE_S)


@pytest.mark.parametrize("audio_s", [0.3, 4.9, 5.0, 12.0, 28.5, 30.0])
def test_the_decoder_sees_thirty_seconds_whatever_the_encoder_was_given(whisper: Whisper, audio_s: float) -> None:
    features = np.zeros((80, round(audio_s * 100)), np.float32)
    whole = np.array(whisper._encode(features, audio_s))
    assert whole.shape[1] == 1500 and np.isfinite(whole).all()


def test_the_shortened_window_hears_what_the_whole_one_does(whisper: Whisper, speech: np.ndarray) -> None:
    """Of the demonstration, cut anywhere: at most one clip in eight differs, in a letter or a comma."""
    clips = [speech[at : at + 3 * RATE] for at in range(RATE, len(speech) - 3 * RATE, 3 * RATE)][:8]
    short = [whisper.decode(clip, "en", COMMANDS, 3, 50) for clip in clips]
    tail, whisper._silence = whisper._silence, None
    try:
        whole = [whisper.decode(clip, "en", COMMANDS, 3, 50) for clip in clips]
    finally:
        whisper._silence = tail
    plain = [["".join(c for c in each.text.lower() if c.isalnum()) for each in some] for some in (short, whole)]
    assert sum(a != b for a, b in zip(*plain, strict=True)) <= 2
    for one, other in zip(short, whole, strict=True):
        assert abs(one.logprob - other.logprob) < 0.5 and abs(one.no_speech_prob - other.no_speech_prob) < 0.5


def test_audio_longer_than_a_window_is_heard_window_by_window(speech: np.ndarray) -> None:
    transcriber = Transcriber(beam_size=1)
    twice = np.concatenate([speech, speech])[: 45 * RATE]
    said = transcriber.transcribe(twice)
    assert said.audio_s == pytest.approx(len(twice) / RATE) and "dock" in said.text.lower()
    assert len(said.text.split()) > 40 or said.rejected


# Hotwords


def test_hotwords_name_each_numbered_place_once(whisper: Whisper) -> None:
    line = hotwords_of(["dock 1", "dock two", "dock 3", "the packing tables", "Maria"], whisper.tokens)
    assert line == f"{COMMANDS} Dock 1, packing tables, Maria."


def test_what_does_not_fit_is_what_whisper_knows_best(whisper: Whisper) -> None:
    known = ["office", "kitchen", "door", "garden", "house", "school", "river", "street", "station", "market"] * 1
    unknown = ["Qwyzzlok", "brurooll bay", "Hjørdis"]
    line = hotwords_of([*known, *unknown], whisper.tokens, budget=whisper.tokens(COMMANDS) + 25)
    assert all(name.lower() in line.lower() for name in unknown)
    assert sum(name in line.lower() for name in known) < len(known)
    kept = [name for name in [*known, *unknown] if name.lower() in line.lower()]
    places = [line.lower().index(name.lower()) for name in kept]
    assert places == sorted(places), "what stays keeps its order"


def test_own_words_come_first_and_go_last(whisper: Whisper) -> None:
    names = [f"place {chr(97 + i % 26)}{'x' * (i // 26)}" for i in range(300)]
    line = hotwords_of(names, whisper.tokens, own=["Kardex shuttle", "dock 1", ""])
    assert line.startswith(f"{COMMANDS} Kardex shuttle, dock 1, ")
    assert "place a" in line and whisper.tokens(line) <= BUDGET + 8


@settings(deadline=None)
@given(st.lists(st.text(alphabet="abcdefgh 123'ÄÖ", max_size=20), max_size=120), st.integers(30, 220))
def test_the_line_never_outgrows_its_tokens(whisper: Whisper, names: list[str], budget: int) -> None:
    assert whisper.tokens(hotwords_of(names, whisper.tokens, budget=budget)) <= budget + 8


def test_english_words_are_for_english_and_none_can_be_had(whisper: Whisper) -> None:
    assert hotwords_of([], whisper.tokens, language="de") == ""
    assert hotwords_of(["Halle 4"], whisper.tokens, language="de") == "Halle 4."
    assert hotwords_of([], whisper.tokens) == COMMANDS
    assert Transcriber(hotwords=None).hotwords == ""
    site = Site.load("warehouse").aliases()
    assert Transcriber(hotwords=site, own_words=["Kardex"]).hotwords.startswith(f"{COMMANDS} Kardex, dock 1")


# Where it runs


def test_auto_is_a_type_of_weights_that_this_machine_has() -> None:
    import ctranslate2

    device, kind = place("auto", "auto")
    assert kind in ctranslate2.get_supported_compute_types(device)
    assert place("cpu", "auto") == ("cpu", "int8")
    assert Transcriber().where == "cpu int8"


def test_a_missing_gpu_and_a_type_that_is_not_there_are_named_with_the_way_out() -> None:
    import ctranslate2

    if not ctranslate2.get_cuda_device_count():
        with pytest.raises(SpeechError, match="no CUDA device.*whisper.device to cpu or auto"):
            Transcriber(device="cuda")
        assert place("auto", "auto") == ("cpu", "int8")
    with pytest.raises(SpeechError, match="int3.*use auto or one of.*int8"):
        Transcriber(compute_type="int3")


def test_a_language_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(SpeechError, match="English only"):
        Transcriber(language="xx")
