"""Claims about what a model must copy or join: names, messages, answers to its questions; and what it must not see."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Skills
from training import banks, overheard, sayings, trades
from training.augment import RADIO, STYLES
from training.compose import Composer, Library
from training.names import canonical
from training.sites import draw
from training.slots import Binding, CannotBind
from training.words import misheard, pools

EVAL = Path(__file__).resolve().parent.parent / "eval"


@pytest.fixture(scope="module")
def entries() -> list[banks.Entry]:
    return banks.load_checked()


@pytest.fixture(scope="module")
def library(entries) -> Library:
    return Library(entries, "train", Skills.load(default_skills()))


def test_names_of_trades_are_hardly_ever_drawn_twice_and_never_those_of_held_out_sites():
    rng = random.Random(1)
    places, things = [trades.place(rng) for _ in range(2000)], [trades.thing(rng) for _ in range(2000)]
    assert len({w.names[0] for w in places}) > 1700 and len({w.names[0] for w in things}) > 1700
    _, kept = pools()
    held = {n for w in (*kept.places, *kept.objects) for n in w.names}
    assert not held & {n for w in (*places, *things) for n in w.names}
    assert all(len(w.names) == len(w.plurals) for w in things)
    assert {len(w.names[0].split()) for w in places} >= {1, 2, 3}


def test_places_of_a_site_often_have_a_word_in_common():
    rng = random.Random(2)
    shared = 0
    for _ in range(300):
        words = [w for e in draw(rng).locations if not e.family for w in set(e.names[0].split())]
        shared += len(words) != len(set(words))
    assert shared > 60


def test_a_last_word_stands_for_a_name_only_where_nothing_else_has_it():
    rng = random.Random(3)
    said = 0
    for _ in range(200):
        site = draw(rng)
        entities = (*site.locations, *site.objects, *site.people)
        for ident, short in site.short.items():
            users = {e.id for e in entities if any(canonical(short) in canonical(n).split() for n in e.names)}
            assert users == {ident}
            assert short not in site.heads
            entity = next(e for e in entities if e.id == ident)
            binding = Binding(rng, site, words=0.5)
            kind = "location" if entity in site.locations else "object"
            binding.bind_entity((kind, ""), entity)
            said += any(binding.utter(f"see {{{kind}}}")[-1].text.removeprefix("the ") == short for _ in range(20))
    assert said > 100


def test_messages_are_hardly_ever_the_same_and_fit_the_skill():
    rng = random.Random(4)
    drawn = [sayings.message(rng, ("walnut press",), ("blue bin",)) for _ in range(2000)]
    assert len(set(drawn)) > 1600
    limit = next(a.max_length for a in Skills.load(default_skills())["say"].arguments if a.name == "text")
    assert all(0 < len(text) <= limit and text == text.lower() and "{" not in text for text in drawn)
    assert not [text for text in drawn if re.search(r"[,;:!?]", text)]  # raw speech has none: they could not be copied


def test_an_answer_to_the_robots_question_makes_the_command_whole(library):
    rng = random.Random(5)
    told = right = 0
    for _ in range(400):
        composer = Composer(library, draw(rng), rng, STYLES[1])
        for make in (composer.ambiguous, composer.unknown, composer.beyond_limits):
            try:
                said = make()
            except CannotBind:
                continue
            assert said.kind in ("clarify", "refuse") and not said.calls
            if said.after is None:
                continue
            told += said.kind == "clarify"
            right += said.kind == "refuse"
            assert said.after.kind == "act" and said.after.calls
            assert all(value for _, arguments in said.after.calls for value in arguments.values())
    assert told > 60 and right > 120


def test_a_number_or_letter_alone_answers_the_question_which_of_several(library):
    """ "Which gate do you mean?" - "Twelve." """
    rng = random.Random(5)
    alone = named = 0
    for _ in range(600):
        composer = Composer(library, draw(rng), rng, STYLES[1])
        try:
            said = composer.ambiguous()
        except CannotBind:
            continue
        head = said.text.removeprefix("Which ").removesuffix(" do you mean?")
        if said.after is None or not composer.site.heads[head][0].family:
            continue
        words = canonical("".join(s.text for s in said.after.segments))
        labels = {e.id: canonical(e.names[0]).split()[-1] for e in composer.site.heads[head] if e.family}
        meant = [labels[v] for _, arguments in said.after.calls for v in arguments.values() if v in labels]
        without = bool(meant) and canonical(head).split()[-1] not in words.split()
        alone += without
        named += not without
        assert not without or any(label in words for label in meant)
    assert alone > 60 and named > 60


def test_a_radio_message_for_the_robot_names_nobody_else_and_one_for_others_does():
    assert not [form for form in RADIO if re.search(r"\b(?:unit|robot) (?:one|two|\d)", form)]
    rng = random.Random(6)
    called = {overheard.callsign(rng) for _ in range(300)}
    assert len(called) > 80 and not any(name.startswith(("robot", "unit")) for name in called)


def test_many_words_are_heard_for_others_but_none_that_decides():
    table = misheard()
    assert len(table) > 1500
    heard = {w for words in table.values() for w in words}
    deciding = {"undock", "unload", "attach", "detach", "left", "not", "stop", "never", "cancel"}
    assert not deciding & {w for found in heard for w in found.split()}
    assert not {"take", "find", "count", "where", "him"} & set(table)


def test_names_of_the_sites_drawn_are_mostly_their_own():
    rng = random.Random(29)
    sites = [draw(rng) for _ in range(150)]
    names = [n for s in sites for e in (*s.locations, *s.objects) for n in e.names]
    assert len(set(names)) > 0.6 * len(names)


@pytest.mark.parametrize(
    ("name", "most"), [("strangers_dev", 0.05), ("strangers_test", 0.05), ("outside", 0.05), ("people", 0.08)]
)
def test_hardly_any_sentence_of_the_hand_written_files_is_a_phrasing_of_the_banks(name, most, entries):
    """A few short ones anybody would say ("go to X and look for Y") are in both; more would have been copied."""
    said = set()
    for line in (EVAL / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        said |= {banks.normalise(turn["say"]) for turn in json.loads(line)["turns"]}
    shapes = {}
    for _, _, text in banks.phrasings(entries):
        literal = banks.normalise(banks.SLOT.sub(" ", text)).split()
        if len(literal) >= 5:
            shapes[re.compile(banks.normalise(banks.SLOT.sub(" qq ", text)).replace("qq", ".{2,30}"))] = literal
    words = {sentence: set(sentence.split()) for sentence in said}
    same = {s for shape, literal in shapes.items() for s in said if words[s].issuperset(literal) and shape.fullmatch(s)}
    assert len(same) < most * len(said)
