"""A process that starts, works and says what that took: `bench.engine` runs it for start-up times and memory.

    python -m bench.fresh start MODEL FOLDER TOKENS THREADS     first token after a prefix that is kept in the folder
    python -m bench.fresh prefill MODEL - TOKENS THREADS        prefill and a few tokens, for the memory that it takes
    python -m bench.fresh resume MODEL FILE TOKENS THREADS      the same in a conversation that is in a file
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 512  # tokens per step of a long prefill
TURN = 16  # tokens that are new after the prefix
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Fresh:
    """Seconds from the start of the process to its first token, those spent in stages, and its peak memory in bytes."""

    seconds: float
    stages: dict[str, float]
    peak_rss: int


def fresh(job: str, model: Path, kept: Path | str, tokens: int, threads: int) -> Fresh:
    """Run a job in a process of its own. Raises RuntimeError with what it said if it fails."""
    command = [sys.executable, "-m", "bench.fresh", job, str(model), str(kept), str(tokens), str(threads)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    told = json.loads(done.stdout)
    marks = [("start", begun), *told["marks"]]
    stages = {name: at - before for (name, at), (_, before) in zip(marks[1:], marks[:-1], strict=True)}
    return Fresh(marks[-1][1] - begun, stages, told["peak_rss"])


def words(count: int) -> list[int]:
    """Token ids that every model knows, always the same ones."""
    return [(7919 * i + 13) % 997 + 3 for i in range(count)]


def evict(paths: Sequence[Path]) -> float:
    """Ask the system to forget what it has read of these files; returns the share that is still in memory."""
    held = size = 0
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            pages, resident = _resident(file.fileno(), path.stat().st_size)
        size, held = size + pages, held + resident
    return held / max(size, 1)


def _resident(descriptor: int, nbytes: int) -> tuple[int, int]:
    pages = -(-nbytes // mmap.PAGESIZE)
    if pages == 0:
        return 0, 0
    with mmap.mmap(descriptor, nbytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        first = ctypes.c_char.from_buffer(view)
        flags = (ctypes.c_ubyte * pages)()
        failed = ctypes.CDLL(None).mincore(ctypes.byref(first), ctypes.c_size_t(nbytes), flags)
        del first
    return pages, pages if failed else sum(flag & 1 for flag in flags)


def main(arguments: list[str]) -> None:
    """Do the job and print marks (name, monotonic seconds) and the peak memory as JSON."""
    marks = [("python", time.monotonic())]
    job, model, kept, tokens, threads = arguments
    from nano_agent_ros.engine.load import open_engine
    from nano_agent_ros.state.prefix_cache import PrefixCache
    from nano_agent_ros.state.snapshot_file import read_snapshot

    from .llama import peak_rss

    marks.append(("imports", time.monotonic()))
    engine: Any = open_engine(model, "native", threads=int(threads))
    marks.append(("open", time.monotonic()))
    ids = words(int(tokens))
    if job == "start":
        state = PrefixCache(Path(kept)).state(engine, ids)
        marks.append(("prefix", time.monotonic()))
        engine.extend(state, words(TURN)).argmax()
        marks.append(("first token", time.monotonic()))
    else:
        state = engine.restore(read_snapshot(Path(kept))[0]) if job == "resume" else engine.new_state()
        for at in range(0, len(ids), CHUNK):
            engine.extend(state, ids[at : at + CHUNK])
        for _ in range(4):
            engine.extend(state, words(1))
    print(json.dumps({"marks": marks, "peak_rss": peak_rss()}))


if __name__ == "__main__":
    main(sys.argv[1:])
