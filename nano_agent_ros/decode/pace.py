"""Whether guesses pay: what a step costs by its tokens, and what guesses saved, from the steps just made."""

from __future__ import annotations

from nano_agent_ros.decode.generate import Step

DECAY = 0.9  # weight of the past at every step
TRIAL = 4  # steps with guesses before they are judged
PAUSE = 64  # steps without guesses after they did not pay; twice as many each time that they do not again
LONGEST = 4096


class Pace:
    """Fits seconds = a + b x tokens to the steps made, and weighs saved steps against wasted tokens and drafting."""

    def __init__(self) -> None:
        """Guesses are tried first."""
        self._n = self._t = self._s = self._tt = self._ts = 0.0  # weighted sums over steps
        self._guessed = self._saved = self._wasted = self._draft_s = 0.0  # weighted sums over steps with guesses
        self._trial, self._pause, self._next_pause = TRIAL, 0, PAUSE

    def pays(self) -> bool:
        """Whether to guess in the next step."""
        if self._pause:
            self._pause -= 1
            if not self._pause:
                self._trial = TRIAL
            return False
        return True

    def observe(self, step: Step) -> None:
        """A step was made."""
        self._n = DECAY * self._n + 1
        self._t = DECAY * self._t + step.fed
        self._s = DECAY * self._s + step.engine_s
        self._tt = DECAY * self._tt + step.fed**2
        self._ts = DECAY * self._ts + step.fed * step.engine_s
        if not step.guesses:
            return
        self._guessed = DECAY * self._guessed + 1
        self._saved = DECAY * self._saved + step.saved
        self._wasted = DECAY * self._wasted + step.guesses - step.right
        self._draft_s = DECAY * self._draft_s + step.draft_s
        self._trial -= 1
        if self._trial > 0:
            return
        if self.gain_s() < 0:
            self._pause, self._next_pause = self._next_pause, min(2 * self._next_pause, LONGEST)
        else:
            self._next_pause = PAUSE

    def gain_s(self) -> float:
        """Seconds that guessing saves per step with guesses, as seen of late."""
        if not self._guessed:
            return 0.0
        spread = self._n * self._tt - self._t * self._t
        per_token = max(0.0, (self._n * self._ts - self._t * self._s) / spread) if spread > 1e-9 else 0.0
        per_step = max(0.0, (self._s - per_token * self._t) / self._n)
        won = self._saved * per_step
        return (won - self._wasted * per_token - self._draft_s) / self._guessed
