"""Stop words: what stops the robot without the model, and what does not."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nano_agent_ros.speech import is_stop
from nano_agent_ros.speech.stop_words import STRONG, WEAK

STOPS = """
stop
Stop.
STOP!!!
Stop?
ｓｔｏｐ
stoooop!
Stop, stop, stop!
stop stop stop
stop-stop
Robot, stop.
stop robot
Hey robot, please stop now.
Please stop.
stop please
Can you stop, please?
Could you please stop moving?
I said stop!
You need to stop right now.
stop the robot
stop right there
Stop right there, robot!
stop it
stop that
stop everything
stop what you're doing
stop moving
emergency stop
Emergency stop!
E-stop!
estop
halt
Halt!
freeze
Freeze, robot.
abort
Abort!
abort, abort, abort
don't move
Don’t move!
do not move
stand still
all stop
hit the brakes
hold it
Hold it right there.
whoa
Whoa, whoa, whoa.
Whoa, stop.
no, no, stop
oh my god stop
uh stop
okay stop
wait, stop
wait stop
no wait stop
That's enough, stop.
Go to dock three. Stop.
Stop. Go back.
No, don't. Stop.
stop stop you're going to hit the rack
you are too fast stop stop
stop there's someone behind you
stop it there's someone behind you
Stop, there's a person!
halt watch out
stop you're going the wrong way
stop and come back
Alt.
"""

OTHERS = """
don't stop
Don't stop.
do not stop
never stop
please don't stop now
no, don't stop
Go ahead, don't stop.
stop at dock 3
Stop at dock three, please.
stop by the office
stop when you get there
stop after two rounds
stop in front of rack five
stop for Maria
stop following Maria
stop the conveyor
stop Tom
go to the bus stop
Take me to the bus stop.
go to aisle 2 and stop at rack 5
drive on until I say stop here
next stop, dock three
Next stop: packing.
pick up the stop sign
where is the emergency stop button
The emergency stop is broken.
there's a crack in the emergency stop
tell Maria to stop
why did you stop
did you stop
you can stop worrying
the machine stopped
nonstop
make two stops
go to the freezer
freeze the order
there is frost in the freezer
halting
whoa, that's a big box
abort the pick and go to dock two
abort, go to dock two
stay where you are
stop before dock 2
wait
wait, wait, wait
Wait two minutes.
hold on
hold on a second
pause
cancel that
slow down
resume
thank you
no
robot
hey robot, please
don't move the pallet
hold it up
go to dock three
well
"""


@pytest.mark.parametrize("text", STOPS.strip().splitlines())
def test_this_stops(text: str) -> None:
    assert is_stop(text)


@pytest.mark.parametrize("text", [*OTHERS.strip().splitlines(), "", "  ", "?!", "停", "\x00"])
def test_this_does_not(text: str) -> None:
    assert not is_stop(text)


def listed(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    path = request.config.rootpath / "tests/stop_phrases.yaml"
    return dict(yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def test_of_hundreds_of_ways_to_say_stop_none_is_missed(request: pytest.FixtureRequest) -> None:
    stops = listed(request)["stops"]
    assert len(set(stops)) >= 250
    assert [text for text in stops if not is_stop(text)] == []


def test_of_hundreds_of_sentences_with_such_words_that_are_no_stop_none_stops(request: pytest.FixtureRequest) -> None:
    others = listed(request)["others"]
    assert len(set(others)) >= 230
    assert [text for text in others if is_stop(text)] == []


POLITE = st.lists(st.sampled_from(["please", "robot", "hey", "no", "uh", "okay", "now"]), max_size=4)
COMMAS = st.sampled_from([" ", ", ", "! ", "... ", "  "])


@given(POLITE, st.lists(st.sampled_from(STRONG + WEAK), min_size=1, max_size=4), POLITE, COMMAS, st.booleans())
def test_politeness_repetition_case_and_punctuation_change_nothing(
    before: list[str], phrases: list[str], after: list[str], comma: str, loud: bool
) -> None:
    text = comma.join(before + phrases + after)
    assert is_stop(text.upper() if loud else text)


@given(st.sampled_from(["don't", "never", "do not", "tell Maria to", "did you", "the bus"]), st.sampled_from(STRONG))
def test_a_stop_that_is_negated_or_mentioned_is_none(before: str, phrase: str) -> None:
    assert not is_stop(f"{before} {phrase}")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    assert is_stop(text) in (True, False)
    assert is_stop(f"{text}. stop.") or len(text) > 490


def test_the_hand_written_commands_agree(request: pytest.FixtureRequest) -> None:
    stops, others = [], []
    for path in sorted((request.config.rootpath / "training/phrases").glob("*.yaml")):
        for entry in yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            for turn in entry.get("turns", [entry]):
                says = turn["say"] if isinstance(turn["say"], list) else [turn["say"]]
                (stops if turn["plan"] == "stop()" else others).extend(says)
    needless = [say for say in others if is_stop(say)]
    missed = [say for say in stops if not is_stop(say)]
    assert len(needless) <= 0.01 * len(others), needless
    assert len(missed) <= 0.1 * len(stops), missed


def test_another_name_can_be_called() -> None:
    assert is_stop("Rosie, stop", names=["Rosie"])
    assert is_stop("stop big wheel", names=["Big Wheel"])
    assert not is_stop("stop big wheel")


def test_no_length_of_text_delays_it() -> None:
    began = time.perf_counter()
    assert not is_stop("go to dock three and " * 500_000 + "stop")
    assert time.perf_counter() - began < 0.5
