"""Claims about sound on a topic: both messages are heard, wrong ones are told, a microphone elsewhere becomes words."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import message_packages
import numpy as np
import pytest
import rclpy
import soundfile
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.node import Node
from ros_bench import Bench, wait_for

from bench.pulse import Pulse
from nano_agent_ros.msg import Audio, Transcript
from nano_agent_ros.nodes import microphone as microphone_module
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.audio_topic import OWN, STAMPED, TopicSource, stamped_message
from nano_agent_ros.nodes.listener import ListenerNode
from nano_agent_ros.resources import find

ROOT = Path(__file__).resolve().parent.parent
TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(4_800) / 48_000)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def audio_common() -> None:
    message_packages.provide("audio_common_msgs")


@pytest.fixture
def ros(bench: Bench) -> Bench:
    return bench


class Ear:
    """A TopicSource, and what it yields and tells."""

    def __init__(self, ros: Bench, kind: str = "auto", channel: int | None = None) -> None:
        self.told: list[str] = []
        self.source = TopicSource(ros.probe, kind, channel, self.told.append)
        self.chunks: list[np.ndarray] = []
        self._thread = threading.Thread(target=lambda: self.chunks.extend(self.source.chunks()), daemon=True)
        self._thread.start()

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *exc: object) -> None:
        self.source.close()
        self._thread.join(60)
        assert not self._thread.is_alive()

    @property
    def heard(self) -> np.ndarray:
        return np.concatenate([np.empty(0, np.float32), *self.chunks[:]])


def own(position: int = 0, encoding: str = Audio.S16LE, data: bytes | None = None) -> Audio:
    """0.1 s of a tone of 1 kHz at 48 kHz: the first channel of two."""
    both = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    message = Audio(sample_rate=48_000, channels=2, encoding=encoding, position=position)
    message.data = (both * 32_767).astype("<i2").tobytes() if data is None else data
    return message


def stamped(number: int) -> Any:
    message = stamped_message(TONE, 48_000)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(10**11 + number * 10**8, 10**9)
    return message


def send(ros: Bench, messages: list[Any]) -> None:
    for message in messages:
        ros.publish("audio", message, qos.SOUND)
        time.sleep(0.005)  # best effort: what comes all at once may be lost on the way


def peak_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples))


@contextlib.contextmanager
def elsewhere(ros: Bench) -> Iterator[Node]:
    """A node as of another process: within one participant DDS refuses two types of one topic."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=ros.probe.context.get_domain_id())
    try:
        yield rclpy.create_node("elsewhere", context=context)
    finally:
        context.shutdown()


@pytest.mark.parametrize("kind", [OWN, STAMPED])
def test_either_message_is_heard(ros: Bench, kind: str) -> None:
    with Ear(ros, kind, channel=0) as ear:
        send(ros, [own(i * 4_800) if kind == OWN else stamped(i) for i in range(20)])
        wait_for(lambda: len(ear.heard) > 24_000, "most of two seconds")
        assert peak_hz(ear.heard) == pytest.approx(1000, abs=2)
        details = ear.source.details()
        assert details["sample_rate_hz"] == 48_000 and details["topic_type"] == kind and not ear.source.problem()


@pytest.mark.parametrize("form", [(1, "float32_data"), (2, "int32_data"), (16, "int8_data"), (32, "uint8_data")])
def test_every_format_of_audio_stamped_is_read(form: tuple[int, str]) -> None:
    from nano_agent_ros.nodes.audio_topic import piece_of

    number, name = form
    scaled = {1: TONE, 2: TONE * 2.0**31, 16: TONE * 2**7, 32: TONE * 2**7 + 128}[number]
    message = stamped(0)
    message.audio.audio_data.int16_data = []
    values = scaled.astype(np.float64)
    setattr(message.audio.audio_data, name, (values if number == 1 else values.astype(int)).tolist())
    message.audio.info.format = number
    assert np.abs(piece_of(message).frames[:, 0] - TONE).max() < 0.01


