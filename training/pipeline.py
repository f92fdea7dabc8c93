"""From the phrase banks to the model folder that ships, in one command: `python -m training.pipeline --out OUT`.

generate → tokenizer → encode → train (the last part in INT4) → convert. Every step leaves its files in --work and is
skipped if they are there, so a run that was cut off goes on; training itself resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from nano_agent_ros.quantize.convert import convert

TOKENIZER_SEED, VALID_SEED = 777, 5000
PER_SITE = 8


def step(what: str, result: Path, *command: object) -> None:
    """Run `python -m …` unless its result is there."""
    if result.exists():
        print(f"{what}: {result} is there", flush=True)
        return
    print(f"{what} → {result}", flush=True)
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/runs/warehouse"), help="what lies between")
    parser.add_argument("--out", type=Path, default=Path("models/warehouse"), help="model folder to write")
    parser.add_argument("--template", type=Path, default=Path("models/warehouse/chat_template.jinja"))
    parser.add_argument("--conversations", type=int, default=48_000, help="to train on")
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--minutes", type=float, default=41.0, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    work, model = args.work, args.work / "tokenizer"
    (work / "train").mkdir(parents=True, exist_ok=True)
    model.mkdir(exist_ok=True)
    if not (model / "chat_template.jinja").exists():
        shutil.copy(args.template, model)

    talk, corpus = work / "tokenizer.jsonl", work / "corpus.txt"
    step("generate", talk, "training.generate", "--out", talk, "--count", 6000, "--seed", TOKENIZER_SEED)
    step("corpus", corpus, "training.encode", talk, corpus, "--corpus", "--model", model)
    tokenizer = model / "tokenizer.json"
    step("tokenizer", tokenizer, "training.tokenizer", corpus, "--out", model, "--vocabulary", args.vocabulary)

    heldout = work / "valid.jsonl"
    options = ("--split", "heldout", "--per-site", PER_SITE)
    step("generate", heldout, "training.generate", "--out", heldout, "--count", 320, "--seed", VALID_SEED, *options)
    step("encode", work / "valid.npz", "training.encode", heldout, work / "valid.npz", "--model", model, "--even")
    # One shard of short conversations to begin with (the trainer takes units by length), then whole ones.
    short = work / "train" / "short.npz"
    for shard in range(1, args.shards + 1):
        lines, tokens = work / f"train-{shard}.jsonl", work / "train" / f"{shard}.npz"
        count = args.conversations // args.shards
        seed = 1000 * args.seed + shard
        options = ("--count", count, "--seed", seed, "--per-site", PER_SITE)
        step("generate", lines, "training.generate", "--out", lines, *options)
        step("encode", tokens, "training.encode", lines, tokens, "--model", model)
    step("encode", short, "training.encode", work / "train-1.jsonl", short, "--model", model, "--short")

    run = work / "run"
    options = ("--model", model, "--minutes", args.minutes, "--seed", args.seed, "--resume")
    options += ("--rows", 4, "--batch-tokens", 1)  # one prefix a step: many small steps learn to copy sooner
    data = (work / "train", "--valid", work / "valid.npz")
    step("train", run / "finished", "training.train", *data, "--out", run, *options)
    (run / "finished").touch()
    card = args.out / "README.md"
    if card.exists():  # its numbers are those of the last model: measure again with nano-agent eval
        shutil.copy(card, run / "model")
    convert(run / "model", args.out)


if __name__ == "__main__":
    main()
