"""Speed and memory of the native engine on one model, beside the limits of the machine and beside llama.cpp.

    python -m bench.engine                                              the model that ships, under a minute
    python -m bench.engine --model DIR --llama-bench PATH --gguf FILE   against llama.cpp on the same shapes

Ours and llama.cpp take turns, round by round, and figures are medians over the rounds. What a machine allows changes
from second to second where others share it, so the limits are measured before and after everything of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.quantize.artifact import read_artifact
from nano_agent_ros.resources import default_model

from .fresh import TURN, evict, fresh
from .harness import Row, add_out, report, say
from .limits import Limits, Work, measure
from .llama import LlamaRun, available, llama_bench
from .steps import copy_seconds, decode_seconds, prefill_seconds, state_path, states_at

PREFILL = (1, 4, 8, 16, 32, 128, 512)
DEPTHS = (0, 2048, 8192)
SHALLOW = 128  # what a token costs at the largest depth is compared with what it costs here
PEER_DECODES = 16
GIB = 2**30


def numbers(text: str) -> tuple[int, ...]:
    """Parse "1,4,8"."""
    return tuple(int(part) for part in text.split(",") if part)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.engine", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--model", type=Path, default=default_model(), metavar="DIR", help="artifact (default: what ships)")
    p.add_argument("--threads", type=int, default=0, help="0: one per physical core, at most 8")
    p.add_argument("--prefill", type=numbers, default=PREFILL, metavar="N,N,...", help="tokens at once")
    p.add_argument("--depths", type=numbers, default=DEPTHS, metavar="N,N,...", help="tokens before those decoded")
    p.add_argument("--prefix", type=int, default=1024, metavar="N", help="tokens of the prompt that a start finds")
    p.add_argument("--rounds", type=int, default=3, help="rounds of which the median is taken")
    p.add_argument("--budget", type=float, default=math.inf, metavar="S", help="begin no round after so many seconds")
    p.add_argument("--starts", type=int, default=3, help="warm starts of which the median is taken")
    p.add_argument("--states", type=Path, metavar="DIR", help="keep the states at the depths here and use them again")
    p.add_argument("--prepare", action="store_true", help="make the states and stop; with --states")
    p.add_argument("--llama-bench", type=Path, metavar="PATH", help="llama.cpp's llama-bench")
    p.add_argument("--gguf", type=Path, metavar="FILE", help="a model of the same shapes for it")
    p.add_argument("--peer-depth", type=int, default=0, metavar="N", help="llama.cpp decodes at this depth too, once")
    add_out(p)
    return p


@dataclass
class Timed:
    """Seconds of one kind of step, by round, and the least that the limits around each allowed."""

    tokens: int
    seconds: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Tokens per second, by round."""
        return [self.tokens / seconds for seconds in self.seconds]

    @property
    def share(self) -> float:
        """The median share of the limit."""
        return statistics.median(least / seconds for least, seconds in zip(self.least, self.seconds, strict=True))


@dataclass
class Seen:
    """What the rounds have measured: steps by number of tokens and by depth, limits, and the peer's runs."""

    prefill: dict[int, Timed]
    decode: dict[int, Timed]
    limits: list[Limits] = field(default_factory=list)
    peer: list[LlamaRun] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = parser().parse_args(arguments)
    if options.prepare and not options.states:
        parser().error("--prepare makes what --states DIR keeps; give both")
    with contextlib.ExitStack() as stack:
        folder = options.states or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = measured(options, folder)
    if rows:
        report(rows, options.out)


