"""Conversations for training and evaluation, drawn from the phrase banks on random sites.

`python -m training.generate --out FILE.jsonl --count N --seed S --split train|heldout [--sites heldout]` writes one
conversation a line in the format that `nano-agent eval` reads; each turn also holds `reply`, the calls of the model.
The fixed evaluation file is made by `python -m training.generate --out eval/heldout.jsonl --count 75 --seed 2026
--split heldout --sites heldout`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Skills
from training.banks import PHRASES, load
from training.compose import Library, weights_of
from training.conversation import Conversation


@dataclass(frozen=True)
class Mix:
    """What conversations are made of: everything, only turns that go on with others, or only talk to be ignored."""

    only: str = ""  # "", dialogues or ignore
    any_skills: bool = False  # each robot has some of the skills, in any order
    clean: bool = False  # no words are misheard
    turns: tuple[int, ...] = (4, 5, 6, 7, 8, 8, 9, 10, 11, 12)  # how many a conversation aims at


ALL = Mix()


class Generator:
    """Conversations of one split. `conversation(seed, index)` is the same for ever for the same banks."""

    def __init__(
        self,
        split: str = "train",
        sites: str = "train",
        folder: Path = PHRASES,
        misheard: bool = True,
        mix: Mix = ALL,
    ) -> None:
        """`sites` heldout names half of the things by words that training sites never use.

        With `misheard` some words are those that speech recognition takes for the ones said. `mix` narrows what is
        drawn; training draws everything.

        Entries that are wrong are left out with a warning; `python -m training.banks` lists them.
        """
        self.skills = Skills.load(default_skills())
        entries, problems = load(folder, self.skills)
        for problem in problems:
            print(f"left out: {problem}", file=sys.stderr)
        self.bank = Library(entries, split, self.skills)
        self.split, self.sites, self.mix = split, sites, mix
        self.misheard = misheard and not mix.clean
        self.names = list(self.skills.skills)
        acts = self.bank.by_skill
        self.act_names = [n for n in self.names if n in acts]
        self.act_weights = weights_of(self.act_names)

    def conversation(self, seed: int, index: int, per_site: int = 1) -> dict[str, Any]:
        """One conversation of 4 to 12 turns as the mapping that a line of the file holds.

        `per_site` consecutive ones have the same site and skills: they share the prefix that training pays for once.
        """
        return Conversation(self, seed, index, per_site).build()


def conversations(
    count: int,
    seed: int,
    split: str = "train",
    sites: str = "train",
    start: int = 0,
    processes: int = 1,
    per_site: int = 1,
    mix: Mix = ALL,
) -> Iterator[dict[str, Any]]:
    """`count` conversations from index `start` on, in order, whatever the number of processes."""
    if processes <= 1:
        generator = _generator(split, sites, mix)
        for index in range(start, start + count):
            yield generator.conversation(seed, index, per_site)
        return
    work = ((split, sites, mix, seed, index, per_site) for index in range(start, start + count))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_one, work, chunksize=64)


@cache
def _generator(split: str, sites: str, mix: Mix) -> Generator:
    return Generator(split, sites, mix=mix)


def _one(work: tuple[str, str, Mix, int, int, int]) -> dict[str, Any]:
    split, sites, mix, seed, index, per_site = work
    return _generator(split, sites, mix).conversation(seed, index, per_site)


def compact(conversation: dict[str, Any]) -> dict[str, Any]:
    """What `nano-agent eval` needs of a conversation: no calls of the model, no poses."""
    site = conversation["site"]
    places = {k: {n: v for n, v in body.items() if n != "pose"} for k, body in site["locations"].items()}
    turns = [{k: v for k, v in turn.items() if k not in ("reply", "phrasings")} for turn in conversation["turns"]]
    return {**conversation, "site": {**site, "locations": places}, "turns": turns}


def main() -> int:
    """Write conversations as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m training.generate", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines file to write")
    parser.add_argument("--count", type=int, default=1000, help="conversations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "heldout"), default="train", help="which phrasings")
    parser.add_argument("--sites", choices=("train", "heldout"), default="train", help="which names of things")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--per-site", type=int, default=1, help="conversations on one site, which share its prompt")
    parser.add_argument("--only", choices=("dialogues", "ignore"), default="", help="only turns of this kind")
    parser.add_argument("--any-skills", action="store_true", help="every robot has other skills, in another order")
    parser.add_argument("--clean", action="store_true", help="no words misheard, as people type")
    parser.add_argument("--turns", type=int, help="turns of a conversation (default 4 to 12)")
    parser.add_argument("--compact", action="store_true", help="leave out what only training reads")
    options = parser.parse_args()
    turns = (options.turns,) if options.turns else ALL.turns
    mix = Mix(options.only, options.any_skills, options.clean, turns)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    made = conversations(
        options.count, options.seed, options.split, options.sites,
        processes=options.processes, per_site=options.per_site, mix=mix,
    )  # fmt: skip
    with options.out.open("w", encoding="utf-8") as file:
        for conversation in made:
            for turn in conversation["turns"]:
                turn.pop("phrasings")
            if options.compact:
                conversation = compact(conversation)
            file.write(json.dumps(conversation, ensure_ascii=False, separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
