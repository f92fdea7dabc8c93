"""Reading ahead: the beginning of a turn goes into a fork of the state while it may still change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nano_agent_ros.engine.base import Engine


@dataclass(frozen=True)
class Begun:
    """A state that has read the tokens of a turn: logits float32 [vocab] of the last, how many tokens had been read
    before they were asked for, and where those begin that `commit` can still take back."""

    state: Any
    logits: np.ndarray
    anticipated: int
    opened: int


class ReadAhead:
    """Tokens that a turn will probably begin with, read on a fork. The state that is forked never changes.

    Of what was read, the longest beginning is kept that another reading shares: `commit` takes back the tail if it
    came with the last step; what changed before that is read again from the fork. Dropping it all costs nothing, and
    is what to do after an error of the engine.
    """

    def __init__(self, engine: Engine) -> None:
        """Nothing is read yet."""
        self._engine = engine
        self.drop()

    def drop(self) -> None:
        """Forget what was read."""
        self._base: Any = None
        self._state: Any = None
        self._tokens: list[int] = []
        self._opened = 0
        self._logits: np.ndarray | None = None

    def read(self, base: Any, tokens: Sequence[int]) -> int:
        """Read tokens that may follow on the state `base`; returns how many of them are read now."""
        wanted = list(tokens)
        if not wanted or (self._base is base and self._tokens[: len(wanted)] == wanted):
            return len(wanted)  # and more, which may still come
        self._go_back(base, common(self._tokens, wanted))
        self._extend(wanted)
        return len(wanted)

    def take(self, base: Any, tokens: Sequence[int], kept: int) -> Begun:
        """The state after `tokens` (at least one) on `base`, which the caller may change; nothing is ahead any more.

        `kept` is the position from which on the caller will take tokens back.
        """
        wanted = list(tokens)
        whole = self._base is base and self._tokens == wanted and self._opened <= kept
        if not whole or self._logits is None:
            # The last token is read again where its logits are not at hand.
            self._go_back(base, min(common(self._tokens, wanted), kept, len(wanted) - 1))
        anticipated = len(self._tokens)
        logits = self._extend(wanted)
        begun = Begun(self._state, logits, anticipated, self._opened)
        self.drop()
        return begun

    def _go_back(self, base: Any, same: int) -> None:
        """Keep the first `same` tokens, or none where the state cannot go back to them."""
        if self._base is not base or same < self._opened:
            self.drop()
            self._base, self._state = base, self._engine.fork(base)
        elif same < len(self._tokens):
            self._engine.commit(self._state, same - self._opened)
            self._tokens, self._opened, self._logits = self._tokens[:same], same, None

    def _extend(self, wanted: list[int]) -> np.ndarray:
        opened = len(self._tokens)
        if opened < len(wanted) or self._logits is None:
            self._logits = self._engine.extend(self._state, wanted[opened:])
            self._tokens, self._opened = wanted, opened
        return self._logits


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
