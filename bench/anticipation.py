"""What it saves to read words while they are still being said: from the last word's transcript to the action.

    python -m bench.anticipation                             the model that ships
    python -m bench.anticipation --model DIR --forced        random weights: the replies are fixed

The commands of bench.command_latency are heard four times over: with nothing read ahead; with the words that two
partial transcripts agree on, one of them a second (the last two words are then still open); with those words but a
fact that changes at the end, which makes them worthless; and with the whole text, as it is known in the pause that ends
an utterance. Every way must give the same replies, or the benchmark fails. What is read ahead is read while somebody
speaks; it is shown beside. Transcription is not part of this.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

from nano_agent_ros.agent import Agent, Turn
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills

from .command_latency import spread
from .conversation import Script
from .harness import Row, add_out, report, say
from .scripted_model import Forced, add_options, open_model

WORDS_PER_S = 2.5  # of somebody who gives orders
OPEN = 2  # words at the end that are not stable yet
NOTHING, STABLE, CHANGED, WHOLE = "nothing", "stable words", "stable words, a fact changes", "the whole text"
WAYS = (NOTHING, STABLE, CHANGED, WHOLE)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.anticipation", description=(__doc__ or "").split("\n")[0])
    add_options(p, 25)
    add_out(p)
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = parser().parse_args(arguments)
    talk, model, forced = open_model(options)
    engine: Any = model.engine
    skills, site = Skills.load(default_skills()), Site.load("warehouse")
    config = {"model": options.model.name, "threads": engine.threads, "turns": options.turns, "forced": options.forced}
    rows: list[Row] = []
    without: list[Turn] = []
    for counts, way in ((False, NOTHING), *((True, way) for way in WAYS)):
        say(f"anticipated: {way}" if counts else "warming up")
        # One that has learnt no replies to guess from.
        agent = Agent(model, skills, site, min_confidence=0.0, max_overheard=1.0)
        turns, ahead_s = converse(agent, talk, way, forced)
        if not counts:
            continue
        if way == NOTHING:
            without = turns
        if [(t.kind, t.actions, t.reply) for t in turns] != [(t.kind, t.actions, t.reply) for t in without]:
            raise SystemExit(f"bench.anticipation: with {way} anticipated the replies are others")
        rows += way_rows(way, turns, without, ahead_s, config)
    report(rows, options.out)


def converse(agent: Agent, talk: Script, way: str, forced: Forced | None) -> tuple[list[Turn], list[float]]:
    """Say every command; the turns, and the seconds that each reading ahead took."""
    turns, ahead_s = [], []
    facts = {"battery": 50} if way == CHANGED else {}  # that are not told in the end
    for turn in talk.turns:
        if forced:
            forced.announce(turn)
        for text, complete in partials(turn.say, way):
            begun = time.perf_counter()
            agent.anticipate(text, facts, complete)
            ahead_s.append(time.perf_counter() - begun)
        turns.append(agent.hear(turn.say))
    return turns, ahead_s


def partials(text: str, way: str) -> list[tuple[str, bool]]:
    """What is anticipated of a command while it is said, and whether it is complete."""
    words = text.split()
    if way == NOTHING:
        return []
    ends = [round(WORDS_PER_S * second) for second in range(2, int(len(words) / WORDS_PER_S) + 1)]
    stable = [(" ".join(words[: end - OPEN]), False) for end in ends if end > OPEN]
    return [*stable, (text, True)] if way == WHOLE else stable


def way_rows(
    way: str, turns: Sequence[Turn], without: Sequence[Turn], ahead_s: Sequence[float], config: dict[str, Any]
) -> list[Row]:
    """Time of the turns and of their prefill, beside those with nothing anticipated, and what was anticipated."""
    rows = []
    for stage in ("total", "prefill"):
        peer = [turn.timings[stage] for turn in without] if way != NOTHING else []
        shown = spread(f"{stage}, {way}", [turn.timings[stage] for turn in turns], config, peer)
        rows += [
            Row(r.name, r.value, r.unit, r.ratio, NOTHING if peer and r.ratio else None, config=config) for r in shown
        ]
    count = statistics.mean(turn.tokens["anticipated"] for turn in turns)
    rows.append(Row(f"anticipated of a turn, {way}", count, "tokens", config=config))
    if ahead_s:
        rows += spread(f"one reading ahead, {way}", ahead_s, config)
    return rows


if __name__ == "__main__":
    main()
