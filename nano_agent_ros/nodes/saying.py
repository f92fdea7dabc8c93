"""What is to be said, one after the other: a thread that synthesises, plays and falls silent at once. No ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from uuid import UUID

import numpy as np

from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.playback import Loudspeaker
from nano_agent_ros.speech.speakable import MAX_LENGTH, sentences
from nano_agent_ros.speech.voice import Sound, Synthesizer

PAUSE_S = 0.15
"""Between two sentences."""


@dataclass(frozen=True)
class Words:
    """Something to say; it was meant to be heard at `at`, in seconds of the Mouth's clock."""

    key: UUID
    text: str
    at: float
    urgent: bool = False


@dataclass(frozen=True)
class Spoken:
    """A sentence begins (`duration_s`: how long it takes), or, without a text, the voice falls silent."""

    key: UUID
    text: str = ""
    duration_s: float = 0.0
    cut: bool = False


@dataclass
class Counts:
    """What became of the Words so far."""

    spoken: int = 0
    cut: int = 0
    too_old: int = 0
    dropped: int = 0
    failed: int = 0


class Mouth:
    """Says one thing at a time: urgent ones first, in order otherwise. Callbacks come from its own thread.

    on_spoken(Spoken) just before each sentence sounds and after the last; on_trouble(message) when something cannot be
    said, and "" when it can. What is cut, too old or dropped is never said later.
    """

    def __init__(
        self,
        voice: Synthesizer,
        loudspeaker: Loudspeaker | None,
        open_loudspeaker: Callable[[], Loudspeaker],
        on_spoken: Callable[[Spoken], None],
        on_trouble: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        language: str = "en",
        volume: float = 1.0,
        max_age_s: float = 10.0,
        max_waiting: int = 8,
        max_length: int = MAX_LENGTH,
    ) -> None:
        """Take over voice and loudspeaker; without the latter `open_loudspeaker` is called when there are words."""
        self.counts = Counts()
        self._voice = voice
        self._open_loudspeaker = open_loudspeaker
        self._loudspeaker = loudspeaker
        self._on_spoken, self._on_trouble = on_spoken, on_trouble
        self._clock = clock
        self._language, self._volume, self._max_length = language, volume, max_length
        self._max_age_s, self._max_waiting = max_age_s, max_waiting
        self._news = threading.Condition()
        self._waiting: list[tuple[bool, int, Words]] = []  # urgent ones sort first
        self._numbers = count()
        self._cut = threading.Event()  # of what is being said
        self._held = self._closed = False
        self._trouble: str | None = None
        self._synthesis = ThreadPoolExecutor(1, "synthesis")
        self._thread = threading.Thread(target=self._run, name="mouth", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many Words wait."""
        return len(self._waiting)

    @property
    def loudspeaker(self) -> Loudspeaker | None:
        """The device, once it was opened."""
        return self._loudspeaker

    def tune(self, volume: float, max_age_s: float) -> None:
        """Go on with another loudness, from the next sentence on, and another age."""
        self._volume, self._max_age_s = volume, max_age_s

    def say(self, words: Words) -> None:
        """Have it said when its turn comes; if too much waits, the oldest that is not urgent is dropped for it."""
        with self._news:
            self._waiting.append((not words.urgent, next(self._numbers), words))
            self._waiting.sort()
            if len(self._waiting) > self._max_waiting:
                usual = [i for i, (usual, _, _) in enumerate(self._waiting) if usual]
                self._waiting.pop(usual[0] if usual else 0)
                self.counts.dropped += 1
            self._news.notify_all()

    def interrupt(self, everything: bool = False) -> None:
        """Fall silent at once; what is being said is over, with `everything` what waits as well. From any thread."""
        with self._news:
            self._cut.set()
            if everything:
                self.counts.dropped += len(self._waiting)
                self._waiting.clear()
        loudspeaker = self._loudspeaker
        if loudspeaker is not None:
            loudspeaker.hush()

    def hold(self, held: bool) -> None:
        """Whether nothing new may begin for now."""
        with self._news:
            self._held = held
            self._news.notify_all()

    def close(self, timeout_s: float = 5.0) -> None:
        """Fall silent and end; what waits is not said."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self.interrupt(everything=True)
        self._voice.close()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self._synthesis.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        try:
            while (words := self._next()) is not None:
                try:
                    self._say(words)
                    self._tell_trouble("")
                except SpeechError as error:
                    self.counts.failed += 1
                    self._tell_trouble(str(error))
                except Exception as error:  # a driver's own; the next words may fare better
                    self.counts.failed += 1
                    self._tell_trouble(f"{type(error).__name__}: {error}")
        finally:
            if self._loudspeaker is not None:
                self._loudspeaker.close()

    def _next(self) -> Words | None:
        with self._news:
            while True:
                self._news.wait_for(lambda: self._closed or (self._waiting and not self._held))
                if self._closed:
                    return None
                _, _, words = self._waiting.pop(0)
                if self._clock() - words.at > self._max_age_s:
                    self.counts.too_old += 1
                    continue
                self._cut = threading.Event()
                return words

    def _say(self, words: Words) -> None:
        parts = sentences(words.text, self._max_length, self._language)
        if not parts:
            return
        if self._loudspeaker is None:
            self._loudspeaker = self._open_loudspeaker()
        whole = False
        try:
            whole = self._say_parts(words.key, parts, self._loudspeaker, self._cut)
        finally:
            self._on_spoken(Spoken(words.key, cut=not whole))
        self.counts.spoken += whole
        self.counts.cut += not whole

    def _say_parts(self, key: UUID, parts: list[str], loudspeaker: Loudspeaker, cut: threading.Event) -> bool:
        """Whether all was said. The next sentence is synthesised while one sounds."""
        ready = self._prepare(parts[0])
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            sound = ready.result()
            if cut.is_set():
                return False
            spoken = Spoken(key, part, sound.duration_s)
            if following is not None:
                ready = self._prepare(following)
                sound = _with_pause(sound)
            if not loudspeaker.play(sound, cut, self._volume, partial(self._on_spoken, spoken)):
                return False
        return loudspeaker.rest(cut)

    def _prepare(self, part: str) -> Future[Sound]:
        return self._synthesis.submit(self._synthesize, part)

    def _synthesize(self, part: str) -> Sound:
        try:
            return self._voice.synthesize(part)
        except SpeechError as error:
            if self._closed:
                raise
            self._tell_trouble(f"{error}; trying again")
            return self._voice.synthesize(part)

    def _tell_trouble(self, trouble: str) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble != before and not self._closed:
            self._on_trouble(trouble)


def _with_pause(sound: Sound) -> Sound:
    silence = np.zeros(round(PAUSE_S * sound.sample_rate), np.float32)
    return Sound(np.concatenate([sound.samples, silence]), sound.sample_rate)
