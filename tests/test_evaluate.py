"""Claims about `nano-agent eval`: its format, what counts as right, and its numbers."""

import json

import pytest

from nano_agent_ros import cli
from nano_agent_ros.agent import Turn
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.evaluate import Expected, is_right, read, wilson
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, Site, Skills, ground

SKILLS = Skills.load(default_skills())
SITE = Site.load("warehouse")


def turn(kind, *calls):
    return Turn(0, "", kind, tuple(ground(c, SKILLS, SITE) for c in calls), "", {"total": 0.0}, {})


def expected(kind, *actions):
    return Expected("", {}, kind, actions)


GO = Call("navigate_to", {"location": "dock_3"})
WAIT = Call("wait", {"duration": "2 min"})
SAY = Call("say", {"text": "The truck is here."})
DRIVES, WAITS = ("navigate_to", {"location": "dock_3"}), ("wait", {"duration": 120})


@pytest.mark.parametrize(
    "want, got, right",
    [
        (expected("act", ("navigate_to", {"location": "dock_3"})), turn("act", GO), True),
        (expected("act", ("navigate_to", {"location": "dock_2"})), turn("act", GO), False),
        (expected("act", ("wait", {"duration": 120})), turn("act", WAIT), True),
        (expected("act", ("wait", {"duration": 121})), turn("act", WAIT), False),
        (expected("act", ("wait", {})), turn("act", WAIT), False),
        (expected("act", DRIVES, WAITS), turn("act", GO, WAIT), True),
        (expected("act", WAITS, DRIVES), turn("act", GO, WAIT), False),
        (expected("act", ("say", {"text": "the truck is here"})), turn("act", SAY), True),
        (expected("ignore"), turn("ignore"), True),
        (expected("refuse"), turn("clarify"), False),
    ],
)
def test_right_is_kind_and_actions_in_order(want, got, right):
    assert is_right(want, got) is right


def test_numbers_may_be_expected_in_si_or_with_a_unit(tmp_path):
    path = tmp_path / "e.jsonl"
    action = {"skill": "wait", "arguments": {"duration": "2 min"}}
    path.write_text(json.dumps({"id": "a", "turns": [{"say": "x", "expect": {"kind": "act", "actions": [action]}}]}))
    assert read(path, SKILLS, SITE)[0].turns[0].actions == (("wait", {"duration": 120.0}),)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"id": 1}',
        '{"turns": [{"say": "x", "expect": {"kind": "dance"}}]}',
        '{"turns": [{"say": "x", "expect": {"kind": "act"}}]}',
        '{"site": "moonbase", "turns": []}',
    ],
)
def test_a_line_out_of_format_is_named(tmp_path, line):
    path = tmp_path / "e.jsonl"
    path.write_text('{"turns": [{"say": "x", "expect": {"kind": "ignore"}}]}\n' + line + "\n")
    with pytest.raises(ConfigError, match="line 2"):
        read(path, SKILLS, SITE)


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "e.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="no conversations"):
        read(tmp_path / "e.jsonl", SKILLS, SITE)


def test_the_interval_is_wilson_s():
    low, high = wilson(9, 10)
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == pytest.approx(1.0)


def test_the_command_scores_a_file_and_writes_json(tmp_path, capsys):
    path, out = tmp_path / "e.jsonl", tmp_path / "r.json"
    action = {"skill": "navigate_to", "arguments": {"location": "dock_3"}}
    site = {"locations": {"dock_3": {"aliases": ["dock 3"]}, "gate_1": {}}, "objects": {"box": {}}}
    lines = [
        {"id": "a", "turns": [{"say": "go to dock 3", "expect": {"kind": "act", "actions": [action]}}]},
        {"id": "b", "site": site, "turns": [{"say": "go to dock 3", "expect": {"kind": "ignore"}}]},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert cli.main(["eval", str(path), "--out", str(out), "--wrong", "5"]) == 0
    result = json.loads(out.read_text())
    assert result["turns"]["of"] == 2 and result["turns"]["count"] == 1
    assert result["false_actions"]["count"] == 1
    assert result["wrong"][0]["id"] == "b"
    assert "false actions" in capsys.readouterr().out
