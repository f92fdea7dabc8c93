"""Test sound is what it says: noise at its ratio, rooms of their reverberation time, voices; how errors are counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.sound import (
    RATE,
    active_power,
    babble,
    level_to,
    mix,
    power,
    reverberate,
    room,
    rt60_of,
    voice_span,
    warehouse,
)
from bench.voices import VoiceError, installed, speak
from bench.word_errors import rate, read_sentences, score, word_errors, words_of
from nano_agent_ros.skills import Site
from nano_agent_ros.speech import is_stop

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = read_sentences(ROOT / "bench/speech_commands.txt")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(ROOT / "config/audio/demo.wav", dtype="float32", stop=8 * RATE)[0]


@pytest.fixture(scope="module")
def hall() -> np.ndarray:
    return warehouse(20.0, seed=1)


def db(ratio: float) -> float:
    return 10 * np.log10(ratio)


@settings(max_examples=20, deadline=None)
@given(snr_db=st.floats(-5.0, 40.0), silence_s=st.floats(0.0, 3.0))
def test_the_noise_in_a_mixture_is_as_loud_as_it_says_whatever_silence_is_around(
    speech: np.ndarray, hall: np.ndarray, snr_db: float, silence_s: float
) -> None:
    quiet = 0.05 * speech
    padded = np.concatenate([quiet, np.zeros(round(silence_s * RATE), np.float32)])
    assert db(active_power(padded) / active_power(quiet)) == pytest.approx(0.0, abs=0.2)
    noise = mix(padded, hall, snr_db) - padded
    assert db(active_power(padded) / power(noise)) == pytest.approx(snr_db, abs=0.05)
    assert np.corrcoef(noise, hall[: len(noise)])[0, 1] > 0.99


def test_a_mixture_that_would_be_too_loud_is_made_quieter_as_a_whole(speech: np.ndarray, hall: np.ndarray) -> None:
    loud = mix(speech, hall, -20.0)
    assert np.abs(loud).max() == pytest.approx(1.0)
    design = np.stack([speech, hall[: len(speech)]], axis=1).astype(np.float64)
    (voice, noise), *_ = np.linalg.lstsq(design, loud.astype(np.float64), rcond=None)
    assert db(active_power(voice * speech) / power(noise * hall[: len(speech)])) == pytest.approx(-20.0, abs=0.05)


def test_what_cannot_be_mixed_is_refused(speech: np.ndarray) -> None:
    with pytest.raises(ValueError, match="noise"):
        mix(speech, np.ones(10, np.float32), 10.0)
    with pytest.raises(ValueError, match="silence"):
        mix(np.zeros(RATE, np.float32), np.ones(RATE, np.float32), 10.0)


def test_a_tone_lasts_as_long_as_it_sounds() -> None:
    tone = np.zeros(2 * RATE, np.float32)
    tone[RATE // 2 : RATE] = np.sin(np.arange(RATE // 2))
    assert voice_span(tone) == (RATE // 2, RATE)


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 1.2])
@pytest.mark.parametrize("direct_db", [0.0, 3.0])
def test_a_room_decays_in_the_time_it_says_by_schroeder_integration(rt60_s: float, direct_db: float) -> None:
    response = room(rt60_s, direct_db, seed=3)
    assert rt60_of(response) == pytest.approx(rt60_s, rel=0.08)
    assert db(response[0] ** 2 / power(response[1:]) / (len(response) - 1)) == pytest.approx(direct_db, abs=0.01)


def test_a_room_without_echo_changes_nothing_and_one_with_echo_rings_on(speech: np.ndarray) -> None:
    np.testing.assert_allclose(reverberate(speech, np.ones(1, np.float32)), speech, atol=1e-5)
    said = speech[: 3 * RATE]
    heard = reverberate(said, room(0.6))
    assert len(heard) > len(said) and power(heard[-RATE // 2 :]) < power(heard[:RATE]) < 1.0


def test_noise_follows_from_its_seed_and_keeps_its_level(hall: np.ndarray, speech: np.ndarray) -> None:
    assert np.array_equal(hall, warehouse(20.0, seed=1))
    assert not np.array_equal(hall, warehouse(20.0, seed=2))
    assert hall.dtype == np.float32 and len(hall) == 20 * RATE and np.isfinite(hall).all()
    assert db(power(hall)) == pytest.approx(-30.0, abs=0.5)
    assert db(power(warehouse(70.0, 1, [speech], -20.0))) == pytest.approx(-20.0, abs=0.5), "longer than its pieces"
    spectrum = np.abs(np.fft.rfft(level_to(hall, -30.0))) ** 2
    per_hz = [spectrum[20 * low : 20 * high].mean() for low, high in ((100, 300), (1000, 1500), (4000, 6000))]
    assert per_hz[0] > per_hz[1] > per_hz[2], "a hall rumbles"


def test_babble_is_speech_that_nobody_said(speech: np.ndarray) -> None:
    voices = babble(10 * RATE, np.random.default_rng(0), [speech[: 3 * RATE], speech[3 * RATE :]])
    assert np.mean(np.abs(voices) > 0.01) > 0.5
    forward = np.correlate(voices[: 4 * RATE], speech[RATE : 2 * RATE], "valid")
    backward = np.correlate(voices[: 4 * RATE], speech[RATE : 2 * RATE][::-1], "valid")
    assert np.abs(forward).max() < np.abs(backward).max()


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="no voice (apt-get install espeak-ng)")
def test_every_voice_says_the_sentence_loud_enough_and_without_silence_around() -> None:
    voices = installed()
    assert voices
    for voice in voices:
        first, other = speak(["Drive over to dock three please.", "Stop."], voice)
        assert 1.0 < len(first) / RATE < 4.0 and 0.15 < len(other) / RATE < 1.5, voice
        assert db(active_power(first)) == pytest.approx(-23.0, abs=1.0)
        begin, end = voice_span(first)
        assert begin <= RATE // 40 and len(first) - end <= RATE // 40


def test_a_voice_that_is_not_here_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VoiceError, match="apt-get install espeak-ng"):
        speak(["hello"], "en-us")


# Errors


def test_numbers_and_spellings_are_one_word_however_they_are_written() -> None:
    assert words_of("Dock Three, OKAY? 50%!") == ["dock", "3", "ok", "50", "%"]
    assert words_of("don't") == ["dont"]
    assert words_of("Lift it 20 centimeters") == words_of("lift it twenty centimetres")


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_word_errors_are_a_distance(one: list[str], other: list[str]) -> None:
    errors = word_errors(one, other)
    assert errors == word_errors(other, one) and (errors == 0) == (one == other)
    assert abs(len(one) - len(other)) <= errors <= max(len(one), len(other))


def test_a_wrong_name_and_a_wrong_command_word_are_counted_as_such() -> None:
    sentence = next(s for s in SENTENCES if s.text.startswith("Bring three boxes"))
    assert sentence.parts == ("Bring three boxes from rack seven to", "dock four.")
    right = score(sentence, "bring 3 boxes from rack 7 to dock 4")
    assert (right.words, right.commands, right.names) == ((0, 9), (0, 1), (0, 3))
    wrong = score(sentence, "Ring three boxes from rack seven to dog four")
    assert (wrong.words, wrong.commands, wrong.names) == ((2, 9), (1, 1), (1, 3))
    assert score(sentence, "").words == (9, 9)


def test_a_rate_has_an_interval_that_narrows_with_utterances() -> None:
    few, many = rate([(1, 10), (0, 10)] * 4), rate([(1, 10), (0, 10)] * 100)
    assert few.value == many.value == pytest.approx(5.0)
    assert few.low < many.low < 5.0 < many.high < few.high
    assert rate([(0, 5)] * 3).high == 0.0


def test_the_sentences_name_what_the_site_has_and_are_in_no_evaluation() -> None:
    assert len(SENTENCES) >= 60 and sum(len(s.parts) > 1 for s in SENTENCES) >= 10
    names = {" ".join(words_of(name)) for name in Site.load("warehouse").aliases()}
    for sentence in SENTENCES:
        assert sentence.commands, sentence.text
        assert not is_stop(sentence.text), sentence.text
        for name in sentence.names:
            said = " ".join(name)
            one = {said, f"the {said}", said.removesuffix("s"), said.removesuffix("es")}
            assert one & names or said.isdigit() or said == "half", said
    said = {" ".join(words_of(sentence.text)) for sentence in SENTENCES}
    for path in (ROOT / "eval").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            turns = json.loads(line).get("turns", []) if line.startswith("{") else []
            assert not said & {" ".join(words_of(turn["say"])) for turn in turns}, path.name
