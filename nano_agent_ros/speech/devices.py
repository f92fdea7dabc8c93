"""Input devices: what there is, and which one is meant by an index or a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.portaudio import TYPED, sounddevice

ALSA_ADDRESS = re.compile(r"\s*\(hw:\d+,\d+\)$")
"""What PortAudio appends to the names of ALSA's devices; the card's number changes when it is plugged in again."""


class AmbiguousDevice(SpeechError):
    """A name that several devices have; the message lists them."""


@dataclass(frozen=True)
class InputDevice:
    """A device that can be listened to; `sample_rate` is its own, in Hz, `channels` how many it has at most."""

    index: int
    name: str
    host_api: str
    channels: int
    sample_rate: int
    default: bool

    @property
    def bare_name(self) -> str:
        """The name without ALSA's card number."""
        return ALSA_ADDRESS.sub("", self.name)

    @property
    def full_name(self) -> str:
        """The name with the host API, which tells devices apart that several of them offer."""
        return f"{self.name}, {self.host_api}"


def input_devices() -> list[InputDevice]:
    """Every input device, in PortAudio's order, as it was when PortAudio was initialised. Raises SpeechError."""
    sd = sounddevice()
    try:
        apis = sd.query_hostapis()
        default = sd.default.device[0]
        if default < 0:
            default = apis[sd.default.hostapi]["default_input_device"] if apis else -1
        return [
            InputDevice(
                index=int(found["index"]),
                name=str(found["name"]),
                host_api=str(apis[found["hostapi"]]["name"]),
                channels=int(found["max_input_channels"]),
                sample_rate=int(found["default_samplerate"]),
                default=found["index"] == default,
            )
            for found in sd.query_devices()
            if found["max_input_channels"] > 0
        ]
    except sd.PortAudioError as error:
        raise SpeechError(f"no microphone found: {error}; {TYPED}") from error


def choose(devices: Sequence[InputDevice], wanted: int | str | None = None) -> InputDevice:
    """The device of an index, of a name, or (None or empty) the system's default.

    A name that is exactly a device's wins, then one that is so but for case or ALSA's card number, then a part of
    one name, case aside. Raises SpeechError naming the devices there are, AmbiguousDevice naming those that are meant.
    """
    if isinstance(wanted, str):
        wanted = wanted.strip()
        wanted = int(wanted) if re.fullmatch(r"\d+", wanted) else wanted or None
    if wanted is None:
        found = [d for d in devices if d.default] or list(devices)[:1]
        if not found:
            raise _unknown(devices, "the system has no input device")
        return found[0]
    if isinstance(wanted, int):
        found = [d for d in devices if d.index == wanted]
        if not found:
            raise _unknown(devices, f"no input device has the index {wanted}")
        return found[0]
    lower = wanted.casefold()
    stages: tuple[Callable[[InputDevice], bool], ...] = (
        lambda d: wanted in (d.name, d.full_name),
        lambda d: lower in (d.name.casefold(), d.full_name.casefold()),
        lambda d: lower == d.bare_name.casefold(),
        lambda d: lower in d.full_name.casefold(),
    )
    for matches in stages:
        found = [d for d in devices if matches(d)]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousDevice(
                f"microphone {wanted!r} is ambiguous: {_listed(found)}; give more of the name, or the index; {TYPED}"
            )
    raise _unknown(devices, f"no input device is called {wanted!r}")


def find_again(devices: Sequence[InputDevice], before: InputDevice) -> InputDevice:
    """The device that was lost, wherever it is now: indices and card numbers change. Raises as `choose` does."""
    same = [d for d in devices if (d.name, d.host_api) == (before.name, before.host_api)]
    if len(same) == 1:
        return same[0]
    like = [d for d in devices if (d.bare_name, d.host_api) == (before.bare_name, before.host_api)]
    if len(like) == 1:
        return like[0]
    if like:
        raise AmbiguousDevice(f"microphone {before.name!r} came back ambiguous: {_listed(like)}; {TYPED}")
    raise _unknown(devices, f"no input device is called {before.name!r}")


def _listed(devices: Sequence[InputDevice]) -> str:
    return str([f"{d.index}: {d.full_name}" for d in devices])


def _unknown(devices: Sequence[InputDevice], why: str) -> SpeechError:
    way_out = f"choose one of {_listed(devices)}" if devices else "connect one or give a WAV file"
    return SpeechError(f"no microphone found: {why}; {way_out}; {TYPED}")
