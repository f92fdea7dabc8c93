"""Conversations (JSON lines) to token shards, through the very prompt code that runs on the robot."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nano_agent_ros.decode import write_reply
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, PromptError, Tokenizer, clean
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, Site, Skills
from training.shorten import shortened
from training.weights import PREFIX, USER, ReplyWeights


@lru_cache(maxsize=1)
def all_skills() -> Skills:
    """The skills that ship."""
    return Skills.load(default_skills())


class Encoder:
    """Encodes conversations; consecutive ones on one site share a prompt builder."""

    def __init__(self, model: Path, even: bool = False) -> None:
        """`even` counts every token of a reply as 1, for validation."""
        self.tokenizer, self.template = Tokenizer(model), ChatTemplate.load(model)
        self.reply_weights = (lambda reply: np.ones(len(reply))) if even else ReplyWeights(self.tokenizer)
        self._key: object = None

    def builder(self, conversation: dict) -> PromptBuilder:
        """The prompt builder of a conversation's own site and skills."""
        key = (conversation["site"], conversation.get("skills"))
        if key != self._key:
            skills = all_skills()
            if "skills" in conversation:
                skills = skills.subset(conversation["skills"])
            site = Site.load(conversation["site"])
            self._key, self._builder = key, PromptBuilder(self.tokenizer, self.template, skills, site)
        return self._builder

    def encode(self, conversation: dict) -> tuple[list[int], list[float]]:
        """Tokens of a conversation and the loss weight of each."""
        builder = self.builder(conversation)
        tokens = builder.prefix()
        weights = [PREFIX] * len(tokens)
        for index, turn in enumerate(conversation["turns"]):
            prompt = builder.turn(clean(turn["say"]), turn.get("facts"), first=index == 0)
            reply = builder.reply(write_reply(calls_of(turn)))
            tokens += prompt + reply
            weights += [USER] * len(prompt) + self.reply_weights(reply).tolist()
        return tokens, weights


def calls_of(turn: dict) -> list[Call]:
    """The reply of a generated turn as calls."""
    return [Call(c["name"], {k: str(v) for k, v in c["arguments"].items()}) for c in turn["reply"]]


def read(path: Path) -> Iterator[dict]:
    """The conversations of a file."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def write_shard(conversations: Iterator[dict], model: Path, out: Path, even: bool = False) -> int:
    """Encode into one .npz (tokens uint16, weights float16, offsets int64); returns the number of tokens."""
    encoder = Encoder(model, even)
    pieces, weights, offsets = [], [], [0]
    for conversation in tqdm(conversations, desc=out.name, unit=" conversations", mininterval=2):
        try:
            ids, loss = encoder.encode(conversation)
        except PromptError:  # noise left no word of an utterance: the agent would not hear it either
            continue
        pieces.append(np.array(ids, np.uint16))
        weights.append(np.array(loss, np.float16))
        offsets.append(offsets[-1] + len(ids))
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, tokens=np.concatenate(pieces), weights=np.concatenate(weights), offsets=np.array(offsets, np.int64))
    return offsets[-1]


def corpus(conversations: Iterator[dict], model: Path, share: float = 0.3, seed: int = 0) -> Iterator[str]:
    """Text that the tokenizer is trained on: every turn and reply, and the system prompt of a share of them."""
    template, rng = ChatTemplate.load(model), random.Random(seed)
    for conversation in conversations:
        messages: list[dict] = []
        for turn in conversation["turns"]:
            facts = "; ".join(f"{k}: {v}" for k, v in (turn.get("facts") or {}).items())
            messages.append({"role": "user", "content": (facts + "\n" if facts else "") + turn["say"]})
            messages.append({"role": "assistant", "content": write_reply(calls_of(turn))})
        if rng.random() < share:
            messages.insert(0, {"role": "system", "content": Site.load(conversation["site"]).describe()})
        names = conversation.get("skills") or [s.name for s in all_skills()]
        tools = [all_skills()[n].tool() for n in names]
        yield template.render(messages, tools)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path, help="conversations, JSON lines (training.generate)")
    parser.add_argument("out", type=Path, help="shard to write (.npz), or text file with --corpus")
    parser.add_argument("--model", type=Path, default=Path("models/warehouse"), help="folder of tokenizer and template")
    parser.add_argument("--corpus", action="store_true", help="write text for training.tokenizer instead")
    parser.add_argument("--short", action="store_true", help="short versions, to begin training with")
    parser.add_argument("--even", action="store_true", help="every token of a reply counts 1 (validation)")
    args = parser.parse_args()
    if args.corpus:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("w", encoding="utf-8") as file:
            file.writelines(text + "\n" for text in corpus(read(args.input), args.model))
    else:
        conversations = read(args.input)
        if args.short:
            conversations = shortened(conversations, [skill.name for skill in all_skills()])
        print(f"{args.out}: {write_shard(conversations, args.model, args.out, args.even)} tokens")


if __name__ == "__main__":
    main()
