"""Models with random weights and a published template, for tests of what does not depend on what a model says."""

from __future__ import annotations

from pathlib import Path

from published_templates import checkpoint
from small_artifact import make_artifact

from nano_agent_ros.agent import Model
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.prompt import ChatTemplate, Tokenizer

DIALECTS = ("nemotron_3", "nano_v2", "nano_v2 with tags as tokens")


def make_model(folder: Path, dialect: str) -> Model:
    """A model of four layers in the native engine, whose template and tokenizer are of this dialect."""
    words = checkpoint(folder / "words", dialect)
    tokenizer = Tokenizer(words)
    artifact = make_artifact(folder, {"hybrid_override_pattern": "M*M-", "vocab_size": tokenizer.vocab_size})
    return Model(open_engine(artifact, "native", threads=1), tokenizer, ChatTemplate.load(words))
