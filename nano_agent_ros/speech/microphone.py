"""The microphone as a source: PortAudio's callback fills a queue, `chunks` empties it."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from nano_agent_ros.speech.audio import Converter, LevelMeter, SpeechError

TYPED = 'typed commands still work: nano-agent ask "go to dock three"'


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise SpeechError(
            f"no microphone found: {error}; install PortAudio (apt-get install libportaudio2) and "
            f"pip install sounddevice; {TYPED}"
        ) from error
    return sounddevice


def list_microphones() -> list[str]:
    """Return "index: name" of every input device; raises SpeechError without PortAudio."""
    devices = _sounddevice().query_devices()
    return [f"{d['index']}: {d['name']}" for d in devices if d["max_input_channels"] > 0]


class MicrophoneSource:
    """An input device of PortAudio, captured at its own rate and converted to 16 kHz mono.

    `device` is an index, part of a name, or None for the system's default. What is not taken within `buffer_s`
    is dropped and counted in `overflows`, as is what the driver lost. Raises SpeechError if there is no such
    device, and from `chunks` if it stops delivering for `stall_s`.
    """

    def __init__(
        self,
        device: int | str | None = None,
        *,
        chunk_s: float = 0.1,
        buffer_s: float = 30.0,
        stall_s: float = 5.0,
    ) -> None:
        """Open and start the device."""
        sd = _sounddevice()
        self.levels = LevelMeter()
        self.overflows = 0
        self._stall_s = stall_s
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=max(1, round(buffer_s / chunk_s)))
        self._closed = False
        info = self._find(sd, device)
        self.name = str(info["name"])
        self.sample_rate = int(info["default_samplerate"])
        try:
            self._stream = self._open(sd, info, chunk_s)
            self._stream.start()
        except sd.PortAudioError as error:
            raise SpeechError(
                f"microphone {self.name!r} cannot be opened: {error}; choose another of {list_microphones()}; {TYPED}"
            ) from error

    @staticmethod
    def _find(sd: ModuleType, device: int | str | None) -> dict[str, Any]:
        if isinstance(device, str):
            device = int(device) if device.strip().isdigit() else device.strip() or None
        try:
            return dict(sd.query_devices(device, "input"))
        except (ValueError, sd.PortAudioError) as error:
            known = list_microphones()
            way_out = f"choose one of {known}" if known else "connect one or give a WAV file"
            raise SpeechError(f"no microphone found: {error}; {way_out}; {TYPED}") from error

    def _open(self, sd: ModuleType, info: dict[str, Any], chunk_s: float) -> Any:
        wanted = {
            "device": info["index"],
            "samplerate": self.sample_rate,
            "blocksize": round(chunk_s * self.sample_rate),
            "dtype": "float32",
            "callback": self._on_audio,
        }
        try:
            return sd.InputStream(channels=1, **wanted)
        except sd.PortAudioError:
            # Raw ALSA devices often offer their full channel count only.
            return sd.InputStream(channels=info["max_input_channels"], **wanted)

    def _on_audio(self, frames: np.ndarray, count: int, when: Any, status: Any) -> None:
        if status.input_overflow:
            self.overflows += 1
        try:
            self._queue.put_nowait(frames.copy())
        except queue.Full:
            self.overflows += 1

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield float32 [n] at 16 kHz until `close`; raises SpeechError if the device stops delivering."""
        converter = Converter(self.sample_rate)
        while not self._closed:
            try:
                frames = self._queue.get(timeout=self._stall_s)
            except queue.Empty:
                raise SpeechError(
                    f"microphone {self.name!r} has delivered no audio for {self._stall_s:.0f} s; "
                    f"check that it is connected and start listening again; {TYPED}"
                ) from None
            if frames is None:
                return
            samples = converter.push(frames)
            self.levels.add(samples)
            if samples.size:
                yield samples

    def close(self) -> None:
        """Stop the device and end `chunks`."""
        if self._closed:
            return
        self._closed = True
        self._stream.close()
        with contextlib.suppress(queue.Full):  # full: the consumer is not waiting and will see _closed
            self._queue.put_nowait(None)

    def report(self) -> str:
        """Name, rate, level and losses of the microphone."""
        lost = f", {self.overflows} overflows" if self.overflows else ""
        return f"microphone {self.name!r}: {self.sample_rate} Hz, {self.levels}{lost}"
