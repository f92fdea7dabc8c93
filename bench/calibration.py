"""What calibrating costs at the shapes of a large model: seconds and memory of one block of each kind, GPTQ and AWQ.

    python -m bench.calibration [--preset nemotron-3-nano-4b] [--tokens 2048] [--kinds mamba mlp] [--out FILE.json]

Weights and residual stream are random: the cost does not depend on them. Each block is quantized in a process of its
own and timed in two parts, what grows with the calibration text and what does not; the estimate for the whole model at
32,768 tokens follows from both.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.model.config import ATTENTION, MAMBA, MLP, NemotronHConfig
from nano_agent_ros.quantize import awq, calibration, gptq
from nano_agent_ros.quantize.methods import LayerWeights
from nano_agent_ros.quantize.random_model import PRESETS
from nano_agent_ros.quantize.table import artifact_tensors

from .harness import Row, add_out, report, say

METHODS = {"gptq": gptq.Gptq, "awq": awq.Awq}
PIECE = 512
ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.calibration", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--preset", default="nemotron-3-nano-4b", choices=sorted(PRESETS))
    p.add_argument("--tokens", type=int, default=2048, help=f"calibration tokens, in pieces of {PIECE}")
    p.add_argument("--kinds", nargs="+", default=[MAMBA, ATTENTION, MLP], choices=[MAMBA, ATTENTION, MLP])
    p.add_argument("--methods", nargs="+", default=sorted(METHODS), choices=sorted(METHODS))
    p.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    add_out(p)
    return p


def main() -> int:
    """Run it."""
    args = parser().parse_args()
    if args.alone:
        print(json.dumps(one_block(args.preset, args.kinds[0], args.methods[0], args.tokens)))
        return 0
    rows: list[Row] = []
    layers = NemotronHConfig.from_dict(PRESETS[args.preset]).layers
    for method in args.methods:
        whole = 0.0
        for kind in args.kinds:
            found = _in_a_process(args, kind, method)
            per_token, fixed = found["per_token_s"], found["fixed_s"]
            whole += layers.count(kind) * (fixed + per_token * calibration.MOST_TOKENS)
            config = {"preset": args.preset, "tokens": args.tokens, "kind": kind, "method": method}
            rows += [
                Row(f"{method}, {kind} block: per 1,000 tokens", 1000 * per_token, "s", config=config),
                Row(f"{method}, {kind} block: besides", fixed, "s", config=config),
                Row(f"{method}, {kind} block: peak memory", found["peak_rss"] / 2**30, "GiB", config=config),
            ]
        if set(args.kinds) >= set(layers):
            config = {"preset": args.preset, "estimate": "layers, without lm_head", "method": method}
            rows.append(
                Row(f"{method}, all blocks, {calibration.MOST_TOKENS} tokens", whole / 60, "min", config=config)
            )
    report(rows, args.out)
    return 0


def one_block(preset: str, kind: str, method: str, tokens: int) -> dict[str, float]:
    """Quantize one block of a preset; seconds per token and besides, and the peak memory of this process in bytes."""
    config = NemotronHConfig.from_dict(
        PRESETS[preset] | {"hybrid_override_pattern": {MAMBA: "M", ATTENTION: "*"}.get(kind, "-")}
    )
    rng = np.random.default_rng(0)
    weights = _random_layer(config, rng)
    sequences = [np.arange(PIECE)] * -(-tokens // PIECE)
    made = METHODS[method](config, sequences, 64)
    made.begin(lambda ids: rng.standard_normal((*ids.shape, config.hidden_size), dtype=np.float32))
    growing = [0.0]
    watched = [
        _watched(calibration.Moments, "of", growing),
        _watched(calibration.Activations, "inner", growing),
        _watched(calibration.Activations, "advance", growing),
    ]
    begun = time.perf_counter()
    made.layer(weights)
    whole = time.perf_counter() - begun
    for undo in watched:
        undo()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"per_token_s": growing[0] / (len(sequences) * PIECE), "fixed_s": whole - growing[0], "peak_rss": peak}


def _watched(owner: Any, name: str, seconds: list[float]) -> Callable[[], None]:
    """Add the time of a method's calls to seconds[0]; returns what undoes it."""
    before = owner.__dict__[name]
    call = before.__func__ if isinstance(before, staticmethod) else before

    def timed(*args: Any) -> Any:
        begun = time.perf_counter()
        try:
            return call(*args)
        finally:
            seconds[0] += time.perf_counter() - begun

    setattr(owner, name, staticmethod(timed) if isinstance(before, staticmethod) else timed)
    return lambda: setattr(owner, name, before)


def _random_layer(config: NemotronHConfig, rng: np.random.Generator) -> LayerWeights:
    """Layer 0 of the network with random weights."""
    matrices: dict[str, np.ndarray] = {}
    vectors: dict[str, np.ndarray] = {}
    for name, rows, cols, is_matrix in _shapes(config):
        if is_matrix:
            matrices[name] = rng.standard_normal((rows, cols), dtype=np.float32) / np.float32(cols**0.5)
        else:
            vectors[name] = np.ones((rows, cols) if cols > 1 else rows, dtype=np.float32)
    return LayerWeights(0, matrices, dict.fromkeys(matrices, 4), vectors)


def _shapes(config: NemotronHConfig) -> Iterator[tuple[str, int, int, bool]]:
    for t in artifact_tensors(config):
        if t.name.startswith("backbone.layers.0."):
            yield t.name, t.rows, t.cols, t.in_panels


def _in_a_process(args: argparse.Namespace, kind: str, method: str) -> dict[str, float]:
    say(f"{method}, {kind} block, {args.tokens} tokens")
    command = [sys.executable, "-m", "bench.calibration", "--alone", "--preset", args.preset, "--kinds", kind]
    command += ["--methods", method, "--tokens", str(args.tokens)]
    found: dict[str, float] = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
