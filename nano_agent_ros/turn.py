"""What one utterance led to, and how long each stage of it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from nano_agent_ros.skills import Action


@dataclass(frozen=True)
class Turn:
    """What one utterance led to. `kind` is act, answer, clarify, refuse, ignore or cut; actions only with act.

    `reply` is what to say ("" for nothing); `timings` are seconds by stage (prompt, prefill, decode, ground, total);
    `tokens` counts the tokens of prompt, reply and thought, those of the prompt (and what every reply begins with)
    that had been anticipated, the engine steps of the reply, and right guesses in it. `fed` is what the turn added to
    the state: token ids, none if the conversation is as before. `overheard` is how likely (0 to 1) the model held it
    that the words were not for the robot.
    """

    turn: int
    text: str
    kind: str
    actions: tuple[Action, ...]
    reply: str
    timings: Mapping[str, float]
    tokens: Mapping[str, int]
    fed: tuple[int, ...] = ()
    overheard: float = 0.0


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        """The first stage begins."""
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """A stage ends, and the next begins."""
        now = time.perf_counter()
        self._laps[stage] = now - self._last
        self._last = now

    def done(self) -> dict[str, float]:
        """The stages so far, and the total."""
        return {**self._laps, "total": time.perf_counter() - self._start}
