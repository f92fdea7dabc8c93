"""From the end of a command's text to the action, over a scripted conversation in a warehouse, by stage.

    python -m bench.command_latency                                        the model that ships
    python -m bench.command_latency --model DIR --forced                   random weights: the replies are fixed
    python -m bench.command_latency ... --llama-server PATH --gguf FILE    llama.cpp says as much

Text goes in, so there is no stage for the end of speech and for recognition; publishing needs ROS. With `--forced` the
engine does all its work and its logits are then bent towards the scripted reply, which the grammar lets through as it
would another. llama-server has its prompt cache on and is timed twice: free, at the scripted reply's number of tokens
(what its own reply adds to the history is what its cache holds), and with the scripted reply as its grammar.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.agent import Agent, Turn
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills

from .conversation import Script
from .harness import Row, add_out, report, say
from .llama import available
from .scripted_model import Forced, add_options, open_model
from .server import LlamaServer
from .turns import TurnCost, slope

TURNS = 50
STAGES = ("prompt", "prefill", "decode", "ground", "total")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.command_latency", description=(__doc__ or "").split("\n")[0])
    add_options(p, TURNS)
    p.add_argument("--llama-server", type=Path, metavar="PATH", help="llama.cpp's llama-server")
    p.add_argument("--gguf", type=Path, metavar="FILE", help="a model of the same shapes for it")
    p.add_argument("--peer-turns", type=int, metavar="N", help="so many turns of llama.cpp at most")
    p.add_argument("--peer-budget", type=float, default=math.inf, metavar="S", help="and none begins after so long")
    add_out(p)
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = parser().parse_args(arguments)
    talk, model, forced = open_model(options)
    engine: Any = model.engine
    agent = Agent(model, Skills.load(default_skills()), Site.load("warehouse"), min_confidence=0.0, max_overheard=1.0)
    turns = converse(agent, talk, forced)
    config = {
        "model": options.model.name, "threads": engine.threads, "turns": options.turns, "forced": options.forced,
        "prefix_tokens": len(talk.prefix), "acted": sum(turn.kind == "act" for turn in turns),
    }  # fmt: skip
    rows = stage_rows(turns, config)
    if available(options.llama_server, options.gguf, "--llama-server"):
        rows += peer_rows(options, talk, engine.threads, turns, config)
    report(rows, options.out)


def converse(agent: Agent, talk: Script, forced: Forced | None) -> list[Turn]:
    """Say every command of the script; what the agent made of it, with its timings."""
    heard = []
    for number, turn in enumerate(talk.turns, 1):
        if number % 10 == 1:
            say(f"turn {number} of {len(talk.turns)}")
        if forced:
            forced.announce(turn)
        heard.append(agent.hear(turn.say))
    return heard


def spread(name: str, seconds: Sequence[float], config: dict[str, Any], peer: Sequence[float] = ()) -> list[Row]:
    """Median, 95th percentile and maximum in milliseconds; beside a peer's median, how many times that is ours."""
    p50, p95, most = (1e3 * float(np.percentile(seconds, q)) for q in (50, 95, 100))
    ratio = p50 / 1e3 / statistics.median(peer) if len(peer) else None
    return [
        Row(f"{name}, p50", p50, "ms", ratio, "nano_agent_ros" if len(peer) else None, config=config),
        Row(f"{name}, p95", p95, "ms", config=config),
        Row(f"{name}, max", most, "ms", config=config),
    ]


def stage_rows(turns: Sequence[Turn], config: dict[str, Any]) -> list[Row]:
    """Our stages, what the turns consist of, and whether they grow."""
    rows = []
    for stage in STAGES:
        rows += spread(stage, [turn.timings.get(stage, 0.0) for turn in turns], config)
    for count in ("prompt", "reply", "steps"):
        rows.append(Row(f"{count} of a turn", statistics.mean(turn.tokens.get(count, 0) for turn in turns),
                        "steps" if count == "steps" else "tokens", config=config))  # fmt: skip
    costs = [TurnCost(i, 0.0, turn.timings["total"], 0) for i, turn in enumerate(turns, 1)]
    return rows + _slope_row("each turn more", costs, config)


def peer_rows(
    options: argparse.Namespace, talk: Script, threads: int, ours: Sequence[Turn], config: dict[str, Any]
) -> list[Row]:
    """The same commands to llama-server, without a grammar and with one."""
    rows = []
    own = [turn.timings["total"] for turn in ours]
    for name, grammar in (("llama.cpp", False), ("llama.cpp, grammar", True)):
        costs = serve(options, talk, threads, grammar)
        config = {**config, "peer_turns": len(costs)}
        rows += spread(name, [cost.whole for cost in costs], config, own)
        rows.append(Row(f"{name}: tokens read", statistics.mean(c.read for c in costs), "tokens", config=config))
        rows += _slope_row(f"{name}: each turn more", costs, config)
    return rows


def serve(options: argparse.Namespace, talk: Script, threads: int, grammar: bool) -> list[TurnCost]:
    """Costs of the turns on a fresh server that is sent the whole conversation each time."""
    room = len(talk.prefix) + sum(len(turn.prompt) + 2 * len(turn.answer) + 64 for turn in talk.turns)
    costs = []
    with LlamaServer(options.llama_server, options.gguf, threads, room) as server:
        said = list(talk.prefix)
        server.complete(said, 1)
        begun = time.monotonic()
        for number, turn in enumerate(talk.turns[: options.peer_turns], 1):
            if time.monotonic() - begun > options.peer_budget:
                break
            say(f"llama.cpp{', grammar' * grammar}: turn {number} of {len(talk.turns)}")
            said += turn.prompt
            if grammar:
                more = {"grammar": f"root ::= {json.dumps(turn.reply)}"}
                answer, seconds = server.timed(said, 4 * len(turn.answer), **more)
            else:
                answer, seconds = server.timed(said, len(turn.answer), ignore_eos=True)
            costs.append(TurnCost(number, answer["timings"]["prompt_ms"] / 1e3, seconds, answer["timings"]["prompt_n"]))
            said += answer["tokens"]
    return costs


def _slope_row(name: str, costs: Sequence[TurnCost], config: dict[str, Any]) -> list[Row]:
    if len(costs) < 3:
        return []
    gradient, interval = slope(costs)
    series = [round(1e3 * cost.whole, 3) for cost in costs]
    return [Row(name, gradient, "ms", config={**config, "interval_95": interval, "series_ms": series})]


if __name__ == "__main__":
    main()
