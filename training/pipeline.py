"""From the phrase banks to the model folder that ships, in one command: `python -m training.pipeline --out OUT`.

generate → tokenizer → encode → train (the last part in INT4) → convert → calibrate the confidence. Every step leaves
its files in --work and is skipped if they are there, so a run that was cut off goes on; training itself resumes from
its last checkpoint. --float finishes the same run in float as well: what INT4 costs (`python -m bench.quantization`).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from nano_agent_ros.quantize.convert import convert

TOKENIZER_SEED, VALID_SEED, CALIBRATION_SEED = 777, 5000, 5001
DEV = Path(__file__).resolve().parents[1] / "eval" / "strangers_dev.jsonl"
PER_SITE = 8


def step(what: str, result: Path, *command: object) -> None:
    """Run `python -m …` unless its result is there."""
    if result.exists():
        print(f"{what}: {result} is there", flush=True)
        return
    print(f"{what} → {result}", flush=True)
    run_module(*command)


def run_module(*command: object) -> None:
    """Run `python -m …`; raises CalledProcessError if it fails."""
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
    parser.add_argument("--minutes", type=float, default=90.0, help="of training, on two idle cores")
    parser.add_argument("--float", type=Path, metavar="OUT", help="also write the model without its INT4 part")
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

    doubts = work / "calibrate.jsonl"
    options = ("--split", "heldout", "--seed", CALIBRATION_SEED, "--count", 100)
    step("generate", doubts, "training.generate", "--out", doubts, *options)
    run_module("training.calibrate", args.out, doubts, DEV)
    if args.float:
        _finish_in_float(work, model, args)


def _finish_in_float(work: Path, model: Path, args: argparse.Namespace) -> None:
    """The last part of the run once more, for as long, without INT4."""
    run = work / "run-float"
    if not (run / "run.pt").exists():
        run.mkdir(exist_ok=True)
        shutil.copy(work / "run" / "before_qat.pt", run / "run.pt")
    options = ("--model", model, "--minutes", args.minutes, "--seed", args.seed, "--resume", "--qat-from", 2)
    options += ("--rows", 4, "--batch-tokens", 1)
    data = (work / "train", "--valid", work / "valid.npz")
    step("train in float", run / "finished", "training.train", *data, "--out", run, *options)
    (run / "finished").touch()
    shutil.copytree(run / "model", args.float, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
