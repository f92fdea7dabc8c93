"""The matrix product by itself at the 4B's layer shapes: share of the memory's bandwidth and of the INT8 peak.

    python -m bench.kernels [--threads 2] [--kernels auto] [--out FILE.json]

Decode reads every weight once, so it is held against the read bandwidth; prefill against the peak of INT8 dot products.
Both limits are measured in the same run (nano_probe.h), since on shared machines they move.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics

from bench.harness import Row, add_out, report, say
from bench.limits import int8_peak, read_bandwidth
from nano_agent_ros.engine.native_library import load_library

# rows, cols of Nemotron 3 Nano 4B
SHAPES = {
    "in_proj": (17504, 3136), "out_proj": (3136, 7680), "up_proj": (12544, 3136), "down_proj": (3136, 12544),
    "q_proj": (5120, 3136), "o_proj": (3136, 5120),
}  # fmt: skip
BLOCK_BYTES = {4: 544, 8: 1056}
BEYOND_CACHES = 400 << 20  # bytes of weights that a pass goes over, so that they come from memory


def time_linear(kernels: str, bits: int, shape: tuple[int, int], tokens: int, threads: int) -> float:
    """Median seconds of one product at `tokens` tokens."""
    rows, cols = shape
    nbytes = -(-rows // 16) * (cols // 64) * BLOCK_BYTES[bits]
    count = max(1, BEYOND_CACHES // nbytes) if tokens < 64 else 2
    seconds = (ctypes.c_double * 5)()
    sizes = [ctypes.c_int64(n) for n in (bits, rows, cols, count, tokens, threads, 5)]
    if load_library().nano_kernel_time_linear(kernels.encode(), *sizes, seconds) != 0:
        raise SystemExit(f"kernel set {kernels} is not for this processor, or memory is short")
    return statistics.median(seconds) / count


def measure(kernels: str, threads: int, quick: bool) -> list[Row]:
    """The figures; `quick`: of one layer only."""
    rows = []

    def add(name: str, rate: float, unit: str, limit: float | None, bits: int, tokens: int) -> None:
        config = {"layer": name, "bits": bits, "tokens": tokens, "threads": threads, "kernels": kernels}
        limit = limit / 1e9 if limit else None
        rows.append(Row(f"{name} INT{bits}, tokens {tokens}", rate / 1e9, unit, limit=limit, config=config))
        say(f"{rows[-1].name}: {rate / 1e9:.1f} {unit}" + (f" of {limit:.1f}" if limit else ""))

    height, width = SHAPES["in_proj"]
    for bits, tokens in [(4, 1), (8, 1), (4, 4), (4, 8), (4, 11)]:
        bandwidth = read_bandwidth(threads, BEYOND_CACHES)
        seconds = time_linear(kernels, bits, (height, width), tokens, threads)
        add("in_proj", height // 16 * (width // 64) * BLOCK_BYTES[bits] / seconds, "GB/s", bandwidth, bits, tokens)
    for name in ["in_proj"] if quick else list(SHAPES):
        for tokens in (128, 512):
            peak = int8_peak(threads)
            seconds = time_linear(kernels, 4, SHAPES[name], tokens, threads)
            add(name, SHAPES[name][0] * SHAPES[name][1] * tokens / seconds, "GMAC/s", peak, 4, tokens)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kernels", default="auto", help="kernel set: auto, avx512, avxvnni, avx2, neon or portable")
    parser.add_argument("--quick", action="store_true", help="one shape only")
    add_out(parser)
    options = parser.parse_args()
    report(measure(options.kernels, options.threads, options.quick), options.out)


if __name__ == "__main__":
    main()
