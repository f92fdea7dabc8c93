"""Claims about an agent node that dies: it is back in its conversation; what it decided is done once or refused."""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest
from ros_bench import wait_for
from std_msgs.msg import Empty
from test_nodes import replies_to, transcript

from nano_agent_ros.msg import AgentState, Reply, RobotAction
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.conversions import uuid_of
from nano_agent_ros.nodes.dialogue import Kind, Outcome
from nano_agent_ros.nodes.keeping import Keeping, Message, _content, _message, state_folder
from nano_agent_ros.nodes.step import Step
from nano_agent_ros.skills import Action
from nano_agent_ros.state import session as session_module

NAVIGATE = Action("navigate_to", {"location": "dock_3"}, "low", False, 0.9, "dock_3", (1, 2, 0.5))
GO = Step(uuid4(), uuid4(), 0, 1, NAVIGATE)


def hear(bench, replies, text):
    said = transcript(bench, text)
    bench.publish("transcript", said, qos.COMMAND)
    wait_for(lambda: replies_to(replies, said), f"a reply to {text!r}")


def left_unsent(bench, tmp_path, *outcomes):
    """The folder of an agent that was killed between writing these outcomes and sending them."""
    node = bench.add(AgentNode, state_dir=str(tmp_path))
    keeping, agent = node._thinking._keeping, node._thinking.dialogue.agent
    for outcome in outcomes:
        keeping.write(agent, Message(uuid4(), "some words", outcome))
    bench.remove(node)


def test_an_outcome_comes_back_from_its_json_form():
    outcome = Outcome(Kind.CONFIRM, "Shall I?", 0, (GO,), (GO,), True)
    message = Message(uuid4(), "go", outcome)
    assert _message(_content(message)) == message


def test_a_restarted_agent_is_in_the_same_conversation(bench, tmp_path):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    states = bench.watch(AgentState, "agent_state", qos.LATEST)
    node = bench.add(AgentNode, state_dir=str(tmp_path))
    hear(bench, replies, "go to dock 3")
    hear(bench, replies, "what's your battery")
    wait_for(lambda: states and states[-1].turn == 2 and states[-1].state_digest, "the state after two turns")
    before, session = states[-1].state_digest, states[-1].session_id
    bench.remove(node)

    node = bench.add(AgentNode, state_dir=str(tmp_path))
    wait_for(lambda: states[-1].restored, "the restored state")
    assert states[-1].session_id == session
    agent = node._thinking.dialogue.agent
    assert (agent.turns, agent.state_digest()) == (2, before)
    said = len(replies)
    time.sleep(0.3)
    assert len(replies) == said, "what was sent is not sent again"


def test_what_was_decided_and_not_sent_is_sent_once_somebody_listens(bench, tmp_path):
    left_unsent(bench, tmp_path, Outcome(Kind.ACKNOWLEDGE, "Okay.", 0, (GO,)))
    bench.add(AgentNode, state_dir=str(tmp_path))
    time.sleep(0.5)
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    wait_for(lambda: actions, "the action")
    assert (uuid_of(actions[0].action_id), actions[0].skill) == (GO.action_id, "navigate_to")
    bench.remove(bench.nodes[0])
    bench.add(AgentNode, state_dir=str(tmp_path))
    time.sleep(0.5)
    assert len(actions) == 1


@pytest.mark.parametrize("why", ["too late", "stopped since", "not confirmed"])
def test_what_must_not_move_the_robot_any_more_is_refused(bench, tmp_path, why):
    held = why == "not confirmed"
    left_unsent(bench, tmp_path, Outcome(Kind.CONFIRM if held else Kind.ACKNOWLEDGE, "", 0, (GO,), held=held))
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    if why == "stopped since":
        node = bench.add(AgentNode, up=False, state_dir=str(tmp_path))
        node.trigger_configure()
        node._thinking.stop()
        bench.remove(node)
    if why == "too late":
        time.sleep(1.0)
    bench.add(AgentNode, state_dir=str(tmp_path), max_transcript_age_s=0.5 if why == "too late" else 10.0)
    wait_for(lambda: replies, "a reply")
    assert replies[0].kind == Reply.REFUSE and ("restarted" in replies[0].text or "stopped" in replies[0].text)
    assert not [a for a in actions if a.skill != "stop"]


def test_a_stop_outlives_the_agent(bench, tmp_path):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode, state_dir=str(tmp_path))
    bench.publish("stop", Empty(), qos.COMMAND)
    wait_for(lambda: node._thinking._keeping.stopped, "the stop")
    bench.remove(node)
    node = bench.add(AgentNode, state_dir=str(tmp_path))
    assert node._thinking.dialogue.stopped
    hear(bench, replies, "resume")
    assert not node._thinking.dialogue.stopped
    bench.remove(node)
    assert not bench.add(AgentNode, state_dir=str(tmp_path))._thinking.dialogue.stopped


def test_a_conversation_that_rested_too_long_is_not_gone_on_with(bench, tmp_path):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode, state_dir=str(tmp_path))
    hear(bench, replies, "go to dock 3")
    bench.remove(node)
    journal = next(tmp_path.glob(f"*/{session_module.JOURNAL}"))
    os.utime(journal, (time.time() - 100, time.time() - 100))
    assert bench.add(AgentNode, state_dir=str(tmp_path), resume_within_s=60.0)._thinking.dialogue.agent.turns == 0


def test_a_full_disk_costs_the_keeping_and_nothing_else(bench, tmp_path, caplog):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    node = bench.add(AgentNode, state_dir=str(tmp_path))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, node._thinking._keeping._session._journal._file.fileno())
    hear(bench, replies, "go to dock 3")
    wait_for(lambda: actions, "the action")
    assert "not kept" in caplog.text
    assert not list(tmp_path.glob("*/*")), "half a conversation is not taken up"


def test_two_agents_do_not_share_a_folder(bench, tmp_path, caplog):
    first = bench.add(AgentNode, state_dir=str(tmp_path))
    keeping = Keeping(first._thinking.dialogue.agent, tmp_path, 60.0)
    assert keeping.session_id != first._thinking.dialogue.session
    assert "another agent" in caplog.text and "state_dir" in caplog.text


def test_folders_are_by_namespace():
    assert state_folder("", "/").name == "default"
    assert state_folder("", "/hall/robot_2").name == "hall.robot_2"
    assert str(state_folder("/data", "/x")) == "/data"
