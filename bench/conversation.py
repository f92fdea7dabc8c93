"""A long warehouse conversation as tokens: what is said comes from a file of conversations, and so do the replies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.decode.dialect import write_reply
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer, clean
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, Site, Skills

EVAL = Path(__file__).resolve().parent.parent / "eval"
TALK = EVAL / "heldout.jsonl"  # of every kind, on many sites
COMMANDS = EVAL / "outside.jsonl"  # what stands there for the warehouse site leads to actions there


@dataclass(frozen=True)
class ScriptedTurn:
    """Text and reply of one turn, as text and as the tokens that the conversation grows by."""

    say: str
    reply: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Script:
    """The tokens before the first turn (system prompt, skills, site), then the turns."""

    prefix: tuple[int, ...]
    turns: tuple[ScriptedTurn, ...]

    def history(self, turn: int) -> list[int]:
        """Tokens after the prefix up to where the reply of turn number `turn` (from 1) begins."""
        past = [token for t in self.turns[: turn - 1] for token in (*t.prompt, *t.answer)]
        return [*past, *self.turns[turn - 1].prompt]


def script(words: Path, turns: int) -> Script:
    """One conversation of so many turns in the tokens of the model folder `words`.

    The turns of all conversations of TALK follow one another, and begin again when there are no more.
    """
    return _script(words, turns, [turn for line in _lines(TALK) for turn in line["turns"]])


def commands(words: Path, turns: int) -> Script:
    """A conversation in which every turn is a command that the warehouse robot can carry out, from COMMANDS."""
    said = [turn for line in _lines(COMMANDS) if line["site"] == "warehouse" for turn in line["turns"]]
    return _script(words, turns, [turn for turn in said if turn["expect"]["kind"] == "act"])


def _script(words: Path, turns: int, said: list[dict[str, Any]]) -> Script:
    skills, site = Skills.load(default_skills()), Site.load("warehouse")
    builder = PromptBuilder(Tokenizer(words), ChatTemplate.load(words), skills, site)
    made = []
    for i in range(turns):
        turn = said[i % len(said)]
        reply = write_reply(_calls(turn))
        prompt = builder.turn(clean(turn["say"]), turn.get("facts"), first=i == 0)
        made.append(ScriptedTurn(turn["say"], reply, tuple(prompt), tuple(builder.reply(reply))))
    return Script(tuple(builder.prefix()), tuple(made))


def _calls(turn: dict[str, Any]) -> list[Call]:
    written = turn.get("reply") or [{**a, "name": a["skill"]} for a in turn["expect"]["actions"]]
    return [Call(c["name"], {k: str(v) for k, v in c["arguments"].items()}) for c in written]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
