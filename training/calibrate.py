"""Make the confidence of actions honest: fit confidence.json of a model folder on conversations not trained on.

    python -m training.calibrate models/warehouse training/runs/warehouse/calibrate.jsonl

Runs the conversations with no threshold, takes the probability of each action's chosen tokens and whether the action
was the expected one, and fits the two numbers of nano_agent_ros/decode/confidence.py. What it prints about the fit is
cross-validated. `python -m bench.confidence` shows what it is worth on other conversations.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nano_agent_ros import evaluate
from nano_agent_ros.agent import Model
from nano_agent_ros.decode.confidence import FILE, FORMAT, Confidence, logit
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills

FOLDS = 5
LEAST_PAIRS = 50


@dataclass(frozen=True)
class Pair:
    """One action that the model proposed: how sure it was, and whether it was the expected one at its place."""

    confidence: float
    right: bool


@dataclass(frozen=True)
class Bin:
    """Actions of like confidence: mean confidence, share that was right, how many."""

    confidence: float
    right: float
    count: int


def pairs(scored: Iterable[evaluate.Scored]) -> list[Pair]:
    """The actions of turns that were run without a threshold."""
    out = []
    for one in scored:
        expected = one.expected.actions
        for i, action in enumerate(one.got.actions):
            right = i < len(expected) and evaluate.same_action(expected[i], action)
            out.append(Pair(action.confidence, right))
    return out


def fit(observed: Sequence[Pair]) -> Confidence:
    """Platt scaling by Newton's method on the likelihood, with Platt's targets; the scale is kept above 0."""
    x = np.array([logit(p.confidence) for p in observed])
    right = np.array([p.right for p in observed])
    positive, negative = right.sum(), (~right).sum()
    target = np.where(right, (positive + 1) / (positive + 2), 1 / (negative + 2))
    design = np.stack((x, np.ones_like(x)), axis=1)
    weights = np.array([0.5, 0.0])
    for _ in range(100):
        predicted = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (predicted - target) + 1e-3 * weights
        hessian = (design * (predicted * (1 - predicted))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return Confidence(max(float(weights[0]), 0.01), float(weights[1]))


def cross_validated(observed: Sequence[Pair]) -> list[Pair]:
    """Each pair with the confidence that a fit on the other folds gives it."""
    out = list(observed)
    for fold in range(FOLDS):
        mapping = fit([p for i, p in enumerate(observed) if i % FOLDS != fold])
        for i in range(fold, len(observed), FOLDS):
            out[i] = replace(observed[i], confidence=mapping(observed[i].confidence))
    return out


def reliability(observed: Sequence[Pair], bins: int = 10) -> list[Bin]:
    """Bins of equal count, from the least to the most confident."""
    ordered = sorted(observed, key=lambda p: p.confidence)
    parts = np.array_split(np.arange(len(ordered)), min(bins, len(ordered)))
    return [
        Bin(
            float(np.mean([ordered[i].confidence for i in part])),
            float(np.mean([ordered[i].right for i in part])),
            len(part),
        )
        for part in parts
    ]


def calibration_error(observed: Sequence[Pair]) -> float:
    """Expected calibration error: the mean distance of confidence and share right, over ten bins of equal count."""
    return sum(b.count * abs(b.confidence - b.right) for b in reliability(observed)) / len(observed)


def observe(model: Model, files: Sequence[Path], site: str = "warehouse") -> list[evaluate.Scored]:
    """Run the conversations of files with no threshold."""
    skills = Skills.load(default_skills())
    scored: list[evaluate.Scored] = []
    for path in files:
        conversations = evaluate.read(path, skills, Site.load(site))
        total = sum(len(c.turns) for c in conversations)
        with tqdm(total=total, unit=" turns", desc=path.name, mininterval=2) as bar:
            scored += evaluate.run(conversations, model, skills, bar.update, min_confidence=0.0, max_overheard=1.0)
    return scored


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder; confidence.json is written into it")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.jsonl", help="conversations in the eval format")
    parser.add_argument("--threads", type=int, help="threads of the engine")
    args = parser.parse_args()
    model = replace(Model.open(args.model, threads=args.threads), confidence=Confidence())
    observed = pairs(observe(model, args.files))
    if len(observed) < LEAST_PAIRS:
        sys.exit(f"{len(observed)} actions are too few to fit; give at least {LEAST_PAIRS}")
    mapping, checked = fit(observed), cross_validated(observed)
    before, after = calibration_error(observed), calibration_error(checked)
    print(f"{len(observed)} actions, {sum(p.right for p in observed)} right")
    print(f"expected calibration error {before:.3f} before, {after:.3f} after (cross-validated)")
    print(f"{'confidence':>12}{'right':>9}{'actions':>9}")
    for b in reliability(checked):
        print(f"{b.confidence:12.2f}{b.right:9.2f}{b.count:9}")
    data = {
        "format": FORMAT,
        "scale": round(mapping.scale, 5),
        "offset": round(mapping.offset, 5),
        "actions": len(observed),
        "calibration_error": {"before": round(before, 4), "cross_validated": round(after, 4)},
        "fitted_on": [path.name for path in args.files],
    }
    assert math.isfinite(data["scale"]) and math.isfinite(data["offset"])
    (args.model / FILE).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {args.model / FILE}")


if __name__ == "__main__":
    main()