def measured(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Run everything; the states at the depths are kept in `folder`."""
    say(f"opening {options.model}")
    engine: Any = open_engine(options.model, "native", threads=options.threads)
    work = Work.of(read_artifact(options.model), engine.spec)
    config = {
        "model": options.model.name, "weights": work.body_macs + work.head_macs, "threads": engine.threads,
        "kernels": engine.kernels,
    }  # fmt: skip
    depths = sorted({*options.depths, *([SHALLOW] if max(options.depths) > SHALLOW else [])})
    states = states_at(engine, depths, folder)
    if options.prepare:
        fresh("start", options.model, folder, options.prefix, engine.threads)
        return []
    peer = options.llama_bench if available(options.llama_bench, options.gguf) else None
    seen = Seen({tokens: Timed(tokens) for tokens in options.prefill}, {depth: Timed(1) for depth in depths})
    begun = time.monotonic()
    for number in range(1, options.rounds + 1):
        if number > 1 and time.monotonic() - begun > options.budget:
            break
        config["rounds"] = number
        say(f"round {number} of {options.rounds}")
        seen.limits.append(measure(engine.threads, work.bytes_per_step(0)))
        for tokens, timed in seen.prefill.items():
            say(f"round {number}: prefill of {tokens}")
            timed.seconds.append(prefill_seconds(engine, tokens))
            timed.least.append(_least(seen, work, engine.threads, tokens, 0))
        for depth, timed in seen.decode.items():
            say(f"round {number}: decode after {depth}")
            timed.seconds.append(decode_seconds(engine, states[depth]))
            timed.least.append(_least(seen, work, engine.threads, 1, depth))
        if peer:
            say(f"round {number}: llama.cpp")
            seen.peer.append(llama_bench(peer, options.gguf, engine.threads, options.prefill, PEER_DECODES))
    if peer and options.peer_depth:
        say(f"llama.cpp: decode after {options.peer_depth}")
        seen.peer.append(llama_bench(peer, options.gguf, engine.threads, (), PEER_DECODES, options.peer_depth))
    copies = copy_seconds(engine, states[depths[-1]])
    rows = [*_speed(seen, config), *_copies(copies, len(states[depths[-1]].data), depths[-1], config)]
    threads = engine.threads
    del engine, states
    gc.collect()  # unmaps the weights, so that a cold start can be made
    return rows + _processes(options, folder, threads, seen, config)


def _least(seen: Seen, work: Work, threads: int, tokens: int, depth: int) -> float:
    """Measure the limits again; the least seconds that a step could take by the mean of those before and after it."""
    before = seen.limits[-1]
    seen.limits.append(after := measure(threads, work.bytes_per_step(0)))
    return (work.least_seconds(tokens, depth, before) + work.least_seconds(tokens, depth, after)) / 2


def _speed(seen: Seen, config: Mapping[str, Any]) -> list[Row]:
    bandwidths = [found.bandwidth / 1e9 for found in seen.limits]
    peaks = [found.int8_macs / 1e9 for found in seen.limits if found.int8_macs]
    rows = [Row("read bandwidth", statistics.median(bandwidths), "GB/s", config={**config, "runs": bandwidths})]
    if peaks:
        rows.append(Row("INT8 peak", statistics.median(peaks), "GMAC/s", config={**config, "runs": peaks}))
    for tokens, timed in seen.prefill.items():
        theirs = [run.prefill[tokens] for run in seen.peer if tokens in run.prefill]
        rows.append(_rate(f"prefill {tokens}", timed, theirs, seen, config))
    for depth, timed in seen.decode.items():
        theirs = [run.decode for run in seen.peer if run.depth == depth]
        rows.append(_rate(f"decode at {depth}", timed, theirs, seen, config))
    deepest = max(seen.decode)
    if deepest > SHALLOW:
        pairs = zip(seen.decode[deepest].seconds, seen.decode[SHALLOW].seconds, strict=True)
        cost = statistics.median(deep / shallow for deep, shallow in pairs)
        rows.append(Row(f"cost of a token at {deepest} / at {SHALLOW}", cost, "times", config=config))
    return rows


def _rate(name: str, timed: Timed, theirs: Sequence[float], seen: Seen, config: Mapping[str, Any]) -> Row:
    value = statistics.median(timed.rates)
    given = {**config, "runs": timed.rates, "peer_runs": list(theirs)}
    limit = value / timed.share
    if not theirs:
        return Row(name, value, "tokens/s", limit=limit, config=given)
    return Row(name, value, "tokens/s", value / statistics.median(theirs), seen.peer[0].peer, limit, given)


def _copies(
    copies: tuple[Sequence[float], Sequence[float]], nbytes: int, depth: int, config: Mapping[str, Any]
) -> list[Row]:
    given = {**config, "bytes": nbytes}
    named = zip(("snapshot", "restore"), copies, strict=True)
    return [Row(f"{name} at {depth}", 1e3 * statistics.median(times), "ms", config=given) for name, times in named]


def _processes(
    options: argparse.Namespace, folder: Path, threads: int, seen: Seen, config: Mapping[str, Any]
) -> list[Row]:
    """Starts and memory, each in a process of its own."""
    say("starts")
    fresh("start", options.model, folder, options.prefix, threads)  # leaves the state after the prompt on disk
    warm = [fresh("start", options.model, folder, options.prefix, threads) for _ in range(options.starts)]
    middle = sorted(warm, key=lambda run: run.seconds)[len(warm) // 2]
    held = evict([path for path in [*options.model.glob("*"), *folder.glob("*.state")] if path.is_file()])
    if held > 0.01:
        say(f"the cold start is not quite cold: {held:.0%} of the files could not be put out of memory")
    cold = fresh("start", options.model, folder, options.prefix, threads)
    given = {**config, "prefix_tokens": options.prefix, "turn_tokens": TURN}
    kept = {**given, "stages": cold.stages, "share_still_in_memory": round(held, 3)}
    rows = [
        Row("warm start to first token", middle.seconds, "s", config={**given, "stages": middle.stages}),
        Row("cold start to first token", cold.seconds, "s", config=kept),
    ]
    say("memory")
    most, deepest = max(options.prefill), max(options.depths)
    theirs = [run.peak_rss for run in seen.peer if run.depth == 0]
    young = fresh("prefill", options.model, "-", most, threads).peak_rss
    grown = fresh("resume", options.model, state_path(folder, deepest), TURN, threads).peak_rss
    ratio = young / statistics.median(theirs) if theirs else None
    peer = seen.peer[0].peer if theirs else None
    rows.append(Row(f"peak memory, prefill of {most}", young / GIB, "GiB", ratio, peer, config=config))
    rows.append(Row(f"peak memory, resumed at {deepest}", grown / GIB, "GiB", config=config))
    return rows


if __name__ == "__main__":
    main()
