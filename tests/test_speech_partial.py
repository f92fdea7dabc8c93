"""Claims about speech that goes on: what of it is stable, when it is transcribed, and stops that cannot wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.nodes.hearing import Heard, Hearing, Partial
from nano_agent_ros.speech import (
    Agreement,
    Completeness,
    EndpointConfig,
    Endpointer,
    Pace,
    SpeechError,
    Transcriber,
    Transcription,
    Utterance,
    is_stop,
    stops_already,
)
from nano_agent_ros.speech.vad import WINDOW

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


# What is stable


@given(st.lists(st.lists(st.sampled_from(["go", "to", "dock", "Dock", "3", "3."]), max_size=6), max_size=6))
def test_stable_words_begin_both_of_two_transcripts_and_lack_the_last_word_of_either(heard: list[list[str]]) -> None:
    agreement = Agreement()
    before: list[str] = []
    for words in heard:
        stable = agreement.add(" ".join(words)).split()
        assert stable == words[: len(stable)] == before[: len(stable)]
        assert len(stable) <= max(0, min(len(words), len(before)) - 1)
        longer = words[len(stable) : -1], before[len(stable) : -1]
        assert not longer[0] or not longer[1] or longer[0][0] != longer[1][0], "no word too few"
        before = words


# Stops


def test_unfinished_words_stop_only_if_nothing_that_follows_could_change_it() -> None:
    assert stops_already("Stop, stop", ["robot"], settled=False)
    assert stops_already("Robot stop you will hit", ["robot"], settled=False)
    assert stops_already("Stop.", ["robot"], settled=True)
    for text in ("Stop.", "stop at", "Stop the", "Robot, stop", "halt", "stop that", "ok stop it"):
        assert not stops_already(text, ["robot"], settled=False), text
    assert not stops_already("Stop at", ["robot"], settled=True)


def test_no_beginning_of_a_sentence_that_is_no_stop_stops() -> None:
    """Of all sentences of the evaluation, cut after any word; cut within a word, at most one in a thousand."""
    said = {
        turn["say"]
        for path in (ROOT / "eval").glob("*.jsonl")
        for line in lines(path)
        for turn in json.loads(line)["turns"]
        if not is_stop(turn["say"])
    }
    assert len(said) > 1000
    cut = []
    for text in said:
        words = text.split()
        for count in range(1, len(words) + 1):
            assert not stops_already(" ".join(words[:count]), ["robot"], settled=False), text
            parts = [words[count - 1][:size] for size in range(1, len(words[count - 1]))]
            cut += [text for part in parts if stops_already(" ".join([*words[: count - 1], part]), ["robot"], False)]
    assert len(set(cut)) <= len(said) / 1000


# When


def test_partials_leave_the_transcriber_two_thirds_of_its_time_and_far_more_when_it_is_slow() -> None:
    pace = Pace(1.0, 0.6)
    assert pace.due(0.0)
    pace.begin(0.0)
    assert not pace.due(0.9) and pace.due(1.0)
    pace.took(0.5)
    assert not pace.due(1.4) and pace.due(1.5)
    pace.took(0.8)
    assert not pace.due(2.3) and pace.due(2.5)
    pace.took(1.0)
    assert not pace.due(9.9) and pace.due(10.0)


# Endpointing


@given(
    loud=st.lists(st.sampled_from([0.0, 0.4, 0.9]), min_size=1, max_size=120),
    end_silence_s=st.sampled_from([0.1, 0.32, 0.6]),
    post_roll_s=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
)
@settings(max_examples=150, deadline=None)
def test_speech_that_is_settled_is_the_utterance_that_comes_if_nobody_goes_on(
    loud: list[float], end_silence_s: float, post_roll_s: float
) -> None:
    config = EndpointConfig(end_silence_s=end_silence_s, post_roll_s=post_roll_s, max_utterance_s=2.0)
    probabilities = iter([*loud, *[0.0] * 40])
    endpointer = Endpointer(config, lambda audio: np.array([next(probabilities) for _ in range(len(audio) // WINDOW)]))
    audio = np.random.default_rng(1).standard_normal((len(loud) + 40, WINDOW)).astype(np.float32)
    settled: list[Utterance] = []
    for number, window in enumerate(audio, 1):
        heard_s = number * WINDOW / RATE
        for utterance in endpointer.feed(window):
            if not utterance.truncated and end_silence_s >= post_roll_s + 0.064:
                last = settled[-1]
                assert (last.start_s, last.end_s) == (utterance.start_s, utterance.end_s)
                assert np.array_equal(last.samples, utterance.samples)
        speech = endpointer.speech()
        assert speech is None or endpointer.speaking
        if speech is not None:
            assert speech.settled == endpointer.settled
            if speech.settled:
                settled.append(speech.utterance)
            else:
                assert speech.utterance.end_s == pytest.approx(heard_s)
    assert not endpointer.speaking


# Two threads


class Steps:
    """A source of sound that gives a chunk each time that it is told to; paced by the test instead of the clock."""

    def __init__(self, chunks: list[np.ndarray]) -> None:
        self._chunks, self._allowed, self.taken = chunks, threading.Semaphore(0), 0

    def chunks(self) -> Iterator[np.ndarray]:
        for chunk in self._chunks:
            self._allowed.acquire()
            yield chunk
            self.taken += 1

    def go(self, chunks: int = 1) -> None:
        self._allowed.release(chunks)

    def close(self) -> None:
        self._allowed.release(len(self._chunks))

    def report(self) -> str:
        return ""


def wait_for(condition: Callable[[], Any]) -> None:
    for _ in range(6000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("not within a minute")


def is_idle(hearing: Hearing) -> bool:
    """Whether no partial transcription is in hand or waits."""
    with hearing._wake:
        return not hearing._part and not hearing._part_in_hand


def test_an_utterance_is_followed_to_its_end_and_what_its_pause_showed_is_not_transcribed_again() -> None:
    samples, rate = soundfile.read(ROOT / "config/audio/demo.wav", dtype="float32")
    assert rate == RATE
    samples = samples[: round(4 * RATE)]
    size = 4 * WINDOW
    source = Steps([samples[i : i + size] for i in range(0, len(samples), size)])
    told: list[Any] = []
    ended: list[str] = []
    counted: list[bool] = []
    transcriber = Transcriber()

    class Counting:
        def transcribe(self, audio: Any, quick: bool = False) -> Transcription:
            counted.append(quick)
            return transcriber.transcribe(audio, quick)

    hearing = Hearing(
        source, Endpointer(), Counting(), told.append, ended.append, on_partial=told.append, partial_every_s=0.0  # type: ignore[arg-type]
    )  # fmt: skip
    hearing.start()
    for taken in range(1, len(source._chunks) + 1):
        source.go()
        wait_for(lambda taken=taken: source.taken >= taken and is_idle(hearing))
    wait_for(lambda: ended)
    hearing.close()
    assert ended == [""]
    heard = told.pop()
    assert heard.transcription is not None and "dock" in heard.transcription.text.lower()
    first, *parts, last = told
    assert {partial.key for partial in told} == {heard.key}
    assert (first.speaking, first.transcription, last.speaking, last.dropped) == (True, None, False, False)
    assert all(partial.speaking and partial.transcription is not None for partial in parts)
    assert all(p.transcription.text.startswith(p.stable) for p in parts if not p.settled)
    assert parts[-1].settled and parts[-1].stable == heard.transcription.text
    assert heard.transcription is parts[-1].transcription
    assert counted == [not partial.settled for partial in parts]
    lengths = [partial.transcription.audio_s for partial in parts]
    assert len(parts) > 2 and all(a < b for a, b in pairwise(lengths[:-1]))


class Slow:
    """A transcriber that takes until it is told to go on."""

    def __init__(self, text: str = "one two") -> None:
        self.asked: list[float] = []
        self._go = threading.Semaphore(0)
        self.text = text
        self.fails = False

    def transcribe(self, audio: Any, quick: bool = False) -> Transcription:
        self.asked.append(audio.duration_s)
        assert self._go.acquire(timeout=60)
        if self.fails:
            raise SpeechError("no memory")
        return Transcription(self.text, 0.9, 0.0, "en", audio.duration_s, 0.0)

    def go(self, times: int = 1) -> None:
        self._go.release(times)


def speak(
    pattern: str, transcriber: Slow, every_s: float = 0.0, reads: Completeness | None = None
) -> tuple[Hearing, Steps, list[Any], list[str]]:
    """Hearing of sound that is voice where the pattern has an x, a quarter of a second a character."""
    probabilities = iter([float(c == "x") for c in pattern for _ in range(8)])
    vad = lambda audio: np.array([next(probabilities) for _ in range(len(audio) // WINDOW)])  # noqa: E731
    source = Steps([np.full(8 * WINDOW, 0.1, np.float32) for _ in pattern])
    told: list[Any] = []
    ended: list[str] = []
    hearing = Hearing(
        source, Endpointer(EndpointConfig(), vad), transcriber, told.append, ended.append, on_partial=told.append,  # type: ignore[arg-type]
        partial_every_s=every_s, reads=reads,
    )  # fmt: skip
    hearing.start()
    return hearing, source, told, ended


def test_a_partial_gives_way_to_a_whole_utterance() -> None:
    transcriber = Slow()
    hearing, source, told, ended = speak("xxxxxxx......", transcriber)
    source.go(2)
    wait_for(lambda: len(transcriber.asked) == 1)  # a partial is in hand
    source.go(11)  # and the utterance ends: others that were asked for are dropped
    wait_for(lambda: hearing._over)
    transcriber.go(2)
    wait_for(lambda: ended)
    hearing.close()
    assert len(transcriber.asked) == 2 and transcriber.asked[1] > 1.5
    assert [getattr(each, "speaking", "whole") for each in told] == [True, False, "whole"]


def test_no_partial_begins_in_a_pause_before_it_is_settled_nor_twice_in_one() -> None:
    transcriber = Slow()
    transcriber.go(100)
    hearing, source, told, ended = speak("xx.xx...xxx", transcriber)
    for step in range(1, 12):
        source.go()
        wait_for(lambda step=step: source.taken >= step and is_idle(hearing))
    wait_for(lambda: ended)
    hearing.close()
    keys = list(dict.fromkeys(each.key for each in told))
    assert len(keys) == 2
    parts = [each for each in told if isinstance(each, Partial) and each.key == keys[0] and each.transcription]
    assert [part.settled for part in parts] == [False, False, True, False, False, True], "one in each pause"


@pytest.mark.parametrize(
    ("text", "pause", "utterances"),
    [
        ("go to dock one", "..", 2),  # 0.5 s: longer than the short pause, shorter than the ordinary one
        ("pick up the box", "..", 1),
        ("pick up the box", "...", 2),  # 0.8 s
        ("go to the", "...", 1),
        ("go to the", "....", 1),  # 1.0 s
        ("go to the", ".....", 2),  # 1.3 s
    ],
)
def test_the_words_in_a_pause_say_how_long_it_must_be(text: str, pause: str, utterances: int) -> None:
    transcriber = Slow(text)
    transcriber.go(100)
    reads = Completeness(["dock 1"], ["box"])
    pattern = f"xxxx{pause}xxxx......"
    hearing, source, told, ended = speak(pattern, transcriber, every_s=100.0, reads=reads)
    for step in range(1, len(pattern) + 1):
        source.go()
        wait_for(lambda step=step: source.taken >= step and is_idle(hearing))
    wait_for(lambda: ended)
    hearing.close()
    heard = [each for each in told if isinstance(each, Heard)]
    assert len(heard) == utterances
    assert len(transcriber.asked) == 2, "once in each pause, and never again for the utterance that ends in it"
    assert all(each.transcription and each.transcription.text == text for each in heard)


def test_words_that_were_hardly_heard_do_not_change_the_pause() -> None:
    class Unsure(Slow):
        def transcribe(self, audio: Any, quick: bool = False) -> Transcription:
            return replace(super().transcribe(audio, quick), confidence=0.4)

    transcriber = Unsure("go to dock one")
    transcriber.go(100)
    hearing, source, told, ended = speak("xxxx..xxxx....", transcriber, 100.0, Completeness(["dock 1"]))
    for step in range(1, 15):
        source.go()
        wait_for(lambda step=step: source.taken >= step and is_idle(hearing))
    wait_for(lambda: ended)
    hearing.close()
    assert len([each for each in told if isinstance(each, Heard)]) == 1


def test_what_cannot_be_transcribed_and_what_is_muted_on_the_way_ends_as_well() -> None:
    transcriber = Slow()
    transcriber.fails = True
    transcriber.go(100)
    hearing, source, told, ended = speak("xxxx....", transcriber, every_s=100.0)
    source.go(8)
    wait_for(lambda: ended)
    hearing.close()
    assert ended == ["no memory"]
    assert [(each.speaking, each.dropped) for each in told] == [(True, False), (False, False), (False, True)]
    muted, source, told, ended = speak("xxxx....", transcriber, every_s=100.0)
    source.go(2)
    wait_for(lambda: told)
    muted.muted = True
    source.go(6)
    wait_for(lambda: ended)
    muted.close()
    assert [(each.speaking, each.dropped) for each in told[:-1]] == [(True, False), (False, True)]
    assert told[-1].transcription is None


def test_a_file_that_is_read_as_fast_as_it_goes_has_no_partials() -> None:
    transcriber = Slow()
    transcriber.go(100)
    told: list[Any] = []
    ended: list[str] = []
    samples, _ = soundfile.read(ROOT / "config/audio/demo.wav", dtype="float32")
    source = Steps([samples[: 4 * RATE]])
    source.go()
    hearing = Hearing(
        source, Endpointer(), transcriber, told.append, ended.append, paced=False, on_partial=told.append  # type: ignore[arg-type]
    )  # fmt: skip
    hearing.start()
    wait_for(lambda: ended)
    hearing.close()
    assert [each.transcription.text for each in told] == ["one two"]
