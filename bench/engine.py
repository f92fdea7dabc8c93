"""Speed and memory of the native engine on one model, beside the limits of the machine and beside llama.cpp.

    python -m bench.engine                                              the model that ships, under a minute
    python -m bench.engine --model DIR --llama-bench PATH --gguf FILE   against llama.cpp on the same shapes

The limits, ours and llama.cpp take turns, round by round; the figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import tempfile
from collections import defaultdict
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
    p.add_argument("--starts", type=int, default=3, help="warm starts of which the median is taken")
    p.add_argument("--states", type=Path, metavar="DIR", help="keep the states at the depths here and use them again")
    p.add_argument("--prepare", action="store_true", help="make the states and stop; with --states")
    p.add_argument("--llama-bench", type=Path, metavar="PATH", help="llama.cpp's llama-bench")
    p.add_argument("--gguf", type=Path, metavar="FILE", help="a model of the same shapes for it")
    p.add_argument("--peer-depth", type=int, default=0, metavar="N", help="llama.cpp decodes at this depth too, once")
    add_out(p)
    return p


@dataclass
class Seen:
    """What the rounds have measured: seconds by number of tokens and by depth, limits, and the peer's runs."""

    prefill: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    decode: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    limits: list[Limits] = field(default_factory=list)
    peer: list[LlamaRun] = field(default_factory=list)

    @property
    def allowed(self) -> Limits:
        """The limits, medians over the rounds."""
        peaks = [found.int8_macs for found in self.limits if found.int8_macs]
        return Limits(
            statistics.median(found.bandwidth for found in self.limits), statistics.median(peaks) if peaks else None
        )


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
        "kernels": engine.kernels, "rounds": options.rounds,
    }  # fmt: skip
    depths = sorted({*options.depths, *([SHALLOW] if max(options.depths) > SHALLOW else [])})
    states = states_at(engine, depths, folder)
    if options.prepare:
        fresh("start", options.model, folder, options.prefix, engine.threads)
        return []
    peer = options.llama_bench if available(options.llama_bench, options.gguf) else None
    seen = Seen()
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}: limits of the machine")
        seen.limits.append(measure(engine.threads, work.bytes_per_step(0)))
        for tokens in options.prefill:
            say(f"round {number}: prefill of {tokens}")
            seen.prefill[tokens].append(prefill_seconds(engine, tokens))
        for depth in depths:
            say(f"round {number}: decode after {depth}")
            seen.decode[depth].append(decode_seconds(engine, states[depth]))
        if peer:
            say(f"round {number}: llama.cpp")
            seen.peer.append(llama_bench(peer, options.gguf, engine.threads, options.prefill, PEER_DECODES))
    if peer and options.peer_depth:
        say(f"llama.cpp: decode after {options.peer_depth}")
        seen.peer.append(llama_bench(peer, options.gguf, engine.threads, (), PEER_DECODES, options.peer_depth))
    copies = copy_seconds(engine, states[depths[-1]])
    rows = [*_speed(seen, work, config), *_copies(copies, len(states[depths[-1]].data), depths[-1], config)]
    threads = engine.threads
    del engine, states
    gc.collect()  # unmaps the weights, so that a cold start can be made
    return rows + _processes(options, folder, threads, seen, config)


def _speed(seen: Seen, work: Work, config: Mapping[str, Any]) -> list[Row]:
    allowed = seen.allowed
    rows = [Row("read bandwidth", allowed.bandwidth / 1e9, "GB/s", config=dict(config))]
    rows[0].config["runs"] = [found.bandwidth / 1e9 for found in seen.limits]  # type: ignore[index]
    if allowed.int8_macs:
        rows.append(Row("INT8 peak", allowed.int8_macs / 1e9, "GMAC/s", config=config))
    for tokens, times in seen.prefill.items():
        theirs = [run.prefill[tokens] for run in seen.peer if tokens in run.prefill]
        most = tokens / work.least_seconds(tokens, 0, allowed)
        rows.append(_rate(f"prefill {tokens}", [tokens / t for t in times], theirs, most, seen, config))
    for depth, times in seen.decode.items():
        theirs = [run.decode for run in seen.peer if run.depth == depth]
        most = 1 / work.least_seconds(1, depth, allowed)
        rows.append(_rate(f"decode at {depth}", [1 / t for t in times], theirs, most, seen, config))
    deepest = max(seen.decode)
    if deepest > SHALLOW:
        cost = statistics.median(seen.decode[deepest]) / statistics.median(seen.decode[SHALLOW])
        rows.append(Row(f"cost of a token at {deepest} / at {SHALLOW}", cost, "times", config=config))
    return rows


def _rate(
    name: str, rates: Sequence[float], theirs: Sequence[float], most: float, seen: Seen, config: Mapping[str, Any]
) -> Row:
    value = statistics.median(rates)
    given = {**config, "runs": list(rates), "peer_runs": list(theirs)}
    if not theirs:
        return Row(name, value, "tokens/s", limit=most, config=given)
    return Row(name, value, "tokens/s", value / statistics.median(theirs), seen.peer[0].peer, most, given)


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
