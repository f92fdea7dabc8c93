"""Claims about who speaks when: what is called off never leaves the node, and speech that goes on is already read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import soundfile
from ros_bench import Bench, wait_for
from std_msgs.msg import Empty
from std_srvs.srv import Trigger
from test_nodes import replies_to, transcript

from nano_agent_ros.msg import AgentState, Reply, RobotAction, Transcript
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.assent import calls_off, is_call_off
from nano_agent_ros.nodes.conversions import uuid_message, uuid_of
from nano_agent_ros.nodes.listener import ListenerNode
from nano_agent_ros.nodes.speaking import Speaking
from nano_agent_ros.nodes.thinking import LEFT
from nano_agent_ros.speech import Endpointer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


class Held:
    """Holds an agent's engine in step number `at` (from 1) of what it does next, until `release`; counts steps."""

    def __init__(self, agent: Any, at: int) -> None:
        self.steps, self.reached, self._go = 0, threading.Event(), threading.Event()
        self._engine, extend = agent.engine, type(agent.engine).extend

        def held(state: Any, tokens: Any, every: bool = False) -> Any:
            self.steps += 1
            if self.steps == at:
                self.reached.set()
                assert self._go.wait(120)
            return extend(agent.engine, state, tokens, every)

        agent.engine.extend = held

    def release(self) -> None:
        """Let the engine go on."""
        self._go.set()

    def remove(self) -> None:
        """Leave the engine as it was."""
        self._engine.__dict__.pop("extend", None)


def partial(bench: Bench, text: str, stable: str = "", key: UUID | None = None, **fields: Any) -> Transcript:
    message = transcript(bench, text, **{"speaking": True, **fields})
    message.is_final, message.stable_text = False, stable
    if key is not None:
        message.utterance_id = uuid_message(key)
    return message


def told(agent: Any) -> tuple[Any, str]:
    return agent.memory(), agent.state_digest()


CUTS = ["cancel_all", "stop", "No, wait.", "any new words"]


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("how", CUTS)
def test_a_turn_is_cut_within_one_step_and_nothing_of_it_leaves(bench, how, at):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode, guess=0, on_new_utterance="interrupt" if how == "any new words" else "queue")
    agent, thinking = node._thinking.dialogue.agent, node._thinking
    hello = transcript(bench, "hello robot")
    bench.publish("transcript", hello, qos.COMMAND)
    wait_for(lambda: replies_to(replies, hello), "a reply")
    before = told(agent)
    held = Held(agent, at)
    go = transcript(bench, "pick up the blue bin and take it to packing")
    bench.publish("transcript", go, qos.COMMAND)
    assert held.reached.wait(60)
    blocked = threading.Event()
    if how == "cancel_all":
        assert bench.call(Trigger, "cancel_all", Trigger.Request()).success
    elif how == "stop":
        bench.publish("stop", Empty(), qos.COMMAND)
        wait_for(lambda: thinking.dialogue.stopped, "the stop")
    else:
        thinking._worker.submit(blocked.wait, 60)  # so that the state can be looked at before the next turn
        words = how if how != "any new words" else "how is your battery"
        new = transcript(bench, words)
        bench.publish("transcript", new, qos.COMMAND)
        wait_for(lambda: thinking.waiting == 2, "the new utterance to wait")
    held.release()
    wait_for(lambda: replies_to(replies, go), "a reply to what was called off")
    assert replies_to(replies, go)[0].kind == Reply.REFUSE
    assert held.steps == at
    held.remove()
    assert told(agent) == before
    blocked.set()
    if how == "No, wait.":
        wait_for(lambda: replies_to(replies, new), "a reply to the new words")
        assert replies_to(replies, new)[0].text == LEFT and told(agent) == before
    elif how == "any new words":
        wait_for(lambda: replies_to(replies, new), "a reply to the new words")
        assert agent.turns == 2
    assert not [a for a in actions if uuid_of(a.utterance_id) == uuid_of(go.utterance_id)]


def test_words_wait_for_each_other_unless_they_take_back(bench):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    node = bench.add(AgentNode)
    agent, thinking = node._thinking.dialogue.agent, node._thinking
    held = Held(agent, 1)
    said = [transcript(bench, text) for text in ("go to dock 1", "go to dock 2", "No, go to dock 3.")]
    bench.publish("transcript", said[0], qos.COMMAND)
    assert held.reached.wait(60)
    bench.publish("transcript", said[1], qos.COMMAND)
    wait_for(lambda: thinking.waiting == 2, "two utterances")
    if not thinking.dialogue.valid(0):
        pytest.fail("a command of its own took back the one before it")
    bench.publish("transcript", said[2], qos.COMMAND)
    wait_for(lambda: thinking.waiting == 3, "three utterances")
    held.release()
    wait_for(lambda: replies_to(replies, said[2]), "the reply to the last")
    held.remove()
    assert [replies_to(replies, each)[0].kind for each in said[:2]] == [Reply.REFUSE] * 2
    assert agent.turns == 1 and {uuid_of(a.utterance_id) for a in actions} <= {uuid_of(said[2].utterance_id)}


