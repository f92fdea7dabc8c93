"""Claims about speech that is put right, said in pieces or said twice: it means what the plain command means."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from training import repairs
from training.augment import STYLES, speak
from training.compose import Composer, Library, Said
from training.generate import Generator, conversations
from training.sites import draw
from training.slots import Binding, CannotBind, Segment


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator()


@pytest.fixture(scope="module")
def commands(generator) -> list[tuple[list[Segment], Binding]]:
    """Some 400 commands of one call, on several sites, with their bindings."""
    rng, out = random.Random(11), []
    bank: Library = generator.bank
    while len(out) < 400:
        composer = Composer(bank, draw(rng, "train"), rng, STYLES[1])
        for _ in range(20):
            single = rng.choice(bank.parts)
            binding = composer.binding(single.entry, [single.phrasing])
            try:
                out.append((binding.utter(single.phrasing), binding))
            except CannotBind:
                continue
    return out


def text_of(segments: list[Segment]) -> str:
    return "".join(s.text for s in segments)


def names_of(segments: list[Segment]) -> list[Segment]:
    return [s for s in segments if s.slot and s.tag in "nv" and s.slot[0] not in ("objects", "defect")]


@pytest.mark.parametrize(
    "kind", [repairs.corrected, repairs.false_start, repairs.afterthought, repairs.piece_first, repairs.named_again]
)
def test_the_last_name_of_a_slot_is_the_right_one(commands, kind):
    changed = 0
    for segments, binding in commands:
        for i in (segments.index(s) for s in names_of(segments)):
            repaired = kind(segments, i, binding, random.Random(i))
            said = [s.text for s in repaired if s.slot == segments[i].slot]
            assert said and said[-1] in [s.text for s in segments if s.slot == segments[i].slot]
            assert {s.slot for s in segments if s.slot} == {s.slot for s in repaired if s.slot}
            changed += repaired != segments
    assert changed > 100


def test_what_is_said_wrong_is_another_name_of_the_site(commands):
    for segments, binding in commands:
        for i in (segments.index(s) for s in names_of(segments)):
            repaired = repairs.corrected(segments, i, binding, random.Random(i))
            if repaired != segments:
                wrong, marker = repaired[i].text, repaired[i + 1].text
                assert wrong != segments[i].text and marker in repairs.IN_PLACE


def test_a_repair_at_the_end_can_stand_for_one_name_only(commands):
    for segments, binding in commands:
        places = [s for s in names_of(segments) if s.slot[0] in ("location", "vehicle")]
        if len(places) > 1:
            i = segments.index(places[0])
            assert repairs.afterthought(segments, i, binding, random.Random(1)) == segments


def test_no_command_opens_with_the_name_of_a_person_alone(commands):
    for segments, binding in commands:
        for i in (segments.index(s) for s in names_of(segments) if s.slot[0] == "person"):
            for seed in range(5):
                repaired = repairs.piece_first(segments, i, binding, random.Random(seed))
                assert repaired == segments or not repaired[0].slot


def test_a_command_said_twice_is_one_call_in_two_wordings(generator):
    rng, said = random.Random(5), []
    while len(said) < 60:
        composer = Composer(generator.bank, draw(rng, "train"), rng, STYLES[1])
        try:
            said.append(
                composer.twice(rng.choice(generator.bank.by_skill[rng.choice(["bring", "find", "move", "dock"])]))
            )
        except CannotBind:
            continue
    assert all(len(one.calls) == 1 and len(set(one.phrasings)) == 2 for one in said)
    assert not [one for one in said if one.calls[0][0] == "move"]  # which would be done twice


def test_messages_are_said_as_the_plan_copies_them():
    def words(text: str) -> str:
        return " ".join(re.findall(r"[\w'’%-]+", text.lower()))

    seen = Counter()
    for conversation in conversations(350, seed=23):
        heard = ""
        for turn in conversation["turns"]:
            heard += f" {words(turn['say'])} |"
            for action in turn["expect"]["actions"]:
                if action["skill"] == "say":
                    seen[f" {words(action['arguments']['text'])} " in heard] += 1
    assert seen[True] > 56 and seen[False] <= 0.02 * seen.total()


def test_nothing_is_said_after_a_message_that_could_be_part_of_it():
    message = Segment("the lorry is here", "c", ("message", ""))
    for seed in range(400):
        said = speak([Segment("tell Ana "), message], random.Random(seed), STYLES[1], "act")
        assert said.lower().rstrip("?.!").endswith("the lorry is here")


def test_after_a_refusal_the_whole_command_may_come_again(generator):
    rng, after = random.Random(8), []
    while len(after) < 80:
        composer = Composer(generator.bank, draw(rng, "train"), rng, STYLES[1])
        try:
            made: Said = rng.choice((composer.unknown, composer.no_go))()
        except CannotBind:
            continue
        if made.after:
            after.append(made.after)
    assert all(one.kind == "act" and one.calls for one in after)
    lengths = [len(text_of(one.segments).split()) for one in after]
    assert sum(n > 7 for n in lengths) > 10 and sum(n <= 4 for n in lengths) > 10
