"""The one command that trains: cycles on conversations of their own, their average, and a finish in INT4."""

from __future__ import annotations

import importlib
import json
import sys

import torch

from nano_agent_ros.model.checkpoint import load_checkpoint
from nano_agent_ros.quantize.convert import convert
from training import pipeline, train
from training.shards import read_units

NETWORK = {
    "model_type": "nemotron_h", "hybrid_override_pattern": "M-*", "hidden_size": 64, "intermediate_size": 64,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1, "chunk_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "residual_in_fp32": True,
}  # fmt: skip


def in_this_process(monkeypatch):
    """The steps without a process each: what they import takes longer than what they do here."""

    def run_module(module, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [module, *map(str, arguments)])
            importlib.import_module(module).main()

    monkeypatch.setattr(pipeline, "run_module", run_module)
    monkeypatch.setattr(train, "keep_freed_memory", lambda: None)  # it would change the whole test process


def test_cycles_go_on_from_the_average_and_what_is_there_is_kept(tmp_path, monkeypatch, capfd):
    in_this_process(monkeypatch)
    monkeypatch.setattr(pipeline, "TOKENIZER_CONVERSATIONS", 40)
    monkeypatch.setattr(pipeline, "VALID_CONVERSATIONS", 8)
    (tmp_path / "network.json").write_text(json.dumps(NETWORK))
    args = pipeline.arguments().parse_args([
        "--work", str(tmp_path / "work"), "--config", str(tmp_path / "network.json"), "--conversations", "16",
        "--cycles", "2", "--shards", "1", "--vocabulary", "600", "--minutes", "0.02", "--finish-minutes", "0.01",
        "--no-compile",
    ])  # fmt: skip
    finished, mean = pipeline.weights(args)

    work = tmp_path / "work"
    texts = [(work / f"cycle-{cycle}" / f"{cycle}.jsonl").read_text() for cycle in (1, 2)]
    assert texts[0] != texts[1]
    assert {p.name for p in (work / "cycle-1/train").iterdir()} == {"1.npz", "short.npz"}
    assert read_units([work / "cycle-2/train/2.npz"])
    first, second, both = (
        load_checkpoint(path).state_dict() for path in (work / "cycle-1/run/model", work / "cycle-2/run/model", mean)
    )
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, (first[name] + 2 * second[name]) / 3, rtol=1e-3, atol=1e-3)
    assert any((first[name] != second[name]).any() for name in both)
    convert(finished, tmp_path / "artifact", progress=False)

    capfd.readouterr()
    assert pipeline.weights(args) == (finished, mean)
    assert all(line.endswith("is there") for line in capfd.readouterr().out.splitlines())
