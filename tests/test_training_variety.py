"""Claims about what training data vary: plans, numbers, site files, talk for others, turns that go on with others."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from nano_agent_ros.evaluate import Conversation, read
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills
from nano_agent_ros.skills.quantities import to_si
from training import coordinate, joins, overheard
from training.augment import STYLES, mishear_as_once
from training.banks import held_out
from training.compose import Composer
from training.conversation import Conversation as Made
from training.followups import chain_of_turns, follow_up, restated, texts
from training.generate import Generator, Mix, compact, conversations
from training.names import canonical
from training.numbers import draw_quantity, in_words
from training.quantities import DEFAULT_LIMITS, quantities
from training.sites import draw
from training.slots import Binding, CannotBind, Segment
from training.words import heard, pools

NUMBER_WORD = re.compile(r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|\w+teen|twenty|thirty|forty|half|a)\b")


@pytest.fixture(scope="module")
def trained() -> list[dict]:
    return list(conversations(300, seed=17))


def turns_of(conversations_: list[dict], kind: str) -> list[dict]:
    return [t for c in conversations_ for t in c["turns"] if t["expect"]["kind"] == kind]


def test_plans_of_three_to_five_steps_are_common(trained):
    steps = Counter(len(t["reply"]) for t in turns_of(trained, "act"))
    assert sum(n for k, n in steps.items() if k >= 3) > 0.05 * steps.total()
    assert steps[4] and steps[5]


def test_what_is_to_be_done_before_is_done_first():
    rng = random.Random(3)
    first, second = [Segment("pick up the box")], [Segment("go to dock 3")]
    said = {"".join(s.text for s in joins.in_reverse(rng, first, second) or ()) for _ in range(200)}
    assert "before you go to dock 3, pick up the box" in said
    assert "go to dock 3, but first pick up the box" in said
    assert not [text for text in said if text.startswith("pick up the box, ")]
    questions = [Segment("a hand with the box")], [Segment("dock 3 is next")]
    forms = {"".join(s.text for s in joins.in_reverse(rng, *questions) or ()) for _ in range(200)}
    assert not [text for text in forms if "you" in text]


def test_a_chain_of_turns_goes_on_with_the_thing_it_began_with():
    generator, rng = Generator(), random.Random(4)
    chains = 0
    while chains < 40:
        try:
            turns = chain_of_turns(Composer(generator.bank, draw(rng), rng, STYLES[1]))
        except CannotBind:
            continue
        chains += 1
        thing = turns[0][0].calls[0][1]["object"]
        place = ""
        for said, _ in turns[1:]:
            name, arguments = said.calls[0]
            assert arguments.get("object", thing) == thing
            if name == "place" and place:
                assert arguments["location"] == place
            place = arguments.get("location", place)


def test_a_correction_changes_one_argument_and_again_changes_none():
    generator, rng, ways = Generator(), random.Random(4), texts("train")
    seen: Counter[str] = Counter()
    for _ in range(2400):
        composer = Composer(generator.bank, draw(rng), rng, STYLES[1])
        single = rng.choice(generator.bank.by_skill[rng.choice(generator.act_names)])
        try:
            binding = composer.binding(single.entry, [single.phrasing])
            said = composer.turn(single.turn, single.phrasing, binding)
            after = follow_up(rng, "train", single, binding, said)
        except CannotBind:
            continue
        ((name, before),), ((again, then),) = said.calls, after.calls
        changed = [k for k, v in then.items() if before[k] != v]
        assert again == name and set(before) == set(then)
        assert len(changed) == ("{x}" in after.phrasings[0])
        seen[after.phrasings[0]] += 1
        if after.phrasings[0] in ways["also"] and changed == ["object"] and "quantity" in before:
            assert re.search("same|likewise|repeat|once more|again", after.phrasings[0])  # else of how many?
    for way in ("correct", "also", "again"):
        said_so = [seen[text] for text in ways[way] if seen[text]]
        assert sum(said_so) > 100 and len(said_so) > 50, way


PLACED = (("object", "{object}"), ("to", "{location}"))
COUNTED = (("object", "{object}"), ("quantity", "{count}"), ("to", "speaker"))


@pytest.mark.parametrize(
    ("skill", "arguments", "phrasing", "found"),
    [
        ("bring", PLACED, "take the {object} to {location} please", {"the {object} to {location}"}),
        ("bring", COUNTED, "fetch me {count} {objects}", {"{count} {objects}"}),
        ("navigate_to", (("location", "{location}"),), "drive to {location}", {"to {location}"}),
        ("bring", PLACED, "the {object} to {location}", set()),  # nothing is the verb of both
        ("bring", PLACED, "take the {object2}, no, the {object} to {location}", set()),
        ("count", (("object", "{object}"),), "count the {objects} and be quick", set()),
    ],
)
def test_where_a_phrasing_names_what_its_verb_can_be_said_with_again(skill, arguments, phrasing, found):
    spans = coordinate.spans(skill, arguments, phrasing)
    assert {phrasing[slice(*span)] for span in spans} == found


def test_one_verb_with_several_things_is_a_call_for_each_with_its_own_names_and_number():
    generator, seen = Generator(), Counter()
    for index in range(120):
        composer = Made(generator, 5, index, 1).composer
        try:
            said = composer.coordinated()
        except CannotBind:
            continue
        names = [tuple(v for k, v in arguments.items() if k != "quantity") for _, arguments in said.calls]
        assert len(set(names)) == len(said.calls) > 1
        assert len({name for name, _ in said.calls}) == 1
        counts = [s for s in said.segments if s.slot and s.slot[0] == "count"]
        assert len(counts) == sum("quantity" in arguments for _, arguments in said.calls)
        seen[len(said.calls)] += 1
    assert seen[2] > seen[3] > 5


def test_a_command_said_anew_has_one_other_value_and_says_it():
    generator, rng, seen = Generator(), random.Random(6), 0
    for index in range(150):
        composer = Made(generator, 6, index, 1).composer
        single = rng.choice(generator.bank.by_skill[rng.choice(("bring", "inspect", "guide", "count"))])
        try:
            binding = composer.binding(single.entry, [single.phrasing])
            first = composer.turn(single.turn, single.phrasing, binding)
            anew = restated(composer, single, binding)
        except CannotBind:
            continue
        (_, before), (_, after) = first.calls[0], anew.calls[0]
        assert before.keys() == after.keys()
        changed = [k for k in before if before[k] != after[k]]
        assert len(changed) == 1 and "".join(s.text for s in anew.segments) != "".join(s.text for s in first.segments)
        seen += 1
    assert seen > 50


def test_what_is_inspected_after_a_drive_is_the_place_driven_to():
    generator, seen = Generator(), Counter()
    for index in range(400):
        composer = Made(generator, 8, index, 1).composer
        try:
            said = composer.chained()
        except CannotBind:
            continue
        for (_, before), (skill, after) in zip(said.calls, said.calls[1:], strict=False):
            if skill == "inspect" and "location" in after and "location" in before:
                assert after["location"] == before["location"]
                seen[skill] += 1
        if said.calls[0][0] == "load" and len(said.calls) > 2 and said.calls[2][0] == "unload":
            assert said.calls[2][1]["object"] == said.calls[0][1]["object"]
            seen["unload"] += 1
    assert seen["inspect"] > 30 and seen["unload"] > 5


@pytest.mark.parametrize("kind", list(DEFAULT_LIMITS))
def test_numbers_are_many_within_limits_and_said_in_digits_and_in_words(kind):
    rng = random.Random(8)
    limits = DEFAULT_LIMITS[kind]
    drawn = [draw_quantity(rng, kind, limits) for _ in range(600)]
    common = {b.plan for b in quantities(kind, *limits)}
    assert len({b.plan for b in drawn}) > 60
    assert sum(b.plan not in common for b in drawn) > 100
    for bound in drawn:
        value = float(bound.plan) if kind == "count" else to_si(bound.plan, kind, 1.5)
        assert limits[0] - 1e-6 <= value <= limits[1] + 1e-6, bound
        assert any(NUMBER_WORD.search(form) or not re.search(r"\d", form) for form in bound.forms[1:]), bound
    assert sum(bool(re.search(r"\d", b.forms[0])) for b in drawn) > 450


def test_a_narrow_limit_is_kept_and_an_empty_one_has_no_number():
    rng = random.Random(2)
    for _ in range(200):
        bound = draw_quantity(rng, "distance", (0.01, 0.5))
        assert bound is not None and to_si(bound.plan, "distance", 1.0) <= 0.5
    assert draw_quantity(rng, "count", (1, 1)) is None


def test_numbers_are_spelled_as_people_say_them():
    rng = random.Random(1)
    said = {in_words(rng, 120) for _ in range(100)}
    assert {"a hundred and twenty", "one hundred and twenty", "one hundred twenty", "one twenty"} <= said
    assert {in_words(rng, 7)} == {"seven"} and in_words(rng, 42) == "forty two"


def test_a_numbered_name_is_said_in_many_ways_that_all_mean_it():
    rng = random.Random(6)
    site = draw(rng)
    binding = Binding(rng, site, words=0.5)
    said = {binding.say_number("dock 12") for _ in range(400)}
    assert {"dock 12", "dock twelve", "dock number 12", "dock number twelve", "dock no. 12"} <= said
    assert {canonical(s) for s in said} == {"dock 12"}
    assert {"rack B seven", "rack B7", "rack B 7"} <= {binding.say_number("rack B7") for _ in range(100)}


def test_the_second_dock_is_said_only_where_docks_are_numbered_from_one():
    rng = random.Random(9)
    ordinals = 0
    for _ in range(400):
        site = draw(rng)
        for family in site.ordinal:
            labels = {e.names[0].rpartition(" ")[2] for e in site.locations if e.family == family}
            assert labels <= {str(i + 1) for i in range(99)}
            ordinals += 1
    assert ordinals > 50
    assert canonical("the second dock") == canonical("dock two")


def test_site_files_differ_in_size_and_in_how_names_are_written():
    rng = random.Random(12)
    sites = [draw(rng) for _ in range(500)]
    sizes = [(len(s.locations), len(s.objects), len(s.people)) for s in sites]
    assert min(n for n, _, _ in sizes) <= 4 and max(n for n, _, _ in sizes) >= 25
    assert min(n for _, n, _ in sizes) == 0 and max(n for _, n, _ in sizes) >= 20
    assert 7 <= sorted(n for n, _, _ in sizes)[250] <= 12
    entries = [b for s in sites for group in ("locations", "objects") for b in s.data[group].values()]
    names = [n for b in entries for n in b["aliases"]]
    looks = Counter(
        "upper" if n.isupper() and len(n) > 4 else "title" if n.istitle() else "hyphen" if re.search(r"-\d", n)
        else "sign" if "#" in n else "plain"
        for n in map(str, names)
    )  # fmt: skip
    assert all(looks[look] > 0.002 * looks.total() for look in ("upper", "title", "hyphen", "sign"))
    assert looks["plain"] > 0.6 * looks.total()
    for site in sites[:50]:
        Site.load(site.data)


def test_many_things_places_and_people_have_names_and_some_are_kept_for_held_out_sites():
    train, kept = pools()
    assert len(train.places) > 400 and len(train.objects) > 850 and len(train.names) > 400
    assert len(train.families) > 110 and len(train.carts) > 55 and len(train.roles) > 80
    assert len(kept.places) > 40 and len(kept.objects) > 80 and len(kept.names) > 40
    assert not {p.names[0] for p in train.places} & {p.names[0] for p in kept.places}


def test_skills_stand_in_other_orders_now_and_then(trained):
    order = [s.name for s in Skills.load(default_skills())]
    listed = [c["skills"] for c in trained if "skills" in c]
    assert sum(skills != [n for n in order if n in skills] for skills in listed) > 0.05 * len(trained)


def test_talk_for_others_is_frequent_and_most_of_it_names_things_of_the_site(trained):
    total = sum(len(c["turns"]) for c in trained)
    assert 0.13 < len(turns_of(trained, "ignore")) / total < 0.18
    named = 0
    for conversation in trained:
        groups = (conversation["site"][g].values() for g in ("locations", "objects", "people"))
        names = {canonical(str(n)) for group in groups for body in group for n in body["aliases"]}
        for turn in turns_of([conversation], "ignore"):
            said = f" {canonical(turn['say'])} "
            named += any(f" {name} " in said for name in names)
    assert named > 0.4 * len(turns_of(trained, "ignore"))


def test_a_command_said_to_a_colleague_is_never_one_to_the_robot():
    rng = random.Random(5)
    command = [Segment("go to dock 3")]
    for split in ("train", "heldout"):
        said = {"".join(s.text for s in overheard.said(rng, command, "Maria", split)) for _ in range(300)}
        assert len(said) > 5
        assert all("go to dock 3" in text and "robot, " not in text for text in said)
    with pytest.raises(CannotBind):
        overheard.said(rng, [Segment("robot, go to dock 3")], "Maria", "train")


def test_words_as_whisper_heard_them_change_no_number_and_no_word_that_decides():
    table = heard()
    assert len(table) > 50
    deciding = {"load", "unload", "attach", "detach", "left", "right", "not", "stop", "dock", "undock", "up", "down"}
    for said, found in table.items():
        assert not deciding & {*said.split(), *" ".join(found).split()}, said
        assert not re.search(r"\d|\b(?:one|two|three|four|five|ten|half)\b", " ".join((said, *found))), said
    word = next(w for w in table if " " not in w)
    parts = [Segment(f"see the {word} over there"), Segment("dock 3", "n", ("location", ""))]
    changed = mishear_as_once(parts, random.Random(0))
    assert changed != parts and len(changed) == len(parts)


def test_what_only_one_mix_draws_is_only_that():
    talk = Generator("heldout", mix=Mix("ignore", turns=(12,)))
    turns = [t for i in range(6) for t in talk.conversation(1, i)["turns"]]
    assert {t["expect"]["kind"] for t in turns} == {"ignore"} and len(turns) >= 72
    assert all(held_out(p) for t in turns for p in t["phrasings"])
    going_on = Generator("heldout", mix=Mix("dialogues"))
    assert all(len(going_on.conversation(1, i)["turns"]) >= 4 for i in range(6))


def test_a_compact_line_still_reads_and_forbids_the_same_places():
    for conversation in conversations(60, seed=5):
        full, short = Site.load(conversation["site"]), Site.load(compact(conversation)["site"])
        assert [full.forbids(k) for k in full.locations] == [short.forbids(k) for k in short.locations]


EVAL = Path(__file__).resolve().parent.parent / "eval"


@pytest.fixture(scope="module")
def measured() -> dict[str, list[Conversation]]:
    files = ("phrasings", "sites", "multi_turn", "negative", "heard")
    skills, warehouse = Skills.load(default_skills()), Site.load("warehouse")
    return {name: read(EVAL / f"{name}.jsonl", skills, warehouse) for name in files}


def test_every_file_to_measure_on_reads_and_is_small(measured):
    turns = {name: sum(len(c.turns) for c in conversations_) for name, conversations_ in measured.items()}
    assert min(turns["phrasings"], turns["sites"], turns["multi_turn"]) > 480
    assert turns["negative"] >= 600 and turns["heard"] > 180
    assert all((EVAL / f"{name}.jsonl").stat().st_size < 400_000 for name in measured)


def test_every_skill_is_measured_and_talk_for_others_by_itself(measured):
    every = {s.name for s in Skills.load(default_skills())}
    for name in ("phrasings", "sites", "multi_turn"):
        assert {skill for c in measured[name] for t in c.turns for skill, _ in t.actions} == every
    assert {t.kind for c in measured["negative"] for t in c.turns} == {"ignore"}


def test_robots_of_held_out_sites_have_their_skills_in_orders_of_their_own(measured):
    orders = [c.skills for c in measured["sites"]]
    assert None not in orders and len(set(orders)) == len(orders)


def test_held_out_sites_have_names_that_training_never_used(measured):
    _, kept = pools()
    held = {word.names[0] for word in (*kept.places, *kept.objects)}
    site_names = {n.lower() for c in measured["sites"] for group in (c.site.locations, c.site.objects)
                  for named in group.values() for n in named.names}  # fmt: skip
    assert len(site_names & held) > 100
