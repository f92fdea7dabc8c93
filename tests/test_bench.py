"""The benchmarks run on the model that ships, print their tables and write JSON of one form; no time is judged here."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from bench import command_latency, engine, limits, llama, turns
from bench.conversation import commands, script
from bench.fresh import evict, fresh
from bench.harness import Row, table
from bench.random_gguf import write_gguf
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.quantize.artifact import read_artifact
from nano_agent_ros.resources import default_model

MODEL = default_model()
FIELDS = {"name", "value", "unit", "ratio", "peer", "limit", "config", "machine"}


def written(path: Path, printed: str) -> dict[str, dict]:
    """The rows of a JSON file by name; each is whole, finite and in the table that was printed."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert rows
    for row in rows:
        assert set(row) == FIELDS
        assert math.isfinite(row["value"])
        assert row["machine"]["processor"] and row["machine"]["nano_agent_ros"]
        assert row["config"]["model"] == MODEL.name
        assert any(line.startswith(row["name"]) for line in printed.splitlines())
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


def test_engine_reports_speed_limits_starts_and_memory(
    tmp_path: Path, states: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engine.json"
    sizes = ["--prefill", "1,16", "--depths", "0,160", "--prefix", "32", "--rounds", "1", "--starts", "1"]
    engine.main([*sizes, "--threads", "2", "--states", str(states), "--out", str(out)])
    printed = capsys.readouterr()
    rows = written(out, printed.out)
    assert "llama.cpp is left out" in printed.err
    speeds = {"prefill 1", "prefill 16", "decode at 0", "decode at 128", "decode at 160"}
    assert {name for name, row in rows.items() if row["unit"] == "tokens/s"} == speeds
    assert all(rows[name]["value"] > 0 and rows[name]["limit"] > 0 for name in speeds)
    assert rows["read bandwidth"]["value"] > 0
    assert rows["warm start to first token"]["config"]["stages"].keys() >= {"imports", "open", "prefix", "first token"}
    for name in ("cold start to first token", "peak memory, prefill of 16", "peak memory, resumed at 160"):
        assert rows[name]["value"] > 0
    assert rows["cost of a token at 160 / at 128"]["unit"] == "times"


def test_states_that_were_made_are_used_again(states: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--depths", "0,160", "--prefix", "32", "--states", str(states), "--prepare"]
    engine.main(arguments)
    capsys.readouterr()
    engine.main(arguments)
    assert "is made" not in capsys.readouterr().err
    (states / "depth-160.state").write_bytes(b"damaged")
    engine.main(arguments)
    assert "made again" in capsys.readouterr().err


def test_turns_reports_both_ways_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "turns.json", tmp_path / "turns.png"
    turns.main(["--turns", "12", "--every", "4", "--repeats", "2", "--out", str(out), "--png", str(picture)])
    rows = written(out, capsys.readouterr().out)
    again = rows[f"turn 10, {turns.READ_AGAIN}"]
    assert again["peer"] == turns.KEPT and again["ratio"] > 0
    assert len(rows[f"each turn more, {turns.KEPT}"]["config"]["series"]) == 12
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_reading_again_ends_in_the_state_that_was_kept() -> None:
    talk = script(MODEL, 4)
    opened = open_engine(MODEL, "native", threads=1)
    kept = opened.new_state()
    for turn in talk.turns[:3]:
        opened.extend(kept, turn.prompt)
        for token in turn.answer:
            opened.extend(kept, [token])
    kept_logits = opened.extend(kept, talk.turns[3].prompt)
    again = opened.extend(opened.new_state(), talk.history(4))
    assert np.array_equal(kept_logits, again)


def test_command_latency_reports_every_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "latency.json"
    command_latency.main(["--turns", "4", "--threads", "1", "--forced", "--out", str(out)])
    rows = written(out, capsys.readouterr().out)
    for stage in command_latency.STAGES:
        assert 0 <= rows[f"{stage}, p50"]["value"] <= rows[f"{stage}, p95"]["value"] <= rows[f"{stage}, max"]["value"]
    assert rows["total, p50"]["config"]["acted"] == 4


def test_a_forced_model_says_the_scripted_replies() -> None:
    turn = commands(MODEL, 3).turns[2]
    opened = open_engine(MODEL, "native", threads=1)
    forced, state, reply = command_latency.Forced(opened), opened.new_state(), turn.answer
    forced.announce(turn)
    said = [int(forced.extend(state, [*turn.prompt, *reply[:2]]).argmax())]  # two tokens go along with the prompt
    said += forced.extend(state, list(reply[2:6]), every=True).argmax(axis=1).tolist()
    opened.commit(state, 2)  # two were guesses; the count goes back with them
    said += [int(forced.extend(state, [token]).argmax()) for token in reply[4:-1]]
    assert said == [*reply[2:7], *reply[5:]]


def test_a_peer_that_fails_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(llama.PeerError, match="failed"):
        llama.llama_bench(Path(sys.executable), tmp_path / "none.gguf", 1, (4,), 4)


def test_a_step_asks_for_what_the_artifact_holds() -> None:
    artifact, opened = read_artifact(MODEL), open_engine(MODEL, "native", threads=1)
    work = limits.Work.of(artifact, opened.spec)
    read = sum(t.nbytes for t in artifact.tensors if "embeddings" not in t.name)
    assert work.weight_bytes == read
    assert work.bytes_per_step(0) < work.bytes_per_step(100) < work.bytes_per_step(work.window)
    assert work.bytes_per_step(work.window) == work.bytes_per_step(work.window + 1)
    slow = limits.Limits(bandwidth=1.0, int8_macs=1e30)
    assert work.least_seconds(1, 0, slow) == work.bytes_per_step(0)
    bound = limits.Limits(bandwidth=1e30, int8_macs=1.0)
    assert work.least_seconds(7, 0, bound) == 7 * work.body_macs + work.head_macs


def test_the_probe_measures_a_bandwidth_and_refuses_nonsense() -> None:
    assert limits.read_bandwidth(2, 1 << 20, repeats=1) > 0
    with pytest.raises(ValueError, match="probe"):
        limits.read_bandwidth(0, 1 << 20, repeats=1)
    peak = limits.int8_peak(1, repeats=1)
    assert peak is None or peak > 0


def test_a_fresh_process_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        fresh("start", tmp_path, tmp_path, 4, 1)


def test_evicting_says_what_stays(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(1 << 20))
    assert 0.0 <= evict([file]) <= 1.0


def test_a_random_gguf_has_every_tensor_of_the_config(tmp_path: Path) -> None:
    config, path = NemotronHConfig.from_json(MODEL), tmp_path / "random.gguf"
    write_gguf(config, path, MODEL / "tokenizer.json")
    read = {t.name: t for t in gguf.GGUFReader(path).tensors}
    matrices = {t.name: int(t.n_elements) for t in read.values() if t.tensor_type == gguf.GGMLQuantizationType.Q4_0}
    artifact = read_artifact(MODEL)
    assert sum(matrices.values()) == sum(t.rows * t.cols for t in artifact.tensors if t.cols > config.conv_kernel)
    assert {"token_embd.weight", "output.weight", "blk.0.ssm_in.weight", "blk.1.ffn_up.weight"} <= matrices.keys()
    values = gguf.dequantize(read["output.weight"].data, gguf.GGMLQuantizationType.Q4_0)
    assert values.shape == (config.vocab_size, config.hidden_size)
    assert 0.015 < values.std() < 0.025


def test_a_table_leaves_out_columns_that_nobody_fills() -> None:
    lines = table([Row("small", 0.12345, "s"), Row("large", 123456.7, "tokens/s")]).splitlines()
    assert lines[0].split() == ["value", "unit"]
    assert lines[1].split() == ["small", "0.1235", "s"]
    assert lines[2].split() == ["large", "123457", "tokens/s"]
