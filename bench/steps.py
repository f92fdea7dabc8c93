"""Timing of single steps of an engine: prefill, decode after many tokens, copies of the state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nano_agent_ros.engine.base import Engine, EngineError, Snapshot
from nano_agent_ros.state.snapshot_file import StateFileError, read_snapshot, write_snapshot

from .fresh import CHUNK, words
from .harness import say

ENOUGH_S = 0.25  # what is quicker is repeated until this much has been measured
MOST_REPEATS = 50
MOST_DECODED = 64


def states_at(engine: Engine, depths: Sequence[int], folder: Path) -> dict[int, Snapshot]:
    """The states after so many tokens of one conversation; kept in the folder, and read from there if they are this
    model's."""
    found = {depth: _kept(engine, state_path(folder, depth)) for depth in depths}
    state: Any = engine.new_state()
    for depth in sorted(depths):
        if (snapshot := found[depth]) is None:
            say(f"a conversation of {depth} tokens is made")
            ids = words(depth)
            for at in range(engine.length(state), depth, CHUNK):
                engine.extend(state, ids[at : min(at + CHUNK, depth)])
            found[depth] = snapshot = engine.snapshot(state)
            write_snapshot(state_path(folder, depth), snapshot, {"depth": depth}, sync=False)
        else:
            state = engine.restore(snapshot)
    return {depth: snapshot for depth, snapshot in found.items() if snapshot is not None}


def state_path(folder: Path, depth: int) -> Path:
    """Where the state after `depth` tokens is kept."""
    return folder / f"depth-{depth}.state"


def prefill_seconds(engine: Engine, tokens: int) -> float:
    """Median seconds to extend a conversation that has just begun by so many tokens."""
    ids = words(tokens)

    def once() -> float:
        state = engine.new_state()
        engine.extend(state, words(1))  # touches the memory of the state
        return _seconds(lambda: engine.extend(state, ids))

    return _repeated(once)


def decode_seconds(engine: Engine, snapshot: Snapshot) -> float:
    """Mean seconds per token of a run of single tokens after the snapshot, the largest logit looked for each time."""
    state = engine.restore(snapshot)
    for token in words(2):
        engine.extend(state, [token]).argmax()
    begun, count = time.perf_counter(), 0
    while count < MOST_DECODED and (count < 8 or time.perf_counter() - begun < ENOUGH_S * 4):
        engine.extend(state, words(1)).argmax()
        count += 1
    return (time.perf_counter() - begun) / count


def copy_seconds(engine: Engine, snapshot: Snapshot) -> tuple[list[float], list[float]]:
    """Seconds of taking a snapshot of such a state, and of restoring it, five times each."""
    state = engine.restore(snapshot)
    taken = [_seconds(lambda: engine.snapshot(state)) for _ in range(5)]
    return taken, [_seconds(lambda: engine.restore(snapshot)) for _ in range(5)]


def _repeated(once: Callable[[], float]) -> float:
    times: list[float] = []
    while not times or (sum(times) < ENOUGH_S and len(times) < MOST_REPEATS):
        times.append(once())
    return sorted(times)[len(times) // 2]


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _kept(engine: Engine, path: Path) -> Snapshot | None:
    if not path.exists():
        return None
    try:
        snapshot = read_snapshot(path)[0]
        engine.restore(snapshot)
        return snapshot
    except (StateFileError, EngineError) as error:
        say(f"made again: {error}")
        return None
