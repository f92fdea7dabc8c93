"""Claims about recording and replay: what was written survives, logs stay in bounds, a conversation runs again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from rclpy.lifecycle import TransitionCallbackReturn
from ros_bench import wait_for

from nano_agent_ros import cli
from nano_agent_ros.agent import Agent, Model, Turn
from nano_agent_ros.msg import AgentState, DefectReport, Reply, RobotAction, Transcript, TurnRecord
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.conversions import argument_messages, uuid_message
from nano_agent_ros.nodes.lifecycle import ERROR
from nano_agent_ros.nodes.recorder import PARAMETERS, TOPICS, RecorderNode
from nano_agent_ros.nodes.turns import turn_message
from nano_agent_ros.recording import mcap_files
from nano_agent_ros.recording.json_messages import content_of, name_of, schema_of
from nano_agent_ros.recording.log import Log
from nano_agent_ros.recording.mcap_files import Entry, LogError, McapFile, Recording, is_finished, read, recover
from nano_agent_ros.recording.replay import Compared, replay, turns_of
from nano_agent_ros.resources import default_skills, find
from nano_agent_ros.skills import Site, Skills
from nano_agent_ros.srv import Ask

ROOT = Path(__file__).resolve().parent.parent
MODEL, SKILLS = Model.open(), Skills.load(default_skills())
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}


def entry(i: int, size: int = 10) -> Entry:
    return Entry("/reply", 10**9 + i, {"text": f"{i} " + "ü" * size})


def written(path: Path, count: int = 12) -> list[Entry]:
    """A log of some entries, each flushed, that lacks its end."""
    file = McapFile(path, {"site.yaml": b"site: x"}, {"namespace": "/"}, 1)
    entries = [entry(i) for i in range(count)]
    for one in entries:
        file.write(one, "Reply", SCHEMA)
        file.flush()
    file.abandon()
    return entries


# Files


def test_a_finished_log_is_what_any_reader_of_mcap_expects(tmp_path):
    log = Log(tmp_path, 10**6, 10**7, {"site.yaml": b"site: x"}, {"namespace": "/r1"})
    for i in range(5):
        log.write(entry(i), "Reply", SCHEMA)
    log.close()
    (path,) = log.files()
    with path.open("rb") as file:
        reader = make_reader(file)
        messages = [(s.name, s.encoding, c.topic, c.message_encoding, m.log_time) for s, c, m in reader.iter_messages()]
        assert messages == [("Reply", "jsonschema", "/reply", "json", 10**9 + i) for i in range(5)]
        assert reader.get_summary().statistics.message_count == 5
    back = read(path)
    assert back.whole and back.entries == tuple(entry(i) for i in range(5))
    assert (back.attachments, back.metadata) == ({"site.yaml": b"site: x"}, {"namespace": "/r1"})
    assert oct(os.stat(path).st_mode)[-3:] == "600"


KILLED = """
import os, signal, sys
from pathlib import Path
from nano_agent_ros.recording.log import Log
from nano_agent_ros.recording.mcap_files import Entry
log = Log(Path(sys.argv[1]), 10**6, 10**7)
for i in range(6):
    if i == 5:
        log.flush()
    log.write(Entry("/reply", i, {"text": str(i)}), "Reply", {"type": "object"})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_flushed_survives_a_kill(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == -signal.SIGKILL
    (path,) = tmp_path.glob("*.mcap")
    assert [e.content["text"] for e in read(path).entries] == list("01234") and not read(path).whole
    Log(tmp_path, 10**6, 10**7).close()
    assert read(path).whole and len(read(path).entries) == 5


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_was_flushed_before_a_crash_is_read_wherever_the_file_is_torn_off(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("log")
    entries = written(folder / "a.mcap")
    content = (folder / "a.mcap").read_bytes()
    assert read(folder / "a.mcap").entries == tuple(entries)
    cut = data.draw(st.integers(9, len(content)))
    (folder / "a.mcap").write_bytes(content[:cut])
    try:
        back = read(folder / "a.mcap")
    except LogError:
        assert cut < 100  # not even the first record is there
        return
    assert back.entries == tuple(entries[: len(back.entries)]) and not back.whole
    if recover(folder / "a.mcap"):
        again = read(folder / "a.mcap")
        assert again.whole and again.entries == back.entries and again.attachments == back.attachments
        assert is_finished(folder / "a.mcap")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_costs_no_more_than_what_follows(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "a.mcap"
    entries = written(path, 4)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        back = read(path)
    except LogError:
        return
    told = [e for e in entries if e in back.entries]
    assert list(back.entries) == told or at < 400  # where names and schemas are, a bit may change what is read


def test_what_is_no_log_is_named(tmp_path):
    (tmp_path / "a.mcap").write_text("no log at all")
    with pytest.raises(LogError, match="a.mcap: this is no MCAP"):
        read(tmp_path / "a.mcap")
    with pytest.raises(LogError, match="nowhere.mcap"):
        read(tmp_path / "nowhere.mcap")


def test_logs_are_rotated_and_the_oldest_go(tmp_path):
    log = Log(tmp_path, 4000, 30_000, clock=lambda: 0.0)
    for i in range(300):
        log.write(entry(i, 200), "Reply", SCHEMA)
        log.flush()
    log.close()
    assert log.nbytes <= 30_000 and len(log.files()) >= 4 and all(p.stat().st_size < 8000 for p in log.files())
    times = [e.time for path in log.files() for e in read(path).entries]
    assert times == list(range(times[0], 10**9 + 300))  # nothing is lost between two files


def test_a_log_that_a_killed_process_left_is_completed_when_the_next_begins(tmp_path):
    entries = written(tmp_path / "19700101T000000-000.mcap")
    (tmp_path / "19700101T000000-001.mcap").touch()
    log = Log(tmp_path, 10**6, 10**7)
    assert [read(path).entries for path in log.files()] == [tuple(entries)] and is_finished(log.files()[0])
    with pytest.raises(LogError, match="another recorder"):
        Log(tmp_path, 10**6, 10**7)
    log.close()
    Log(tmp_path, 10**6, 10**7).close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_on_a_full_disk_the_recorder_says_so_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    log = Log(tmp_path, 10**6, 10**7)
    log.write(entry(0), "Reply", SCHEMA)
    log.flush()
    log.finish()
    fdopen = os.fdopen
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(mcap_files.os, "fdopen", lambda fd, mode: (os.close(fd), fdopen(full, mode))[1])
    with pytest.raises(LogError, match="full"):
        log.write(entry(1), "Reply", SCHEMA)
        log.flush()
    assert len(log.files()) == 1
    monkeypatch.setattr(mcap_files.os, "fdopen", fdopen)
    log.write(entry(2), "Reply", SCHEMA)
    log.close()
    Log(tmp_path, 10**6, 10**7).close()
    assert [e.time - 10**9 for path in log.files() for e in read(path).entries] == [0, 2]


# Messages as JSON


@pytest.mark.parametrize("kind", [kind for kind, _, _ in TOPICS], ids=lambda k: k.__name__)
def test_every_message_is_json_of_its_schema(kind):
    def check(value: object, schema: dict) -> None:
        kinds = schema.get("type")
        if kinds == "object":
            assert set(value) == set(schema["properties"])
            for name, inner in schema["properties"].items():
                check(value[name], inner)
        elif kinds == "array":
            for each in value:
                check(each, schema["items"])
        elif kinds is not None:
            types = {"string": str, "integer": int, "boolean": bool, "number": (int, float), "null": type(None)}
            allowed = [types[k] for k in ([kinds] if isinstance(kinds, str) else kinds)]
            assert any(isinstance(value, each) for each in allowed)

    content = content_of(kind())
    check(json.loads(json.dumps(content, allow_nan=False)), schema_of(kind))
    assert re.fullmatch(r"\w+/msg/\w+", name_of(kind))


def test_ids_parameters_and_numbers_that_are_none_are_readable():
    key = uuid4()
    action = RobotAction(skill="wait", arguments=argument_messages({"duration": 2.5, "object": "box", "quantity": 3}))
    action.action_id = uuid_message(key)
    action.confidence = float("nan")
    content = content_of(action)
    assert content["action_id"] == str(key) and content["confidence"] is None
    values = [{"name": n, "value": v} for n, v in (("duration", 2.5), ("object", "box"), ("quantity", 3))]
    assert content["arguments"] == values
    report = content_of(DefectReport(evidence_uris=["file:///a.jpg"]))
    assert report["evidence_uris"] == ["file:///a.jpg"] and report["pose"]["pose"]["position"]["x"] == 0.0


def test_the_foxglove_layout_shows_topics_and_fields_that_there_are():
    layout = json.loads((ROOT / "docs/foxglove.json").read_text())
    schemas = {f"/{topic}": schema_of(kind) for kind, topic, _ in TOPICS}
    configs = layout["configById"]
    paths = [c["topicPath"] for c in configs.values() if "topicPath" in c]
    paths += [p["value"] for c in configs.values() for p in c.get("paths", [])]
    assert len(paths) >= 10
    for path in paths:
        topic, *fields = re.sub(r"\[:\]|\{.*?\}", "", path).split(".")
        schema = schemas[topic]
        for name in fields:
            schema = schema.get("items", schema)["properties"][name]

    def panels(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            yield from (*panels(node["first"]), *panels(node["second"]))

    assert sorted(panels(layout["layout"])) == sorted(configs)


# Replay


TALK: tuple[tuple[str, dict], ...] = (
    ("go to dock 3", {"battery": 62, "location": "dock_1"}),
    ("how is your battery", {"battery": 62, "location": "dock_3"}),
    ("\u0000", {}),
    ("pick up the blue bin and bring it to packing", {"battery": 61, "task": "idle", "speed": 0.5}),
    ("and now to aisle two", {"battery": 60, "carrying": "blue_bin"}),
)


def agent(site: object = "warehouse") -> Agent:
    return Agent(MODEL, SKILLS, Site.load(site))


def recorded(talk=TALK, session=None, one: Agent | None = None) -> tuple[list[Entry], list[Turn]]:
    """A conversation as a recorder keeps it, and its turns."""
    one, session = one or agent(), session or uuid4()
    entries, turns = [], []
    for i, (text, facts) in enumerate(talk):
        turn = one.hear(text, facts)
        message = turn_message(one, session, uuid4(), facts, turn)
        entries.append(Entry("/turn", i, json.loads(json.dumps(content_of(message)))))
        turns.append(turn)
    return entries, turns


def again(entries: list[Entry], one: Agent | None = None) -> list[Compared]:
    return list(replay(turns_of([Recording(tuple(entries))]), one or agent()))


def test_a_conversation_run_again_is_the_same_token_for_token():
    entries, turns = recorded()
    compared = again(entries)
    assert [one.differences for one in compared] == [()] * len(TALK) and not any(one.note for one in compared)
    assert [one.replayed.fed for one in compared] == [turn.fed for turn in turns]
    assert [one.recorded.kept for one in compared] == [True, True, False, True, True]
    assert any(turn.actions for turn in turns) and any(turn.kind == "answer" for turn in turns)


def test_sessions_begin_anew():
    first, _ = recorded(TALK[:2])
    second, _ = recorded(TALK[:2])
    assert not any(one.differences for one in again([*first, *second]))


def test_what_is_otherwise_is_named():
    entries, _ = recorded()
    changed = [json.loads(json.dumps(e.content)) for e in entries]
    changed[0]["actions"][0]["arguments"] = [{"name": "location", "value": "dock_4"}]
    changed[1]["reply"], changed[3]["kind"] = "I don't know.", "ignore"
    changed[4]["tokens"][-2] += 1
    changed[4]["tokens"][0] += 1
    compared = again([replace(e, content=c) for e, c in zip(entries, changed, strict=True)])
    expected = [("actions",), ("reply",), (), ("kind",), ("prompt", "tokens")]
    assert [one.differences for one in compared] == expected


def test_what_was_called_off_does_not_count_for_what_follows():
    one, session = agent(), uuid4()
    entries, _ = recorded(TALK[:1], session, one)
    off = one.hear("go to dock 2", {"battery": 55})
    assert one.take_back()
    message = turn_message(one, session, uuid4(), {"battery": 55}, off)
    assert not message.kept
    cut = one.hear("bring me a box", {}, cancelled=lambda: True)
    assert cut.kind == "cut"
    extra = [content_of(m) for m in (message, turn_message(one, session, uuid4(), {}, cut))]
    more, _ = recorded(TALK[1:], session, one)
    compared = again([*entries, *(Entry("/turn", 5, c) for c in extra), *more])
    assert not any(c.differences for c in compared)
    assert [c.replayed is None for c in compared[:4]] == [False, False, True, False]


def test_what_was_cut_and_kept_is_taken_over():
    one, session = Agent(MODEL, SKILLS, Site.load("warehouse"), keep_cut_turns=True), uuid4()
    entries, _ = recorded(TALK[:1], session, one)
    steps = iter([False] * 3 + [True] * 100)
    cut = one.hear("bring me a box", {"battery": 50}, cancelled=lambda: next(steps))
    assert cut.kind == "cut" and cut.fed
    entries.append(Entry("/turn", 5, content_of(turn_message(one, session, uuid4(), {"battery": 50}, cut))))
    more, _ = recorded(TALK[1:], session, one)
    compared = again([*entries, *more])
    assert not any(c.differences for c in compared) and "taken over" in compared[1].note


def test_a_log_that_begins_in_the_middle_says_what_it_lacks():
    entries, _ = recorded()
    compared = again(entries[1:])
    assert "lacks turns 0 to 0" in compared[0].note and compared[0].replayed is not None
    with pytest.raises(LogError, match="no turn"):
        turns_of([Recording((Entry("/reply", 1, {}),))])


def test_the_command_takes_skills_and_site_from_the_log_and_tells_by_its_exit_code(tmp_path, capsys):
    site = (
        find("config/sites/warehouse.yaml")
        .read_text()
        .replace("dock_3:", "dock_9:")
        .replace("dock 3, dock three", "dock 9")
    )
    (tmp_path / "site.yaml").write_text(site)
    entries, turns = recorded((("go to dock 9", {"battery": 50}),), one=agent(tmp_path / "site.yaml"))
    files = {"site.yaml": site.encode(), "skills.yaml": default_skills().read_bytes()}
    log = Log(tmp_path / "logs", 10**6, 10**7, files)
    for one in entries:
        log.write(one, "TurnRecord", schema_of(TurnRecord))
    log.close()
    assert cli.main(["replay", str(tmp_path / "logs")]) == 0
    assert "1 turns, 1 run again, 0 differ" in capsys.readouterr().out
    assert cli.main(["replay", str(tmp_path / "logs"), "--json", "--site", "warehouse"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["differences"] and told["recorded"]["kind"] == turns[0].kind and told["text"] == "go to dock 9"
    assert cli.main(["replay", str(tmp_path / "nothing.mcap")]) == 2


# The node


def test_the_recorder_keeps_what_is_published_and_it_runs_again(bench, tmp_path, capsys):
    one, session = agent(), uuid4()
    node = bench.add(RecorderNode, record_dir=str(tmp_path), flush_s=0.1)
    for text, facts in TALK:
        key = uuid_message(uuid4())
        bench.publish("transcript", Transcript(utterance_id=key, text=text.strip("\x00"), is_final=True), qos.COMMAND)
        turn = one.hear(text, facts)
        bench.publish("turn", turn_message(one, session, uuid4(), facts, turn), qos.COMMAND)
        bench.publish("reply", Reply(utterance_id=key, text=turn.reply), qos.COMMAND)
    bench.publish("agent_state", AgentState(turn=4), qos.LATEST)
    wait_for(lambda: node._written >= 3 * len(TALK) + 1, "the messages")
    (path,) = tmp_path.glob("*.mcap")
    wait_for(lambda: len(read(path).entries) == 3 * len(TALK) + 1, "the flush")
    assert not read(path).whole  # it is still being written, and readable
    bench.remove(node)
    back = read(path)
    assert back.whole and {e.topic for e in back.entries} == {"/transcript", "/turn", "/reply", "/agent_state"}
    assert set(back.attachments) == {"skills.yaml", "site.yaml"}
    assert cli.main(["replay", str(path)]) == 0
    assert f"{len(TALK)} turns, {len(TALK)} run again, 0 differ" in capsys.readouterr().out


def test_what_is_said_to_the_agent_is_recorded_and_runs_again(bench, tmp_path, capsys):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(RecorderNode, record_dir=str(tmp_path), flush_s=0.1)
    bench.add(AgentNode, keep_state=False)
    said = ("go to dock 3", "how is your battery", "and then to aisle two")
    for number, text in enumerate(said, 1):
        facts = argument_messages({"battery": 60 - number})
        assert bench.call(Ask, "ask", Ask.Request(text=text, facts=facts)).success
        wait_for(lambda number=number: len(replies) == number, "the reply")
    wait_for(lambda: node._written >= 2 * len(said), "the messages")
    bench.remove(node)
    (path,) = tmp_path.glob("*.mcap")
    turns = turns_of([read(path)])
    assert [turn.text for turn in turns] == list(said) and turns[1].facts["battery"] == 58
    assert len({turn.grammar for turn in turns}) == 1 and len(turns[0].grammar) == 64
    assert cli.main(["replay", str(path)]) == 0
    assert "3 turns, 3 run again, 0 differ" in capsys.readouterr().out


def test_a_recorder_that_cannot_write_says_so_and_stays(bench, tmp_path):
    (tmp_path / "file").write_text("")
    node = bench.add(RecorderNode, up=False, record_dir=str(tmp_path / "file"))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.level == ERROR and "record_dir" in node.health[1]
    diagnostics = bench.watch(DiagnosticArray, "/diagnostics", 10)
    wait_for(lambda: any("record_dir" in s.message for a in diagnostics for s in a.status), "the diagnosis")
    bench.set(node, record_dir=str(tmp_path / "logs"))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_every_parameter_is_documented_with_its_default():
    section = (ROOT / "docs/nodes.md").read_text().split("\n## recorder\n")[1].split("\n## ")[0]
    for parameter in PARAMETERS:
        default = str(parameter.default).lower() if isinstance(parameter.default, bool) else str(parameter.default)
        shown = default or '""'
        assert f"| `{parameter.name}` | `{shown}` |" in section, parameter.name
