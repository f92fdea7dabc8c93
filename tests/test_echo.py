"""Claims about the robot's own voice: it is not heard as a person's, and a person is heard in spite of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.speech.alike import alike, sound_of, words_of
from nano_agent_ros.speech.echo import OwnVoice, Sentence, sift
from nano_agent_ros.speech.stop_words import is_stop

OWN = [
    "I am going to dock 3.",
    "My battery is at 57 percent.",
    "Shall I bring the blue bin to packing?",
    "I don't know dock 9. Did you mean dock 3?",
    "I am waiting for two minutes.",
    "Everything is done, I am free.",
]
PERSON = ["no, go to the loading bay", "take the red crate upstairs", "follow me please", "turn left a little"]


def stops(text: str) -> bool:
    return is_stop(text, ["robot"])


def left(own: str, heard: str, **edges: bool) -> str:
    return sift(heard, [word for word, _, _ in words_of(own)], stops, **edges).text


@pytest.mark.parametrize(
    ("own", "heard"),
    [
        ("I am going to dock 3.", "I'm going to dock three."),
        ("I am going to dock 3.", "I'm going to doctrie."),
        ("I am bringing the blue bin to packing.", "I'm bringing the blue bean to back in."),
        ("All right, I can move again.", "Alright, I can move again."),
        ("I have to stop here.", "I have to stop here."),
        ("I have to stop here.", "I have to. Stop here."),
        ("Should I really unload the truck?", "Should I delete a mobile truck?"),
        ("Please say yes or no.", "yes"),
        ("Okay.", "Okay."),
    ],
)
def test_the_robots_own_words_are_known_however_they_were_heard(own: str, heard: str) -> None:
    assert left(own, heard) == ""


@pytest.mark.parametrize(
    ("own", "heard", "person"),
    [
        ("I am going to dock 3.", "I am going to dock three. No, go to packing.", "No, go to packing."),
        ("All right,", "All right, wait a moment, please.", "wait a moment, please."),
        ("I don't know dock 9.", "I don't know dock nine dock nine", "dock nine"),
        ("I am going to the dock.", "take it to the packing area", "take it to the packing area"),
        ("four", "dock four", "dock four"),
    ],
)
def test_a_persons_words_go_on_without_the_robots(own: str, heard: str, person: str) -> None:
    assert left(own, heard) == person


@pytest.mark.parametrize(
    ("own", "heard"),
    [
        ("I am going to dock 3.", "Stop!"),
        ("I am going to dock 3.", "I am going to stop."),
        ("I am going to dock 3.", "I am going stop dock three"),
        ("I am going to dock 3.", "I can't go out to stop."),
        ("I have to stop here.", "Stop!"),
        ("I have to stop here.", "I have to stop here. Stop!"),
        ("I have to stop here.", "I have to stop here stop."),
    ],
)
def test_a_stop_that_is_not_the_robots_own_acts(own: str, heard: str) -> None:
    assert stops(left(own, heard))


def test_a_stop_in_the_robots_own_sentence_does_not_act() -> None:
    for heard in ("I have to stop here.", "have to stop here", "I have to. Stop here."):
        assert not stops(left("I have to stop here, there is somebody.", heard))
    voice = OwnVoice()
    voice.begins("Stop.", 10.0, 0.5)
    assert voice.sift("Stop.", 10.0, 10.6, stops).text == "", "it says nothing else"
    assert stops(voice.sift("Stop.", 12.0, 12.6, stops).text), "but later it is a person's"


def test_a_single_word_behind_the_robots_counts_only_if_it_was_heard_after_it() -> None:
    assert left("Shall I go to dock 3?", "Shall I go to dock three? Yes.", late=True) == "Yes."
    assert left("Shall I go to dock 3?", "Shall I go to dock three? Yes.") == ""


@given(st.sampled_from(OWN), st.data())
@settings(deadline=None)
def test_any_part_of_a_sentence_of_its_own_leaves_nothing(own: str, data: st.DataObject) -> None:
    words = own.split()
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first + 1, len(words)))
    assert left(own, " ".join(words[first:last])) == ""


@given(st.sampled_from(OWN), st.sampled_from(PERSON), st.booleans())
@settings(deadline=None)
def test_what_a_person_says_before_or_after_is_left_word_for_word(own: str, person: str, after: bool) -> None:
    heard = f"{own} {person}" if after else f"{person}. {own}"
    rest = [word for word, _, _ in words_of(left(own, heard))]
    assert rest == [word for word, _, _ in words_of(person)]


@given(st.sampled_from(OWN), st.integers(0, 8), st.sampled_from(["stop", "robot stop", "halt"]))
@settings(deadline=None)
def test_a_stop_anywhere_in_the_robots_sentence_is_a_persons(own: str, at: int, stop: str) -> None:
    words = own.split()
    assert stops(left(own, " ".join([*words[:at], stop + "!", *words[at:]])))


@given(st.text(max_size=60), st.text(max_size=60))
@settings(deadline=None)
def test_nothing_is_left_that_was_not_heard(own: str, heard: str) -> None:
    sifted = sift(heard, [word for word, _, _ in words_of(own)], stops)
    was = [word for word, _, _ in words_of(heard)]
    rest = iter(was)
    assert all(word in rest for word, _, _ in words_of(sifted.text)), "in order"
    assert sifted.own or sifted.text == heard


def test_only_words_that_were_said_by_then_are_the_robots() -> None:
    sentence = Sentence("one two three four five six", 100.0, 3.0, 103.0)
    assert sentence.words(90.0, 100.8) == ["one", "two"]
    assert sentence.words(102.4, 110.0) == ["five", "six"]
    voice = OwnVoice(tail_s=0.5)
    voice.begins("I am going to dock 3 and then I come back to packing.", 100.0, 4.0)
    voice.silent(101.0)  # cut
    assert voice.sift("I am going come back to packing", 100.0, 103.0, stops).text == "come back to packing"
    assert voice.sift("come back to packing", 105.0, 106.0, stops).own is False
    assert not voice.during(101.6, 103.0) and voice.during(101.4, 103.0)


def test_words_are_alike_that_sound_alike() -> None:
    for one, other in (("aisle", "isle"), ("pallet", "palette"), ("put", "but"), ("three", "tree"), ("bin", "been")):
        assert alike(one, other) > 0.8
    for one, other in (("stop", "dock"), ("go", "no"), ("three", "two")):
        assert alike(one, other) < 0.6
    assert sound_of("knight") == sound_of("night")
    spoken = " ".join(word for word, _, _ in words_of("I'm at 21, 305 and 0042"))
    assert spoken == "i am at twenty one three hundred five and zero zero four two"
