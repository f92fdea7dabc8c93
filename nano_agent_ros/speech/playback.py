"""The loudspeaker: sound goes out through PortAudio and can be silenced within one block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import soxr

from nano_agent_ros.speech import portaudio
from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.voice import SILENT, Sound


class Loudspeaker:
    """An output device of PortAudio, at its own rate. One thread calls all of it but `hush`, which any may.

    `device` is an index, part of a name that no other device has, or None for the system's default. It is open from
    `play` to `rest` only: between them others may have it, and it may come and go. (PortAudio waits for ever if it is
    to start a stream of ALSA whose device was lost while the stream was stopped.)
    """

    def __init__(
        self, device: int | str | None = None, *, block_s: float = 0.02, latency_s: float = 0.1, stall_s: float = 3.0
    ) -> None:
        """See that the device can be opened; raises SpeechError.

        block_s: sound that is handed over at a time. latency_s: sound that the driver keeps in advance; more survives
        a busier machine. stall_s: a device that takes no sound for so long is lost.
        """
        self._device, self._block_s, self._latency_s, self._stall_s = device, block_s, latency_s, stall_s
        self.name, self.sample_rate, self.underruns = "", 0, 0
        self._samples: np.ndarray | None = None
        self._at = 0
        self._finished = threading.Event()
        self._stream: Any = None  # open between `play` and `rest`
        portaudio.close_input(self._opened())

    def play(
        self, sound: Sound, cut: threading.Event, volume: float = 1.0, on_begin: Callable[[], None] | None = None
    ) -> bool:
        """Play a sound and return whether all of it was handed over; `rest` then waits until it was heard.

        Ends early once `cut` is set and `hush` was called (in this order). `on_begin` is called when the device runs
        and the sound is about to follow. Raises SpeechError if the device is lost.
        """
        self._run()
        samples = np.ascontiguousarray(sound.samples, dtype=np.float32) * np.float32(volume)
        if sound.sample_rate != self.sample_rate:
            samples = soxr.resample(samples, sound.sample_rate, self.sample_rate)
        if cut.is_set():
            return False
        if on_begin is not None:
            on_begin()
        self._finished.clear()
        self._at, self._samples = 0, samples.clip(-1.0, 1.0)
        if cut.is_set():  # hush may have come before there was anything to silence
            self.hush()
        if not self._finished.wait(len(samples) / self.sample_rate + self._stall_s):
            self._close()
            raise SpeechError(f"loudspeaker {self.name!r} takes no sound any more; is it connected? {SILENT}")
        if cut.is_set():
            self._close()
            return False
        return True

    def hush(self) -> None:
        """Be silent from the next block on; what the driver keeps in advance is thrown away by `play`."""
        self._samples = None
        self._finished.set()

    def rest(self, cut: threading.Event) -> bool:
        """Wait until all was heard, and close the device; False if it was cut before."""
        if self._stream is None:
            return True
        heard = not cut.wait(self._stream.latency)
        if heard:
            self._stream.stop()  # which waits for what the driver still keeps
        self._close()
        return heard

    def close(self) -> None:
        """Be silent and release the device; harmless when repeated."""
        self.hush()
        self._close()

    def report(self) -> str:
        """Name, rate and losses of the loudspeaker."""
        lost = f", {self.underruns} underruns" if self.underruns else ""
        return f"loudspeaker {self.name!r}: {self.sample_rate} Hz{lost}"

    def _opened(self) -> Any:
        sd = _sounddevice()
        info = _find(sd, self._device)
        self.name, self.sample_rate = str(info["name"]), int(info["default_samplerate"])
        settings = {
            "device": info["index"],
            "samplerate": self.sample_rate,
            "blocksize": max(1, round(self._block_s * self.sample_rate)),
            "latency": self._latency_s,
            "dtype": "float32",
            "callback": self._on_block,
        }
        try:
            try:
                return portaudio.open_output(channels=1, **settings)
            except sd.PortAudioError:
                # Raw ALSA devices often offer their full channel count only.
                return portaudio.open_output(channels=info["max_output_channels"], **settings)
        except sd.PortAudioError as error:
            others = f"choose another of {list_loudspeakers()}"
            raise SpeechError(f"loudspeaker {self.name!r} cannot be opened: {error}; {others}; {SILENT}") from error

    def _on_block(self, block: np.ndarray, count: int, when: Any, status: Any) -> None:
        self.underruns += bool(status.output_underflow)
        samples, at = self._samples, self._at
        if samples is None:
            block.fill(0.0)
            return
        part = samples[at : at + count]
        block[: len(part)] = part[:, None]
        block[len(part) :] = 0.0
        self._at = at + len(part)
        if self._at >= len(samples) and self._samples is samples:
            self._samples = None
            self._finished.set()

    def _run(self) -> None:
        """Have the device open and running, wherever it is now."""
        if self._stream is not None:
            return
        try:
            self._stream = self._opened()
        except SpeechError:
            if not portaudio.refresh():
                raise
            self._stream = self._opened()
        try:
            self._stream.start()
        except _sounddevice().PortAudioError as error:
            self._close()
            raise SpeechError(f"loudspeaker {self.name!r} cannot be started: {error}; {SILENT}") from error

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            portaudio.close_input(stream)  # what the driver still keeps is not heard any more


def list_loudspeakers() -> list[str]:
    """Return "index: name" of every output device; raises SpeechError without PortAudio."""
    devices = _sounddevice().query_devices()
    return [f"{d['index']}: {d['name']}" for d in devices if d["max_output_channels"] > 0]


def _sounddevice() -> ModuleType:
    try:
        return portaudio.sounddevice()
    except portaudio.NoPortAudio as error:
        raise SpeechError(
            f"no loudspeaker found: {error.__cause__}; install PortAudio (apt-get install libportaudio2) and "
            f"pip install sounddevice; {SILENT}"
        ) from error


def _find(sd: ModuleType, device: int | str | None) -> dict[str, Any]:
    if isinstance(device, str):
        device = int(device) if device.strip().isdigit() else device.strip() or None
    try:
        return dict(sd.query_devices(device, "output"))
    except (ValueError, sd.PortAudioError) as error:  # several that are called so are a ValueError too
        known = list_loudspeakers()
        way_out = f"choose one of {known}" if known else "connect one"
        raise SpeechError(f"no loudspeaker found: {error}; {way_out}; {SILENT}") from error
