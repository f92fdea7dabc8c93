"""What turn 1, 2, ... 200 of one conversation cost: the state kept, against reading the whole history again.

    python -m bench.turns [--png FILE.png]                              the model that ships, real commands
    python -m bench.turns --model DIR --turns 20 --every 5              a larger one
    python -m bench.turns --llama-server PATH --gguf FILE ...           llama.cpp's server with its prompt cache as well

Replies are fixed, so that every side does the same work: a turn reads what is new (or everything), then goes over the
reply token by token. Reading again begins after the system prompt, whose state both sides have.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import Engine, Snapshot
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.resources import default_model

from .conversation import Script, script
from .fresh import CHUNK
from .harness import Row, add_out, report, say
from .llama import available
from .server import LlamaServer

SHOWN = (1, 10, 50, 100, 200)
KEPT, READ_AGAIN, PEER = "state kept", "history read again", "llama.cpp server, prompt cache"


@dataclass(frozen=True)
class TurnCost:
    """Seconds of one turn until its reply begins, and until it is complete; `read` tokens were gone over before."""

    turn: int
    first_token: float
    whole: float
    read: int


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.turns", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--model", type=Path, default=default_model(), metavar="DIR", help="artifact (default: what ships)")
    p.add_argument("--words", type=Path, default=default_model(), metavar="DIR", help="tokenizer and chat template")
    p.add_argument("--threads", type=int, default=0, help="0: one per physical core, at most 8")
    p.add_argument("--turns", type=int, default=200)
    p.add_argument("--every", type=int, default=10, metavar="N", help="read the history again at each N-th turn only")
    p.add_argument("--repeats", type=int, default=3, help="runs of which each turn's median is taken")
    p.add_argument("--llama-server", type=Path, metavar="PATH", help="llama.cpp's llama-server")
    p.add_argument("--gguf", type=Path, metavar="FILE", help="a model of the same shapes for it")
    p.add_argument("--png", type=Path, metavar="FILE.png", help="draw the costs (needs matplotlib)")
    add_out(p)
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON and the picture."""
    options = parser().parse_args(arguments)
    talk = script(options.words, options.turns)
    say(f"opening {options.model}")
    engine: Any = open_engine(options.model, "native", threads=options.threads)
    say("the system prompt is read")
    start = _after(engine, engine.new_state(), talk.prefix)
    again = sorted({t for t in SHOWN if t <= options.turns} | {*range(options.every, options.turns + 1, options.every)})
    kept, read = [], []
    for _ in range(options.repeats):  # by turns, so that what else the machine does hits both
        kept.append(keep_state(engine, start, talk))
        read.append(read_again(engine, start, talk, again))
    costs = {KEPT: middle(kept), READ_AGAIN: middle(read)}
    if available(options.llama_server, options.gguf, "--llama-server"):
        costs[PEER] = serve(options, talk, engine.threads)
    config = {"model": options.model.name, "threads": engine.threads, "prefix_tokens": len(talk.prefix)}
    config["repeats"] = options.repeats
    report(rows_of(costs, config), options.out)
    if options.png:
        draw(costs, options.png, f"{options.model.name}, {engine.threads} threads")


def keep_state(engine: Engine, start: Snapshot, talk: Script) -> list[TurnCost]:
    """Every turn extends the state by its own tokens."""
    state = engine.restore(start)
    costs = []
    for number, turn in enumerate(talk.turns, 1):
        if number % 50 == 1:
            say(f"{KEPT}: turn {number} of {len(talk.turns)}")
        begun = time.perf_counter()
        engine.extend(state, turn.prompt).argmax()
        first = time.perf_counter()
        for token in turn.answer:
            engine.extend(state, [token]).argmax()
        costs.append(TurnCost(number, first - begun, time.perf_counter() - begun, len(turn.prompt)))
    return costs


def read_again(engine: Engine, start: Snapshot, talk: Script, turns: Sequence[int]) -> list[TurnCost]:
    """Each of these turns begins at the system prompt and reads all that was said since."""
    costs = []
    for number in turns:
        say(f"{READ_AGAIN}: turn {number}")
        history = talk.history(number)
        state: Any = engine.restore(start)
        begun = time.perf_counter()
        for at in range(0, len(history), CHUNK):
            engine.extend(state, history[at : at + CHUNK]).argmax()
        first = time.perf_counter()
        for token in talk.turns[number - 1].answer:
            engine.extend(state, [token]).argmax()
        costs.append(TurnCost(number, first - begun, time.perf_counter() - begun, len(history)))
    return costs


