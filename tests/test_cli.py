"""Claims about the command line: plans as text and JSON, conversations, errors with exit code 2."""

import io
import json

import pytest

from nano_agent_ros import cli


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("demo", "up", "ask", "eval", "convert", "examples"))


def test_ask_prints_the_plan(capsys):
    assert cli.main(["ask", "go to dock 3"]) == 0
    assert "navigate_to(location=dock_3)" in capsys.readouterr().out


def test_ask_json_is_one_object_a_turn(capsys):
    assert cli.main(["ask", "--json", "--fact", "battery=62", "go to dock 3", "how is your battery"]) == 0
    turns = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [t["kind"] for t in turns] == ["act", "answer"]
    assert turns[0]["actions"][0]["pose"] == [10.0, 1.0, -1.57]
    assert "62" in turns[1]["reply"]


def test_ask_reads_a_conversation_from_standard_input(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("go to dock 3\n\nand then to aisle two\n"))
    assert cli.main(["ask", "--json"]) == 0
    turns = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [t["turn"] for t in turns] == [0, 1]


def test_options_of_decoding_change_the_time_and_not_the_plan(capsys):
    plans = []
    for options in ([], ["--guess", "0"], ["--guess", "6", "--huge-pages"]):
        assert cli.main(["ask", "--json", *options, "go to dock 3 and wait two minutes"]) == 0
        plans.append([(a["skill"], a["arguments"]) for a in json.loads(capsys.readouterr().out)["actions"]])
    assert plans[0] and plans[1:] == plans[:1] * 2


@pytest.mark.parametrize(
    "argv, message",
    [
        (["ask", "--model", "/no/such", "x"], "/no/such"),
        (["ask", "--engine", "warp", "x"], "native"),
        (["ask", "--site", "moonbase", "x"], "moonbase"),
        (["ask", "--skills", "/no/skills.yaml", "x"], "/no/skills.yaml"),
        (["ask", "--fact", "battery", "x"], "KEY=VALUE"),
        (["ask", "--thinking", "9", "x"], "no thinking to switch on"),
        (["ask", "--engine", "torch", "--huge-pages", "x"], "huge_pages"),
        (["eval", "/no/file.jsonl"], "/no/file.jsonl"),
        (["convert", "/no/checkpoint", "/tmp/never"], "/no/checkpoint"),
    ],
)
def test_a_bad_argument_is_one_clear_line_and_exit_2(argv, message, capsys):
    assert cli.main(argv) == 2
    err = capsys.readouterr().err.strip()
    assert message in err and len(err.splitlines()) == 1
