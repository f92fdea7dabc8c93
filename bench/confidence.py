"""Is the confidence of actions honest, and what does a threshold on it buy?

    python -m bench.confidence eval/phrasings.jsonl eval/negative.jsonl [--model FOLDER] [--plot FILE.png] [--out FILE]

Runs conversations with no threshold. Prints how often actions of like confidence were right (reliability), the
expected calibration error, and for thresholds on the confidence and bounds on how likely the words were not for the
robot: how many of the right actions pass, how many wrong ones do, and how often the robot would have acted where it
should not (false actions). `python -m training.calibrate` makes the mapping.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench.harness import Row, add_out, report
from nano_agent_ros.agent import MAX_OVERHEARD, MIN_CONFIDENCE, Model
from nano_agent_ros.evaluate import Scored, is_right
from nano_agent_ros.safety import CALMING
from training.calibrate import Bin, calibration_error, observe, pairs, reliability

THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
BOUNDS = (0.02, 0.05, 0.1, 0.2)


def passes(one: Scored, threshold: float, bound: float = 1.0) -> bool:
    """Whether a turn's actions pass: none with a risk is less sure than the threshold, or overheard likelier than the
    bound (those that halt pass)."""
    sure = all(a.confidence >= threshold or a.risk == "none" for a in one.got.actions)
    meant = one.got.overheard <= bound or all(a.skill in CALMING for a in one.got.actions)
    return one.got.kind == "act" and sure and meant


def threshold_rows(scored: Sequence[Scored], threshold: float, bound: float = 1.0) -> list[Row]:
    """What passes at a threshold, as shares of turns with the actions expected, acted upon, and without."""
    act = [s for s in scored if s.expected.kind == "act"]
    calm = [s for s in scored if s.expected.kind != "act"]
    done = [s for s in scored if passes(s, threshold, bound)]
    config = {"threshold": threshold, "overheard": bound, "act_turns": len(act), "other_turns": len(calm)}
    limits = f"threshold {threshold:.1f}" + (f", overheard {bound:.2f}" if bound < 1 else "")

    def share(name: str, part: int, whole: int) -> Row:
        return Row(f"{limits}: {name}", 100 * part / max(whole, 1), "%", config=config)

    right = sum(is_right(s.expected, s.got) for s in done)
    return [
        share("commands done right", right, len(act)),
        share("of what was done, wrong", len(done) - right, len(done)),
        share("false actions", sum(passes(s, threshold, bound) for s in calm), len(calm)),
    ]


def plot(bins: Sequence[Bin], error: float, path: Path) -> None:
    """The reliability diagram as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 5))
    axis.plot([0, 1], [0, 1], linestyle=":", color="grey", label="honest")
    axis.plot([b.confidence for b in bins], [b.right for b in bins], marker="o", label=f"measured, ECE {error:.3f}")
    axis.set(xlabel="confidence of an action", ylabel="share that was right", xlim=(0, 1.02), ylim=(0, 1.02))
    axis.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.jsonl", help="conversations in the eval format")
    parser.add_argument("--model", help="model folder (default: the one that ships)")
    parser.add_argument("--threads", type=int, help="threads of the engine")
    parser.add_argument("--plot", type=Path, help="write the reliability diagram as PNG")
    add_out(parser)
    args = parser.parse_args()
    scored = observe(Model.open(args.model, threads=args.threads), args.files)
    observed = pairs(scored)
    if not observed:
        parser.error("the model proposed no action on these conversations")
    error, bins = calibration_error(observed), reliability(observed)
    files = {
        "files": [path.name for path in args.files],
        "default_threshold": MIN_CONFIDENCE,
        "default_overheard": MAX_OVERHEARD,
    }
    rows = [Row("expected calibration error", error, "", config=files)]
    for b in bins:
        config = {"confidence": b.confidence, "count": b.count}
        rows.append(Row(f"right at confidence {b.confidence:.2f} ({b.count})", 100 * b.right, "%", config=config))
    for threshold in THRESHOLDS:
        rows += threshold_rows(scored, threshold)
    for bound in BOUNDS:
        rows += threshold_rows(scored, MIN_CONFIDENCE, bound)
    report(rows, args.out)
    if args.plot:
        plot(bins, error, args.plot)
        print(f"wrote {args.plot}")


if __name__ == "__main__":
    main()
