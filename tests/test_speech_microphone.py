"""The microphone: a private PulseAudio daemon plays a file into the real capture path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.pulse import Pulse
from nano_agent_ros.speech import Endpointer

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "config/audio/demo.wav"
PLAYED_S = 8.5
"""The first two lines of the demo."""

CAPTURE = """
import sys
from nano_agent_ros.speech import Endpointer, MicrophoneSource, SpeechError
def tell(trouble):
    print("trouble", trouble, flush=True)
try:
    source = MicrophoneSource(sys.argv[1] or None, stall_s=3.0, on_trouble=tell)
    print("ready", flush=True)
    endpointer, heard, began = Endpointer(), [], False
    for chunk in source.chunks():
        assert chunk.dtype.name == "float32" and chunk.ndim == 1
        for utterance in endpointer.feed(chunk) if chunk.size else endpointer.flush(lost=True):
            heard.append(utterance)
            print("utterance", f"{utterance.duration_s:.2f}", "lost" if utterance.lost else "", flush=True)
        if endpointer.speech() and not began:
            print("speaking", flush=True)
        began = endpointer.speech() is not None
        if len(heard) == int(sys.argv[2]):
            source.close()
    source.close()
    print(source.report(), "lost:", source.times_lost)
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
    assert first.strip() == "ready", first


def test_what_is_played_into_the_microphone_comes_out_as_utterances(pulse: Pulse) -> None:
    audio, rate = soundfile.read(DEMO, dtype="float32", stop=int(PLAYED_S * 16_000))
    listener = capture(pulse, utterances=2)
    started(listener)
    pulse.play(np.concatenate([audio, np.zeros(rate, np.float32)]), rate)
    output, _ = listener.communicate(timeout=120)
    first, second, report = [line for line in output.splitlines() if line != "speaking"]
    assert float(first.split()[1]) == pytest.approx(2.2, abs=0.4)
    assert float(second.split()[1]) == pytest.approx(3.2, abs=0.4)
    assert "microphone" in report and "silent" not in report


def test_an_unknown_microphone_is_an_error_that_lists_the_known(pulse: Pulse) -> None:
    output, _ = capture(pulse, device="no such device").communicate(timeout=120)
    assert "no microphone found" in output and "default" in output and "typed commands still work" in output


def test_a_microphone_that_is_lost_in_mid_speech_is_told_once_and_heard_again_when_it_is_back(pulse: Pulse) -> None:
    audio, rate = soundfile.read(DEMO, dtype="float32", stop=4 * 16_000)
    (said,) = Endpointer().feed(audio)
    voice = said.samples[round(0.3 * rate) : -round(0.2 * rate)]  # without pre-roll and post-roll
    listener = capture(pulse, device="mic", utterances=2)
    started(listener)
    assert listener.stdout is not None
    player = pulse.player(np.concatenate([voice] * 20), rate)
    assert listener.stdout.readline() == "speaking\n"
    pulse.stop()
    player.wait(timeout=60)
    lines = [listener.stdout.readline().strip() for _ in range(2)]
    assert lines[0].startswith("trouble microphone 'mic' is lost") and lines[1].endswith("lost"), lines
    pulse.start()
    assert listener.stdout.readline().strip() == "trouble"  # over
    pulse.play(np.concatenate([audio, np.zeros(rate, np.float32)]), rate)
    output, _ = listener.communicate(timeout=120)
    speaking, again, report = output.splitlines()
    assert speaking == "speaking" and float(again.split()[1]) == pytest.approx(2.2, abs=0.4)
    assert "mic" in report and report.endswith("lost: 1")


def test_a_sound_server_that_hangs_hangs_nobody(pulse: Pulse) -> None:
    listener = capture(pulse, device="mic", utterances=1)
    started(listener)
    assert listener.stdout is not None
    with pulse.frozen():
        line = listener.stdout.readline()
        assert "no audio for 3 s" in line
    assert listener.stdout.readline().strip() == "trouble"
    audio, rate = soundfile.read(DEMO, dtype="float32", stop=4 * 16_000)
    pulse.play(np.concatenate([audio, np.zeros(rate, np.float32)]), rate)
    output, _ = listener.communicate(timeout=120)
    assert "utterance" in output and output.splitlines()[-1].endswith("lost: 1")


def test_the_command_lists_and_tests_microphones(pulse: Pulse) -> None:
    def audio(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nano_agent_ros.cli", "audio", *options]
        return subprocess.run(command, env=pulse.environment, capture_output=True, text=True, timeout=120)

    listed = audio("--json")
    devices = {found["name"]: found for found in json.loads(listed.stdout)}
    assert devices["default"]["default"] and devices["mic"]["host_api"] == "ALSA" and not devices["mic"]["default"]
    rows = audio().stdout.splitlines()
    assert len(rows) == 1 + len(devices) and "host API" in rows[0]
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000 * 60) / 16_000).astype(np.float32)
    player = pulse.player(tone)
    heard = audio("--test", "1.5", "--device", "MIC", "--json")
    result = json.loads(heard.stdout)
    loud = audio("--test", "1.5", "--device", "mic")
    player.terminate()
    player.wait(timeout=60)
    assert result["microphone"] == "mic, ALSA" and result["clipped_percent"] == 0.0
    assert result["peak_dbfs"] == pytest.approx(-6.0, abs=0.3) and heard.returncode == loud.returncode == 0
    assert "peak_dbfs" in loud.stdout and "problem" not in loud.stdout
    quiet = audio("--test", "1")
    assert quiet.returncode == 1 and "silent" in quiet.stdout
    unknown = audio("--test", "1", "--device", "no such")
    assert unknown.returncode == 2 and "choose one of" in unknown.stderr


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
