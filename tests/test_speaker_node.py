"""Claims about the speaker: urgent first, nothing old, silence at once; the listener beside it hears people only."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from lifecycle_msgs.srv import GetState
from ros_bench import Bench, wait_for
from std_msgs.msg import Empty, String

from bench.pulse import Pulse
from nano_agent_ros.msg import Reply, Spoken, Transcript
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.saying import Mouth, Words
from nano_agent_ros.nodes.speaker import PARAMETERS, SpeakerNode
from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.program_voice import EspeakVoice
from nano_agent_ros.speech.voice import Sound, VoiceConfig

ROOT = Path(__file__).resolve().parent.parent
NIL = UUID(int=0)


class Voice:
    """A voice whose sounds are as long as their texts; "fail" cannot be said the first `fails` times."""

    name = "test"

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails

    def synthesize(self, sentence: str) -> Sound:
        if "fail" in sentence and self.fails:
            self.fails -= 1
            raise SpeechError("hoarse")
        return Sound(np.full(10 * len(sentence), 0.1, np.float32), 1000)

    def close(self) -> None:
        pass


class Gate:
    """A loudspeaker whose sounds last until the test lets them end."""

    def __init__(self) -> None:
        self.playing = threading.Event()
        self._end = threading.Semaphore(0)
        self.hushed = 0

    def play(self, sound: Sound, cut: threading.Event, volume: float, on_begin: Callable[[], None]) -> bool:
        on_begin()
        self.playing.set()
        assert self._end.acquire(timeout=60)
        self.playing.clear()
        return not cut.is_set()

    def rest(self, cut: threading.Event) -> bool:
        return not cut.is_set()

    def hush(self) -> None:
        self.hushed += 1
        if self.playing.is_set():
            self._end.release()

    def end(self, sounds: int = 1) -> None:
        self._end.release(sounds)

    def close(self) -> None:
        self.end(100)


class Talk:
    """A Mouth over a Gate, and what it said; `now` is its clock."""

    def __init__(self, **settings: Any) -> None:
        self.now, self.gate, self.told, self.troubles = 0.0, Gate(), [], []
        voice = settings.pop("voice", None) or Voice()
        self.mouth = Mouth(
            voice, self.gate, lambda: self.gate, self.told.append, self.troubles.append,  # type: ignore[arg-type]
            clock=lambda: self.now, **settings,
        )  # fmt: skip

    def say(self, text: str, urgent: bool = False) -> None:
        self.mouth.say(Words(NIL, text, self.now, urgent))

    @property
    def texts(self) -> list[str]:
        return [spoken.text for spoken in self.told if spoken.text]

    def silent(self, times: int) -> None:
        wait_for(lambda: sum(not spoken.text for spoken in self.told) == times, f"silence {times}")


@pytest.fixture
def talk() -> Iterator[Callable[..., Talk]]:
    made: list[Talk] = []

    def make(**settings: Any) -> Talk:
        made.append(Talk(**settings))
        return made[-1]

    yield make
    for each in made:
        each.gate.end(100)
        each.mouth.close()


def test_one_thing_is_said_at_a_time_in_order_and_urgent_ones_first(talk: Callable[..., Talk]) -> None:
    it = talk()
    it.say("One. Two.")
    wait_for(it.gate.playing.is_set, "the first sentence")
    for text, urgent in (("Three.", False), ("Four!", True), ("Five!", True)):
        it.say(text, urgent)
    it.gate.end(5)
    it.silent(4)
    assert it.texts == ["One.", "Two.", "Four!", "Five!", "Three."]
    assert [(s.text, s.cut) for s in it.told[:3]] == [("One.", False), ("Two.", False), ("", False)]
    assert it.mouth.counts.spoken == 4


def test_what_is_cut_is_over_and_what_waits_is_said_unless_all_is_to_be_silent(talk: Callable[..., Talk]) -> None:
    it = talk()
    it.say("One. Two. Three.")
    wait_for(it.gate.playing.is_set, "the first sentence")
    it.say("Next.")
    it.mouth.hold(True)
    it.mouth.interrupt()
    it.silent(1)
    assert it.told[-1].cut and it.texts == ["One."] and it.mouth.waiting == 1
    it.mouth.hold(False)
    wait_for(it.gate.playing.is_set, "the next words")
    it.say("Never.")
    it.mouth.interrupt(everything=True)
    it.silent(2)
    it.say("Later.")
    wait_for(it.gate.playing.is_set, "later words")
    assert it.texts == ["One.", "Next.", "Later."]


def test_what_waited_too_long_or_is_too_much_is_not_said(talk: Callable[..., Talk]) -> None:
    it = talk(max_age_s=10.0, max_waiting=2)
    it.say("Now.")
    wait_for(it.gate.playing.is_set, "the first words")
    it.say("Old.")
    it.now = 11.0
    it.say("Dropped.", urgent=False)
    it.say("Urgent!", urgent=True)
    it.say("Young.")
    it.gate.end(3)
    it.silent(3)
    assert it.texts == ["Now.", "Urgent!", "Young."] and it.mouth.counts.dropped == 2
    it.mouth.hold(True)
    it.say("Too late.")
    it.now = 30.0
    it.mouth.hold(False)
    wait_for(lambda: it.mouth.counts.too_old == 1, "words that are too old")


def test_a_voice_that_fails_once_is_asked_again_and_trouble_ends_when_it_works(talk: Callable[..., Talk]) -> None:
    it = talk(voice=Voice(fails=3))
    it.gate.end(10)
    it.say("This will fail.")
    wait_for(lambda: it.mouth.counts.failed == 1, "a failure")
    it.say("This will fail but once.")
    wait_for(lambda: it.mouth.counts.spoken == 1, "success")
    wait_for(lambda: it.troubles[-1] == "", "the end of the trouble")
    assert "hoarse; trying again" in it.troubles[0] and "hoarse" in it.troubles


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_without_a_voice_the_node_stays_up_and_says_what_to_install(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    node = bench.add(SpeakerNode)
    assert node.active and "apt-get install espeak-ng" in node.health[1]
    bench.publish("say", String(data="hello"), qos.COMMAND)
    node = bench.add(SpeakerNode, up=False, kinds=["answer", "shout"])
    node.trigger_configure()
    assert "'shout' is none of answer" in node.health[1]


def test_every_parameter_is_documented_with_its_default():
    section = (ROOT / "docs/nodes.md").read_text().split("\n## speaker\n")[1].split("\n## ")[0]
    for parameter in PARAMETERS:
        default = str(parameter.default).lower() if isinstance(parameter.default, bool) else str(parameter.default)
        shown = default or '""'
        assert f"| `{parameter.name}` | `{shown}` |" in section, parameter.name


# With sound: what the speaker says into the sink is what the listener's microphone hears


class Ears:
    """Speaker and listener, each a process over the sound of a private PulseAudio, and a probe that hears of them."""

    def __init__(self, pulse: Pulse, bench: Bench) -> None:
        domain = str(bench.probe.context.get_domain_id())
        environment = pulse.environment | {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        self.bench = bench
        self.spoken = bench.watch(Spoken, "speaking", qos.STATUS)
        self.heard = bench.watch(Transcript, "transcript", qos.COMMAND)
        self.partial = bench.watch(Transcript, "partial_transcript", qos.PARTIAL)
        self.stops = bench.watch(Empty, "stop", qos.COMMAND)
        speaker = ["engine:=espeak", "volume:=0.4", "max_length:=2000"]
        self.processes = [
            self._start("speaker", environment, speaker), self._start("listener", environment, ["whisper.threads:=1"])
        ]  # fmt: skip

    def _start(self, node: str, environment: dict[str, str], parameters: list[str]) -> subprocess.Popen[bytes]:
        given = [word for each in ("autostart:=true", *parameters) for word in ("-p", each)]
        command = [sys.executable, "-m", f"nano_agent_ros.nodes.{node}", "--ros-args", *given]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def state(self, node: str) -> str:
        return str(self.bench.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def reply(self, text: str) -> None:
        message = Reply(kind=Reply.ANSWER, text=text)
        message.header.stamp = self.bench.probe.get_clock().now().to_msg()
        self.bench.publish("reply", message, qos.COMMAND)

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGINT)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed (apt-get)")
def test_the_robot_does_not_obey_itself_and_a_person_silences_it(pulse: Pulse, bench: Bench) -> None:
    ears = Ears(pulse, bench)
    try:
        wait_for(lambda: bench.probe.count_subscribers("reply") >= 2, "both nodes")
        for node in ("speaker", "listener"):
            wait_for(lambda node=node: ears.state(node) == "active", f"{node} to be active")
        for _ in range(3):  # sound stutters on a loaded machine, and what is left of a word is like no word
            ears.heard.clear()
            ears.stops.clear()
            ears.reply("I am going to dock 3. Then I have to stop here, and bring the blue bin to packing.")
            wait_for(lambda: ears.spoken and ears.spoken[-1].text, "the robot's voice")
            wait_for(lambda: ears.heard, "a transcript")
            wait_for(lambda: ears.spoken[-1].text == "", "the end of the reply")
            obeyed = [t.text for t in ears.heard if t.gate in (Transcript.GATE_ACCEPTED, Transcript.GATE_STOP)]
            knew_itself = any(t.gate == Transcript.GATE_ECHO for t in ears.heard)
            if knew_itself and not obeyed and not ears.stops:
                break
        assert knew_itself and not obeyed and not ears.stops
        person = EspeakVoice(VoiceConfig(voice="en-us+f3", rate=0.9)).synthesize("Stop! Stop!")
        sound = np.clip(0.95 * person.samples, -1, 1)
        quiet = np.zeros(2 * person.sample_rate, np.float32)
        for _ in range(3):  # the same for a person who talks over the robot
            ears.reply("I am going to the receiving area. " * 25)
            wait_for(lambda: sum(bool(s.text) for s in ears.spoken[-3:]) >= 2, "the robot to be in the middle of it")
            player = pulse.player(np.concatenate([*[sound, quiet] * 8]), person.sample_rate)
            wait_for(lambda player=player: ears.stops or player.poll() is not None, "a person's stop")
            if ears.stops:
                break
            wait_for(lambda: ears.spoken[-1].text == "", "the end of the reply")
        assert ears.stops
        wait_for(lambda: ears.spoken[-1].cut and not ears.spoken[-1].text, "silence")
        player.terminate()
    finally:
        ears.close()