def test_a_turn_that_is_called_off_once_it_is_complete_never_happened_either(bench):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    node = bench.add(AgentNode)
    thinking = node._thinking
    agent = thinking.dialogue.agent
    before, hear = told(agent), agent.hear

    def hear_and_cancel(*arguments: Any) -> Any:
        turn = hear(*arguments)
        thinking.cancel_all()
        return turn

    agent.hear = hear_and_cancel
    go = transcript(bench, "go to dock 3")
    bench.publish("transcript", go, qos.COMMAND)
    wait_for(lambda: replies_to(replies, go), "a reply")
    wait_for(lambda: thinking.waiting == 0, "the end of the turn")
    assert replies_to(replies, go)[0].kind == Reply.REFUSE and told(agent) == before
    agent.hear = hear
    again = transcript(bench, "go to dock 3")
    bench.publish("transcript", again, qos.COMMAND)
    wait_for(lambda: replies_to(replies, again) and len(actions) > 1, "an action")
    assert [a.skill for a in actions] == ["cancel", "navigate_to"] and agent.turns == 1


@pytest.mark.parametrize("keep", [False, True])
def test_an_agent_that_dies_after_a_cut_turn_is_back_in_the_same_conversation(bench, tmp_path, keep):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    node = bench.add(AgentNode, state_dir=str(tmp_path), guess=0, keep_cut_turns=keep)
    agent = node._thinking.dialogue.agent
    for text, at in (("hello robot", None), ("go to dock 3", 2), ("how is your battery", None)):
        held = Held(agent, at) if at else None
        said = transcript(bench, text)
        bench.publish("transcript", said, qos.COMMAND)
        if held:
            assert held.reached.wait(60)
            assert bench.call(Trigger, "cancel_all", Trigger.Request()).success
            held.release()
        wait_for(lambda said=said: replies_to(replies, said), "a reply")
        if held:
            held.remove()
    wait_for(lambda: node._thinking.waiting == 0, "the end of the last turn")
    before = told(agent)
    assert agent.turns == (3 if keep else 2)
    bench.remove(node)
    node = bench.add(AgentNode, state_dir=str(tmp_path), guess=0, keep_cut_turns=keep)
    assert told(node._thinking.dialogue.agent) == before
    assert {a.skill for a in actions} <= {"cancel"}


def test_words_are_read_while_they_are_said_and_the_state_shows_it(bench):
    states = bench.watch(AgentState, "agent_state", qos.LATEST)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode)
    agent = node._thinking.dialogue.agent
    before = told(agent)
    final = transcript(bench, "Take the blue bin to packing.")
    key = uuid_of(final.utterance_id)
    bench.publish("partial_transcript", partial(bench, "", key=key), qos.PARTIAL)
    wait_for(lambda: states and states[-1].state == AgentState.LISTENING, "the state LISTENING")
    bench.publish("partial_transcript", partial(bench, "Take the blue been", "Take the blue", key), qos.PARTIAL)
    wait_for(lambda: agent._ahead._tokens, "the stable words")
    assert told(agent) == before
    bench.publish("partial_transcript", partial(bench, "", key=key, speaking=False), qos.PARTIAL)
    wait_for(lambda: states[-1].state == AgentState.TRANSCRIBING, "the state TRANSCRIBING")
    bench.publish("transcript", final, qos.COMMAND)
    wait_for(lambda: replies_to(replies, final) and states[-1].turn == 1, "the turn")
    wait_for(lambda: states[-1].state in (AgentState.IDLE, AgentState.CONFIRMING), "the state after it")
    assert 0 < states[-1].anticipated_tokens < states[-1].prompt_tokens
    late = partial(bench, "Take the blue", "Take the blue", key)
    bench.publish("partial_transcript", late, qos.PARTIAL)
    other = partial(bench, "", key=uuid4())
    bench.publish("partial_transcript", other, qos.PARTIAL)
    wait_for(lambda: states[-1].state == AgentState.LISTENING, "somebody else")
    nothing = partial(bench, "", key=uuid_of(other.utterance_id), speaking=False, gate=Transcript.GATE_NO_SPEECH)
    bench.publish("partial_transcript", nothing, qos.PARTIAL)
    wait_for(lambda: states[-1].state != AgentState.LISTENING, "that nothing was said")


