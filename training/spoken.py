"""An evaluation file of conversations that were really spoken and really transcribed.

    python -m training.spoken --out eval/heard.jsonl --count 26 --seed 2029

draws conversations of held-out phrasings, has each said by one clear synthetic voice (training.heard) with noise 20 to
40 dB below it, transcribes them with the Whisper that the listener uses, biased to the names of the site as there, and
writes them with the text as heard. `said` is what was spoken. Of what Whisper took for no speech, commands stay with
an empty text (they count as wrong) and the rest is left out, for the robot would not have heard it.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nano_agent_ros.skills import Site
from nano_agent_ros.speech import Transcriber
from training.generate import Generator, Mix, compact
from training.heard import Speakers, pronounced
from training.names import canonical

NOISE_DB = (20, 40)


def heard(conversation: dict[str, Any], speakers: Speakers) -> dict[str, Any]:
    """The conversation as one voice says it and Whisper hears it."""
    transcriber = Transcriber(hotwords=Site.load(conversation["site"]).aliases())
    speak = speakers.somebody()
    turns = []
    for turn in conversation["turns"]:
        text = transcriber.transcribe(speak(turn["say"])).text
        if text or turn["expect"]["kind"] == "act":
            turns.append({**turn, "say": text, "said": pronounced(turn["say"])})
    return {**conversation, "turns": turns}


def main() -> None:
    """Draw, speak, transcribe, write; a run that was cut off goes on where it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=26, help="conversations (default %(default)s)")
    parser.add_argument("--seed", type=int, default=2029)
    args = parser.parse_args()
    done = args.out.read_text(encoding="utf-8").splitlines() if args.out.exists() else []
    generator = Generator("heldout", misheard=False, mix=Mix(turns=(8,)))
    speakers = Speakers(random.Random(), NOISE_DB, clear=True)
    with args.out.open("a", encoding="utf-8") as file:
        for index in tqdm(range(len(done), args.count), unit=" conversations"):
            speakers.rng.seed(f"{args.seed}:{index}")
            spoken = heard(compact(generator.conversation(args.seed, index)), speakers)
            file.write(json.dumps(spoken, ensure_ascii=False, separators=(",", ":")) + "\n")
            file.flush()
    turns = [t for line in args.out.read_text(encoding="utf-8").splitlines() for t in json.loads(line)["turns"]]
    wrong = sum(canonical(t["said"]) != canonical(t["say"]) for t in turns)
    print(f"{args.out}: {len(turns)} turns, {wrong} of them not heard as they were said")


if __name__ == "__main__":
    main()
