"""What `nano-agent build MODEL --engine tensorrt` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.quantize.artifact import read_artifact

from . import cache, versions
from .bindings import Bindings
from .build import ArtifactWeights, build_plans
from .runtime import open_gpu


def build_model(
    model: str | Path,
    options: cache.Options,
    gpus: Sequence[str] = (),
    package: str | None = None,
    out: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Build the engines of an artifact folder, put them into the cache (or `out`), and return their folder.

    TensorRT builds for the GPU of this machine; TensorRT for RTX for all that it supports, or for `gpus` ("sm86", …),
    and needs none. Raises EngineError.
    """
    begun = time.monotonic()
    artifact = read_artifact(model)
    trt = versions.load(package)
    if trt.portable:
        built_for = [g.lower() for g in gpus] or [cache.ANY_GPU]
        timings_of = built_for[0]
    else:
        if gpus:
            raise EngineError(f"{trt.name} builds for the GPU of this machine only; leave --gpu out")
        gpu = open_gpu()
        built_for, timings_of = [gpu.name], gpu.name
    say(f"building {model} with {trt.name} for {', '.join(built_for)}: {options}")
    bindings = Bindings.of(artifact.config, options.ring)
    timings = cache.read_timings(trt, timings_of, out)
    plans, timings = build_plans(
        trt, ArtifactWeights(artifact), bindings, options.precision, gpus if trt.portable else (), timings, say
    )
    cache.write_timings(trt, timings_of, timings, out)
    folder = cache.store(trt, artifact, options, built_for, plans, out)
    nbytes = len(plans.step) + len(plans.replay or b"")
    say(f"{folder}: {nbytes / 1e6:.1f} MB in {time.monotonic() - begun:.0f} s")
    return folder
