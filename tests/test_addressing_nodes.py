"""Claims about addressing over real DDS: of several robots that hear the same words only the one that is named acts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from ros_bench import Bench, wait_for
from std_msgs.msg import Bool, Empty, String
from std_srvs.srv import Trigger
from test_nodes import replies_to, transcript
from test_turn_taking import partial

from nano_agent_ros.msg import AgentState, Reply, RobotAction, Transcript
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.conversions import arguments_of, uuid_of
from nano_agent_ros.nodes.hearing import Heard, Hearing
from nano_agent_ros.nodes.listener import ListenerNode
from nano_agent_ros.resources import find
from nano_agent_ros.speech import Endpointer
from nano_agent_ros.srv import Ask

TEAM = {"unit_two": "unit two", "unit_three": "unit three"}


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """Nodes that are made meanwhile lie in a namespace."""
    make: Callable[..., None] = LifecycleNode.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LifecycleNode, "__init__", lambda self, node, **kw: make(self, node, namespace=name, **kw))
        yield


class Robot:
    """An agent and a listener of their own namespace, and what they publish."""

    def __init__(self, bench: Bench, name: str, **of_listener: Any) -> None:
        others = [spoken for other, spoken in TEAM.items() if other != name]
        names = {"robot_names": [TEAM[name]], "other_robots": others}
        self.name = name
        self.heard = bench.watch(Transcript, f"/{name}/transcript", qos.COMMAND)
        self.replies = bench.watch(Reply, f"/{name}/reply", qos.COMMAND)
        self.actions = bench.watch(RobotAction, f"/{name}/action", qos.COMMAND)
        self.stops = bench.watch(Empty, f"/{name}/stop", qos.COMMAND)
        with namespace(name):
            self.agent = bench.add(AgentNode, guess=0, **names)
            self.listener = bench.add(ListenerNode, **{"audio__source": "none", **names, **of_listener})

    def done(self) -> list[tuple[str, dict[str, Any]]]:
        """What it was told to do."""
        return [(action.skill, arguments_of(action.arguments)) for action in self.actions]


def say(bench: Bench, robots: list[Robot], text: str) -> list[Transcript]:
    """Type the same words to all robots; the transcripts, once each that takes them has replied."""
    counts = [len(robot.heard) for robot in robots]
    for robot in robots:
        bench.publish(f"/{robot.name}/text", String(data=text), qos.COMMAND)
    for robot, count in zip(robots, counts, strict=True):
        wait_for(lambda robot=robot, count=count: len(robot.heard) > count, f"what {robot.name} heard")
    heard = [robot.heard[count] for robot, count in zip(robots, counts, strict=True)]
    for robot, message in zip(robots, heard, strict=True):
        if message.gate != Transcript.GATE_NOT_ADDRESSED:
            wait_for(lambda r=robot, m=message: replies_to(r.replies, m), f"a reply of {robot.name} to {text!r}")
    return heard


def test_of_two_robots_that_hear_the_same_words_the_one_that_is_named_acts(bench):
    two, three = robots = [Robot(bench, name) for name in TEAM]
    to_two = say(bench, robots, "Unit two, go to dock 3.")
    assert [m.gate for m in to_two] == [Transcript.GATE_ACCEPTED, Transcript.GATE_NOT_ADDRESSED]
    assert {m.text for m in to_two} == {"Unit two, go to dock 3."}  # as it was heard
    to_three = say(bench, robots, "go to dock 1, unit 3")
    assert [m.gate for m in to_three] == [Transcript.GATE_NOT_ADDRESSED, Transcript.GATE_ACCEPTED]
    say(bench, robots, "Units two and three, go to dock 2.")
    wait_for(lambda: len(two.actions) == 2 and len(three.actions) == 2, "the actions of both")
    ways = [("dock_3", "dock_2"), ("dock_1", "dock_2")]
    goals = [[("navigate_to", {"location": place}) for place in places] for places in ways]
    assert [two.done(), three.done()] == goals
    assert [two.agent._thinking.dialogue.agent.turns, three.agent._thinking.dialogue.agent.turns] == [2, 2]
    assert not replies_to(three.replies, to_two[1]) and not replies_to(two.replies, to_three[0])
    asked = bench.call(Ask, "/unit_two/ask", Ask.Request(text="Unit three, go to dock 1."))
    assert asked.success and asked.reply.kind == Reply.IGNORE and not asked.actions

    say(bench, robots, "Unit three, stop!")
    assert len(two.stops) == 1 and len(three.stops) == 1


def test_a_stop_for_another_robot_may_pass_by(bench):
    two, three = robots = [Robot(bench, name, address__stop_for_others=False) for name in TEAM]
    for robot in robots:
        assert robot.agent.trigger_deactivate() and robot.agent.trigger_cleanup()
        bench.set(robot.agent, address__stop_for_others=False)
        assert robot.agent.trigger_configure() and robot.agent.trigger_activate()
    passed = say(bench, robots, "Unit three, stop!")
    assert [m.gate for m in passed] == [Transcript.GATE_NOT_ADDRESSED, Transcript.GATE_STOP]
    all_stop = say(bench, robots, "Everybody stop!")
    assert [m.gate for m in all_stop] == [Transcript.GATE_STOP] * 2
    assert len(two.stops) == 1 and [a.skill for a in two.actions] == ["stop"]


def test_words_for_others_are_not_read_ahead_and_show_nothing(bench):
    states = bench.watch(AgentState, "agent_state", qos.LATEST)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode, robot_names=["unit two"], other_robots=["unit three"])
    agent, read = node._thinking.dialogue.agent, []
    anticipate = agent.anticipate
    agent.anticipate = lambda text, *rest: (read.append(text), anticipate(text, *rest))[1]
    wait_for(lambda: states, "the state")
    before = len(states)
    for gate, text in ((Transcript.GATE_NOT_ADDRESSED, "go to dock"), (Transcript.GATE_ACCEPTED, "Unit three, go to")):
        node._on_partial(partial(bench, f"{text} 3", text, gate=gate))
    quiet = transcript(bench, "go to dock 3", gate=Transcript.GATE_NOT_ADDRESSED)
    bench.publish("transcript", quiet, qos.COMMAND)
    named = partial(bench, "Unit two, go to dock three", "Unit two, go to dock")
    bench.publish("partial_transcript", named, qos.PARTIAL)
    wait_for(lambda: read, "words read ahead")
    assert read == ["Robot, go to dock"]
    wait_for(lambda: states[-1].state == AgentState.LISTENING, "the state LISTENING")
    go = transcript(bench, "Unit two, go to dock three.")
    go.utterance_id = named.utterance_id
    bench.publish("transcript", go, qos.COMMAND)
    wait_for(lambda: replies_to(replies, go), "a reply")
    assert not replies_to(replies, quiet) and agent.turns == 1
    assert uuid_of(quiet.utterance_id) not in node._seen
    assert AgentState.TRANSCRIBING not in [s.state for s in states[before:]]


def test_the_mode_changes_live_and_a_reply_opens_the_ears(bench):
    node = bench.add(ListenerNode, audio__source="none", robot_names=["unit two"])
    addressing = node._address.addressing
    assert addressing.heard("go to dock 3", 0.0, 1.0)
    bench.set(node, address__mode="wake_word")
    assert not addressing.heard("go to dock 3", 0.0, 1.0) and addressing.heard("unit two, go to dock 3", 0.0, 1.0)
    bench.publish("reply", Reply(kind=Reply.IGNORE), qos.COMMAND)
    bench.publish("reply", Reply(kind=Reply.CONFIRM, text="Shall I?"), qos.COMMAND)
    wait_for(lambda: addressing._windows and addressing._windows[-1][0] > 2.0, "the window of the reply")
    replies = [begin for begin, _ in addressing._windows if begin > 2.0]
    assert len(replies) == 1 and addressing.heard("yes", replies[0] + 0.1, replies[0] + 0.5)


def test_the_button_is_held_by_a_topic_toggled_by_a_service_and_not_outlived(bench):
    node = bench.add(ListenerNode, audio__source="none", address__mode="push_to_talk")
    addressing = node._address.addressing
    assert bench.call(Trigger, "toggle_talk", Trigger.Request()).message == "speech is taken" and addressing.held
    assert bench.call(Trigger, "toggle_talk", Trigger.Request()).message == "speech is not taken"
    bench.publish("talk", Bool(data=True), qos.COMMAND)
    wait_for(lambda: addressing.held, "the button")
    bench.publish("talk", Bool(data=False), qos.COMMAND)
    wait_for(lambda: not addressing.held, "the button's release")
    bench.publish("talk", Bool(data=True), qos.COMMAND)
    wait_for(lambda: addressing.held, "the button")
    bench.probe.destroy_publisher(bench._publishers.pop("talk"))
    wait_for(lambda: not addressing.held, "the release of a button that nobody can release")


@pytest.mark.parametrize("mode", ["wake_word", "push_to_talk"])
def test_speech_that_is_not_addressed_leads_to_nothing_but_its_stop(bench, tmp_path, mode):
    heard = bench.watch(Transcript, "transcript", qos.COMMAND)
    partials = bench.watch(Transcript, "partial_transcript", qos.PARTIAL)
    stops = bench.watch(Empty, "stop", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    agent = bench.add(AgentNode)
    samples, rate = soundfile.read(find("config/audio/demo.wav"))
    ends = tmp_path / "ends.wav"  # the first command and the last word, which is a stop
    soundfile.write(ends, [*samples[: 4 * rate], *samples[-3 * rate :]], rate)
    bench.add(ListenerNode, audio__source="wav", audio__wav=str(ends), address__mode=mode, robot_names=["unit two"])
    wait_for(lambda: stops and replies and [m for m in heard if m.gate == Transcript.GATE_STOP], "the stop")
    gates = [m.gate for m in heard]
    assert gates == [Transcript.GATE_NOT_ADDRESSED] * (len(gates) - 1) + [Transcript.GATE_STOP] and len(gates) > 1
    assert heard[0].text and len(stops) == 1
    early = [m for m in partials if uuid_of(m.utterance_id) == uuid_of(heard[0].utterance_id)]
    assert {m.gate for m in early} == {Transcript.GATE_NOT_ADDRESSED}
    assert agent._thinking.dialogue.agent.turns == 0 and [r.kind for r in replies] == [Reply.ACKNOWLEDGE]


class Talk:
    """Three seconds in chunks of 0.1 s, and what is done when so many were taken."""

    def __init__(self, at: int, then: Callable[[], None]) -> None:
        self._at, self._then = at, then

    def chunks(self) -> Iterator[np.ndarray]:
        for number in range(30):
            if number == self._at:
                self._then()
            yield np.zeros(1600, np.float32)

    def close(self) -> None:
        pass

    def report(self) -> str:
        return "talk"


def test_an_utterance_ends_when_the_button_is_released_though_the_person_goes_on():
    heard: list[Heard] = []
    over = threading.Event()
    somebody_speaks = Endpointer(vad=lambda samples: np.ones(len(samples) // 512))
    talk = Talk(10, lambda: hearing.cut())
    hearing = Hearing(talk, somebody_speaks, None, heard.append, lambda error: over.set(), paced=False)
    hearing.muted = True  # nothing of this is transcribed
    hearing.start()
    assert over.wait(60)
    assert [round(h.ended - h.began, 1) for h in heard] == [1.1, 1.9]


def test_names_that_cannot_be_told_apart_keep_a_node_unconfigured_with_the_reason(bench):
    node = bench.add(ListenerNode, up=False, audio__source="none", robot_names=["unit two"], other_robots=["Unit 2"])
    node.trigger_configure()
    assert "own and another robot's" in node.health[1]


def test_a_wake_word_without_its_model_keeps_the_listener_unconfigured_with_the_reason(bench, tmp_path):
    model = str(tmp_path / "sparky.onnx")
    node = bench.add(ListenerNode, up=False, audio__source="none", address__wake_word_model=model)
    node.trigger_configure()
    assert f"there is no file {model}" in node.health[1]
    bench.set(node, address__wake_word_model="")
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
