"""The microphone: a private PulseAudio daemon plays a file into the real capture path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "config/audio/demo.wav"
PLAYED_S = 8.5
"""The first two lines of the demo."""

CAPTURE = """
import sys
from nano_agent_ros.speech import Endpointer, MicrophoneSource, SpeechError
try:
    source = MicrophoneSource(sys.argv[1] or None, stall_s=3.0)
    print("ready", flush=True)
    endpointer, heard = Endpointer(), []
    for chunk in source.chunks():
        assert chunk.dtype.name == "float32" and chunk.ndim == 1
        for utterance in endpointer.feed(chunk):
            heard.append(utterance)
            print(f"utterance {utterance.duration_s:.2f}", flush=True)
        if len(heard) == int(sys.argv[2]):
            source.close()
    source.close()
    print(source.report())
except SpeechError as error:
    print("SpeechError:", error)
"""


class Sound:
    """A PulseAudio daemon of the test's own: what is played to its null sink is what its microphone hears."""

    def __init__(self, folder: Path) -> None:
        socket = folder / "native"
        (folder / "asound.conf").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        self.environment = os.environ | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": f"unix:{socket}",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PYTHONPATH": str(ROOT),
        }
        modules = [
            f"module-native-protocol-unix socket={socket} auth-anonymous=1",
            "module-null-sink sink_name=speaker",
            "module-remap-source master=speaker.monitor source_name=mic",
        ]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        self.log = folder / "pulseaudio.log"
        with self.log.open("w") as log:
            self.daemon = subprocess.Popen(
                command + [word for module in modules for word in ("-L", module)],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> bool:
        """Return whether the daemon has come up."""
        deadline = time.monotonic() + 60
        command = ["pactl", "set-default-source", "mic"]
        while time.monotonic() < deadline and self.daemon.poll() is None:
            if subprocess.run(command, env=self.environment, capture_output=True).returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def capture(self, device: str = "", utterances: int = 0) -> subprocess.Popen[str]:
        """Listen in a process of its own: PortAudio reads its configuration once in a process."""
        command = [sys.executable, "-c", CAPTURE, device, str(utterances)]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def stop(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(timeout=60)


@pytest.fixture
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    missing = [program for program in ("pulseaudio", "pactl", "paplay") if not shutil.which(program)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (apt-get install pulseaudio pulseaudio-utils)")
    sound = Sound(tmp_path_factory.mktemp("pulse"))
    try:
        if not sound.wait():
            pytest.skip(f"PulseAudio does not start here: {sound.log.read_text()[-300:]}")
        yield sound
    finally:
        sound.stop()


def started(listener: subprocess.Popen[str]) -> None:
    assert listener.stdout is not None
    first = listener.stdout.readline()
    if "PortAudio library" in first or "no microphone found: Error querying device" in first:
        listener.wait(timeout=60)
        pytest.skip(f"no capture (apt-get install libportaudio2 libasound2-plugins): {first.strip()}")
    assert first.strip() == "ready", first


def test_what_is_played_into_the_microphone_comes_out_as_utterances(sound: Sound, tmp_path: Path) -> None:
    audio, rate = soundfile.read(DEMO, dtype="float32", stop=int(PLAYED_S * 16_000))
    silence = np.zeros(rate, np.float32)
    soundfile.write(tmp_path / "part.wav", np.concatenate([audio, silence]), rate)
    listener = sound.capture(utterances=2)
    started(listener)
    subprocess.run(
        ["paplay", "--device=speaker", str(tmp_path / "part.wav")], env=sound.environment, check=True, timeout=60
    )
    output, _ = listener.communicate(timeout=120)
    first, second, report = output.splitlines()
    assert float(first.split()[1]) == pytest.approx(2.2, abs=0.4)
    assert float(second.split()[1]) == pytest.approx(3.2, abs=0.4)
    assert "microphone" in report and "silent" not in report


def test_an_unknown_microphone_is_an_error_that_lists_the_known(sound: Sound) -> None:
    output, _ = sound.capture(device="no such device").communicate(timeout=120)
    if "['" not in output:
        pytest.skip(f"no capture (apt-get install libportaudio2 libasound2-plugins): {output}")
    assert "no microphone found" in output and "default" in output and "typed commands still work" in output


def test_a_microphone_that_dies_is_an_error_and_hangs_nobody(sound: Sound) -> None:
    listener = sound.capture(utterances=1)
    started(listener)
    sound.stop()
    output, _ = listener.communicate(timeout=120)
    assert "SpeechError" in output and "no audio for 3 s" in output


def test_no_microphone_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "asound.conf").write_text("</usr/share/alsa/alsa.conf>\npcm.!default { type hw card 99 }\n")
    environment = os.environ | {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CAPTURE, "", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as it:
        assert it.stdout is not None
        first = it.stdout.readline()
        it.kill()
    if first.strip() == "ready":
        pytest.skip("this machine has a microphone")
    assert first.startswith("SpeechError: no microphone found: ")
    assert "WAV file" in first or "apt-get install libportaudio2" in first
    assert "typed commands still work" in first
