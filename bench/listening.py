"""The listener node as it runs on a robot, hearing a microphone that something is played to; and when it said what."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .pulse import Monitor, Pulse, PulseError
from .sound import RATE, voice_span

READY_S = 120.0
TAIL_S = 1.6
"""What should follow the voice in a sound that is played: longer than any pause that ends an utterance."""

LATE_S = 0.4
"""An utterance that ends less than this before the voice, by the listener's clock of its sound, reaches to its end."""

ANSWER_S = 30.0
"""A transcript that is not there so long after the sound is over does not come."""


@dataclass(frozen=True)
class Answer:
    """What came of something played. Times are in seconds from the end of its voice to the message; None: none came.

    text: of all its transcripts; gates: theirs; transcript_s: of the first that reaches to the end of the voice (others
    may follow, of the noise behind it).
    """

    text: str
    gates: tuple[int, ...]
    transcript_s: float | None
    stop_s: float | None


class Listener:
    """A listener node in a process of its own, in a ROS domain of its own, and a probe on its topics.

    transcripts, partials and stops hold (time.time() of receipt, message). Raises PulseError if it has no sound.
    """

    def __init__(
        self, folder: Path, parameters: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it and wait until it listens."""
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from std_msgs.msg import Empty

        from nano_agent_ros.msg import Transcript
        from nano_agent_ros.nodes import qos

        domain = random.SystemRandom().randint(1, 100)
        self.transcripts: list[tuple[float, Any]] = []
        self.partials: list[tuple[float, Any]] = []
        self.stops: list[tuple[float, Any]] = []
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self._node = rclpy.create_node("probe", context=self._context)
        for kind, topic, profile, got in (
            (Transcript, "transcript", qos.COMMAND, self.transcripts),
            (Transcript, "partial_transcript", qos.PARTIAL, self.partials),
            (Empty, "stop", qos.COMMAND, self.stops),
        ):
            self._node.create_subscription(kind, topic, lambda m, got=got: got.append((time.time(), m)), profile)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        file = folder / f"listener-{domain}.yaml"
        settings = {"autostart": True, **parameters}
        file.write_text(json.dumps({"/**": {"ros__parameters": settings}}), encoding="utf-8")
        command = [sys.executable, "-m", "nano_agent_ros.nodes.listener", "--ros-args", "--params-file", str(file)]
        self.log = file.with_suffix(".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**(environment or os.environ), "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._await_sound()
        except PulseError:
            self.close()
            raise

    def _spin(self) -> None:
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=0.2)

    def said(self) -> str:
        """What the node has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _await_sound(self) -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self._process.poll() is None:
            said = self.said()
            if "[ERROR]" in said:  # no Whisper, no PortAudio, or no microphone: it would wait for one
                break
            if "listening to " in said:
                return
            time.sleep(0.05)
        raise PulseError(f"the listener hears nothing: {self.said()[-500:]}")

    def finished(self, wait_s: float) -> bool:
        """Whether the file that it reads is over and all of it was heard, at the latest after `wait_s`.

        Raises PulseError if the node has died.
        """
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            if "the sound is over" in self.said():
                time.sleep(1.0)  # the last transcripts may still be on their way
                return True
            if self._process.poll() is not None:
                raise PulseError(f"the listener ended with {self._process.returncode}: {self.said()[-500:]}")
            time.sleep(0.1)
        return False

    def cpu_s(self) -> float:
        """Processor time that the node has taken, in seconds."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the node and the probe."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._closing.set()
        self._thread.join(20)
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Ears:
    """A listener that hears what is played to a PulseAudio daemon, and when each sound was over."""

    def __init__(self, pulse: Pulse, folder: Path, parameters: Mapping[str, Any] | None = None) -> None:
        """Start it; raises PulseError without PortAudio or its way to PulseAudio."""
        self._pulse = pulse
        self.listener = Listener(folder, parameters or {}, pulse.environment)
        self._monitor = Monitor(pulse)

    def hear(self, speech: np.ndarray, played: np.ndarray) -> Answer:
        """Play `played` [n] and wait for what comes of it; `speech` [n] is the same without noise, silences as well."""
        heard = self.listener
        finals, stops, begun = len(heard.transcripts), len(heard.stops), len(self._monitor.samples)
        self._pulse.play(played, RATE)
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until and (len(heard.transcripts) == finals or self._speaking()):
            time.sleep(0.02)
        first = begun + _where(played, self._monitor.samples[begun:])
        ended = self._monitor.when(first + voice_span(speech)[1])
        texts, stopped = heard.transcripts[finals:], heard.stops[stops:]
        whole = [when for when, message in texts if _ends(message) >= ended - LATE_S]
        return Answer(
            " ".join(message.text for _, message in texts),
            tuple(message.gate for _, message in texts),
            whole[0] - ended if whole else None,
            stopped[0][0] - ended if stopped else None,
        )

    def _speaking(self) -> bool:
        """Whether an utterance goes on, as far as it was told."""
        return any(message.speaking for _, message in self.listener.partials[-1:])

    def close(self) -> None:
        """End all of it but the daemon."""
        self._monitor.close()
        self.listener.close()

    def __enter__(self) -> Ears:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ends(message: Any) -> float:
    """When the sound of a transcript was over, by time.time()."""
    begun, length = message.header.stamp, message.audio_duration
    return float(begun.sec + length.sec + 1e-9 * (begun.nanosec + length.nanosec))


def _where(played: np.ndarray, recorded: np.ndarray) -> int:
    """Where in `recorded` the sound `played` begins: the lag of their highest correlation."""
    width = 1 << (len(played) + len(recorded)).bit_length()
    product = np.fft.rfft(recorded, width) * np.conj(np.fft.rfft(played, width))
    return int(np.argmax(np.fft.irfft(product, width)[: len(recorded)]))


CAPTURE = """
import sys, time
import numpy as np
from nano_agent_ros.speech import MicrophoneSource
source = MicrophoneSource(None)
print("ready", flush=True)
for chunk in source.chunks():
    now = time.time()
    loud = np.flatnonzero(np.abs(chunk) > 0.1)
    if loud.size:
        print(now, len(chunk) - 1 - loud[-1], flush=True)
"""


def capture_delays(pulse: Pulse, bursts: int = 20) -> list[tuple[float, float]]:
    """Play bursts of 5 ms to MicrophoneSource and return, of each, two delays in seconds until its chunk was handed on.

    The first from the burst itself, the second from the end of the chunk that it lay in: what the path costs beside
    the waiting for a whole chunk. Raises PulseError if nothing is captured.
    """
    command = [sys.executable, "-c", CAPTURE]
    gaps = np.random.default_rng(0).uniform(0.25, 0.35, bursts)
    burst = 0.5 * np.sign(np.sin(np.arange(RATE // 200) * 2 * np.pi * 1000 / RATE)).astype(np.float32)
    sound = np.concatenate([part for gap in gaps for part in (np.zeros(round(gap * RATE), np.float32), burst)])
    child = subprocess.Popen(command, env=pulse.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    try:
        if child.stdout.readline().strip() != "ready":
            child.wait(20)
            raise PulseError(f"no capture: {child.stderr.read().strip()[-300:]}")
        monitor = Monitor(pulse)
        time.sleep(1.0)
        pulse.play(np.concatenate([sound, np.zeros(RATE, np.float32)]), RATE)
        recorded = monitor.samples
        begun = _where(sound, recorded)
        ends = np.cumsum(np.round(gaps * RATE).astype(int) + len(burst)) + begun
        times = [monitor.when(int(end)) for end in ends]
        monitor.close()
    finally:
        child.terminate()
        out = child.communicate(timeout=20)[0]
    arrived = [(float(now), int(rest) / RATE) for now, rest in (line.split() for line in out.splitlines())]
    delays = []
    for when in times:
        later = [(now - when, rest) for now, rest in arrived if -0.02 <= now - when < 0.8 * min(gaps)]
        if later:
            delay, rest = later[0]
            delays.append((delay, max(0.0, delay - rest)))
    if not delays:
        raise PulseError("none of the bursts was captured")
    return delays
