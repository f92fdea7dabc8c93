"""The figures of bench.quantization are what they say."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from bench.quantization import Quality, Text, compare, lost, mean_nll, parser, read_texts, run
from nano_agent_ros import evaluate
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import default_model, default_skills
from nano_agent_ros.skills import Skills

DATA = Path(__file__).resolve().parents[1] / "eval" / "heldout.jsonl"


@pytest.fixture(scope="module")
def texts():
    return list(read_texts(DATA, default_model(), Skills.load(default_skills()), 2))


def test_the_replies_are_the_models_own_tokens(texts):
    from nano_agent_ros.prompt import Tokenizer

    tokenizer = Tokenizer(default_model())
    for text in texts:
        said = tokenizer.decode(text.tokens[text.replies].tolist())
        turns = said.split("<|im_end|>")[:-1]
        assert all(turn.startswith("<tool_call>") and turn.endswith("</tool_call>") for turn in turns)
        heard = tokenizer.decode(text.tokens[~text.replies].tolist())
        assert heard.count("<|im_start|>user") == len(turns)


def test_perplexity_is_over_reply_tokens_given_what_came_before(texts):
    engine = open_engine(default_model())
    first = int(np.argmax(texts[0].replies))
    text = Text(texts[0].tokens[: first + 60], texts[0].replies[: first + 60])
    state, total = engine.new_state(), 0.0
    logits = engine.extend(state, text.tokens[:first]).astype(np.float64)
    for token, reply in zip(text.tokens[first:], text.replies[first:], strict=True):
        if reply:
            total -= logits[token] - np.log(np.exp(logits).sum())
        logits = engine.extend(state, [token]).astype(np.float64)
    assert mean_nll(engine, [text]) == pytest.approx(total / text.replies.sum(), rel=1e-3)


def test_int8_activations_differ_a_little_and_an_engine_from_itself_not_at_all(texts):
    native, exact = open_engine(default_model()), open_engine(default_model(), kernels="float")
    beginning = [Text(texts[0].tokens[:100], texts[0].replies[:100])]
    assert compare(exact, exact, beginning).largest == 0.0
    found = compare(native, exact, beginning)
    assert 0 < found.rms_ratio < 0.1 and found.agreement > 0.9 and found.positions == 100


def test_points_lost_are_paired_by_turn():
    def scored(right: list[bool]) -> list[evaluate.Scored]:
        return [evaluate.Scored(f"c{i // 2}", i % 2, None, None, ok) for i, ok in enumerate(right)]  # type: ignore[arg-type]

    best = Quality("float", 0.0, scored([True] * 8))
    assert lost(best, best) == (0.0, 0.0)
    points, error = lost(Quality("worse", 0.0, scored([True] * 6 + [False] * 2)), best)
    assert points == 25.0 and error == pytest.approx(100 * 1.96 * np.sqrt(3 * 0.5**2 + 1.5**2) / 8)


def test_without_a_float_checkpoint_the_way_to_one_is_told(tmp_path):
    args: argparse.Namespace = parser().parse_args(["--float", str(tmp_path / "nothing")])
    with pytest.raises(ConfigError, match="training.train"):
        run(args)
