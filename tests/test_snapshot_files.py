"""States on disk: whole or refused, and a prompt is computed once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_artifact import CONFIGS, make_artifact

from nano_agent_ros.engine.base import Snapshot
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.state.prefix_cache import PrefixCache
from nano_agent_ros.state.snapshot_file import StateFileError, read_snapshot, write_snapshot

SNAPSHOT = Snapshot("ab" * 32, 3, bytes(range(256)) * 40)
PROMPT = [5, 3, 8, 13, 21, 34, 55]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("model"), CONFIGS["all kinds"])


class Counting:
    """An engine that counts the tokens it computes."""

    def __init__(self, engine):
        self.engine, self.computed = engine, 0

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def extend(self, state, tokens, every=False):
        self.computed += len(tokens)
        return self.engine.extend(state, tokens, every)


def test_a_snapshot_comes_back_with_its_note(tmp_path):
    write_snapshot(tmp_path / "a" / "s.state", SNAPSHOT, {"turn": 7})
    snapshot, note = read_snapshot(tmp_path / "a" / "s.state")
    assert (snapshot.model_digest, snapshot.length, bytes(snapshot.data)) == ("ab" * 32, 3, SNAPSHOT.data)
    assert note == {"turn": 7}
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["s.state"]


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("d") / "s.state"
    write_snapshot(path, SNAPSHOT, {"turn": 7}, sync=False)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    with pytest.raises(StateFileError, match="s.state"):
        read_snapshot(path)


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "s.state"
    program = f"""
from pathlib import Path
from nano_agent_ros.engine.base import Snapshot
from nano_agent_ros.state.snapshot_file import write_snapshot
n = 0
while True:
    n += 1
    write_snapshot(Path({str(path)!r}), Snapshot("cd" * 32, n, bytes([n % 256]) * 300_000), {{"n": n}}, sync=False)
    print(n, flush=True)
"""
    for wait in (0.003, 0.011, 0.024, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        snapshot, note = read_snapshot(path)
        assert snapshot.length == note["n"] >= 1


def test_the_prompt_is_computed_once(folder, tmp_path):
    first, second = Counting(open_engine(folder)), Counting(open_engine(folder))
    cache = PrefixCache(tmp_path / "cache")
    expected = first.snapshot(cache.state(first, PROMPT)).digest
    assert first.computed == len(PROMPT)
    assert second.snapshot(cache.state(second, PROMPT)).digest == expected
    assert second.computed == 0


def test_another_prompt_or_window_has_a_state_of_its_own(folder, tmp_path):
    cache = PrefixCache(tmp_path)
    cache.state(open_engine(folder), PROMPT)
    for engine, tokens in ((open_engine(folder), PROMPT[:-1]), (open_engine(folder, window=128), PROMPT)):
        counting = Counting(engine)
        state = cache.state(counting, tokens)
        assert counting.computed == len(tokens) == counting.length(state)
    assert len(list(tmp_path.glob("*.state"))) == 3


def test_a_damaged_file_is_logged_and_replaced(folder, tmp_path, caplog):
    cache, engine = PrefixCache(tmp_path), open_engine(folder)
    expected = engine.snapshot(cache.state(engine, PROMPT)).digest
    (path,) = tmp_path.glob("*.state")
    os.truncate(path, 1000)
    counting = Counting(engine)
    assert engine.snapshot(cache.state(counting, PROMPT)).digest == expected
    assert counting.computed == len(PROMPT)
    assert "computed anew" in caplog.text and path.name in caplog.text
    counting = Counting(engine)
    cache.state(counting, PROMPT)
    assert counting.computed == 0


def test_only_the_last_used_are_kept(folder, tmp_path):
    cache, engine = PrefixCache(tmp_path, keep=2), open_engine(folder)
    for n in (3, 4, 5):
        cache.state(engine, PROMPT[:n])
        for i, path in enumerate(sorted(tmp_path.glob("*.state"), key=lambda p: p.stat().st_mtime)):
            os.utime(path, (1000 + i, 1000 + i))
    counting = Counting(engine)
    cache.state(counting, PROMPT[:5])
    cache.state(counting, PROMPT[:4])
    assert counting.computed == 0
    cache.state(counting, PROMPT[:3])
    assert counting.computed == 3


def test_a_disk_that_cannot_be_written_costs_the_cache_only(folder, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache, engine = PrefixCache(tmp_path / "file"), open_engine(folder)
    assert engine.length(cache.state(engine, PROMPT)) == len(PROMPT)
    assert "not kept" in caplog.text
