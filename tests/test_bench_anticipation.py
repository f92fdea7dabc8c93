"""The benchmark of reading ahead runs on the model that ships; no time is judged here."""

from __future__ import annotations

import pytest
from test_bench import written

from bench import anticipation


@pytest.mark.parametrize("forced", [False, True])
def test_anticipation_reports_what_is_left_to_do_and_what_was_read(tmp_path, capsys, forced):
    out = tmp_path / "anticipation.json"
    anticipation.main(["--turns", "4", "--threads", "1", "--out", str(out), *["--forced"] * forced])
    rows = written(out, capsys.readouterr().out)
    read = [rows[f"anticipated of a turn, {way}"]["value"] for way in anticipation.WAYS]
    nothing, stable, changed, whole = read
    assert nothing == 0 <= changed < stable < whole, "of a fact that changes only what opens a message is left"
    for way in anticipation.WAYS[1:]:
        assert rows[f"total, {way}, p50"]["peer"] == anticipation.NOTHING
        assert rows[f"total, {way}, p50"]["ratio"] > 0