def test_auto_takes_what_is_published_even_if_that_comes_later(ros: Bench) -> None:
    with Ear(ros) as ear:
        assert ear.source.kind == STAMPED  # it is installed, and nobody publishes yet
        with elsewhere(ros) as other:
            publisher = other.create_publisher(Audio, "audio", qos.SOUND)
            wait_for(lambda: ear.source.kind == OWN and publisher.get_subscription_count(), "the other type")
            for i in range(10):
                publisher.publish(own(i * 4_800))
            wait_for(lambda: len(ear.heard), "sound")


def test_what_cannot_be_used_is_told_with_its_cause_and_harms_nobody(ros: Bench) -> None:
    with Ear(ros, OWN) as ear:
        wrong = [own(encoding="MP3"), own(data=b"123"), own(data=b""), own()]
        wrong[3].sample_rate = 0
        send(ros, wrong[:1])
        wait_for(lambda: ear.told, "a word about it")
        assert "'MP3' is unknown" in ear.told[0]
        send(ros, wrong[1:])
        wait_for(lambda: ear.source.refused == 4, "four refusals")
        until = time.monotonic() + 60
        for i in range(10_000):
            send(ros, [own(i * 4_800)])
            if not ear.source.trouble or time.monotonic() > until:
                break
        wait_for(lambda: len(ear.told) == 2 and len(ear.heard), "sound after all")
        assert ear.told[1] == ""


def test_two_publishers_and_none_are_told(ros: Bench) -> None:
    with Ear(ros, OWN) as ear:
        wait_for(lambda: ear.told, "a word about silence")
        assert "nobody publishes it" in ear.told[0]
        publishers = [ros.probe.create_publisher(Audio, "audio", qos.SOUND) for _ in range(2)]
        wait_for(ear.source.problem, "two publishers to be seen")
        assert "2 publishers" in ear.source.problem() and len(publishers) == 2


def test_parameters_of_the_microphone_node_are_documented() -> None:
    page = (ROOT / "docs/nodes.md").read_text()
    for parameter in microphone_module.PARAMETERS:
        default = parameter.default if parameter.default != "" else '""'
        assert re.search(rf"^\| `{re.escape(parameter.name)}` \| `{re.escape(str(default))}` \|", page, re.M), parameter


def test_a_microphone_elsewhere_becomes_words_and_comes_back_after_it_was_lost(ros: Bench, pulse: Pulse) -> None:
    transcripts = ros.watch(Transcript, "transcript", qos.COMMAND)
    diagnostics = ros.watch(DiagnosticArray, "/diagnostics", 10)

    def says(node: str, level: bytes, word: str) -> bool:
        newest = [s for array in diagnostics for s in array.status if s.name == node][-1:]
        return bool(newest) and newest[0].level == level and any(word in v.value for v in newest[0].values)

    domain = str(ros.probe.context.get_domain_id())
    command = [sys.executable, "-m", "nano_agent_ros.nodes.microphone", "--ros-args", "-p", "autostart:=true"]
    environment = pulse.environment | {"ROS_DOMAIN_ID": domain}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: says("microphone", DiagnosticStatus.OK, "default, ALSA"), "the microphone")
            listener = ros.add(ListenerNode, audio__source="topic", whisper__threads=1)
            wait_for(lambda: says("listener", DiagnosticStatus.OK, OWN), "the listener to hear the topic")
            speech, rate = soundfile.read(find("config/audio/demo.wav"), dtype="float32", stop=4 * 16_000)
            command_s = np.concatenate([speech, np.zeros(rate, np.float32)])
            pulse.play(command_s, rate)
            wait_for(lambda: transcripts, "the words", 120.0)
            assert "dock" in transcripts[0].text.lower() and transcripts[0].source == Transcript.SOURCE_MIC

            pulse.stop()
            wait_for(lambda: says("microphone", DiagnosticStatus.ERROR, "lost"), "the loss of the microphone")
            wait_for(lambda: says("listener", DiagnosticStatus.ERROR, "lost"), "the listener to miss it")
            pulse.start()
            wait_for(lambda: says("microphone", DiagnosticStatus.OK, "listening"), "its return")
            wait_for(lambda: says("listener", DiagnosticStatus.OK, "listening"), "the listener to hear again")
            pulse.play(command_s, rate)
            wait_for(lambda: len(transcripts) >= 2, "the words once more", 120.0)
            assert "dock" in transcripts[1].text.lower() and len(transcripts) == 2
            assert listener.active
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0
