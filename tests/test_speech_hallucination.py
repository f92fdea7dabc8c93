"""Claims about noise: what Whisper makes up where nobody speaks is not believed, and why is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.skills import Site
from nano_agent_ros.speech import Endpointer, Transcriber, Transcription, is_stop
from nano_agent_ros.speech.hallucination import (
    CREDITS,
    FILLINGS,
    STEADY_DB,
    believable,
    collapse_repeats,
    compression,
    dynamics_db,
    unhearable,
)

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000
MIN_CONFIDENCE, MAX_NO_SPEECH = 0.35, 0.6  # of the listener's gate


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(hotwords=Site.load("warehouse").aliases())


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(ROOT / "config/audio/demo.wav", dtype="float32")[0]


def accepted(said: Transcription) -> bool:
    """What the listener would pass on, or stop for."""
    heard = said.text and said.confidence >= MIN_CONFIDENCE and said.no_speech_prob <= MAX_NO_SPEECH
    return bool(heard) or is_stop(said.text)


# Real noise through real Whisper


def coloured(samples: int, exponent: float) -> np.ndarray:
    """Noise whose power falls with the frequency to the power of 2 * exponent; peak 1."""
    spectrum = np.fft.rfft(np.random.default_rng(2).standard_normal(samples))
    noise = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1.0) ** exponent, samples)
    return noise / np.abs(noise).max()


def hum(t: np.ndarray) -> np.ndarray:
    return sum(np.sin(2 * np.pi * 50 * n * t) / n for n in (1, 2, 3, 5)) / 2


def motor(t: np.ndarray) -> np.ndarray:
    whine = np.sign(np.sin(2 * np.pi * (90 + 10 * np.sin(2 * np.pi * 0.7 * t)) * t))
    return 0.4 * (0.5 + 0.5 * np.sin(2 * np.pi * 23 * t)) * whine + 0.2 * coloured(len(t), 0.5)


def beeps(t: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * 1000 * t) * (t % 1 < 0.3)


def knocks(t: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(3)
    sound = np.zeros(len(t))
    for at in random.integers(0, len(t) - 800, 2 + int(4 * t[-1])):
        sound[at : at + 800] += random.standard_normal(800) * np.exp(-np.arange(800) / 120)
    return sound / np.abs(sound).max()


NOISES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "white": lambda t: coloured(len(t), 0.0),
    "pink": lambda t: coloured(len(t), 0.5),
    "brown": lambda t: coloured(len(t), 1.0),
    "hum": hum,
    "motor": motor,
    "beeps": beeps,
    "knocks": knocks,
}


@pytest.mark.parametrize("level", [0.02, 0.3])
@pytest.mark.parametrize("name", list(NOISES))
def test_nothing_that_is_noise_is_acted_upon(transcriber: Transcriber, name: str, level: float) -> None:
    for seconds in (0.6, 1.5, 4.0):
        noise = (level * NOISES[name](np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)
        endpointer = Endpointer()
        assert endpointer.feed(noise) + endpointer.flush() == [], "it does not even count as speech"
        said = transcriber.transcribe(noise)
        assert not accepted(said), said


def test_many_voices_at_once_that_say_nothing_do_not_stop_the_robot(
    transcriber: Transcriber, speech: np.ndarray
) -> None:
    backwards = speech[::-1]
    for seed in range(4):
        parts = [np.roll(backwards, int(at)) for at in np.random.default_rng(seed).integers(0, len(speech), 6)]
        babble = (0.2 * sum(part[: 4 * RATE] for part in parts)).astype(np.float32)
        endpointer = Endpointer()
        for utterance in endpointer.feed(babble) + endpointer.flush():
            said = transcriber.transcribe(utterance)
            assert not is_stop(said.text), said


# Sound that is not worth transcribing


@pytest.mark.parametrize("level", [0.003, 0.05, 0.5])
def test_steady_noise_is_told_from_speech_in_noise_as_loud(speech: np.ndarray, level: float) -> None:
    noise = level * coloured(4 * RATE, 0.0)
    assert unhearable(noise.astype(np.float32)).startswith("steady noise")
    words = speech[round(1.0 * RATE) : round(3.2 * RATE)]
    loudness = np.sqrt(np.mean(words**2))
    mixed = np.concatenate([np.zeros(RATE // 3), words, np.zeros(RATE // 5)]) * level / loudness
    mixed = (mixed + level * np.random.default_rng(1).standard_normal(len(mixed))) / 4  # 0 dB
    assert dynamics_db(mixed.astype(np.float32)) > 1.5 * STEADY_DB and unhearable(mixed.astype(np.float32)) == ""


@settings(deadline=None)
@given(st.integers(1_600, 40_000), st.floats(0.01, 1.0))
def test_constant_sound_of_any_length_has_no_dynamics(samples: int, level: float) -> None:
    assert dynamics_db(np.full(samples, level, np.float32)) == pytest.approx(0.0, abs=0.01)


# Texts that are not believed


def test_a_filling_is_dropped_only_where_whisper_doubts_that_anyone_spoke() -> None:
    assert believable("Thank you.", 0.9, 1.0)[0] == ""
    assert believable("Thank you.", 0.1, 1.0, confidence=0.3)[0] == ""
    assert believable("Thank you.", 0.1, 1.0)[0] == "Thank you."
    assert believable("Go to dock 3.", 0.9, 1.0)[0] == "Go to dock 3."
    for filling in FILLINGS:
        assert "phantom" in believable(f"{filling.capitalize()}!", 0.6, 2.0)[1], filling


@pytest.mark.parametrize("credit", CREDITS)
def test_what_ends_videos_is_never_believed(credit: str) -> None:
    assert "phantom" in believable(f"{credit.capitalize()} 2019.", 0.01, 5.0)[1]


@pytest.mark.parametrize(
    "text",
    [
        "Thanks for watching!",
        "Untertitel der Amara.org-Community",
        "Untertitelung des ZDF, 2020",
        "Sous-titres réalisés para la communauté d'Amara.org",
        "¡Gracias por ver el video!",
        "Субтитры сделал DimaTorzok",
        "ご視聴ありがとうございました",
        "请不吝点赞 订阅 转发",
        "시청해 주셔서 감사합니다.",
        "Don't forget to subscribe to my channel!",
    ],
)
def test_phantoms_as_whisper_writes_them(text: str) -> None:
    said, reason = believable(text, 0.05, 4.0)
    assert said == "" and "phantom phrase" in reason and text in reason


def test_every_reason_names_what_was_heard() -> None:
    line = "Robot commands: go to. Aisle 1, rack 5, packing."
    assert "echo of the hotwords" in believable("Aisle 1, rack 5, packing.", 0.1, 3.0, line)[1]
    assert "12 words" in believable("one two three four five six seven eight nine ten eleven twelve", 0.1, 0.5)[1]
    assert "letters" in believable("incomprehensibilities internationalization", 0.1, 0.3)[1]
    loop = ", ".join(f"I'm {word} going to the dock and to the dock" for word in ("", "not", "now", "", "not", "now"))
    assert "repeats itself" in believable(loop, 0.1, 12.0)[1]
    assert "no speech (0.75) in 'Alt.'" in believable("Alt.", 0.75, 1.0, confidence=0.3)[1]
    assert believable("?!", 0.1, 1.0) == ("", "no words")


def test_no_command_of_a_person_is_taken_for_a_loop() -> None:
    said = (ROOT / "config/audio/demo.txt").read_text().splitlines()
    long = "Pick up the pallet at dock one, then the pallet at dock two, then the pallet at dock three, and bring them."
    for text in [*(line for line in said if not line.startswith("#")), long]:
        assert compression(text) < 2.0 and believable(text, 0.3, 6.0)[0] == text


@settings(deadline=None)
@given(st.lists(st.sampled_from(["stop", "go", "to", "dock", "3."]), max_size=40))
def test_collapsing_repeats_settles_and_invents_no_word(words: list[str]) -> None:
    text = " ".join(words)
    once = collapse_repeats(text)
    assert set(once.split()) <= set(words)
    assert len(once) <= len(text)
    assert not re.search(r"(\b\S+)( \1){3,}(?= |$)", once)


def test_a_decoding_loop_is_reduced_and_three_cries_are_not() -> None:
    assert collapse_repeats("go to dock 3. " * 9) == "go to dock 3."
    assert collapse_repeats("Stop, stop, stop!") == "Stop, stop, stop!"


@settings(deadline=None)
@given(st.text(max_size=300), st.floats(0.0, 1.0), st.floats(0.0, 30.0), st.floats(0.0, 1.0))
def test_no_text_breaks_the_guards(text: str, no_speech: float, audio_s: float, confidence: float) -> None:
    said, reason = believable(text, no_speech, audio_s, "Dock 1, rack 5.", confidence)
    assert bool(said) != bool(reason)
