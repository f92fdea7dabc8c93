"""No engine starts that computes another network than its artifact's: it must answer the self-check first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nano_agent_ros.quantize.artifact import MANIFEST
from nano_agent_ros.quantize.self_check import TOKENS, read_self_check

from .base import Engine, EngineError

LARGEST_RATIO = 0.25
"""Of rms(logits - reference) to the standard deviation of the reference. Rounding of activations stays well below
(docs/artifact.md has figures); a swapped gate, a missing norm or another model's weights come out near 1 and above."""


def check_engine(engine: Engine, folder: str | Path) -> tuple[float, float] | None:
    """Let a freshly opened engine answer the self-check of its folder; raises EngineError if it is off.

    Returns the two ratios: after 15 tokens at once, and after one more. A checkpoint folder, which only the reference
    engine opens, has no self-check: None.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        return None
    check = read_self_check(folder)
    state = engine.new_state()
    pieces = (check.tokens[: TOKENS - 1], check.tokens[TOKENS - 1 :])
    ratios = tuple(
        _ratio(engine, folder, engine.extend(state, piece.tolist()), reference)
        for piece, reference in zip(pieces, check.logits, strict=True)
    )
    return ratios[0], ratios[1]


def _ratio(engine: Engine, folder: Path, logits: np.ndarray, reference: np.ndarray) -> float:
    way_out = "do not use it: rebuild or reinstall the engine, or convert the checkpoint again"
    if logits.shape != reference.shape or not np.isfinite(logits).all():
        raise EngineError(
            f"engine {engine.name!r} fails the self-check of {folder}: it gives logits of shape {logits.shape} "
            f"with {int((~np.isfinite(logits)).sum())} that are not finite; {way_out}"
        )
    ratio = float(np.sqrt(np.mean(np.square(logits - reference, dtype=np.float64))) / np.std(reference))
    if not ratio <= LARGEST_RATIO:
        raise EngineError(
            f"engine {engine.name!r} fails the self-check of {folder}: its logits are off by {ratio:.2f} standard "
            f"deviations of the reference, at most {LARGEST_RATIO} is rounding; {way_out}"
        )
    return ratio


def check_window(window: int = 4096, sinks: int = 64) -> None:
    """Raise EngineError for an attention that does not see all tokens of the self-check, and so rightly differs."""
    if window + sinks < TOKENS:
        raise EngineError(
            f"an attention window of {window} recent and {sinks} first tokens is shorter than the self-check; "
            f"let them be {TOKENS} together, or more"
        )
