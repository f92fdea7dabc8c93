"""The way of sound, whole: speech in noise from a loudspeaker, a microphone, the listener node, words and a stop.

What is said is synthesised (Piper); PulseAudio, PortAudio, Silero, Whisper and the node are the real ones.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench import speech
from bench.harness import Row
from bench.listening import TAIL_S, Ears
from bench.pulse import Pulse, PulseError
from bench.sound import RATE, mix, warehouse
from bench.speech_noise import poisson_interval
from nano_agent_ros.msg import Transcript
from nano_agent_ros.speech import Endpointer

ROOT = Path(__file__).resolve().parent.parent
SNR_DB = 10.0


def said(path: Path) -> list[np.ndarray]:
    """What is said in a recording, one by one."""
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    endpointer = Endpointer()
    return [utterance.samples for utterance in endpointer.feed(samples) + endpointer.flush()]


def test_speech_in_noise_becomes_words_and_a_stop_reaches_the_robot(pulse: Pulse, tmp_path: Path) -> None:
    demo, stops = said(ROOT / "config/audio/demo.wav"), said(ROOT / "tests/audio/stops.flac")
    clips = [np.pad(clip, (RATE // 2, round(TAIL_S * RATE))) for clip in (demo[1], stops[1])]
    noise = warehouse(10.0, seed=2, speech=demo)
    with Ears(pulse, tmp_path) as ears:
        command, stop = (ears.hear(clip, mix(clip, noise, SNR_DB)) for clip in clips)
        log = ears.listener.said()
    assert "blue bin" in command.text.lower() and "packing station" in command.text.lower(), log
    assert command.gates[0] == Transcript.GATE_ACCEPTED and command.stop_s is None, log
    assert "stop" in stop.text.lower() and Transcript.GATE_STOP in stop.gates, log
    assert stop.stop_s is not None and stop.stop_s > -1.5, "not before anybody said it"
    assert command.transcript_s is not None and command.transcript_s > 0.0


def test_a_listener_without_a_microphone_is_an_error_that_tells_why(pulse: Pulse, tmp_path: Path) -> None:
    with pytest.raises(PulseError, match="no microphone found: no input device is called"):
        Ears(pulse, tmp_path, {"audio.device": "no such microphone"})


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="no voice (apt-get install espeak-ng)")
def test_the_benchmark_reports_words_ends_and_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speech.json"
    speech.main(["--quick", "--parts", "words,ends,noise", "--out", str(out)])
    printed = capsys.readouterr().out
    rows = {row["name"]: Row(**{k: v for k, v in row.items() if k != "machine"}) for row in json.loads(out.read_text())}
    assert all(math.isfinite(row.value) and name in printed for name, row in rows.items())
    for condition in speech.speech_words.CONDITIONS:
        row = rows[f"words wrong, {condition}, hotwords"]
        assert row.config["utterances"] == 3 and row.config["low"] <= row.value <= row.config["high"]
        assert condition in printed.splitlines()[1:7][list(speech.speech_words.CONDITIONS).index(condition)]
    assert rows["words wrong, clean, hotwords"].value < 100.0
    fixed = rows["end of voice to utterance p50, clean, fixed pause"].value
    assert 500.0 < fixed < 1000.0, "the pause, and at most a chunk and a window more"
    assert rows["transcription p50"].value > 0.0
    noticed = rows["utterances noticed, machines"]
    assert noticed.value == noticed.config["count"] * 60 / noticed.config["minutes"] <= noticed.config["high"]


def test_the_interval_of_a_rate_is_garwoods() -> None:
    assert poisson_interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert poisson_interval(5) == pytest.approx((1.623, 11.668), abs=1e-3)
    assert poisson_interval(100) == pytest.approx((81.36, 121.63), abs=1e-2)


def test_a_part_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speech.main(["--parts", "music"])
    assert "no part 'music'" in capsys.readouterr().err
