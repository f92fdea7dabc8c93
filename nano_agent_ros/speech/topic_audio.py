"""Sound that comes in pieces from elsewhere (a topic) as a source: gaps bridged or told, nonsense refused. No ROS."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from nano_agent_ros.speech.audio import Converter
from nano_agent_ros.speech.levels import LevelMeter
from nano_agent_ros.speech.pcm import BadAudio, Piece

BRIDGED_S = 0.25
"""What is missing between two pieces becomes silence if it is no longer; beyond, what was being said is cut off."""

JUMP_S = 0.5
"""Stamps may be this far off what the samples before them say (senders stamp when they get to it)."""

LOOK_UP_S = 0.5
MISSING = np.empty(0, np.float32)


class PieceSource:
    """A source that is fed with pieces. `name` says in messages where they come from.

    A piece is passed on when it follows on the one before it, by its position or, without, by its time. Rate and number
    of channels may change from one to the next. What cannot be used, and nothing at all for `stall_s`, is `trouble`,
    told by `on_trouble` once, and over ("") with the next good sound. `missing()` words what to do about silence.
    """

    def __init__(
        self,
        name: str,
        *,
        channel: int | None = None,
        stall_s: float = 3.0,
        buffer_pieces: int = 1000,
        on_trouble: Callable[[str], None] | None = None,
        missing: Callable[[], str] | None = None,
    ) -> None:
        """Take `channel` of what comes (0 is the first), or the average of all."""
        self.name = name
        self.levels = LevelMeter()
        self.trouble = ""
        self.refused = self.gaps = self.jumps = self.changes = self.overflows = 0
        self.bridged_s = 0.0
        self._channel, self._stall_s = channel, stall_s
        self._on_trouble = on_trouble or (lambda text: None)
        self._missing = missing or (lambda: "")
        self._queue: queue.Queue[Callable[[], Piece] | None] = queue.Queue(buffer_pieces)
        self._closed = threading.Event()
        self._converter: Converter | None = None
        self._last: Piece | None = None
        self._refused_at = float("-inf")

    def push(self, make: Callable[[], Piece]) -> None:
        """Take the next piece from any thread; `make` is called by whoever takes `chunks`, and may raise BadAudio."""
        try:
            self._queue.put_nowait(make)
        except queue.Full:
            self.overflows += 1

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield float32 [n] at 16 kHz until `close`; an empty one where sound is missing that cannot be bridged."""
        heard_at = time.monotonic()
        silent = False
        while not self._closed.is_set():
            try:
                make = self._queue.get(timeout=LOOK_UP_S)
            except queue.Empty:
                if not silent and time.monotonic() - heard_at >= self._stall_s:
                    silent, self._last = True, None
                    self._tell(f"no sound from {self.name} for {self._stall_s:.0f} s{self._why()}")
                    yield MISSING
                continue
            if make is None:
                return
            try:
                piece = make()
                self._check(piece)
            except BadAudio as error:
                self.refused += 1
                self._refused_at = time.monotonic()
                self._tell(f"sound from {self.name} cannot be used: {error}")
                if not silent and time.monotonic() - heard_at > JUMP_S:
                    silent, self._last = True, None
                    yield MISSING
                continue
            heard_at, silent = time.monotonic(), False
            if self.trouble and heard_at - self._refused_at >= LOOK_UP_S:
                self._tell("")
            yield from self._take(piece)

    def _check(self, piece: Piece) -> None:
        count = piece.frames.shape[1]
        if self._channel is not None and self._channel >= count:
            raise BadAudio(f"it has no channel {self._channel}: it has {count}, and the first is 0 (audio.channel)")

    def _take(self, piece: Piece) -> Iterator[np.ndarray]:
        before, self._last = self._last, piece
        if before is not None and self._format(before) != self._format(piece):
            self.changes += 1
            yield from self._some(self._rest())
        elif before is not None:
            missing_s = _missing_s(before, piece)
            if missing_s < 0.0:
                self.jumps += 1
                yield MISSING
            elif missing_s > BRIDGED_S:
                self.gaps += 1
                yield MISSING
            elif missing_s > 0.0:
                self.bridged_s += missing_s
                silence = np.zeros((round(missing_s * piece.sample_rate), piece.frames.shape[1]), np.float32)
                yield from self._some(self._convert(silence, piece.sample_rate))
        heard = piece.frames if self._channel is None else piece.frames[:, self._channel]
        self.levels.add(heard, piece.sample_rate)
        yield from self._some(self._convert(piece.frames, piece.sample_rate))

    def _convert(self, frames: np.ndarray, sample_rate: int) -> np.ndarray:
        if self._converter is None:
            self._converter = Converter(sample_rate, self._channel)
        return self._converter.push(frames)

    def _rest(self) -> np.ndarray:
        """What the filter still holds of the old format; the next piece gets a new one."""
        converter, self._converter = self._converter, None
        return converter.push(np.empty((0, (self._channel or 0) + 1), np.float32), last=True) if converter else MISSING

    @staticmethod
    def _some(samples: np.ndarray) -> Iterator[np.ndarray]:
        if samples.size:
            yield samples

    @staticmethod
    def _format(piece: Piece) -> tuple[int, int]:
        return piece.sample_rate, piece.frames.shape[1]

    def _why(self) -> str:
        reason = self._missing()
        return f": {reason}" if reason else ""

    def _tell(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        if bool(before) != bool(trouble):
            self._on_trouble(trouble)

    def close(self) -> None:
        """End `chunks`."""
        self._closed.set()
        if not self._queue.full():
            self._queue.put_nowait(None)

    def problem(self) -> str:
        """What is wrong with the level; empty if nothing is."""
        return self.levels.recent().problem

    def details(self) -> dict[str, object]:
        """Where the sound comes from, its format, and what was wrong with it."""
        shown: dict[str, object] = {"microphone": self.name}
        if self._last is not None:
            heard = "average of all" if self._channel is None else f"channel {self._channel}"
            shown |= {"sample_rate_hz": self._last.sample_rate, "channels": f"{self._last.frames.shape[1]} ({heard})"}
        return shown | {
            "refused": self.refused,
            "gaps": self.gaps,
            "bridged_s": f"{self.bridged_s:.2f}",
            "time_jumps": self.jumps,
            "format_changes": self.changes,
            "overflows": self.overflows,
        }

    def report(self) -> str:
        """Where the sound comes from, and its level."""
        return f"{self.name}: {self.levels}"


def _missing_s(before: Piece, piece: Piece) -> float:
    """Seconds between two pieces of one format; negative if time went back, 0 if that is how stamps are."""
    if before.position is not None and piece.position is not None:
        missing = piece.position - before.position - len(before.frames)
        return missing / piece.sample_rate
    if not before.began_s or not piece.began_s:
        return 0.0
    missing_s = piece.began_s - before.began_s - before.seconds
    return missing_s if abs(missing_s) > JUMP_S else 0.0
