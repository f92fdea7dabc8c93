"""Two threads between a source of audio and the listener: one captures and endpoints, one transcribes. No ROS."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from nano_agent_ros.speech import AudioSource, Endpointer, SpeechError, Transcriber, Transcription, Utterance

BACKLOG = 8  # utterances; a person has moved on by then


@dataclass(frozen=True)
class Heard:
    """One utterance: `transcription` is None while muted. Times are of time.time(), in seconds."""

    began: float
    ended: float
    truncated: bool
    transcription: Transcription | None


class Hearing:
    """Listens to `source` until it ends or `close`. Callbacks come from its own threads.

    on_heard(Heard) for each utterance; on_end(error message or "") once, after the last of them. A source that is
    not `paced` like a person (a file as fast as it can be read) waits for each transcription; its utterances count
    as said when they are transcribed.
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
        self._closed = threading.Event()
        self._queue: queue.Queue[tuple[Utterance, float, bool] | None] = queue.Queue(BACKLOG if paced else 1)
        self._error = ""
        self._threads = [
            threading.Thread(target=self._capture, name="capture", daemon=True),
            threading.Thread(target=self._transcribe, name="transcribe", daemon=True),
        ]

    def start(self) -> None:
        """Begin to listen."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Cease; waits for a transcription in progress, at most `timeout_s`."""
        self._closed.set()
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
                for utterance in self._endpointer.feed(chunk):
                    self._pass_on(utterance, position_s)
                if self._closed.is_set():
                    return
            for utterance in self._endpointer.flush():
                self._pass_on(utterance, position_s)
        except (SpeechError, ValueError, OSError) as error:
            self._error = str(error)
        except Exception as error:  # a driver's own; the node must outlive it
            self._error = f"{type(error).__name__}: {error}"
        finally:
            self._put(None)

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + self._ready_timeout_s
        while self._ready is not None and not self._ready() and time.monotonic() < until:
            if self._closed.wait(0.05):
                return

    def _pass_on(self, utterance: Utterance, position_s: float) -> None:
        ended = time.time() - max(0.0, position_s - utterance.end_s)
        item = (utterance, ended, self.muted)
        if self._paced and self._queue.full():
            self.dropped += 1
            self._queue.get_nowait()
        self._put(item)

    def _put(self, item: tuple[Utterance, float, bool] | None) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue

    def _transcribe(self) -> None:
        while not self._closed.is_set():
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if item is None:
                break
            utterance, ended, muted = item
            ended = ended if self._paced else time.time()
            try:
                transcription = None if muted else self._transcriber.transcribe(utterance)
            except SpeechError as error:
                self._error = str(error)
                continue
            self._on_heard(Heard(ended - utterance.duration_s, ended, utterance.truncated, transcription))
        if not self._closed.is_set():
            self._on_end(self._error)
