"""A conversation goes on after its process was killed, and what it decided is sent once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest

from nano_agent_ros.agent import Agent, Model
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills
from nano_agent_ros.state import PrefixCache, Session, Sessions, StateFileError
from nano_agent_ros.state import session as session_module

KEY = UUID(int=7)
SCRIPT = (
    "go to dock 3", "take the blue bin to packing", "what's your battery", "wait there two minutes", "bring it back",
    "there's a dent on rack 4", "stop", "go to the charging station", "turn left a bit", "thanks, that's all",
) * 15  # fmt: skip
KILLS = 100


@pytest.fixture(scope="module")
def model():
    return Model.open(threads=1)


def agent_of(model, cache=None):
    return Agent(model, Skills.load(default_skills()), Site.load("warehouse"), cache=cache)


def talk(agent, session, first, last):
    """Hear the turns of the script, each written and then sent."""
    for turn in range(first, last):
        heard = agent.hear(SCRIPT[turn], {"battery": 90 - turn})
        number = session.write(agent, heard.fed, [{"id": f"{turn}/{i}"} for i in range(1 + len(heard.actions))])
        session.sent(number)


def test_a_session_goes_on_where_it_was(model, tmp_path):
    whole, first = agent_of(model), agent_of(model)
    for turn in range(6):
        whole.hear(SCRIPT[turn], {"battery": 90 - turn})
    session = Sessions(tmp_path, first.identity).begin(KEY)
    talk(first, session, 0, 4)
    session.close()

    second = agent_of(model)
    resumed = Sessions(tmp_path, second.identity).resume(second)
    assert (resumed.session, second.turns, second.state_digest()) == (KEY, 4, first.state_digest())
    assert second.memory() == first.memory()
    assert resumed.unsent == ()
    talk(second, resumed, 4, 6)
    assert second.state_digest() == whole.state_digest()


@pytest.mark.parametrize("damage", ["none written", "newest", "all"])
def test_states_that_are_missing_or_damaged_are_made_up_from_the_journal(model, tmp_path, damage, caplog):
    agent = agent_of(model)
    session = Sessions(tmp_path, agent.identity).begin(KEY)
    for turn in range(5):
        talk(agent, session, turn, turn + 1)
        session.flush()
    session.close()
    states = sorted(session.folder.glob("*.state"))
    assert [int(path.stem) for path in states] == [3, 4, 5]
    for path in {"none written": states, "newest": states[-1:], "all": states}[damage]:
        path.unlink() if damage == "none written" else os.truncate(path, 999)
    again = agent_of(model)
    resumed = Sessions(tmp_path, again.identity).resume(again)
    assert (again.turns, again.state_digest()) == (5, agent.state_digest())
    assert ("an older state is taken" in caplog.text) == (damage != "none written")
    resumed.close()


def test_what_was_not_sent_for_certain_is_there_to_be_sent_again(model, tmp_path):
    agent = agent_of(model)
    session = Sessions(tmp_path, agent.identity).begin(KEY)
    talk(agent, session, 0, 2)
    session.write(agent, agent.hear(SCRIPT[2]).fed, [{"id": "a"}, {"id": "b"}])
    session.sent(session.write(agent, (), [{"id": "no turn of the model"}]))
    session.note({"stopped": True})
    again = agent_of(model)
    resumed = Sessions(tmp_path, again.identity).resume(again)
    (unsent,) = resumed.unsent
    assert (unsent.number, unsent.outbox) == (2, ({"id": "a"}, {"id": "b"}))
    assert abs(unsent.time - time.time()) < 60
    assert [event["stopped"] for event in resumed.events] == [True]
    resumed.sent(unsent.number)
    assert resumed.unsent == ()
    assert resumed.write(again, (), [{"id": "later"}]) == 4


def test_another_configuration_begins_anew(model, tmp_path, caplog):
    agent = agent_of(model)
    session = Sessions(tmp_path, agent.identity).begin(KEY)
    talk(agent, session, 0, 2)
    session.close()
    start = agent_of(model).state_digest()
    other = agent_of(model)
    assert Sessions(tmp_path, "another site").resume(other) is None
    assert (other.turns, other.state_digest()) == (0, start)
    assert "another model or configuration" in caplog.text
    Sessions(tmp_path, "another site").begin(UUID(int=8)).close()
    assert [path.name for path in tmp_path.iterdir()] == [str(UUID(int=8))]


def test_the_journal_stays_small(model, tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "COMPACT_ABOVE", 4000)
    agent = agent_of(model)
    session = Sessions(tmp_path, agent.identity).begin(KEY)
    for turn in range(12):
        talk(agent, session, turn, turn + 1)
        session.flush()
    session.close()
    assert (session.folder / "journal.jsonl").stat().st_size < 8000
    again = agent_of(model)
    resumed = Sessions(tmp_path, again.identity).resume(again)
    assert (again.turns, again.state_digest()) == (12, agent.state_digest())
    resumed.close()
    for path in session.folder.glob("*.state"):
        path.unlink()
    lost = agent_of(model)
    with pytest.raises(StateFileError, match="lacks turn 0"):
        Session(session.folder, lost.identity, KEY).restore(lost)


def speaker(folder: Path, ready: int) -> None:
    """A process that goes on with the script until it ends; what it sends is lines of the file `sent`."""
    skills, site = Skills.load(default_skills()), Site.load("warehouse")
    agent = Agent(Model.open(threads=1), skills, site, cache=PrefixCache(folder / "prefix"))
    sessions = Sessions(folder / "sessions", agent.identity)
    session = sessions.resume(agent) or sessions.begin(KEY)
    out = os.open(folder / "sent", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(ready, b"!")
    for unsent in session.unsent:
        for message in unsent.outbox:
            os.write(out, f"{message['id']}\n".encode())
        session.sent(unsent.number)
    for turn in range(agent.turns, len(SCRIPT)):
        if turn % 3 == 0:  # one that is cut after some steps, and was anticipated: as if it had not been
            agent.anticipate("no, go to aisle 2")
            steps = iter(range(turn % 5))
            cut = agent.hear("no, go to aisle 2", cancelled=lambda steps=steps: next(steps, None) is None)
            os.write(out, f"{turn}/{cut.kind}\n".encode())
            session.sent(session.write(agent, cut.fed, [{"id": f"{turn}/{cut.kind}"}]))
        heard = agent.hear(SCRIPT[turn], {"battery": 90 - turn % 80})
        ids = [{"id": f"{turn}/{i}/{a.skill}"} for i, a in enumerate(heard.actions)] + [{"id": f"{turn}/said"}]
        number = session.write(agent, heard.fed, ids)
        for message in ids:
            os.write(out, f"{message['id']}\n".encode())
        session.sent(number)
    session.close()
    (folder / "done").write_text(json.dumps({"digest": agent.state_digest(), "turns": agent.turns}))


def live(folder: Path, kills: int) -> None:
    """Run the speaker in one process after another, the first `kills` of which are killed at random moments."""
    rng = random.Random(5)
    for life in range(kills + 1):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                speaker(folder, writing)
            finally:
                os._exit(0)
        os.close(writing)
        if life < kills:
            if rng.random() < 0.8:  # in a turn; the others while it starts
                os.read(reading, 1)
                time.sleep(rng.uniform(0.0, 0.02))
            else:
                time.sleep(rng.uniform(0.0, 0.2))
            os.kill(child, signal.SIGKILL)
        os.close(reading)
        _, status = os.waitpid(child, 0)
        print(int(os.WIFSIGNALED(status)))


@pytest.mark.slow
def test_a_hundred_kills_lose_and_repeat_nothing(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    deaths = []
    for folder, kills in ((whole, 0), (killed, KILLS)):
        folder.mkdir()
        program = [sys.executable, __file__, str(folder), str(kills)]
        lives = subprocess.run(program, check=True, capture_output=True, text=True, timeout=900)
        deaths.append(lives.stdout.split().count("1"))
    assert deaths == [0, KILLS], "the script ended before the last kill"
    assert json.loads((killed / "done").read_text()) == json.loads((whole / "done").read_text())
    sent = (killed / "sent").read_text().splitlines()
    assert list(dict.fromkeys(sent)) == (whole / "sent").read_text().splitlines()


if __name__ == "__main__":
    live(Path(sys.argv[1]), int(sys.argv[2]))
