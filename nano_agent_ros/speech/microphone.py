"""The microphone as a source: captured at its own rate, looked for again when it is lost."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nano_agent_ros.speech.audio import Converter, SpeechError
from nano_agent_ros.speech.devices import AmbiguousDevice, InputDevice, choose, find_again, input_devices
from nano_agent_ros.speech.levels import LevelMeter
from nano_agent_ros.speech.portaudio import (
    TYPED,
    NoPortAudio,
    abandon,
    close_input,
    open_input,
    refresh,
    sounddevice,
)

SEARCH_S = (0.5, 5.0)
"""How long to wait before a lost device is looked for again: at first, and at most (it doubles each time)."""

RATES = (48_000, 44_100, 16_000)
"""Tried in this order if a device refuses the rate that it calls its own."""

VIRTUAL = 16
"""A device that claims more channels is no hardware but a plug-in (ALSA's default, pulse) that mixes to any number."""

GIVE_UP_S = 2.0
MISSING = np.empty(0, np.float32)


class Capture:
    """One opening of a device: PortAudio's own thread calls `deliver(capture, frames)`; None: the stream has ended."""

    def __init__(
        self,
        device: InputDevice,
        channel: int | None,
        chunk_s: float,
        deliver: Callable[[Capture, np.ndarray | None], None],
    ) -> None:
        """Open, with as many channels as `channel` or the average of all needs; raises SpeechError."""
        if channel is not None and channel >= device.channels:
            raise SpeechError(
                f"microphone {device.name!r} has no channel {channel}: it has {device.channels}, and the first is 0"
            )
        self.device, self.channel = device, channel
        self.overflows = 0
        self._deliver = deliver
        sd = sounddevice()
        refused: Exception | None = None
        for rate in dict.fromkeys((device.sample_rate, *RATES)):
            for count in self._counts():
                try:
                    self._stream = open_input(
                        device=device.index,
                        channels=count,
                        samplerate=rate,
                        blocksize=round(chunk_s * rate),
                        dtype="float32",
                        callback=self._on_audio,
                        finished_callback=lambda: self._deliver(self, None),
                    )
                except (sd.PortAudioError, ValueError) as error:
                    refused = refused or error
                    continue
                self.sample_rate, self.channels = rate, count
                self.converter = Converter(rate, channel)
                return
        raise SpeechError(
            f"microphone {device.name!r} cannot be opened: {refused}; does another program use it? {TYPED}"
        ) from refused

    def _counts(self) -> tuple[int, ...]:
        every, needed = self.device.channels, 1 if self.channel is None else self.channel + 1
        return tuple(dict.fromkeys((every, needed) if every <= VIRTUAL else (needed, every)))

    def _on_audio(self, frames: np.ndarray, count: int, when: Any, status: Any) -> None:
        if status.input_overflow:
            self.overflows += 1
        self._deliver(self, frames.copy())

    def start(self) -> None:
        """Begin to deliver; raises SpeechError."""
        sd = sounddevice()
        try:
            self._stream.start()
        except sd.PortAudioError as error:
            self.close()
            raise SpeechError(f"microphone {self.device.name!r} cannot be started: {error}; {TYPED}") from error

    def close(self) -> None:
        """Cease; takes as long as the driver does."""
        self._deliver = lambda *_: None
        with contextlib.suppress(sounddevice().PortAudioError):
            close_input(self._stream)


class MicrophoneSource:
    """An input device of PortAudio, captured at its own rate and converted to 16 kHz mono.

    `device` is an index, a name or a part of one, or None for the system's default (devices.py); `channel` is the one
    channel of it to hear (0 is the first), None the average of all. What is not taken within `buffer_s` is dropped and
    counted in `overflows`, as is what the driver lost.

    A device that ends, or delivers nothing for `stall_s`, is lost: `chunks` yields one empty chunk, `trouble` and
    `on_trouble(text)` say so once, and it is looked for until it is back, which `on_trouble("")` says. Raises
    SpeechError if there is no such device, unless `patient`: then it is looked for as one that was lost.
    """

    def __init__(
        self,
        device: int | str | None = None,
        *,
        channel: int | None = None,
        chunk_s: float = 0.1,
        buffer_s: float = 30.0,
        stall_s: float = 3.0,
        patient: bool = False,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        """Open and start the device."""
        self.levels = LevelMeter()
        self.trouble = ""
        self.times_lost = 0
        self._wanted = device
        self._channel = channel
        self._chunk_s, self._stall_s = chunk_s, stall_s
        self._on_trouble = on_trouble or (lambda text: None)
        self._queue: queue.Queue[tuple[Capture | None, np.ndarray | None]] = queue.Queue(round(buffer_s / chunk_s) + 1)
        self._dropped = 0
        self._obstacle = ""  # what the last search came upon
        self._found: InputDevice | None = None  # as it was when it was last opened
        self._capture: Capture | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._search: threading.Thread | None = None
        try:
            self._open()
        except (NoPortAudio, AmbiguousDevice):
            raise
        except SpeechError as error:
            if not patient:
                raise
            self._look_for_it(None, str(error))

    @property
    def name(self) -> str:
        """Name of the device; what was asked for if it was never there."""
        return self._found.name if self._found else str(self._wanted or "default")

    @property
    def overflows(self) -> int:
        """How often sound was dropped: by the driver, or because nobody took it."""
        return self._dropped + (self._capture.overflows if self._capture else 0)

    def _open(self) -> None:
        devices = input_devices()
        again = self._found is not None and self._wanted not in (None, "")
        device = find_again(devices, self._found) if again and self._found else choose(devices, self._wanted)
        capture = Capture(device, self._channel, self._chunk_s, self._put)
        capture.start()
        with self._lock:
            if not self._closed.is_set():
                self._found, self._capture = device, capture
                return
        capture.close()

    def _put(self, capture: Capture, frames: np.ndarray | None) -> None:
        try:
            self._queue.put_nowait((capture, frames))
        except queue.Full:
            self._dropped += 1

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield float32 [n] at 16 kHz until `close`; an empty one where the device was lost."""
        while not self._closed.is_set():
            capture = self._capture
            try:
                source, frames = self._queue.get(timeout=self._stall_s if capture else 0.5)
            except queue.Empty:
                if capture is not None and capture is self._capture:
                    self._look_for_it(capture, f"it has delivered no audio for {self._stall_s:.0f} s")
                    yield MISSING
                continue
            if source is None or source is not self._capture:
                continue
            if frames is None:
                self._look_for_it(source, "it was unplugged, or the sound server has ended")
                yield MISSING
                continue
            if self.trouble:
                self._tell("")
            self.levels.add(frames if source.channel is None else frames[:, source.channel], source.sample_rate)
            samples = source.converter.push(frames)
            if samples.size:
                yield samples

    def _look_for_it(self, lost: Capture | None, why: str) -> None:
        self._capture = None
        if lost is not None:
            self._dropped += lost.overflows
            why = f"microphone {lost.device.name!r} is lost: {why}; it is looked for until it is back; {TYPED}"
            self.times_lost += not self.trouble
        if not self.trouble:
            self._tell(why)
        self._search = threading.Thread(target=self._search_for, args=(lost,), name="microphone", daemon=True)
        self._search.start()

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble
        self._on_trouble(trouble)

    def _search_for(self, lost: Capture | None) -> None:
        if lost is not None:
            lost.close()
        wait_s, longest_s = SEARCH_S
        while not self._closed.wait(wait_s):
            try:
                refresh()
                self._open()
            except SpeechError as error:
                self._obstacle = str(error)
                wait_s = min(2 * wait_s, longest_s)
            else:
                return

    def close(self) -> None:
        """Stop the device and end `chunks`. A driver that hangs is left alone after GIVE_UP_S."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        with contextlib.suppress(queue.Full):  # full: the consumer is not waiting and will see _closed
            self._queue.put_nowait((None, None))
        threads = [self._search] if self._search else []
        if self._capture is not None:
            threads.append(threading.Thread(target=self._capture.close, name="microphone", daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(GIVE_UP_S)
            if thread.is_alive():
                abandon()

    def problem(self) -> str:
        """What is wrong with the level; empty if nothing is."""
        return self.levels.recent().problem

    def details(self) -> dict[str, object]:
        """Device, format and losses."""
        found, capture = self._found, self._capture
        shown: dict[str, object] = {"microphone": self.name, "times_lost": self.times_lost, "overflows": self.overflows}
        if found and capture:
            heard = "average of all" if self._channel is None else f"channel {self._channel}"
            shown |= {"microphone": found.full_name, "sample_rate_hz": capture.sample_rate}
            shown["channels"] = f"{capture.channels} ({heard})"
        elif self._obstacle:
            shown["search"] = self._obstacle
        return shown

    def report(self) -> str:
        """Name, rate, level and losses of the microphone."""
        if self._capture is None:
            return f"microphone {self.name!r}: not there, {self.levels}"
        lost = f", {self.overflows} overflows" if self.overflows else ""
        return f"microphone {self.name!r}: {self._capture.sample_rate} Hz, {self.levels}{lost}"
