"""The microphone: a private PulseAudio daemon plays a file into the real capture path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.pulse import Pulse

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


def capture(pulse: Pulse, device: str = "", utterances: int = 0) -> subprocess.Popen[str]:
    """Listen in a process of its own: PortAudio reads its configuration once in a process."""
    command = [sys.executable, "-c", CAPTURE, device, str(utterances)]
    return subprocess.Popen(
        command, env=pulse.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def started(listener: subprocess.Popen[str]) -> None:
    assert listener.stdout is not None
    first = listener.stdout.readline()
    if "PortAudio library" in first or "no microphone found: Error querying device" in first:
        listener.wait(timeout=60)
        pytest.skip(f"no capture (apt-get install libportaudio2 libasound2-plugins): {first.strip()}")
    assert first.strip() == "ready", first


def test_what_is_played_into_the_microphone_comes_out_as_utterances(pulse: Pulse) -> None:
    audio, rate = soundfile.read(DEMO, dtype="float32", stop=int(PLAYED_S * 16_000))
    listener = capture(pulse, utterances=2)
    started(listener)
    pulse.play(np.concatenate([audio, np.zeros(rate, np.float32)]), rate)
    output, _ = listener.communicate(timeout=120)
    first, second, report = output.splitlines()
    assert float(first.split()[1]) == pytest.approx(2.2, abs=0.4)
    assert float(second.split()[1]) == pytest.approx(3.2, abs=0.4)
    assert "microphone" in report and "silent" not in report


def test_an_unknown_microphone_is_an_error_that_lists_the_known(pulse: Pulse) -> None:
    output, _ = capture(pulse, device="no such device").communicate(timeout=120)
    if "['" not in output:
        pytest.skip(f"no capture (apt-get install libportaudio2 libasound2-plugins): {output}")
    assert "no microphone found" in output and "default" in output and "typed commands still work" in output


def test_a_microphone_that_dies_is_an_error_and_hangs_nobody(pulse: Pulse) -> None:
    listener = capture(pulse, utterances=1)
    started(listener)
    pulse.stop()
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
