"""While a person speaks: which words will stay, when it is worth transcribing again, and stops that cannot wait."""

from __future__ import annotations

from collections.abc import Sequence

from nano_agent_ros.speech.stop_words import is_stop

SHARE = 3.0
"""A partial transcription begins at the earliest this many times its own duration after the one before it began, so
that partials take a third of the transcriber's time at most."""

HOLD_UP_S = 0.3
"""A partial transcription begins at least the pause that ends an utterance before its end; if it takes longer than that
and these seconds, it would hold up the final one."""

BUSY = 10.0
"""SHARE while transcriptions take so long."""


OPEN = ("it", "that", "this", "all", "everything", "going", "moving", "driving", "rolling", "yo", "you")
"""Words after "stop" that another may follow, or that may be the beginning of another, which changes it: "stop that
conveyor", "stop it, Maria", "stop going there", "hold your task"."""


class Agreement:
    """Local agreement: words that two successive transcripts of a growing utterance begin with are taken as stable.

    The last word of either is not: it may have been cut by the end of the audio. Source: Liu, Spanakis and Niehues,
    "Low-latency sequence-to-sequence speech recognition and translation by partial hypothesis selection", 2020.
    """

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self._before: list[str] = []

    def add(self, text: str) -> str:
        """Take the next transcript; return its stable beginning ("" if there is none)."""
        words = text.split()
        one, other = words[:-1], self._before[:-1]
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        self._before = words
        return " ".join(words[:same])


class Pace:
    """When the next partial transcription may begin. Times are in seconds, of any one clock."""

    def __init__(self, every_s: float, pause_s: float) -> None:
        """At most one in `every_s`; `pause_s` ends an utterance."""
        self._every_s, self._pause_s = every_s, pause_s
        self._began = float("-inf")
        self._took_s = 0.0

    def begin(self, now: float) -> None:
        """Speech, or a partial transcription of it, begins now."""
        self._began = now

    def took(self, seconds: float) -> None:
        """How long the last transcription took, partial or whole."""
        self._took_s = seconds

    def due(self, now: float) -> bool:
        """Whether one may begin now."""
        share = SHARE if self._took_s <= self._pause_s + HOLD_UP_S else BUSY
        return now - self._began >= max(self._every_s, share * self._took_s)


def stops_already(text: str, names: Sequence[str], settled: bool) -> bool:
    """Whether a transcript of unfinished speech tells the robot to stop, whatever is said next.

    `settled`: a pause follows, so the last word is whole. Otherwise it may be part of another ("stop" of "stopping"),
    and what follows may turn a stop into something else ("stop" into "stop at dock 3"): the text must be a stop with
    its last word and without it ("stop, stop", "stop you will hit").
    """
    if not is_stop(text, names):
        return False
    *before, last = text.split()
    return settled or (last.lower() not in OPEN and is_stop(" ".join(before), names))
