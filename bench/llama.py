"""llama.cpp's own benchmark and server as peers; both are programs of the user's, built as docs/benchmarks.md says."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import NanoAgentError

from .harness import say


class PeerError(NanoAgentError):
    """llama.cpp could not be run; the message holds what it said."""


@dataclass(frozen=True)
class LlamaRun:
    """Tokens per second of one llama-bench run after `depth` tokens: by prompt length, and of generation.

    `peer` names program and quantization; `peak_rss` is in bytes.
    """

    peer: str
    depth: int
    prefill: dict[int, float]
    decode: float
    peak_rss: int


def available(binary: Path | None, gguf: Path | None, option: str = "--llama-bench") -> bool:
    """Whether there is a peer to run; says why not."""
    if binary is None or gguf is None:
        say(f"llama.cpp is left out: give {option} PATH and --gguf FILE (docs/benchmarks.md says how to make them)")
        return False
    missing = [str(path) for path in (binary, gguf) if not path.is_file()]
    if missing:
        say(f"llama.cpp is left out: {', '.join(missing)} does not exist")
    return not missing


def llama_bench(
    binary: Path, gguf: Path, threads: int, prompts: Sequence[int], generate: int, depth: int = 0
) -> LlamaRun:
    """Run llama-bench once: the prompt lengths, then `generate` tokens, all after `depth` tokens. Raises PeerError.

    Its own warm-up repeats every prompt, which takes minutes; a short prompt and two tokens that are not counted serve
    instead.
    """
    lengths = [8, *prompts] if prompts else [0]
    command = [str(binary), "-m", str(gguf), "-t", str(threads), "-r", "1", "--no-warmup", "-o", "json"]
    command += ["-p", ",".join(map(str, lengths)), "-n", f"2,{generate}", "-d", str(depth)]
    runs, peak = _json_of(command)
    counted = [run for run in runs if run["n_prompt"]][1:]
    decode = [run for run in runs if run["n_gen"] == generate]
    if len(counted) != len(prompts) or len(decode) != 1:
        raise PeerError(f"{binary} reported {len(runs)} results; another version than docs/benchmarks.md names?")
    return LlamaRun(
        peer=f"llama.cpp {decode[0]['build_commit']} {_quantization(decode[0])}",
        depth=depth,
        prefill={run["n_prompt"]: run["avg_ts"] for run in counted},
        decode=decode[0]["avg_ts"],
        peak_rss=peak,
    )


def _quantization(run: dict[str, Any]) -> str:
    """Q4_0 of "nemotron_h 3B Q4_0"."""
    return next((word for word in run["model_type"].split() if word.startswith("Q")), run["model_type"])


def _json_of(command: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Output of a llama-bench command and its peak memory in bytes, watched while it runs."""
    peak = 0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True)
        while process.poll() is None:
            peak = max(peak, peak_rss(process.pid))
            time.sleep(0.05)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            raise PeerError(f"{' '.join(command)} failed ({process.returncode}): {err.read().strip()[-500:]}")
        return json.load(out), peak


def peak_rss(pid: int | str = "self") -> int:
    """Peak resident memory of a process in bytes; 0 if it is gone. (ru_maxrss would count the parent's before exec.)"""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0].split()[1]) * 1024 if found else 0
