"""From the phrase banks to the model folder that ships, in one command: `python -m training.pipeline --out OUT`.

generate → tokenizer → encode → train in cycles → average → finish in INT4 → convert → calibrate the confidence.
Every cycle trains on conversations of its own with a fresh schedule, from the average of the cycles before, the
latest of which weighs most; the average of all, trained in INT4 for a few minutes more, is what ships. Every step
leaves its files in --work and is skipped if they are there, so a run that was cut off goes on; training itself
resumes from its last checkpoint. --float keeps the average too: what INT4 costs (`python -m bench.quantization`).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from nano_agent_ros.quantize.convert import convert

TOKENIZER_SEED, VALID_SEED, CALIBRATION_SEED = 777, 5000, 5001
TOKENIZER_CONVERSATIONS, VALID_CONVERSATIONS = 6000, 320
EVAL = Path(__file__).resolve().parents[1] / "eval"
DEV = (EVAL / "strangers_dev.jsonl", EVAL / "people_dev.jsonl")
PER_SITE = 8
Options = tuple[object, ...]
# One prefix a step: many small steps learn to copy sooner. Later cycles start from what is learnt, at a quarter of the
# rates, and keep the mean over their steps.
FIRST: Options = ("--rows", 4, "--batch-tokens", 1, "--qat-from", 2)
LATER: Options = ("--rows", 8, "--batch-tokens", 1, "--qat-from", 2, "--muon-lr", 0.0015, "--lr", 0.0007)
LATER += ("--floor", 0.1, "--mean", 0.996)
FINISH: Options = ("--rows", 8, "--batch-tokens", 1, "--qat-from", 0, "--muon-lr", 0.0003, "--lr", 0.00015)
FINISH += ("--warm-up", 0.1, "--floor", 0.1)


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


def prepare(work: Path, template: Path, vocabulary: int) -> Path:
    """Tokenizer and held-out conversations; returns the folder of the tokenizer."""
    model = work / "tokenizer"
    model.mkdir(parents=True, exist_ok=True)
    if not (model / "chat_template.jinja").exists():
        shutil.copy(template, model / "chat_template.jinja")
    talk, text = work / "tokenizer.jsonl", work / "corpus.txt"
    options: Options = ("--count", TOKENIZER_CONVERSATIONS, "--seed", TOKENIZER_SEED)
    step("generate", talk, "training.generate", "--out", talk, *options)
    step("corpus", text, "training.encode", talk, text, "--corpus", "--model", model)
    step("tokenizer", model / "tokenizer.json", "training.tokenizer", text, "--out", model, "--vocabulary", vocabulary)
    heldout = work / "valid.jsonl"
    options = ("--split", "heldout", "--count", VALID_CONVERSATIONS, "--seed", VALID_SEED, "--per-site", PER_SITE)
    step("generate", heldout, "training.generate", "--out", heldout, *options)
    step("encode", work / "valid.npz", "training.encode", heldout, work / "valid.npz", "--model", model, "--even")
    return model


def write_shards(folder: Path, model: Path, shards: range, count: int, seed: int, short: bool) -> None:
    """Shards of `count` conversations each, every second one with no words misheard.

    With `short`, also one of short conversations to begin with: the trainer takes those first.
    """
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for shard in shards:
        lines, tokens = folder / f"{shard}.jsonl", folder / "train" / f"{shard}.npz"
        options: Options = ("--count", count, "--seed", 1000 * seed + shard, "--per-site", PER_SITE)
        options += ("--clean",) if shard % 2 == 0 else ()
        step("generate", lines, "training.generate", "--out", lines, *options)
        step("encode", tokens, "training.encode", lines, tokens, "--model", model)
        if short and shard == shards[0]:
            tokens = folder / "train" / "short.npz"
            step("encode", tokens, "training.encode", lines, tokens, "--model", model, "--short")


def train(what: str, run: Path, *options: object) -> Path:
    """Train, or go on with it; returns the folder of the checkpoint."""
    step(what, run / "finished", "training.train", *options, "--out", run, "--resume")
    (run / "finished").touch()
    return run / "model"


def average(out: Path, checkpoints: list[Path]) -> Path:
    """The weighted mean of checkpoints: 1, 2, 3, …; returns its folder."""
    weighted = [f"{checkpoint}:{weight}" for weight, checkpoint in enumerate(checkpoints, 1)]
    step("average", out / "model.safetensors", "training.average", "--out", out, *weighted)
    return out


def weights(args: argparse.Namespace) -> tuple[Path, Path]:
    """Everything up to the weights; returns the checkpoints of what ships and of the average that it was made from."""
    work = args.work
    model = prepare(work, args.template, args.vocabulary)
    ends: list[Path] = []
    rates = FIRST
    common: Options = ("--valid", work / "valid.npz", "--model", model, "--config", args.config)
    common += () if args.compile else ("--no-compile",)
    for cycle in range(1, args.cycles + 1):
        folder = work / f"cycle-{cycle}"
        shards = range(1 + (cycle - 1) * args.shards, 1 + cycle * args.shards)
        count = max(1, args.conversations // (args.cycles * args.shards))
        write_shards(folder, model, shards, count, args.seed, short=cycle == 1)
        options = (*common, *rates, "--minutes", args.minutes / args.cycles, "--seed", args.seed + cycle - 1)
        ends.append(train(f"train, cycle {cycle} of {args.cycles}", folder / "run", folder / "train", *options))
        mean = average(work / f"average-{cycle}", ends)
        rates = (*LATER, "--init", mean)
    options = (*common, *FINISH, "--minutes", args.finish_minutes, "--seed", args.seed, "--init", mean)
    return train("finish in INT4", work / "finish", work / f"cycle-{args.cycles}" / "train", *options), mean


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/runs/warehouse"), help="what lies between")
    parser.add_argument("--out", type=Path, default=Path("models/warehouse"), help="model folder to write")
    parser.add_argument("--template", type=Path, default=Path("models/warehouse/chat_template.jinja"))
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("model.json"), help="network")
    parser.add_argument("--conversations", type=int, default=48_000, help="to train on, in all cycles together")
    parser.add_argument("--cycles", type=int, default=3, help="runs, each from the average of those before")
    parser.add_argument("--shards", type=int, default=2, help="of each cycle")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--minutes", type=float, default=180.0, help="of training in all cycles, on two idle cores")
    parser.add_argument("--finish-minutes", type=float, default=5.0, help="of training in INT4 behind them")
    parser.add_argument("--float", type=Path, metavar="OUT", help="also write the average, before its INT4 part")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="as in training.train")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Command line."""
    parser = arguments()
    args = parser.parse_args()
    if args.cycles < 1 or args.shards < 1:
        parser.error("--cycles and --shards must be at least 1")
    finished, mean = weights(args)
    card = args.out / "README.md"
    if card.exists():  # its numbers are those of the last model: measure again with nano-agent eval
        shutil.copy(card, finished)
    convert(finished, args.out)
    if args.float:
        shutil.copytree(mean, args.float, dirs_exist_ok=True)

    doubts = args.work / "calibrate.jsonl"
    options = ("--split", "heldout", "--seed", CALIBRATION_SEED, "--count", 100)
    step("generate", doubts, "training.generate", "--out", doubts, *options)
    run_module("training.calibrate", args.out, doubts, *DEV)


if __name__ == "__main__":
    main()
