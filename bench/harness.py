"""What every benchmark shares: rows, repeated timing, the table and the JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nano_agent_ros import __version__


@dataclass(frozen=True)
class Row:
    """One figure: `ratio` is value / the peer's of the same run, `limit` what the machine allows, in the same unit."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    peer: str | None = None
    limit: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs."""

    median: float
    least: float
    most: float
    runs: int


def timed(call: Callable[[], Any], repeats: int = 5, warm_up: int = 1) -> Timing:
    """Time `call` `repeats` times after `warm_up` runs that do not count."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return Timing(statistics.median(seconds), min(seconds), max(seconds), repeats)


def machine() -> dict[str, Any]:
    """The machine that a figure is of: processor, cores, memory, load by others when the run began, versions."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        memory = 0.0
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "nano_agent_ros": __version__,
        "commit": _commit(),
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text; columns that no row fills are left out."""
    cells = [("", "value", "unit", "ratio", "peer", "of limit")]
    for row in rows:
        share = f"{100 * row.value / row.limit:.0f} %" if row.limit else ""
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        value = f"{row.value:.4g}" if abs(row.value) < 1000 else f"{row.value:.0f}"
        cells.append((row.name, value, row.unit, ratio, row.peer or "", share))
    kept = [i for i in range(len(cells[0])) if i < 3 or any(line[i] for line in cells[1:])]
    widths = [max(len(line[i]) for line in cells) for i in kept]
    lines = []
    for line in cells:
        parts = [line[i].ljust(w) if i in (0, 2, 4) else line[i].rjust(w) for i, w in zip(kept, widths, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a JSON list, each with the machine."""
    here = machine()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{**asdict(row), "machine": here} for row in rows], indent=1) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Progress, on standard error, so that the table alone is on standard output."""
    print(text, file=sys.stderr, flush=True)


def add_out(parser: argparse.ArgumentParser) -> None:
    """The option that every benchmark has."""
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures as JSON as well")


def report(rows: Sequence[Row], out: Path | None) -> None:
    """Print the table and write the JSON if asked for."""
    print(table(rows))
    if out is not None:
        write(rows, out)


def _commit() -> str | None:
    try:
        root = Path(__file__).resolve().parent
        return subprocess.check_output(
            ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
