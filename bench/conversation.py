"""A long warehouse conversation as tokens: what is said comes from a file of conversations, and so do the replies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nano_agent_ros.decode.dialect import write_reply
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer, clean
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, Site, Skills

SPOKEN = Path(__file__).resolve().parent.parent / "eval" / "heldout.jsonl"


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


def script(words: Path, turns: int, spoken: Path = SPOKEN) -> Script:
    """One conversation of so many turns on the warehouse site, in the tokens of the model folder `words`.

    The turns of the file's conversations follow one another, and begin again when there are no more.
    """
    builder = PromptBuilder(Tokenizer(words), ChatTemplate.load(words), Skills.load(default_skills()),
                            Site.load("warehouse"))  # fmt: skip
    lines = [json.loads(line) for line in spoken.read_text(encoding="utf-8").splitlines() if line.strip()]
    said = [turn for line in lines for turn in line["turns"]]
    made = []
    for i in range(turns):
        turn = said[i % len(said)]
        calls = [Call(c["name"], {k: str(v) for k, v in c["arguments"].items()}) for c in turn["reply"]]
        reply = write_reply(calls)
        prompt = builder.turn(clean(turn["say"]), turn.get("facts"), first=i == 0)
        made.append(ScriptedTurn(turn["say"], reply, tuple(prompt), tuple(builder.reply(reply))))
    return Script(tuple(builder.prefix()), tuple(made))
