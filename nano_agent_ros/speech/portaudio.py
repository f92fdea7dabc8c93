"""PortAudio, of which a process has one: loaded when asked for, its streams counted, its devices looked up anew.

PortAudio lists the devices once, when it is initialised. To see one that was plugged in later it must be terminated and
initialised again, which closes every stream of this process (never one of another process): `refresh` does so only
while no stream that was opened here is open.
"""

from __future__ import annotations

import atexit
import threading
from types import ModuleType
from typing import Any

from nano_agent_ros.speech.audio import SpeechError

TYPED = 'typed commands still work: nano-agent ask "go to dock three"'

_LOCK = threading.Lock()
_OPEN: set[int] = set()


class NoPortAudio(SpeechError):
    """The library is not installed, which no waiting will change."""


def sounddevice() -> ModuleType:
    """The Python module over PortAudio; raises NoPortAudio with the way to get it."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise NoPortAudio(
            f"no microphone found: {error}; install PortAudio (apt-get install libportaudio2) and "
            f"pip install sounddevice; {TYPED}"
        ) from error
    return sounddevice


def open_input(**settings: Any) -> Any:
    """A sounddevice.InputStream, not started yet, to be closed by `close_input`; raises sounddevice.PortAudioError."""
    with _LOCK:
        stream = sounddevice().InputStream(**settings)
        _OPEN.add(id(stream))
    return stream


def open_output(**settings: Any) -> Any:
    """A sounddevice.OutputStream, likewise."""
    with _LOCK:
        stream = sounddevice().OutputStream(**settings)
        _OPEN.add(id(stream))
    return stream


def close_input(stream: Any) -> None:
    """Stop and close. Takes as long as the driver does, which may be for ever if it hangs."""
    stream.abort()
    stream.close()
    with _LOCK:
        _OPEN.discard(id(stream))


def refresh() -> bool:
    """Look up the devices anew; False if a stream is open, which it would close. Raises SpeechError."""
    sd = sounddevice()
    with _LOCK:
        if _OPEN:
            return False
        try:
            if sd._initialized:
                sd._terminate()
            sd._initialize()
        except sd.PortAudioError as error:
            raise SpeechError(f"the sound system cannot be asked for its devices: {error}; {TYPED}") from error
        return True


def abandon() -> None:
    """Let the process end although a stream cannot be closed: at its end sounddevice would wait for that."""
    atexit.unregister(sounddevice()._exit_handler)
