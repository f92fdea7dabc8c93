"""bench.speech: what the listener makes of noise in which nobody says anything, per hour.

The listener node reads the noise from a file as fast as it can, so its own gates judge. Speech is not followed while it
goes on then: a stop that only a partial transcript would show is not among these.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile

from .harness import Row, say
from .listening import Listener
from .sound import RATE, warehouse
from .speech_words import SITE, Said

MACHINES, PEOPLE = "machines", "machines and people"
PIECE_S = 60.0


def rows(folder: Path, said: Sequence[Said], options: argparse.Namespace, config: dict[str, Any]) -> list[Row]:
    """Utterances noticed, transcripts accepted and stops per hour; half of the time there are voices in the noise."""
    from nano_agent_ros.msg import Transcript

    found: list[Row] = []
    seconds = 60 * options.noise_minutes / 2
    for kind in (MACHINES, PEOPLE):
        file = folder / "noise.wav"
        speech = [one.sound for one in said] if kind == PEOPLE else []
        with soundfile.SoundFile(file, "w", RATE, 1, "PCM_16") as out:
            for number in range(math.ceil(seconds / PIECE_S)):
                piece_s = min(PIECE_S, seconds - number * PIECE_S)
                out.write(warehouse(piece_s, 1000 * options.seed + number, speech))
        parameters = {"audio.source": "wav", "audio.wav": str(file), "audio.realtime": False, "site": SITE}
        parameters |= {"whisper.model": options.model, "whisper.threads": options.threads}
        with Listener(folder, parameters) as listener:
            while not listener.finished(wait_s=10.0):
                say(f"noise, {kind}: {len(listener.transcripts)} utterances so far")
            heard = [message for _, message in listener.transcripts]
            stops = len(listener.stops)
        hours = seconds / 3600
        counts = {
            "utterances noticed": len(heard),
            "transcripts accepted": sum(m.gate == Transcript.GATE_ACCEPTED for m in heard),
            "stops": stops,
        }
        texts = [m.text for m in heard if m.gate in (Transcript.GATE_ACCEPTED, Transcript.GATE_STOP)]
        for name, count in counts.items():
            low, high = poisson_interval(count)
            shown = {**config, "minutes": round(seconds / 60, 1), "count": count, "texts": texts[:50]}
            shown |= {"low": low / hours, "high": high / hours}
            ratio = count / len(heard) if heard and name != "utterances noticed" else None
            peer = "utterances noticed" if ratio is not None else None
            found.append(Row(f"{name}, {kind}", count / hours, "per hour", ratio, peer, config=shown))
    return found


def poisson_interval(count: int, share: float = 0.95) -> tuple[float, float]:
    """The exact interval of a Poisson mean of which `count` were seen (Garwood 1936), by bisection."""
    tail = (1 - share) / 2

    def at_most(mean: float, most: int) -> float:
        return sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(most + 1))

    def mean_where(most: int, probability: float) -> float:
        low, high = 1e-9, 10.0 + 3 * count
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(middle, most) > probability else (low, middle)
        return (low + high) / 2

    return (mean_where(count - 1, 1 - tail) if count else 0.0), mean_where(count, tail)
