"""The journal: what was appended is there after a crash, whole, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.state.journal import Journal
from nano_agent_ros.state.snapshot_file import StateFileError

RECORDS = [{"turn": i, "say": "dock ünf\nzwei", "tokens": list(range(i))} for i in range(5)]


def filled(path):
    journal = Journal(path)
    for record in RECORDS:
        journal.append(record)
    journal.close()
    return path


def test_records_come_back_in_order(tmp_path):
    path = filled(tmp_path / "new" / "j.jsonl")
    journal = Journal(path)
    assert journal.records == RECORDS
    journal.append({"turn": 5})
    assert Journal(path).records == [*RECORDS, {"turn": 5}]


@settings(max_examples=80, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_torn_end_is_dropped_and_written_over(tmp_path_factory, cut):
    path = filled(tmp_path_factory.mktemp("j") / "j.jsonl")
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    journal = Journal(path)
    kept = len(journal.records)
    assert journal.records == RECORDS[:kept]
    assert kept == content[: max(0, len(content) - cut)].count(b"\n")
    journal.append({"after": True})
    assert Journal(path).records == [*RECORDS[:kept], {"after": True}]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_ends_the_records_before_it(tmp_path_factory, data):
    path = filled(tmp_path_factory.mktemp("j") / "j.jsonl")
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    line = content[:at].count(b"\n")
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert Journal(path).records == RECORDS[:line]


def test_replacing_keeps_what_is_given_and_appends_after_it(tmp_path):
    journal = Journal(filled(tmp_path / "j.jsonl"))
    journal.replace(RECORDS[3:])
    journal.append({"turn": 9})
    assert Journal(tmp_path / "j.jsonl").records == [*RECORDS[3:], {"turn": 9}]
    assert [p.name for p in tmp_path.iterdir()] == ["j.jsonl"]


def test_a_journal_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateFileError, match="cannot use"):
        Journal(tmp_path / "file" / "j.jsonl")
