"""A model for benchmarks of conversations: as it is, or made to say the scripted replies whatever its weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.agent import Model
from nano_agent_ros.engine.base import Engine
from nano_agent_ros.resources import default_model

from .conversation import Script, ScriptedTurn, commands
from .harness import say


class Forced:
    """An engine whose logits, computed in full, are bent towards a reply that was announced."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reply: Sequence[int] = ()
        self._prompt = 0
        self._start: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def announce(self, turn: ScriptedTurn) -> None:
        """The turn that begins with the next `extend`, which may go on into the reply."""
        self._reply, self._prompt, self._start = turn.answer, len(turn.prompt), None

    def extend(self, state: Any, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """As `Engine.extend`; the reply's next token is the most likely one."""
        logits = self._engine.extend(state, tokens, every)
        seen = self._engine.length(state)
        if self._start is None:
            self._start = seen - len(tokens) + self._prompt
        rows = logits if every else logits[None]
        for row, at in zip(rows, range(seen - len(rows) + 1, seen + 1), strict=True):
            if 0 <= at - self._start < len(self._reply):
                row[self._reply[at - self._start]] = row.max() + 9.0
        return logits


def add_options(parser: argparse.ArgumentParser, turns: int) -> None:
    """Which model, how many turns, and whether it says what is scripted."""
    parser.add_argument(
        "--model", type=Path, default=default_model(), metavar="DIR", help="artifact (default: what ships)"
    )
    parser.add_argument("--threads", type=int, help="default: one per physical core, at most 8")
    parser.add_argument("--turns", type=int, default=turns)
    parser.add_argument("--forced", action="store_true", help="the model says the scripted replies")


def open_model(options: argparse.Namespace) -> tuple[Script, Model, Forced | None]:
    """The conversation and the model of these options, opened; what forces its replies, if anything does."""
    talk = commands(options.model, options.turns)
    say(f"opening {options.model}; the system prompt is read")
    model = Model.open(options.model, threads=options.threads)
    if not options.forced:
        return talk, model, None
    forced = Forced(model.engine)
    return talk, Model(forced, model.tokenizer, model.template), forced  # type: ignore[arg-type]
