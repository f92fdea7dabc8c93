"""Claims about the training data: split, validity of every call, names, determinism, coverage."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.evaluate import read
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, Site, Skills, ground
from training import banks
from training.compose import Library
from training.generate import Generator, conversations
from training.names import canonical
from training.sites import draw
from training.slots import Binding, CannotBind, wants_countable

KINDS = set(banks.KINDS)
REPLY_KINDS = KINDS - {"act"}


@pytest.fixture(scope="module")
def skills() -> Skills:
    return Skills.load(default_skills())


@pytest.fixture(scope="module")
def entries(skills: Skills) -> list[banks.Entry]:
    return banks.load_checked(skills=skills)


@pytest.fixture(scope="module")
def trained() -> list[dict]:
    return list(conversations(400, seed=7))


@pytest.fixture(scope="module")
def heldout() -> list[dict]:
    return list(conversations(120, seed=7, split="heldout", sites="heldout"))


def test_every_bank_is_well_formed_and_gives_each_phrasing_one_meaning(entries):
    assert banks.conflicts(entries) == []


def test_there_are_400_phrasings_over_all_skills_and_kinds(entries, skills):
    said = {banks.key(text) for _, _, text in banks.phrasings(entries)}
    by_skill = Counter(name for _, turn, _ in banks.phrasings(entries) for name, _ in turn.plan.calls)
    kinds = {turn.plan.kind for _, turn, _ in banks.phrasings(entries)}
    assert len(said) >= 400
    assert {s.name for s in skills} <= set(by_skill)
    assert kinds == KINDS


def test_the_split_is_by_phrasing_whatever_its_case_spaces_and_punctuation():
    assert banks.held_out("Go to {location}, please!") == banks.held_out("go  to {location} please")
    assert banks.key("go to {location}") != banks.key("go to {location2}")


def test_about_one_phrasing_in_eight_is_held_out(entries):
    said = {banks.normalise(text) for _, _, text in banks.phrasings(entries)}
    assert 0.09 < sum(map(banks.held_out, said)) / len(said) < 0.16


def test_no_held_out_phrasing_is_trained_on(trained):
    used = {p for c in trained for t in c["turns"] for p in t["phrasings"]}
    assert len(used) > 1000
    assert not [p for p in used if banks.held_out(p)]


def test_every_single_held_out_turn_uses_only_held_out_phrasings(entries, skills, heldout):
    library = Library(entries, "heldout", skills)
    in_dialogues = {p for _, options in library.dialogues for option in options for p in option}
    used = {p for c in heldout for t in c["turns"] for p in t["phrasings"]}
    assert not [p for p in used if not banks.held_out(p) and p not in in_dialogues]
    assert sum(map(banks.held_out, used)) / len(used) > 0.7


@pytest.mark.parametrize("which", ["trained", "heldout"])
def test_every_call_passes_the_check_that_the_robot_makes(which, request, skills):
    for conversation in request.getfixturevalue(which):
        site = Site.load(conversation["site"])
        offered = skills.subset(conversation.get("skills", [s.name for s in skills]))
        for turn in conversation["turns"]:
            expected = turn["expect"]
            assert expected["kind"] in KINDS
            if expected["kind"] != "act":
                assert [r["name"] for r in turn["reply"]] == [expected["kind"]] and not expected["actions"]
                continue
            assert len(turn["reply"]) == len(expected["actions"]) >= 1
            for reply, action in zip(turn["reply"], expected["actions"], strict=True):
                checked = ground(Call(reply["name"], reply["arguments"]), offered, site)
                assert checked.skill == action["skill"]
                assert checked.arguments == action["arguments"], turn["say"]


def test_arguments_are_in_the_order_of_the_skills_file(trained, skills):
    for turn in (t for c in trained for t in c["turns"] if t["expect"]["kind"] == "act"):
        for reply in turn["reply"]:
            order = [a.name for a in skills[reply["name"]].arguments]
            assert list(reply["arguments"]) == [name for name in order if name in reply["arguments"]]


def test_all_skills_and_kinds_occur_and_none_drowns_the_rest(trained, skills):
    kinds = Counter(t["expect"]["kind"] for c in trained for t in c["turns"])
    used = Counter(a["skill"] for c in trained for t in c["turns"] for a in t["expect"]["actions"])
    total = sum(kinds.values())
    assert set(used) == {s.name for s in skills}
    assert min(used.values()) > 15
    assert 0.5 < kinds["act"] / total < 0.68
    for kind in REPLY_KINDS:
        assert 0.05 < kinds[kind] / total < 0.18, kind


def test_facts_are_told_on_about_a_third_of_the_turns(trained):
    turns = [t for c in trained for t in c["turns"]]
    assert 0.25 < sum("facts" in t for t in turns) / len(turns) < 0.5


def test_ids_in_facts_are_of_the_site(trained):
    for conversation in trained:
        site = conversation["site"]
        for facts in (t.get("facts", {}) for t in conversation["turns"]):
            assert facts.get("location") in (None, *site["locations"])
            assert facts.get("carrying") in (None, "nothing", *site["objects"])


@pytest.mark.parametrize("pool", ["train", "heldout"])
def test_a_name_means_one_thing_on_a_site(pool):
    rng = random.Random(11)
    for _ in range(300):
        site = draw(rng, pool)
        Site.load(site.data)
        meaning: dict[str, str] = {}
        for entity in (*site.locations, *site.objects, *site.people):
            for name in (*entity.names, *entity.plurals):
                assert meaning.setdefault(canonical(name), entity.id) == entity.id, name
        assert 3 <= len(site.data["locations"]) <= 46
        assert len(site.data["objects"]) <= 30
        assert len(site.data["people"]) <= 10


def test_a_name_as_spoken_determines_its_id(entries):
    rng = random.Random(5)
    spoken = 0
    for entry in entries:
        site = draw(rng)
        meaning = {
            canonical(n): e.id for e in (*site.locations, *site.objects, *site.people) for n in (*e.names, *e.plurals)
        }
        meaning |= {canonical(short): ident for ident, short in site.short.items()}
        for turn in entry.turns:
            phrasing = rng.choice(turn.say)
            binding = Binding(rng, site, words=0.5, countable=wants_countable(phrasing))
            try:
                segments = binding.utter(phrasing)
            except CannotBind:
                continue
            for segment in segments:
                if segment.slot and (bound := binding.get(segment.slot)).entity:
                    assert meaning[canonical(segment.text)] == bound.plan, segment
                    spoken += 1
    assert spoken > 200


def test_an_unknown_name_is_none_of_the_site():
    rng = random.Random(3)
    for _ in range(200):
        site = draw(rng)
        for kind in ("location", "object", "person"):
            assert canonical(site.unknown(rng, kind)) not in site.taken


def test_ids_are_not_always_the_names():
    rng = random.Random(1)
    sites = [draw(rng) for _ in range(300)]
    coded = [s for s in sites if not any(e.id == e.names[0].lower().replace(" ", "_") for e in s.locations)]
    assert 0.1 < len(coded) / len(sites) < 0.35


def test_some_robots_lack_a_skill_and_then_refuse(trained):
    every = {s.name for s in Skills.load(default_skills())}
    lacking = [c for c in trained if set(c.get("skills", every)) < every]
    assert 0.15 < len(lacking) / len(trained) < 0.35
    refusals = [t for c in lacking for t in c["turns"] if t["expect"].get("text", "").startswith("I can't")]
    assert len(refusals) > 10


def test_a_no_go_zone_is_never_an_action_and_is_refused(trained):
    refused = [t for c in trained for t in c["turns"] if "no-go zone" in t["expect"].get("text", "")]
    assert len(refused) > 5
    assert {t["expect"]["kind"] for t in refused} == {"refuse"}


def test_a_conversation_is_the_same_for_ever():
    one = Generator()
    first = [one.conversation(4, i) for i in (0, 3, 9)]
    assert [Generator().conversation(4, i) for i in (0, 3, 9)] == first
    assert one.conversation(5, 0) != first[0]


def test_several_processes_make_the_same_conversations():
    assert list(conversations(20, seed=2, processes=2)) == list(conversations(20, seed=2))


def test_conversations_have_4_turns_or_more_and_no_reply_is_longer_than_the_grammar_allows(trained):
    for conversation in trained:
        assert 4 <= len(conversation["turns"]) <= 16
        for turn in conversation["turns"]:
            assert turn["say"] == turn["say"].strip() and "\n" not in turn["say"] and turn["say"]
            assert "{" not in turn["say"]
            assert len(turn["reply"]) <= 6
            assert len(turn["expect"].get("text", "")) <= 160


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- say: go to {place}\n  plan: navigate_to(location={location})", "unknown slot {place}"),
        ("- say: go\n  plan: fly(location={location})", "unknown skill 'fly'"),
        ("- say: go to {object}\n  plan: navigate_to(location={object})", "this argument takes {location}"),
        ("- say: go there\n  plan: navigate_to(location={location})", "does not say {location}"),
        ("- say: go\n  plan: navigate_to()", "navigate_to needs location"),
        ("- say: go\n  plan: inspect()", "needs one of object, location"),
        ("- say: wait\n  plan: wait(duration=3 days)", "not a unit of duration"),
        ("- say: wait\n  plan: wait(duration=9000 s)", "outside 0 to 7200"),
        ("- say: turn\n  plan: turn(direction=up)", "not one of left, right, around"),
        ("- say: [yes]\n  plan: ignore", "quote those"),
        ("- say: hello\n  plan: 'answer:'", "empty"),
        ("- say: hello", "has 'say', 'plan'"),
        ("say: hello", "a list of entries"),
        ("- say: [hello", "not valid YAML"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(tmp_path: Path, skills: Skills, text: str, problem: str):
    (tmp_path / "wrong.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        banks.load_checked(tmp_path, skills)
    assert "wrong.yaml" in str(error.value) and problem in str(error.value)


def test_the_committed_evaluation_file_reads_and_every_expected_action_is_possible(skills: Skills):
    path = Path(__file__).resolve().parent.parent / "eval" / "heldout.jsonl"
    assert path.stat().st_size < 2_000_000
    conversations_ = read(path, skills, Site.load("warehouse"))
    turns = [turn for c in conversations_ for turn in c.turns]
    assert 500 < len(turns) < 800
    assert {turn.kind for turn in turns} == KINDS
    assert {name for turn in turns for name, _ in turn.actions} == {s.name for s in skills}
    for conversation in conversations_:
        offered = skills.subset(conversation.skills or [s.name for s in skills])
        for name, arguments in (action for turn in conversation.turns for action in turn.actions):
            texts = {k: v if isinstance(v, float) else str(v) for k, v in arguments.items()}
            assert ground(Call(name, texts), offered, conversation.site).skill == name  # type: ignore[arg-type]
