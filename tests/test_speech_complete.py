"""Claims about the pause that ends an utterance: it adapts to whether the words so far read as a whole command."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.skills import Site
from nano_agent_ros.speech import Completeness, Ending, EndpointConfig, Endpointer, Utterance
from nano_agent_ros.speech.endings import HESITATIONS, OPENERS
from nano_agent_ros.speech.vad import WINDOW

RATE = 16_000

WHOLE = """
Robot, go to dock 3.
go to dock three
Go to the charging station.
go to the charging station now
Can you go to the office please?
Okay robot, drive to cold storage.
please drive back to cold storage
head over to the packing station
come to the shipping office
Bring the red bin to Maria.
Take the tape gun to the shift lead.
Pick up the blue bin and take it to the packing station.
pick up the pallet at dock one and put it in cold storage
Put the box on rack 5.
go to aisle 2 and then go to rack seven
Move the empty pallet from dock one to dock two.
go from dock one to dock two
Follow Tom.
unload the cart at aisle two
count the boxes in rack six
Guide Maria to the cold room.
Drive past aisle one to the cold room.
Stay here for ten minutes.
How many boxes are in cold storage?
where is Maria
Where's Tom?
drive forward two meters
Move back one metre.
go forward half a meter
back up 3 feet
turn left ninety degrees
Turn right 90 degrees.
turn 45 degrees to the right
wait for five minutes
Wait two minutes, please.
set the speed to 50%
Set speed to half a meter per second.
drive at 30 percent
Pause.
Robot, pause please.
Cancel that.
never mind
Forget about it.
Slow down.
slow down a bit please
Come here.
Turn around.
Where are you?
What are you doing?
How's your battery?
Thank you.
Stop.
Robot, stop right there!
emergency stop
"""

OPEN = """
go to the
Go to...
go to
Robot, drive to
go to dock
go to cold
bring it to the shipping
bring the red
pick up the
pick up
Pick up the box and
pick up the box and then
Pick up the box, and...
Take this to
put it in
the box from
go to dock 3 and
go to dock three and then
go to dock 3 or
go to the, um
um
uh
Robot, uh
go to er
drive forward two
move back 3
wait for two
wait for twenty
turn left ninety
set the speed to
set the speed to two point
drive at
can you
Could you please bring
Robot
Hey robot
okay robot
and then
I want you to
patrol between aisle one
patrol between aisle 1 and
it's in front of my
where is
what is the
how many boxes are
because
if you see a
when
bring the red bin to my
I would
turn to the -
"""

UNSURE = """
pick up the box
bring the red bin
take the pallet jack
go to the packing
please drive back to receiving
go to dock 100
go to dock nine
Go to dock 3,
turn left
drive 2 meters
yes
no
Yes, please.
resume
wait
patrol between aisle 1 and aisle 2
go from dock one
unload the cart from aisle two
inspect rack six
reverse a metre
we used to go to dock 3
don't go to dock 3
he went to the office
the first one then
okay then
whenever you can
I told Tom about dock 3
there is a crack in rack seven
the office
dock 3
pick it up
hold on
carry on
what is that
Did you watch the game last night?
bring me two
go to my
fahr zum dock drei
"""


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.fixture(scope="module")
def reads() -> Completeness:
    site = Site.load("warehouse")
    places = [name for place in [*site.locations.values(), *site.people.values()] for name in place.names]
    return Completeness(places, [name for thing in site.objects.values() for name in thing.names])


@pytest.mark.parametrize("text", lines(WHOLE))
def test_this_is_whole(reads: Completeness, text: str) -> None:
    assert reads.ending(text) is Ending.WHOLE


@pytest.mark.parametrize("text", lines(OPEN))
def test_more_must_follow_this(reads: Completeness, text: str) -> None:
    assert reads.ending(text) is Ending.OPEN


@pytest.mark.parametrize("text", lines(UNSURE)[:-2])
def test_this_may_be_all_or_not(reads: Completeness, text: str) -> None:
    assert reads.ending(text) is Ending.UNSURE


@pytest.mark.parametrize("text", ["", "  ", "?!", "\x00", "停", "..."])
def test_what_is_no_words_is_neither(reads: Completeness, text: str) -> None:
    assert reads.ending(text) is Ending.UNSURE


def test_a_number_that_may_go_on_to_another_name_is_not_whole() -> None:
    few = Completeness(["dock 1", "dock 2"])
    many = Completeness(["dock 1", "dock 2", "dock 100", "aisle 20", "aisle 23"])
    assert few.ending("go to dock one") is Ending.WHOLE
    assert many.ending("go to dock one") is Ending.UNSURE
    assert many.ending("go to dock two") is Ending.WHOLE
    assert many.ending("go to aisle twenty") is Ending.UNSURE
    assert Completeness(["dock 1", "dock 1 east"]).ending("go to dock one") is Ending.UNSURE


@pytest.mark.parametrize("text", lines(WHOLE))
def test_no_beginning_of_a_whole_command_is_whole_unless_it_is_one_itself(reads: Completeness, text: str) -> None:
    """The mistake that cuts a sentence: the shapes must not fit half of one another."""
    known = {"okay robot", "robot stop", "slow down", "thank you", "robot pause", "robot stop right", "emergency"}
    words = text.split()
    for count in range(1, len(words)):
        beginning = " ".join(words[:count])
        plain = " ".join("".join(c for c in beginning.lower() if c.isalnum() or c == " ").split())
        if reads.ending(beginning) is Ending.WHOLE and plain not in known:
            rest = words[count]
            assert rest.lower().strip(".,?") in ("and", "now", "please", "a", "that"), (beginning, text)


@pytest.mark.parametrize("language", ["de", "fr", "es", "it", "nl", "pt", "ja", "xx", ""])
def test_another_language_is_open_by_its_own_words_and_never_whole(reads: Completeness, language: str) -> None:
    for word in OPENERS.get(language, "").split():
        assert reads.ending(f"dock 3 {word}", language) is Ending.OPEN
    for text in lines(WHOLE):
        whole = reads.ending(text, language)
        assert whole is not Ending.WHOLE or "stop" in text.lower()
    for word in HESITATIONS.split():
        assert reads.ending(word, language) is Ending.OPEN


def test_some_german() -> None:
    reads = Completeness(["Dock 3", "Kühlraum"], ["Palette"])
    assert reads.ending("Fahr zum", "de") is Ending.OPEN
    assert reads.ending("Nimm die Palette und", "de") is Ending.OPEN
    assert reads.ending("Fahr zu Dock 3", "de") is Ending.UNSURE


@settings(deadline=None)
@given(st.text(max_size=200), st.sampled_from(["en", "de", "xx"]))
def test_no_text_breaks_it(text: str, language: str) -> None:
    assert Completeness(["dock 1"]).ending(text, language) in Ending


# The endpointer


class Script:
    """Probabilities that a test dictates, one a window."""

    def __init__(self, windows: str) -> None:
        self._rest = iter(windows)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        return np.array([float(next(self._rest) == "x") for _ in range(len(samples) // WINDOW)])


def spoken(windows: str, endings: dict[int, Ending], config: EndpointConfig | None = None) -> list[Utterance]:
    """What an endpointer makes of voice (x) and silence, told in the n-th settled pause how the words end."""
    endpointer, pause, found = Endpointer(config, Script(windows)), 0, []
    audio = np.random.default_rng(0).standard_normal((len(windows), WINDOW)).astype(np.float32)
    told = -1.0
    for window in audio:
        found += endpointer.feed(window)
        speech = endpointer.speech()
        if speech is not None and speech.settled and speech.utterance.end_s != told:
            told = speech.utterance.end_s
            if pause in endings:
                endpointer.expect(speech.utterance, endings[pause])
            pause += 1
    return found + endpointer.flush()


def windows_of(seconds: float) -> int:
    return int(np.ceil(seconds * RATE / WINDOW))


CONFIG = EndpointConfig()
VOICE = "x" * 20


@pytest.mark.parametrize("ending", list(Ending))
def test_the_pause_that_ends_an_utterance_is_that_of_its_ending(ending: Ending) -> None:
    enough = windows_of(CONFIG.silence_s(ending))
    assert len(spoken(VOICE + "." * (enough - 1) + VOICE, {0: ending})) == 1
    assert len(spoken(VOICE + "." * enough + VOICE, {0: ending})) == 2


def test_the_pauses_are_in_order_however_they_are_set() -> None:
    odd = EndpointConfig(end_silence_s=0.5, short_silence_s=0.9, long_silence_s=0.2)
    assert [odd.silence_s(ending) for ending in (Ending.WHOLE, Ending.UNSURE, Ending.OPEN)] == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="long_silence_s"):
        EndpointConfig(long_silence_s=11.0)


def test_what_was_said_of_one_pause_does_not_count_in_the_next() -> None:
    short, ordinary = windows_of(CONFIG.short_silence_s), windows_of(CONFIG.end_silence_s)
    text = VOICE + "." * (short - 1) + VOICE + "." * short + VOICE + "." * ordinary
    assert len(spoken(text, {0: Ending.WHOLE})) == 1
    assert len(spoken(VOICE + "." * ordinary + VOICE + "." * (ordinary - 1) + VOICE, {0: Ending.OPEN})) == 1


def test_a_later_part_is_an_utterance_of_its_own_and_no_sample_of_it_is_lost() -> None:
    """Pick up the box ... and bring it to dock 3."""
    short = windows_of(CONFIG.short_silence_s)
    first, second = spoken(VOICE + "." * short + VOICE + "." * 40, {0: Ending.WHOLE})
    begins = (len(VOICE) + short) * WINDOW / RATE
    assert first.end_s <= second.start_s < begins < second.end_s
    assert second.start_s == max(first.end_s, begins - CONFIG.pre_roll_s)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="x.", min_size=1, max_size=150), st.lists(st.sampled_from(list(Ending)), max_size=8))
def test_endings_move_where_speech_is_cut_and_change_nothing_else(windows: str, endings: list[Ending]) -> None:
    found = spoken(windows, dict(enumerate(endings)))
    audio = np.random.default_rng(0).standard_normal((len(windows), WINDOW)).astype(np.float32).reshape(-1)
    end = 0.0
    for utterance in found:
        assert end <= utterance.start_s < utterance.end_s
        first = round(utterance.start_s * RATE)
        np.testing.assert_array_equal(utterance.samples, audio[first : first + len(utterance.samples)])
        end = utterance.end_s


def test_how_sensitive_it_is_can_be_set_while_it_listens() -> None:
    endpointer = Endpointer(vad=lambda samples: np.full(len(samples) // WINDOW, 0.4))
    audio = np.zeros(20 * WINDOW, np.float32)
    endpointer.feed(audio)
    assert not endpointer.speaking
    endpointer.tune(0.3)
    endpointer.feed(audio)
    assert endpointer.speaking
    with pytest.raises(ValueError, match="threshold"):
        endpointer.tune(1.5)
    assert endpointer.config.threshold == 0.3
