"""From an artifact to serialized engines, with the optimization profiles, on a machine with or without a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.model.config import MAMBA
from nano_agent_ros.quantize.artifact import Artifact
from nano_agent_ros.quantize.grid import Quantized

from . import network
from .bindings import LOGITS, ROWS, Binding, Bindings
from .layers import TensorRTOps
from .ops import Weights
from .versions import TensorRT

PRECISIONS = {"fp16": "float16", "bf16": "bfloat16"}
DECODE, PREFILL = 0, 1  # the profiles of the step engine


@dataclass(frozen=True)
class ArtifactWeights:
    """The constants of the graph, read from an artifact one by one."""

    artifact: Artifact

    def has(self, name: str) -> bool:
        """Whether the artifact has the tensor."""
        return any(t.name == name for t in self.artifact.tensors)

    def quantized(self, name: str) -> Quantized:
        """Integers and scales of a matrix, out of its panels."""
        return self.artifact.matrix(name).quantized()

    def values(self, name: str) -> np.ndarray:
        """A tensor of floats."""
        return self.artifact.tensor(name)


@dataclass(frozen=True)
class Plans:
    """The serialized engines; `replay` is None for a network without Mamba layers."""

    step: bytes
    replay: bytes | None


@dataclass
class Progress:
    """Says what the builder does: phase, steps done of how many, time gone and, from the steps' pace, time left."""

    say: Callable[[str], None]
    title: str = ""
    every_s: float = 5.0

    def __post_init__(self) -> None:
        self._begun = self._said = time.monotonic()
        self._phases: dict[str, tuple[float, int]] = {}

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""
        self._phases[phase] = (time.monotonic(), steps)

    def phase_finish(self, phase: str) -> None:
        """A phase is over."""
        begun, _ = self._phases.pop(phase, (time.monotonic(), 0))
        if time.monotonic() - begun >= self.every_s:
            self._tell(f"{phase}: done")

    def step_complete(self, phase: str, step: int) -> None:
        """A step (from 0) of a phase is done."""
        begun, steps = self._phases.get(phase, (time.monotonic(), 0))
        now = time.monotonic()
        if now - self._said >= self.every_s:
            left = (now - begun) / (step + 1) * max(steps - step - 1, 0)
            self._tell(f"{phase}: {step + 1} of {steps}, about {left:.0f} s left in it")

    def _tell(self, text: str) -> None:
        self._said = time.monotonic()
        self.say(f"{self.title} {self._said - self._begun:5.0f} s  {text}")


def build_plans(
    trt: TensorRT,
    weights: Weights,
    bindings: Bindings,
    precision: str,
    gpus: Sequence[str] = (),
    timings: bytes = b"",
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Plans, bytes]:
    """Build and serialize the engines of a model; return them and the timing cache to store.

    `precision` is "fp16" or "bf16", `gpus` names compute capabilities (TensorRT for RTX only), `timings` is the timing
    cache of an earlier build. Raises EngineError.
    """
    half = PRECISIONS[precision]
    step, timings = _build(trt, weights, bindings, half, True, gpus, timings, say)
    if MAMBA not in bindings.config.layers:
        return Plans(step, None), timings
    replay, timings = _build(trt, weights, bindings, half, False, gpus, timings, say)
    return Plans(step, replay), timings


def define(trt: TensorRT, builder: Any, weights: Weights, bindings: Bindings, half: str, step: bool) -> tuple[Any, Any]:
    """The network definition of the step or the replay, and the ops that hold its constants."""
    definition = trt.create_network(builder)
    ops = TensorRTOps(trt, definition, weights, half)
    declared = bindings.step_inputs() if step else bindings.replay_inputs()
    inputs = {b.name: ops.input(b.name, b.dtype, b.shape) for b in declared}
    outputs = (network.step if step else network.replay)(ops, bindings, inputs)
    for binding in bindings.step_outputs() if step else bindings.next_state():
        ops.output(binding.name, outputs[binding.name])
    return definition, ops


def _build(
    trt: TensorRT,
    weights: Weights,
    bindings: Bindings,
    half: str,
    step: bool,
    gpus: Sequence[str],
    timings: bytes,
    say: Callable[[str], None],
) -> tuple[bytes, bytes]:
    title = "step" if step else "replay"
    progress = Progress(say, title)
    builder = trt.module.Builder(trt.module.Logger(trt.module.Logger.ERROR))
    if builder is None:
        raise EngineError(f"{trt.name} made no builder; is the NVIDIA driver installed?")
    config = builder.create_builder_config()
    trt.configure(config, gpus)
    known = trt.timing_cache(config, timings)
    trt.watch(config, progress)
    say(f"{title}: reading the weights and writing the network")
    definition, ops = define(trt, builder, weights, bindings, half, step)
    inputs = bindings.step_inputs() if step else bindings.replay_inputs()
    chunk = bindings.ring_size.chunk
    for most in (1, chunk) if step else (chunk,):
        config.add_optimization_profile(_profile(builder, inputs, most))
    say(f"{title}: {definition.num_layers} layers; building")
    plan = builder.build_serialized_network(definition, config)
    del ops, definition  # the weights, before the plan is copied
    if plan is None:
        raise EngineError(f"{trt.name} could not build the {title} engine; its message stands above")
    return bytes(plan), known()


def _profile(builder: Any, inputs: tuple[Binding, ...], most: int) -> Any:
    """T from 1 to `most`, best at `most`; logits are mostly wanted of one row."""
    profile = builder.create_optimization_profile()
    for binding in inputs:
        low, best, high = (
            tuple(count if n == -1 else n for n in binding.shape)
            for count in (1, 1 if binding.name == ROWS else most, most)
        )
        profile.set_shape(binding.name, low, best, high)
    return profile


__all__ = ["DECODE", "LOGITS", "PREFILL", "PRECISIONS", "ArtifactWeights", "Plans", "build_plans", "define"]
