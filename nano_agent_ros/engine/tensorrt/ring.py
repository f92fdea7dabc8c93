"""Where the keys and values of a token lie: the first tokens for ever, the recent ones in a ring.

The ring is longer than the window by the largest step. So writing a step's tokens destroys nothing that is seen from
any of them, and taking back its tail (`commit`) needs no copy: what was written beyond is no longer looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

EMPTY = 1 << 30  # the place of no token: behind every token, and so never seen


@dataclass(frozen=True)
class Ring:
    """`sinks` slots for the first tokens and `length` for the others; a token sees `window` recent ones."""

    window: int
    sinks: int
    chunk: int

    @property
    def length(self) -> int:
        """Slots of the ring proper."""
        return self.window + self.chunk

    @property
    def slots(self) -> int:
        """All slots."""
        return self.sinks + self.length

    def positions(self, count: int) -> np.ndarray:
        """The place of the token in every slot after `count` tokens: int32 [slots]."""
        places = np.full(self.slots, EMPTY, dtype=np.int32)
        first = np.arange(min(count, self.sinks))
        places[first] = first
        if count > self.sinks:
            last = count - 1 - self.sinks
            offset = last - (last - np.arange(self.length)) % self.length
            places[self.sinks :] = np.where(offset >= 0, offset + self.sinks, EMPTY)
        return places

    def slot(self, position: int) -> int:
        """Slot of the token at a place."""
        return position if position < self.sinks else self.sinks + (position - self.sinks) % self.length

    def runs(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Consecutive slots for the tokens begin..end - 1, as (offset in the tokens, first slot, count)."""
        at = begin
        while at < end:
            slot = self.slot(at)
            room = (self.sinks if slot < self.sinks else self.slots) - slot
            count = min(end - at, room)
            yield at - begin, slot, count
            at += count

    def kept(self, count: int) -> np.ndarray:
        """Places, ascending, of the tokens that can still be seen after `count` of them: int64."""
        places = np.arange(count)
        return places[(places >= count - self.window) | (places < self.sinks)]
