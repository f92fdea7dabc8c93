"""Claims about who is addressed: names in transcripts, modes, windows and buttons; by rules and a clock, no ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.speech.addressing import GO_ON_S, TOLERANCE_S, Addressing, AddressSettings, Ears
from nano_agent_ros.speech.calls import call
from nano_agent_ros.speech.names import Names
from nano_agent_ros.speech.stop_words import is_stop

UNIT_TWO = Names(["unit two", "loader"], ["unit one", "unit three", "Charlie", "fork lift four"])

CALLED = [  # as heard, and what the model gets
    ("Unit two, go to dock 3.", "Robot, go to dock 3."),
    ("unit 2 go to dock 3", "robot go to dock 3"),
    ("Unit to go to dock 3.", "Robot go to dock 3."),
    ("unit too, go to dock 3", "robot, go to dock 3"),
    ("Unit-2, go to dock 3.", "Robot, go to dock 3."),
    ("UNIT2: go to dock 3", "Robot: go to dock 3"),
    ("Unit number two, come in, go to dock 3.", "Robot, come in, go to dock 3."),
    ("hey unit two", "hey robot"),
    ("hey unit two which way", "hey robot which way"),
    ("Okay, unit two. Go to dock 3.", "Okay, robot. Go to dock 3."),
    ("Go to dock 3, unit two.", "Go to dock 3, robot."),
    ("Go to dock 3. Unit two.", "Go to dock 3. Robot."),
    ("go to dock 3 unit two please", "go to dock 3 robot please"),
    ("what's your battery unit two", "what's your battery robot"),
    ("Loadar, go to dock 3.", "Robot, go to dock 3."),
    ("Lo ader, go to dock 3.", "Robot, go to dock 3."),
    ("unit two can you come here", "robot can you come here"),
    ("Unit two, is the pallet ready?", "Robot, is the pallet ready?"),
    ("Unit two, three pallets to dock 1.", "Robot, three pallets to dock 1."),
    ("There's a spill. Unit two, clean it up.", "There's a spill. Robot, clean it up."),
    ("Unit two, unit three is blocked.", "Robot, unit three is blocked."),
    ("Hey, unit two, follow unit three.", "Hey, robot, follow unit three."),
    ("Unit two, tell Charlie that the pallet is ready.", "Robot, tell Charlie that the pallet is ready."),
    ("Unit two, go to where unit three is.", "Robot, go to where unit three is."),
]
ALL_CALLED = [
    ("Units one and two, go to dock 3.", "Robot, go to dock 3."),
    ("units 1 to 3 go home", "robot go home"),
    ("Unit one and two, go home.", "Robot, go home."),
    ("Unit three and unit two, go home.", "Robot, go home."),
    ("Unit two, unit three, go home.", "Robot, go home."),
    ("Everybody, go to the charger.", "Robot, go to the charger."),
    ("All robots return to base", "Robot return to base"),
    ("All units, return to base.", "Robot, return to base."),
    ("Go home, everyone.", "Go home, robot."),
    ("All units except unit three, go home.", "Robot, go home."),
    ("Unit two, go to dock 3. Unit three, go to dock 1.", "Robot, go to dock 3."),
    ("Unit two, go to dock 3, unit three, go to dock 1.", "Robot, go to dock 3"),
    ("unit three go to dock 1 and unit two go to dock 3", "robot go to dock 3"),
    ("Unit three, go to dock 1. Then wait. Unit two, follow it. Then come back.", "Robot, follow it. Then come back."),
]
ELSEWHERE = [
    "Unit three, go to dock 3.", "unit 3 go to dock 3", "Unit tree, go to dock 3.", "Go to dock 3, unit three.",
    "Go to dock 3, Charlie.", "Charli, go to dock 3.", "Hey Charlie, follow unit two.", "Unit nine, go to dock 3.",
    "Unit twenty two, go to dock 3.", "Unit 22, go to dock 3.", "Units one and three, go to dock 3.",
    "forklift for, go to dock 3", "Go to dock 3, unit three, and pick up a pallet.", "all units but unit two, go home",
    "When you are ready, unit three go to dock 1.", "Follow unit two, unit three.", "unit three can you come here",
    "Charlie, where is unit two?", "All forklifts, keep out of dock 3.",
]  # fmt: skip
MENTIONED = [
    "Tell unit three that the pallet is ready.", "Follow unit three.", "follow unit two", "Go to where unit two is.",
    "Unit three is blocked at dock 2.", "unit two has a flat tyre", "Is that unit two?", "Where is everybody?",
    "Push the cart to unit three.", "Help unit two.", "Wait for Charlie.", "Charlie said it's ready.",
    "Check unit one and unit three.", "Go to dock 3.", "There are two units at dock 3.", "Everybody is gone.",
    "Load the machines.", "You all right for battery?", "Everyone else is at dock 2.", "go home and load all units",
    "Go to the unit to the left.", "Take two units to dock 1.", "The loader's battery is low.", "",
]  # fmt: skip


@pytest.mark.parametrize(("heard", "words"), CALLED)
def test_who_calls_the_robot_by_name_is_heard_and_the_model_reads_a_name_it_knows(heard, words):
    said = call(heard, UNIT_TWO)
    assert (said.own, said.others, said.words) == (True, False, words)


@pytest.mark.parametrize(("heard", "words"), ALL_CALLED)
def test_who_calls_several_says_to_each_what_is_its_own(heard, words):
    said = call(heard, UNIT_TWO)
    assert (said.own, said.others, said.words) == (True, True, words)


@pytest.mark.parametrize("heard", ELSEWHERE)
def test_what_is_said_to_another_robot_is_not_for_this_one(heard):
    said = call(heard, UNIT_TWO)
    assert (said.own, said.others, said.words, said.elsewhere) == (False, True, "", True)


@pytest.mark.parametrize("heard", MENTIONED)
def test_who_is_only_spoken_of_is_not_called(heard):
    said = call(heard, UNIT_TWO)
    assert (said.own, said.others, said.words) == (False, False, heard)


@pytest.mark.parametrize(
    ("heard", "alone"), [("Unit two?", True), ("Hey, unit 2, please.", True), ("Unit two. Go.", False)]
)
def test_a_name_alone_is_known_from_a_name_with_words(heard, alone):
    assert call(heard, UNIT_TWO).alone is alone


def test_the_default_name_changes_no_word():
    names = Names(["robot"])
    for text in ("Robot, go to dock 3.", "hey robot go to dock 3", "Go to dock 3, robot.", "Robot?"):
        said = call(text, names)
        assert said.own and not said.others and said.words == text
    assert not call("Bring me the robot.", names).own and not call("The robot is late.", names).own


def test_names_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="own and another"):
        Names(["unit two"], ["Unit 2"])
    with pytest.raises(ValueError, match="needs a word"):
        Names(["2"])


def numbered(stem: str, number: int) -> list[str]:
    words = {1: "one", 2: "two", 3: "three", 4: "four", 8: "eight", 12: "twelve", 22: "twenty-two", 28: "twenty eight"}
    return [f"{stem} {number}", f"{stem}{number}", f"{stem.title()}-{words[number]}", f"{stem} {words[number]}"]


NUMBERS = [1, 2, 3, 4, 8, 12, 22, 28]


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.integers(0, 3), st.sampled_from([", ", " ", ": ", ". "]))
def test_of_numbered_robots_only_the_one_that_is_named_is_called(mine, named, form, pause):
    names = Names([f"unit {mine}"], [f"unit {n}" for n in NUMBERS if n != mine])
    for text in (f"{numbered('unit', named)[form]}{pause}go home", f"go home, {numbered('unit', named)[form]}"):
        said = call(text, names)
        assert (said.own, said.others) == (mine == named, mine != named)


ROBOTS = ["Sparky", "Atlas", "Marvin", "Walter", "Walker", "Daisy", "Rover"]


LETTERS = st.sampled_from("abcdefghijklmnopqrstuvwxyz")


@given(st.permutations(ROBOTS), st.sampled_from(ROBOTS), st.integers(0, 9), LETTERS)
def test_a_letter_heard_wrong_never_makes_one_robot_of_another(order, said, at, letter):
    mine, others = order[0], order[1:]
    heard = said[:at] + letter + said[at + 1 :]
    who = call(f"{heard}, go home.", Names([mine], others))
    assert not who.own or said == mine or heard.lower() == mine.lower()


@given(st.text(alphabet="unit wo23,.?! robtadehg&'-\n", max_size=80))
def test_any_text_is_understood_somehow_and_never_both_called_and_empty(text):
    said = call(text, UNIT_TWO)
    assert bool(said.words.strip()) or not said.own
    if not said.own and not said.others:
        assert said.words == text


STOPS_OF_OTHERS = ["Unit three, stop!", "unit three stop", "Stop, Charlie.", "stop unit three"]
STOPS_OF_ALL = [
    "Stop!", "unit two stop", "Unit to stop.", "everybody stop", "All units, stop.", "units two and three, stop",
]  # fmt: skip


@pytest.mark.parametrize("text", [*STOPS_OF_OTHERS, *STOPS_OF_ALL])
def test_a_stop_stops_whoever_is_addressed(text):
    assert Ears(["unit two"], ["unit one", "unit three", "Charlie"]).stops(text)


def test_a_stop_for_another_robot_passes_by_where_that_is_wanted():
    ears = Ears(["unit two"], ["unit one", "unit three", "Charlie"], stop_for_others=False)
    assert [text for text in STOPS_OF_ALL if not ears.stops(text)] == []
    assert [text for text in STOPS_OF_OTHERS if ears.stops(text)] == []
    assert not ears.stops("Unit three, stop. Unit two, go to dock 3.")
    assert ears.stops("Unit three, go to dock 3. Unit two, stop.")


STOPS = ["stop", "Stop!", "no, stop", "stop stop stop", "halt, watch out", "Robot, please stop.", "stop there"]


@given(st.sampled_from(STOPS), st.sampled_from(["", "Unit two, ", "unit three ", "Charlie, ", "everybody "]))
def test_names_never_hide_a_stop(words, before):
    assert is_stop(words)
    assert Ears(["unit two", "robot"], ["unit three", "Charlie"]).stops(before + words)
    assert Ears(["unit two", "robot"], ["unit three", "Charlie"]).stops_already(before + words, settled=True)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def addressing(mode: str, **times: float) -> tuple[Addressing, Clock]:
    clock = Clock()
    return Addressing(Ears(["unit two"], ["unit three"]), AddressSettings(mode, **times), clock), clock


def test_open_takes_all_but_what_is_for_others():
    it, clock = addressing("open")
    assert it.heard("Go to dock 3.", 999.0, 1000.0) and it.heard("Unit two, go home.", 999.0, 1000.0)
    assert not it.heard("Unit three, go home.", 999.0, 1000.0)
    assert it.reads("go home") and not it.reads("unit three, go home") and it.hears("", 999.0)


def test_a_name_opens_the_ears_for_this_utterance_and_its_going_on():
    it, clock = addressing("wake_word")
    assert not it.heard("Go to dock 3.", 998.0, 999.0)
    assert it.heard("Unit two, go to dock 3.", 999.0, 1000.0)
    assert it.heard("And then come back.", 1000.0 + GO_ON_S - 0.1, 1002.0)
    assert not it.heard("Nice weather.", 1000.0 + GO_ON_S + 0.1, 1002.0)


def test_the_name_alone_opens_a_window():
    it, clock = addressing("wake_word", follow_up_s=8.0)
    assert it.heard("Unit two?", 999.0, 1000.0)
    assert it.heard("Go to dock 3.", 1007.9, 1009.0) and not it.heard("Go to dock 3.", 1008.1, 1009.0)


def test_an_answer_to_the_robot_needs_no_name():
    it, clock = addressing("wake_word", follow_up_s=8.0)
    it.replied()
    assert it.heard("Yes.", 1000.1, 1000.5) and it.hears("", 1001.0)
    assert it.heard("Yes.", 1007.9, 1008.5) and not it.heard("Yes.", 1008.1, 1008.5)
    assert not it.heard("Unit three, go home.", 1001.0, 1002.0)
    assert not it.heard("Yes.", 999.9, 1000.5)


def test_the_time_for_an_answer_runs_from_the_end_of_the_robots_words():
    it, clock = addressing("wake_word", follow_up_s=8.0)
    it.replied()
    clock.now += 0.5
    it.speaks(True)
    clock.now += 20.0
    it.speaks(False)
    assert it.heard("Yes.", clock.now + 7.9, clock.now + 8.5) and not it.heard("Yes.", clock.now + 8.1, clock.now + 8.5)
    clock.now += 100.0
    it.speaks(True)  # an announcement is no reply
    clock.now += 1.0
    it.speaks(False)
    assert not it.heard("Yes.", clock.now + 1.0, clock.now + 1.5)


def test_the_sound_of_the_wake_word_takes_the_words_around_and_after_it():
    it, clock = addressing("wake_word", follow_up_s=8.0)
    it.woken()
    assert it.heard("Go to dock 3.", 999.0, 1002.0) and it.heard("Go to dock 3.", 1007.0, 1009.0)
    assert not it.heard("Go to dock 3.", 997.0, 999.0) and not it.heard("Go to dock 3.", 1009.0, 1010.0)


def test_a_button_takes_what_is_said_while_it_is_held():
    it, clock = addressing("push_to_talk")
    assert not it.heard("Go to dock 3.", 998.0, 999.0) and not it.heard("Unit two, go to dock 3.", 998.0, 999.0)
    it.talk(True)
    assert it.held and it.hears("", 999.0)
    clock.now += 3.0
    it.talk(False)
    assert not it.held
    cases = {(999.0, 1000.5): True, (1001.0, 1002.0): True, (1002.5, 1006.0): True, (1003.5, 1004.0): False,
             (1003.0 + TOLERANCE_S - 0.01, 1004.0): True, (998.0, 1000.0 - TOLERANCE_S + 0.01): True,
             (998.0, 1000.0 - TOLERANCE_S - 0.01): False}  # fmt: skip
    for (began, ended), taken in cases.items():
        assert it.heard("Go to dock 3.", began, ended) is taken, (began, ended)
    assert not it.heard("Unit three, go to dock 3.", 1001.0, 1002.0)


def test_a_button_is_toggled_too():
    it, clock = addressing("push_to_talk")
    assert it.toggle() and it.held
    clock.now += 1.0
    assert not it.toggle() and not it.held
    assert it.toggle()
    it.talk(False)
    assert not it.held


def test_a_button_that_nobody_can_release_any_more_expires():
    it, clock = addressing("push_to_talk", talk_timeout_s=60.0)
    it.talk(True)
    it.left()
    assert not it.held and not it.heard("Go home.", 1001.0, 1002.0)
    clock.now += 10.0
    it.talk(True)
    clock.now += 50.0
    it.talk(True)
    clock.now += 59.0
    assert it.held
    clock.now += 2.0
    assert not it.held and not it.heard("Go home.", clock.now - 0.1, clock.now)
    it.toggle()
    it.left()
    assert it.held
    clock.now += 50.0
    assert it.heard("Go home.", clock.now - 1.0, clock.now)
    clock.now += 50.0
    assert it.held  # speech was taken meanwhile
    clock.now += 20.0
    assert not it.held


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"address\.mode 'closed'"):
        AddressSettings("closed")


@dataclass
class World:
    """The rules of the mode wake_word once more, the simplest way: all times at which it was legal to begin."""

    follow_up_s: float
    clock: Clock = field(default_factory=Clock)
    invited: list[tuple[float, float]] = field(default_factory=list)
    sounds: list[float] = field(default_factory=list)
    replied: float = float("-inf")
    voice_of_reply: bool = False


NAMELESS = ["Go to dock 3.", "Yes.", "Follow unit two.", "unit two is late", "I like it", "stop at dock 3", "..."]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "name", "alone", "other", "reply", "voice on", "voice off", "woken", "button"]),
        st.floats(0.0, 6.0),
        st.floats(0.1, 4.0),
        st.sampled_from(NAMELESS),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(EVENTS, st.sampled_from([0.0, 2.0, 8.0]))
def test_no_sequence_of_events_lets_words_without_the_name_through_outside_a_window(events, follow_up_s):
    world = World(follow_up_s)
    it = Addressing(Ears(["unit two"], ["unit three"]), AddressSettings("wake_word", follow_up_s), world.clock)
    happen: dict[str, Callable[[], object]] = {
        "reply": it.replied, "voice on": lambda: it.speaks(True), "voice off": lambda: it.speaks(False),
        "woken": it.woken, "button": it.toggle,
    }  # fmt: skip
    for kind, wait_s, long_s, words in events:
        world.clock.now += wait_s
        now = world.clock.now
        if kind in happen:
            happen[kind]()
            if kind == "reply":
                world.replied = now
                world.invited.append((now, now + follow_up_s))
            elif kind == "woken":
                world.sounds.append(now)
                world.invited.append((now, now + follow_up_s))
            elif kind == "voice on":
                world.voice_of_reply = world.voice_of_reply or now - world.replied <= follow_up_s
            if kind.startswith("voice") and world.voice_of_reply:
                world.voice_of_reply = kind == "voice on"
                world.invited.append((world.replied, now + follow_up_s))
            continue
        began, ended = now - long_s, now
        if kind in ("name", "alone"):
            assert it.heard("Unit two?" if kind == "alone" else f"Unit two, {words}", began, ended)
            alone = kind == "alone" or words in ("...", "Yes.")  # of which neither says more than the name
            world.invited.append((ended, ended + (follow_up_s if alone else GO_ON_S)))
        elif kind == "other":
            assert not it.heard(f"Unit three, {words}", began, ended)
        else:
            legal = any(first <= began <= last for first, last in world.invited)
            legal = legal or any(began <= at <= ended for at in world.sounds)
            assert it.hears(words, began) == legal
            assert it.heard(words, began, ended) == legal