def test_a_stop_in_words_that_go_on_stops_once(bench):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode)
    final = transcript(bench, "Stop, stop, there is someone!", gate=Transcript.GATE_STOP)
    early = partial(bench, "Stop, stop", key=uuid_of(final.utterance_id), gate=Transcript.GATE_STOP)
    bench.publish("partial_transcript", early, qos.PARTIAL)
    wait_for(lambda: actions, "the stop")
    node._stopped_by_topic = float("-inf")
    assert bench.call(Trigger, "acknowledge_stop", Trigger.Request()).success
    bench.publish("transcript", final, qos.COMMAND)
    wait_for(lambda: replies_to(replies, final), "a reply")
    assert [a.skill for a in actions] == ["stop"] and not node._thinking.dialogue.stopped


def test_a_listener_follows_an_utterance_under_one_id_and_stops_once(bench, tmp_path):
    partials = bench.watch(Transcript, "partial_transcript", qos.PARTIAL)
    heard = bench.watch(Transcript, "transcript", qos.COMMAND)
    stops = bench.watch(Empty, "stop", qos.COMMAND)
    samples, rate = soundfile.read(ROOT / "tests/audio/stops.flac", dtype="float32")
    endpointer = Endpointer()
    first = next(u for i in range(0, len(samples), 4096) for u in endpointer.feed(samples[i : i + 4096]))
    wav = tmp_path / "stop.wav"
    soundfile.write(wav, [*first.samples, *[0.0] * rate], rate)
    bench.add(ListenerNode, audio__source="wav", audio__wav=str(wav), partial__every_s=0.1)
    wait_for(lambda: heard and stops, "the stop")
    wait_for(lambda: partials and not partials[-1].speaking, "the end of the utterance")
    assert {uuid_of(p.utterance_id) for p in partials} == {uuid_of(heard[0].utterance_id)}
    assert (heard[0].gate, heard[0].is_final, heard[0].stable_text) == (Transcript.GATE_STOP, True, "")
    assert not any(p.is_final for p in partials) and all(p.text.startswith(p.stable_text) for p in partials)
    time.sleep(0.5)
    assert len(stops) == 1


@pytest.mark.parametrize("keep_state", [True, False])
def test_the_digest_that_is_shown_is_that_of_the_turns_shown(bench, keep_state):
    states = bench.watch(AgentState, "agent_state", qos.LATEST)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode, keep_state=keep_state)
    agent = node._thinking.dialogue.agent
    digests = {0: agent.state_digest()}
    wait_for(lambda: states and states[-1].state_digest, "the digest at the start")
    for text in ("go to dock 3", "how is your battery", "wait there for 2 minutes"):
        said = transcript(bench, text)
        bench.publish("transcript", said, qos.COMMAND)
        wait_for(lambda said=said: replies_to(replies, said) and node._thinking.waiting == 0, "the turn")
        digests[agent.turns] = agent.state_digest()
    wait_for(lambda: states[-1].turn == 3 and states[-1].state_digest, "the digest after the last turn")
    assert all(state.state_digest in ("", digests[state.turn]) for state in states)
    assert bench.call(Trigger, "reset_session", Trigger.Request()).success
    wait_for(lambda: states[-1].turn == 0 and states[-1].state_digest, "the digest of the new session")
    assert states[-1].state_digest == digests[0] and states[-1].context_tokens == agent.context_tokens


def test_who_was_heard_long_ago_or_to_the_end_speaks_no_more():
    now = 0.0
    speaking = Speaking(lambda: now)
    one, other = (Transcript(utterance_id=uuid_message(uuid4()), speaking=True) for _ in range(2))
    assert speaking.heard(one) and not speaking.heard(one) and speaking.state == AgentState.LISTENING
    assert not speaking.over(uuid_of(other.utterance_id)) and speaking.state == AgentState.LISTENING
    assert speaking.over(uuid_of(one.utterance_id)) and speaking.state is None
    assert not speaking.heard(one), "a partial transcript that comes after the final one"
    assert speaking.heard(Transcript(utterance_id=one.utterance_id)) is False
    third = Transcript(utterance_id=uuid_message(uuid4()), speaking=True)
    assert speaking.heard(third) and not speaking.expire()
    now = 31.0
    assert speaking.expire() and speaking.state is None and not speaking.expire()


def test_what_takes_back_is_a_short_list_of_beginnings():
    yes = [
        "No.", "no, wait", "Wait!", "No, go to dock 4.", "Robot, never mind.", "hold on a second", "cancel that",
        "Wait, go to dock 2.", "uh no no the other one", "Cancel the delivery.", "scratch that, dock 3", "Oh, wait.",
    ]  # fmt: skip
    no = [
        "", "go to dock 1", "and then come back", "wait there for two minutes", "Wait for me at dock 3.", "yes",
        "no problem", "No problem, go on.", "nobody is there", "know the way?", "stop at dock 3", "robot", "…",
    ]  # fmt: skip
    assert [text for text in yes if not calls_off(text)] == []
    assert [text for text in no if calls_off(text)] == []
    assert is_call_off("No, wait.") and not is_call_off("No, go to dock 4.") and not is_call_off("cancel")
