"""Whether what was heard is meant for the robot: open, push to talk, or by its name. Plain rules and times, no ROS.

Times are seconds of one clock (time.time() where nothing else is given). Stop words are not this module's gate: they
act in every mode, whoever is addressed; `Ears.stops` says what is one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nano_agent_ros.speech.calls import HAIL, Call, call, named_as_hail
from nano_agent_ros.speech.names import Names
from nano_agent_ros.speech.partial import stops_already
from nano_agent_ros.speech.stop_words import MAX_LENGTH, is_stop

MODES = ("open", "push_to_talk", "wake_word")
TOLERANCE_S = 0.3
"""A button is pressed a little late and released a little early."""
GO_ON_S = 1.0
"""Who has called the robot and goes on after a pause that ended the utterance means the robot still."""
REMEMBERED = 32
"""Windows and presses: more than can matter to words that wait to be transcribed."""


class Ears:
    """What the names of robots tell of an utterance. Without names of others everything may be the robot's.

    Raises ValueError as `Names` does.
    """

    def __init__(self, names: Sequence[str], others: Sequence[str] = (), stop_for_others: bool = True) -> None:
        """Know the robot's names, those of the others, and whether to stop when another robot is told to."""
        self.stop_for_others = stop_for_others
        self._own = [name for name in names if name.strip()]
        self._names = Names(names, others)

    def call(self, text: str) -> Call:
        """Whom an utterance is said to. Text too long for an utterance calls nobody."""
        return call(text, self._names) if len(text) <= MAX_LENGTH else Call(False, False, text)

    def stops(self, text: str) -> bool:
        """Whether an utterance tells the robot to stop, in whatever mode and (unless told otherwise) whoever is."""
        return any(is_stop(words, [*self._own, HAIL]) for words in self._readings(text))

    def stops_already(self, text: str, settled: bool) -> bool:
        """Whether speech that goes on does so, whatever is said next (see speech/partial.py)."""
        return any(stops_already(words, [*self._own, HAIL], settled) for words in self._readings(text))

    def _readings(self, text: str) -> tuple[str, ...]:
        if len(text) > MAX_LENGTH:
            return (text,)
        if self.stop_for_others:
            return text, named_as_hail(text, self._names, everyone=True)
        words = self.call(text).words
        return words, named_as_hail(words, self._names, everyone=False)


@dataclass(frozen=True)
class AddressSettings:
    """When words are taken.

    mode: `open`, all are unless another robot is called; `push_to_talk`, those said while a button is held;
    `wake_word`, those that call the robot by name, and those that begin within `follow_up_s` of its reply.
    talk_timeout_s: a button that nothing was heard of for so long is not held any more.
    """

    mode: str = "open"
    follow_up_s: float = 8.0
    talk_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        """Raise ValueError for a mode that is none."""
        if self.mode not in MODES:
            raise ValueError(f"address.mode '{self.mode}' is none of {', '.join(MODES)}")


@dataclass
class _Press:
    """A button held from `down` until `up`, or until `expires`."""

    down: float
    expires: float
    up: float = float("inf")
    by_topic: bool = True

    def covers(self, began: float, ended: float) -> bool:
        return began <= min(self.up, self.expires) + TOLERANCE_S and ended >= self.down - TOLERANCE_S


class Addressing:
    """Decides, utterance by utterance, whether the robot is addressed. Any thread may use it."""

    def __init__(
        self, ears: Ears, settings: AddressSettings | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Nobody has called yet, and no button is pressed. `settings` may be replaced at any time."""
        self.ears = ears
        self.settings = settings or AddressSettings()
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)  # in which an utterance may begin
        self._woken: deque[float] = deque(maxlen=REMEMBERED)
        self._presses: deque[_Press] = deque(maxlen=REMEMBERED)
        self._answering = False  # the robot says a reply aloud
        self._replied = float("-inf")

    def heard(self, text: str, began: float, ended: float) -> bool:
        """Whether a whole utterance, said from `began` to `ended`, is meant for the robot."""
        said = self.ears.call(text)
        with self._lock:
            taken = self._taken(said, began, ended)
            if taken and said.own:
                self._open(ended, self.settings.follow_up_s if said.alone else GO_ON_S)
            if taken and self._held() and not self._presses[-1].by_topic:
                self._press(by_topic=False)  # who toggled it still talks
            return taken

    def hears(self, text: str, began: float) -> bool:
        """Whether speech that began then, goes on and is `text` so far is meant for the robot, as far as one can tell.

        What has not been called by name yet is not: the name may still come.
        """
        with self._lock:
            return self._taken(self.ears.call(text), began, self._clock())

    def reads(self, text: str) -> bool:
        """Whether typed text is meant for the robot: unless it calls only others."""
        return not self.ears.call(text).elsewhere

    def replied(self) -> None:
        """The robot has replied or asked: who answers now need not call it by name."""
        with self._lock:
            self._replied = self._clock()
            self._open(self._replied, self.settings.follow_up_s)

    def speaks(self, speaking: bool) -> None:
        """The robot's voice begins a sentence or falls silent. The time for an answer runs from the end of a reply."""
        with self._lock:
            now = self._clock()
            if now - self._replied <= self.settings.follow_up_s and speaking:
                self._answering = True
            if self._answering:
                self._windows.append((self._replied, now + self.settings.follow_up_s))
                self._answering = speaking

    def woken(self) -> None:
        """The sound of the wake word was just heard: the speech in hand, or what follows soon, is meant."""
        with self._lock:
            self._woken.append(self._clock())
            self._open(self._clock(), self.settings.follow_up_s)

    def talk(self, held: bool) -> None:
        """The button is held (said again and again or once) or released."""
        with self._lock:
            if held:
                self._press(by_topic=True)
            else:
                self._release()

    def toggle(self) -> bool:
        """Press the button, or release it if it is held; returns whether it is held now."""
        with self._lock:
            if self._held():
                self._release()
                return False
            self._press(by_topic=False)
            return True

    def left(self) -> None:
        """Nobody is there any more who could release the button: a held one is, a toggled one stays."""
        with self._lock:
            if self._held() and self._presses[-1].by_topic:
                self._release()

    @property
    def held(self) -> bool:
        """Whether the button is held."""
        with self._lock:
            return self._held()

    def _taken(self, said: Call, began: float, ended: float) -> bool:
        mode = self.settings.mode
        if said.elsewhere:
            return False
        if mode == "push_to_talk":
            return any(press.covers(began, ended) for press in self._presses)
        if mode == "wake_word":
            invited = any(first <= began <= last for first, last in self._windows)
            return said.own or invited or any(began <= moment <= ended for moment in self._woken)
        return True

    def _open(self, at: float, seconds: float) -> None:
        self._windows.append((at, at + seconds))

    def _held(self) -> bool:
        return bool(self._presses) and self._clock() < min(self._presses[-1].up, self._presses[-1].expires)

    def _press(self, by_topic: bool) -> None:
        now = self._clock()
        expires = now + self.settings.talk_timeout_s
        if self._held():
            self._presses[-1].expires = max(self._presses[-1].expires, expires)
        else:
            self._presses.append(_Press(now, expires, by_topic=by_topic))

    def _release(self) -> None:
        if self._held():
            self._presses[-1].up = self._clock()
