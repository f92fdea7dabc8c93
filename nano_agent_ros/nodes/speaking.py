"""Whether somebody is speaking, as partial transcripts tell it."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from nano_agent_ros.msg import AgentState, Transcript
from nano_agent_ros.nodes.conversions import uuid_of

LONGEST_S = 30.0
"""Whoever was heard longer ago is not speaking any more, whatever became of the listener."""


class Speaking:
    """One speaker at a time; who spoke last counts. `state` is LISTENING, TRANSCRIBING or None: nobody speaks.

    Each method tells whether `state` changed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody speaks; `clock` gives seconds."""
        self.state: int | None = None
        self._clock = clock
        self._key: UUID | None = None
        self._over: UUID | None = None
        self._since = 0.0

    def heard(self, partial: Transcript) -> bool:
        """A partial transcript came. One of an utterance whose final transcript was there before it is passed over."""
        key = uuid_of(partial.utterance_id)
        if key == self._over:
            return False
        self._key, self._since = key, self._clock()
        if partial.speaking:
            return self._show(AgentState.LISTENING)
        return self._show(None if partial.gate == Transcript.GATE_NO_SPEECH else AgentState.TRANSCRIBING)

    def over(self, key: UUID) -> bool:
        """The final transcript of an utterance came."""
        self._over = key
        return key == self._key and self._show(None)

    def expire(self) -> bool:
        """Some time has passed."""
        return self.state is not None and self._clock() - self._since > LONGEST_S and self._show(None)

    def _show(self, state: int | None) -> bool:
        before, self.state = self.state, state
        return before != state
