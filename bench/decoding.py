"""Steps, tokens and time of replies: one token a step, forced tokens together, guesses verified several at a time.

    python -m bench.decoding [--model FOLDER] [--conversations N] [--scripted] [--out FILE.json]

`--scripted` makes the model say the replies of the file: the engine does all its work, and its logits are then bent. So
a network of random weights can be timed. Every way of decoding must give the same replies, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import Row, add_out, report, say
from nano_agent_ros.decode import REPLY_KINDS, Decoder, Guesser, reply_grammar
from nano_agent_ros.decode.generate import DecodeError
from nano_agent_ros.engine.base import Engine
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer, clean
from nano_agent_ros.resources import default_model, default_skills
from nano_agent_ros.skills import Call, Site, Skills


class OneByOne:
    """An engine that makes a step of its own for every token."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.steps = 0

    def extend(self, state: Any, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """As `Engine.extend`."""
        rows = [self._engine.extend(state, [token]) for token in tokens]
        self.steps += len(rows)
        return np.stack(rows) if every else rows[-1]


class Scripted:
    """An engine whose logits, computed in full, are then bent towards a text that it is to say."""

    def __init__(self, engine: Engine, state: Any, tokens: Sequence[int], begun: int) -> None:
        """`state` has seen the first `begun` of the tokens."""
        self._engine, self._tokens = engine, list(tokens)
        self._start = engine.length(state) - begun

    def bend(self, logits: np.ndarray, seen: int) -> np.ndarray:
        """Make the token that follows `seen` tokens of the state the most likely one."""
        logits[self._tokens[min(seen - self._start, len(self._tokens) - 1)]] = logits.max() + 9
        return logits

    def extend(self, state: Any, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """As `Engine.extend`."""
        rows = self._engine.extend(state, tokens, every)
        last = self._engine.length(state)
        for i, row in enumerate(rows if every else rows[None]):
            self.bend(row, last - len(tokens) + i + 1 if every else last)
        return rows

    def commit(self, state: Any, n: int) -> None:
        """As `Engine.commit`."""
        self._engine.commit(state, n)


@dataclass
class Way:
    """One way of decoding, and what it did, by reply."""

    name: str
    guess: int | None = 0
    single: bool = False
    steps: list[int] = field(default_factory=list)
    guessed: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    replies: list[Any] = field(default_factory=list)

    def steps_per_action(self) -> float:
        """Engine steps of the replies that are actions, by action."""
        acting = [(n, len(calls)) for n, (calls, _) in zip(self.steps, self.replies, strict=True) if _acts(calls)]
        return sum(n for n, _ in acting) / max(1, sum(calls for _, calls in acting))

    def reply(self, decoder: Decoder, engine: Any, state: Any, logits: np.ndarray, guess: Guesser | None) -> Any:
        """Decode a reply and note what it took; return its calls and tokens."""
        begun = time.perf_counter()
        if self.single:
            engine = OneByOne(engine)
            logits = engine.extend(state, decoder.start)
        reply = decoder.decode(engine, state, logits, guess)
        self.seconds.append(time.perf_counter() - begun)
        self.steps.append(engine.steps if self.single else reply.steps)
        self.guessed.append(reply.guessed)
        return reply.calls, reply.tokens


def _acts(calls: Sequence[Call]) -> bool:
    return calls[0].name not in REPLY_KINDS


WAYS = (
    Way("one token a step", single=True),
    Way("forced tokens together", 0),
    Way("guesses", 10),
    Way("guesses if they pay", None),
)


class Bench:
    """Decodes the replies of conversations in several ways."""

    def __init__(self, folder: Path, words: Path, scripted: bool, threads: int) -> None:
        """`folder` is an artifact; `words` the folder of tokenizer and chat template."""
        self.engine = open_engine(folder, "native", threads=threads)
        self.tokenizer, self.template = Tokenizer(words), ChatTemplate.load(words)
        self.skills, self.scripted = Skills.load(default_skills()), scripted

    def run(self, conversation: dict[str, Any], ways: Sequence[Way], turns: int) -> None:
        """One conversation, in each way."""
        skills = self.skills.subset(conversation["skills"]) if "skills" in conversation else self.skills
        site = Site.load(conversation["site"])
        builder = PromptBuilder(self.tokenizer, self.template, skills, site)
        grammar = reply_grammar(skills, site, self.tokenizer.added, builder.dialect, *builder.around)
        decoder = Decoder(self.tokenizer, grammar, self.engine.vocab_size, builder.eos_id, builder.dialect)
        state = self.engine.new_state()
        self.engine.extend(state, builder.prefix())
        start = self.engine.snapshot(state)
        for way in ways:
            guesser = Guesser(builder.dialect, skills, site, builder.written, self.tokenizer.decode, way.guess)
            state = self.engine.restore(start)
            for index, turn in enumerate(conversation["turns"][:turns]):
                prompt = builder.turn(clean(turn["say"]), turn.get("facts"), first=index == 0)
                begun = [] if way.single else list(decoder.start)
                logits = self.engine.extend(state, [*prompt, *begun])
                engine: Any = self.engine
                if self.scripted:
                    calls = [Call(c["name"], {k: str(v) for k, v in c["arguments"].items()}) for c in turn["reply"]]
                    engine = Scripted(engine, state, builder.written(builder.dialect.write(calls)), len(begun))
                    logits = engine.bend(logits, self.engine.length(state))
                guesser.begin(turn["say"], prompt)
                guess = guesser if way.guess != 0 else None
                way.replies.append(way.reply(decoder, engine, state, logits, guess))
                guesser.learn(*way.replies[-1][:2])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=default_model(), help="artifact (default: the one that ships)")
    parser.add_argument("--words", type=Path, help="folder of tokenizer and chat template, if not the model's")
    parser.add_argument("--file", type=Path, default=Path("eval/heldout.jsonl"), help="conversations, JSON lines")
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--turns", type=int, default=100, help="of each conversation at most")
    parser.add_argument("--scripted", action="store_true", help="the model says the replies of the file")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--skip", action="append", default=[], metavar="WAY", help=f"{', '.join(w.name for w in WAYS)}")
    add_out(parser)
    args = parser.parse_args()
    bench = Bench(args.model, args.words or args.model, args.scripted, args.threads)
    ways = [way for way in WAYS if way.name not in args.skip]
    with args.file.open(encoding="utf-8") as lines:
        for _, line in zip(range(args.conversations), lines, strict=False):
            try:
                bench.run(json.loads(line), ways, args.turns)
            except DecodeError as error:
                raise SystemExit(f"a reply did not end: {error}; use --scripted for an untrained model") from None
    for way in ways[1:]:
        if way.replies != ways[0].replies:
            raise SystemExit(f"'{way.name}' gave other replies than '{ways[0].name}'")
    tokens = [len(reply[1]) for reply in ways[0].replies]
    say(f"{len(tokens)} replies of {statistics.mean(tokens):.1f} tokens, the same in every way")
    config = {"model": args.model.name, "replies": len(tokens), "tokens": sum(tokens), "scripted": args.scripted}
    rows = []
    for way in ways:
        peer = ways[0].name if way is not ways[0] else None
        steps, ms = statistics.mean(way.steps), 1000 * statistics.median(way.seconds)
        ratio = steps / statistics.mean(ways[0].steps) if peer else None
        rows.append(Row(f"{way.name}: engine steps per reply", steps, "steps", ratio, peer, config=config))
        steps = way.steps_per_action()
        ratio = steps / ways[0].steps_per_action() if peer else None
        rows.append(Row(f"{way.name}: engine steps per action", steps, "steps", ratio, peer, config=config))
        ratio = ms / 1000 / statistics.median(ways[0].seconds) if peer else None
        rows.append(Row(f"{way.name}: time of a reply (median)", ms, "ms", ratio, peer, config=config))
        rows.append(Row(f"{way.name}: right guesses", sum(way.guessed) / sum(tokens), "of tokens", config=config))
    report(rows, args.out)


if __name__ == "__main__":
    main()
