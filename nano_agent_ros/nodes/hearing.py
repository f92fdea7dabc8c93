"""Two threads between a source of audio and the listener: one captures and endpoints, one transcribes. No ROS."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

from nano_agent_ros.speech import (
    Agreement,
    AudioSource,
    Completeness,
    Ending,
    Endpointer,
    Pace,
    Speech,
    SpeechError,
    Transcriber,
    Transcription,
    Utterance,
)

BACKLOG = 8  # utterances; a person has moved on by then
SURE = 0.5
"""Words heard with less confidence than this change nothing about the pause behind them."""


@dataclass(frozen=True)
class Heard:
    """One utterance: `transcription` is None while muted. Times are of time.time(), in seconds.

    lost: the sound was lost while it was said.
    """

    key: UUID
    began: float
    ended: float
    truncated: bool
    transcription: Transcription | None
    lost: bool = False


@dataclass(frozen=True)
class Partial:
    """An utterance that is not complete, or was not when this was made; `key` and `began` are those of its Heard.

    speaking: it goes on; `transcription` is what was heard so far (None: nothing yet), `stable` the beginning of its
    text that is not expected to change, settled: a pause follows, and it is all unless the person goes on. Not
    speaking: it is over, and its Heard follows unless `dropped`.
    """

    key: UUID
    began: float
    speaking: bool
    transcription: Transcription | None = None
    stable: str = ""
    settled: bool = False
    dropped: bool = False


@dataclass(frozen=True)
class _Work:
    """To be transcribed: a whole utterance (`ended`: when, time.time()), or speech in progress."""

    key: UUID
    utterance: Utterance
    ended: float
    muted: bool = False
    settled: bool = False


class Hearing:
    """Listens to `source` until it ends or `close`. Callbacks come from its own threads.

    on_heard(Heard) for each utterance; on_end(error message or "") once, after the last of them. A source that is
    not `paced` like a person (a file as fast as it can be read) waits for each transcription; its utterances count
    as said when they are transcribed.

    With `on_partial`, and a source that is paced, speech is followed while it goes on: when it begins, at most every
    `partial_every_s` seconds, whenever it pauses, and when it is over. A partial transcription begins only in a voice,
    so at least the pause that ends an utterance before its end, and gives way to a whole utterance. What was
    transcribed in a pause is not transcribed again if the utterance ends there. With `reads` as well, these words tell
    the endpointer how long the pause must be.
    """

    def __init__(
        self,
        source: AudioSource,
        endpointer: Endpointer,
        transcriber: Transcriber,
        on_heard: Callable[[Heard], None],
        on_end: Callable[[str], None],
        paced: bool = True,
        ready: Callable[[], bool] | None = None,
        ready_timeout_s: float = 10.0,
        on_partial: Callable[[Partial], None] | None = None,
        partial_every_s: float = 1.0,
        reads: Completeness | None = None,
    ) -> None:
        """Begin as soon as `ready` says so (or the timeout is over); without it, at once."""
        self.muted = False
        self.dropped = 0
        self._source = source
        self._endpointer = endpointer
        self._transcriber = transcriber
        self._on_heard = on_heard
        self._on_end = on_end
        self._paced = paced
        self._ready = ready
        self._ready_timeout_s = ready_timeout_s
        self._on_partial = on_partial if paced else None
        self._reads = reads
        self._pace = Pace(partial_every_s, endpointer.config.end_silence_s)
        self._closed = False
        self._cut_at = float("inf")  # by time.monotonic()
        self._wake = threading.Condition()
        self._whole: deque[_Work] = deque()
        self._part: _Work | None = None  # the newest speech in progress that nobody has begun to transcribe
        self._part_in_hand = self._over = False
        self._key: UUID | None = None  # of the speech in progress
        self._began = 0.0
        self._settled_at = -1.0  # where the speech ended that was last passed on in a pause, in seconds of the stream
        self._agreement: tuple[UUID | None, Agreement] = (None, Agreement())
        self._ready_made: tuple[Utterance, Transcription] | None = None
        self._error = ""
        self._threads = [
            threading.Thread(target=self._capture, name="capture", daemon=True),
            threading.Thread(target=self._transcribe, name="transcribe", daemon=True),
        ]

    def start(self) -> None:
        """Begin to listen."""
        for thread in self._threads:
            thread.start()

    def tune(self, threshold: float) -> None:
        """Set the speech probability at which utterances begin, from now on; raises ValueError outside (0, 1)."""
        self._endpointer.tune(threshold)

    def cut(self, in_s: float = 0.0) -> None:
        """End the utterance in progress so soon, without a pause: the talk button was released."""
        self._cut_at = time.monotonic() + in_s

    def close(self, timeout_s: float = 5.0) -> None:
        """Cease; waits for a transcription in progress, at most `timeout_s`."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._source.close()
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(timeout_s)

    def _capture(self) -> None:
        try:
            self._wait_until_ready()
            position_s = 0.0
            for chunk in self._source.chunks():
                position_s += len(chunk) / 16_000
                ended = self._endpointer.feed(chunk) if len(chunk) else self._endpointer.flush(lost=True)
                if time.monotonic() >= self._cut_at:
                    self._cut_at = float("inf")
                    ended += self._endpointer.flush() if self._endpointer.speaking else []
                for utterance in ended:
                    self._pass_on(utterance, position_s)
                if self._closed:
                    return
                self._follow(position_s)
            for utterance in self._endpointer.flush():
                self._pass_on(utterance, position_s)
            self._follow(position_s)
        except (SpeechError, ValueError, OSError) as error:
            self._error = str(error)
        except Exception as error:  # a driver's own; the node must outlive it
            self._error = f"{type(error).__name__}: {error}"
        finally:
            with self._wake:
                self._over = True
                self._wake.notify_all()

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + self._ready_timeout_s
        while self._ready is not None and not self._ready() and time.monotonic() < until:
            with self._wake:
                if self._wake.wait_for(lambda: self._closed, 0.05):
                    return

    def _pass_on(self, utterance: Utterance, position_s: float) -> None:
        ended = time.time() - max(0.0, position_s - utterance.end_s)
        key = self._key or uuid4()
        if self._key is not None:
            self._tell(Partial(key, self._began, speaking=False))
        self._key = None
        work = _Work(key, utterance, ended, self.muted)
        with self._wake:
            self._part = None
            if self._paced and len(self._whole) == BACKLOG:
                self.dropped += 1
                self._whole.popleft()
            self._wake.wait_for(lambda: self._paced or self._closed or not self._whole)
            self._whole.append(work)
            self._wake.notify_all()

    def _follow(self, position_s: float) -> None:
        """See what has become of the speech in progress, and have it transcribed if it is time."""
        if self._on_partial is None:
            return
        if self.muted or not self._endpointer.speaking:
            if self._key is not None:
                self._tell(Partial(self._key, self._began, speaking=False, dropped=True))
                self._key = None
            return
        if self._key is None:
            speech = self._endpointer.speech()
            if speech is None:
                return
            self._key, self._began = uuid4(), time.time() - max(0.0, position_s - speech.utterance.start_s)
            self._settled_at = -1.0
            self._pace.begin(time.monotonic())
            self._tell(Partial(self._key, self._began, speaking=True))
        if self._endpointer.settled:
            speech = self._endpointer.speech()
            if speech is not None and speech.utterance.end_s != self._settled_at:
                self._settled_at = speech.utterance.end_s
                self._ask(self._key, speech)
        elif not self._endpointer.pausing and not self._part_in_hand and self._pace.due(time.monotonic()):
            speech = self._endpointer.speech()
            if speech is not None:
                self._pace.begin(time.monotonic())
                self._ask(self._key, speech)

    def _ask(self, key: UUID, speech: Speech) -> None:
        with self._wake:
            self._part = _Work(key, speech.utterance, 0.0, settled=speech.settled)
            self._wake.notify_all()

    def _tell(self, partial: Partial) -> None:
        if self._on_partial and not self._closed:
            self._on_partial(partial)

    def _next(self) -> tuple[_Work | None, bool]:
        """What is to be transcribed next, and whether it is whole; None at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._over or self._whole or self._part)
            if self._closed or (not self._whole and self._over):
                return None, False
            if self._whole:
                work = self._whole.popleft()
                self._wake.notify_all()
                return work, True
            part, self._part, self._part_in_hand = self._part, None, True
            return part, False

    def _transcribe(self) -> None:
        while True:
            work, whole = self._next()
            if work is None:
                break
            try:
                if whole:
                    self._finish(work)
                else:
                    self._guess(work)
            except SpeechError as error:
                self._error = str(error)
                if whole:
                    began = work.ended - work.utterance.duration_s
                    self._tell(Partial(work.key, began, speaking=False, dropped=True))
            finally:
                self._part_in_hand = False
        if not self._closed:
            self._on_end(self._error)

    def _finish(self, work: _Work) -> None:
        utterance = work.utterance
        ended = work.ended if self._paced else time.time()
        made, self._ready_made = self._ready_made, None
        transcription = None
        if not work.muted:
            ready = made is not None and _same(made[0], utterance)
            transcription = made[1] if made and ready else self._timed(utterance, quick=False)
        began = ended - utterance.duration_s
        self._on_heard(Heard(work.key, began, ended, utterance.truncated, transcription, utterance.lost))

    def _guess(self, work: _Work) -> None:
        """Transcribe speech in progress."""
        if self._agreement[0] != work.key:
            self._agreement = (work.key, Agreement())
        said = self._timed(work.utterance, quick=not work.settled)
        stable = self._agreement[1].add(said.text)
        if work.settled:
            self._ready_made = (work.utterance, said)
            stable = said.text
        if self._key == work.key:
            self._tell(Partial(work.key, self._began, True, said, stable, work.settled))
        if work.settled and self._reads is not None:
            sure = said.text and said.confidence >= SURE
            ending = self._reads.ending(said.text, said.language) if sure else Ending.UNSURE
            self._endpointer.expect(work.utterance, ending)

    def _timed(self, utterance: Utterance, quick: bool) -> Transcription:
        began = time.monotonic()
        said = self._transcriber.transcribe(utterance, quick)
        self._pace.took(time.monotonic() - began)
        return said


def _same(one: Utterance, other: Utterance) -> bool:
    return (one.start_s, one.end_s, one.truncated) == (other.start_s, other.end_s, other.truncated)
