"""The TensorRT engine on an NVIDIA GPU: built, held against the reference network, timed, beside llama.cpp.

    python -m bench.gpu                                                       the model that ships
    python -m bench.gpu --model DIR --llama-bench PATH --gguf FILE --out FILE.json

Without a GPU, or without TensorRT or pycuda, it says what is missing and ends with exit code 2.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.engine.tensorrt import cache, versions
from nano_agent_ros.engine.tensorrt.bindings import Bindings
from nano_agent_ros.engine.tensorrt.command import build_model
from nano_agent_ros.engine.tensorrt.runtime import Gpu, open_gpu
from nano_agent_ros.model.reference import EMBEDDINGS, HEAD, reference_logits
from nano_agent_ros.quantize.artifact import INT4, INT8, Artifact, read_artifact
from nano_agent_ros.resources import default_model

from .harness import Row, add_out, report, say, timed
from .llama import available, llama_bench

COMPARED = 64
DECODED = 128
PREFILL = (1, 16, 128, 512)
COPIED = 256 << 20


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--model", type=Path, default=default_model(), metavar="DIR", help="artifact (default: what ships)")
    p.add_argument("--precision", choices=("fp16", "bf16"), default="fp16", help="of activations")
    p.add_argument("--window", type=int, default=4096, metavar="W", help="recent tokens that attention sees")
    p.add_argument("--chunk", type=int, default=128, metavar="N", help="tokens of the largest step")
    p.add_argument("--package", choices=tuple(versions.PACKAGES), help="which TensorRT, if both are installed")
    p.add_argument("--cache", type=Path, metavar="DIR", help="folder of built engines (default: the user's cache)")
    p.add_argument("--llama-bench", type=Path, metavar="PATH", help="llama.cpp's llama-bench, built with CUDA")
    p.add_argument("--gguf", type=Path, metavar="FILE", help="a model of the same shapes for it")
    add_out(p)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, compare, measure; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        gpu = open_gpu()
        trt = versions.load(options.package)
        rows = measured(options, gpu, trt)
    except EngineError as e:
        print(f"bench.gpu: {e}", file=sys.stderr)
        return 2
    report(rows, options.out)
    return 0


def measured(options: argparse.Namespace, gpu: Gpu, trt: versions.TensorRT) -> list[Row]:
    """All figures of one model on one GPU."""
    artifact = read_artifact(options.model)
    built = cache.Options(window=options.window, chunk=options.chunk, precision=options.precision)
    config = {
        "model": options.model.name, "gpu": gpu.name, "capability": gpu.capability, "tensorrt": trt.name,
        "precision": options.precision, "window": options.window, "chunk": options.chunk,
    }  # fmt: skip
    build_s = _built(options, built, gpu, trt, artifact)
    free_before = gpu.run(gpu.driver.mem_get_info)[0]
    engine: Any = open_engine(
        options.model,
        "tensorrt",
        window=options.window,
        chunk=options.chunk,
        precision=options.precision,
        package=options.package,
        cache=options.cache,
    )
    state = engine.new_state()
    rows = [Row("build", build_s, "s", config=config)] if build_s else []
    rows += _compared(engine, artifact, config)

    say("timing")
    bandwidth = _copy_bandwidth(gpu)
    tokens = np.random.default_rng(0).integers(0, engine.vocab_size, 1024).tolist()
    engine.extend(state, tokens[:128])
    steps = iter(range(1 << 30))
    decode = timed(lambda: engine.extend(state, [tokens[next(steps) % 1024]]), DECODED, warm_up=16)
    needed = decode_bytes(artifact, built)
    rows.append(Row("copy bandwidth", bandwidth / 1e9, "GB/s", config=config))
    rows.append(Row("decode", 1 / decode.median, "tokens/s", limit=bandwidth / needed, config=config))
    for count in PREFILL:
        fed = timed(_prefill(engine, tokens[:count]), 5, warm_up=3)
        rows.append(Row(f"prefill {count}", count / fed.median, "tokens/s", config=config))
    engine.extend(state, tokens[:16])
    begun = time.perf_counter()
    engine.commit(state, 5)
    rows.append(Row("commit 5 of 16", 1e3 * (time.perf_counter() - begun), "ms", config=config))
    snapshot = timed(lambda: engine.snapshot(state), 5)
    rows.append(Row("snapshot", 1e3 * snapshot.median, "ms", config=config))
    held = engine.snapshot(state)
    rows.append(Row("restore", 1e3 * timed(lambda: engine.restore(held), 5).median, "ms", config=config))
    used = free_before - gpu.run(gpu.driver.mem_get_info)[0]
    rows.append(Row("GPU memory, engine and one state", used / 2**20, "MiB", config=config))
    return _beside_llama(options, rows)


def decode_bytes(artifact: Artifact, options: cache.Options) -> float:
    """Bytes that a step of one token must move: weights and scales, ssm and conv read and written, the ring read."""
    bits = {INT4: 4, INT8: 8}
    weights = sum(t.rows * t.cols * (bits[t.kind] / 8 + 2 / 64) for t in artifact.tensors if t.kind in bits)
    bindings = Bindings.of(artifact.config, options.ring)
    return weights + sum(2 * b.nbytes(1) for b in bindings.state) + sum(b.nbytes(1) for b in bindings.ring)


def _built(
    options: argparse.Namespace, built: cache.Options, gpu: Gpu, trt: versions.TensorRT, artifact: Artifact
) -> float:
    """Build the engines unless the cache has them; seconds, 0 if it had."""
    try:
        cache.find(trt, artifact, built, (gpu.name, gpu.capability), options.cache)
        return 0.0
    except EngineError as e:
        say(str(e))
    begun = time.perf_counter()
    build_model(options.model, built, package=options.package, out=options.cache, say=say)
    return time.perf_counter() - begun


def _compared(engine: Any, artifact: Artifact, config: dict[str, Any]) -> list[Row]:
    """Largest difference of logits to the float32 network on the dequantized weights, and share of equal choices."""
    say(f"computing the reference for {COMPARED} tokens")
    tokens = np.random.default_rng(1).integers(0, engine.vocab_size, COMPARED)

    def load(name: str) -> Any:
        return artifact.matrix(name) if name in (EMBEDDINGS, f"{HEAD}.weight") else artifact.tensor(name)

    expected = reference_logits(artifact.config, load, tokens[None])[0]
    state = engine.new_state()
    half = COMPARED // 2
    pieces = [engine.extend(state, tokens[:half].tolist(), every=True)]
    pieces += [engine.extend(state, [int(t)], every=True) for t in tokens[half:]]
    logits = np.concatenate(pieces)
    worst = float(np.abs(logits - expected).max() / expected.std())
    agreed = float(np.mean(logits.argmax(1) == expected.argmax(1)))
    return [
        Row("largest logit difference", worst, "of their std", config=config),
        Row("same first choice", 100 * agreed, "%", config=config),
    ]


def _copy_bandwidth(gpu: Gpu) -> float:
    """Bytes per second that a copy within GPU memory reads and writes."""

    def copies() -> float:
        driver = gpu.driver
        source, target = driver.mem_alloc(COPIED), driver.mem_alloc(COPIED)
        stream = driver.Stream()
        seconds = []
        for _ in range(10):
            begin, end = driver.Event(), driver.Event()
            begin.record(stream)
            driver.memcpy_dtod_async(target, source, COPIED, stream)
            end.record(stream)
            end.synchronize()
            seconds.append(begin.time_till(end) / 1e3)
        source.free()
        target.free()
        return 2 * COPIED / sorted(seconds)[len(seconds) // 2]

    return gpu.run(copies)


def _prefill(engine: Any, tokens: list[int]) -> Callable[[], None]:
    states = [engine.new_state()]

    def call() -> None:
        engine.extend(states[0], tokens)

    return call


def _beside_llama(options: argparse.Namespace, rows: list[Row]) -> list[Row]:
    """The rows with what llama.cpp reaches on the same GPU; llama-bench puts all layers on it unless told otherwise."""
    if not available(options.llama_bench, options.gguf):
        return rows
    prompts = [count for count in PREFILL if count > 1]
    peer = llama_bench(options.llama_bench, options.gguf, 1, prompts, DECODED)
    rates = {f"prefill {count}": rate for count, rate in peer.prefill.items()} | {"decode": peer.decode}
    ours = [
        Row(r.name, r.value, r.unit, r.value / rates[r.name], peer.peer, r.limit, r.config) if r.name in rates else r
        for r in rows
    ]
    theirs = [Row(f"{peer.peer}: {name}", rate, "tokens/s", config=rows[0].config) for name, rate in rates.items()]
    return ours + theirs


if __name__ == "__main__":
    sys.exit(main())