def middle(runs: Sequence[Sequence[TurnCost]]) -> list[TurnCost]:
    """Of several runs over the same turns, the one of each turn that took the median time."""
    together = (sorted(costs, key=lambda cost: cost.whole) for costs in zip(*runs, strict=True))
    return [costs[len(costs) // 2] for costs in together]


def serve(options: argparse.Namespace, talk: Script, threads: int) -> list[TurnCost]:
    """llama-server is sent the whole conversation each time and finds in its cache what it can.

    Its own reply goes into the history, as long as the scripted one, so that the cache fits as well as it may.
    """
    costs = []
    room = len(talk.prefix) + sum(len(t.prompt) + len(t.answer) for t in talk.turns) + 64
    with LlamaServer(options.llama_server, options.gguf, threads, room) as server:
        said = list(talk.prefix)
        say("llama.cpp: the system prompt is read")
        server.complete(said, 1)
        for number, turn in enumerate(talk.turns, 1):
            say(f"{PEER}: turn {number} of {len(talk.turns)}")
            said += turn.prompt
            answer, whole = server.timed(said, len(turn.answer), ignore_eos=True)
            timings = answer["timings"]
            costs.append(TurnCost(number, timings["prompt_ms"] / 1e3, whole, timings["prompt_n"]))
            said += answer["tokens"]
    return costs


def slope(costs: Sequence[TurnCost]) -> tuple[float, float]:
    """Least squares over three turns or more: milliseconds that each costs more than the one before it, and half the
    95 % interval of that."""
    x = np.array([c.turn for c in costs], dtype=float)
    y = np.array([1e3 * c.whole for c in costs])
    (gradient, _), covariance = np.polyfit(x, y, 1, cov="unscaled")
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(gradient), float(1.96 * np.sqrt(covariance[0, 0] * np.sum(residual**2) / (len(x) - 2)))


def rows_of(costs: Mapping[str, Sequence[TurnCost]], config: Mapping[str, Any]) -> list[Row]:
    """Some turns of each way beside those with the state kept (a median of five around them), and the slopes."""
    kept = {c.turn: c for c in costs[KEPT]}
    rows = []
    for way, all_of in costs.items():
        at = {c.turn: c for c in all_of}
        for turn in (t for t in SHOWN if t in at):
            around = [kept[t].whole for t in range(turn - 2, turn + 3) if t in kept]
            value = 1e3 * (statistics.median(around) if way == KEPT else at[turn].whole)
            ratio = None if way == KEPT else value / 1e3 / statistics.median(around)
            given = {**config, "tokens_read": at[turn].read, "first_token_ms": 1e3 * at[turn].first_token}
            rows.append(Row(f"turn {turn}, {way}", value, "ms", ratio, None if ratio is None else KEPT, config=given))
        if len(all_of) < 3:
            continue
        gradient, interval = slope(all_of)
        series = [(c.turn, c.read, round(1e3 * c.first_token, 3), round(1e3 * c.whole, 3)) for c in all_of]
        given = {**config, "interval_95": interval, "series": series, "columns": "turn, tokens read, ms to first, ms"}
        rows.append(Row(f"each turn more, {way}", gradient, "ms", config=given))
    return rows


def draw(costs: Mapping[str, Sequence[TurnCost]], path: Path, title: str) -> None:
    """Cost by turn, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 3.6), dpi=150, layout="constrained")
    colours = {KEPT: "#0b6e4f", READ_AGAIN: "#c8553d", PEER: "#4a5a8a"}
    for way, all_of in costs.items():
        marks = "-" if way == KEPT else "o-"
        axes.plot(
            [c.turn for c in all_of], [1e3 * c.whole for c in all_of], marks, color=colours[way], label=way,
            linewidth=1.6, markersize=3.5,
        )  # fmt: skip
    axes.set(xlabel="turn of the conversation", ylabel="time of the turn (ms)", title=title)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _after(engine: Engine, state: Any, tokens: Sequence[int]) -> Snapshot:
    for at in range(0, len(tokens), CHUNK):
        engine.extend(state, tokens[at : at + CHUNK])
    return engine.snapshot(state)


if __name__ == "__main__":
    main()
