"""Claims about the nodes over real DDS: words become actions, stops need no model, bad input leaves nodes up."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest
import soundfile
import yaml
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_bench import Bench, wait_for
from sensor_msgs.msg import BatteryState
from std_msgs.msg import Empty, String
from std_srvs.srv import SetBool, Trigger

from nano_agent_ros.action import ExecuteAction
from nano_agent_ros.agent import Agent
from nano_agent_ros.msg import ActionStatus, AgentState, DefectReport, Reply, RobotAction, Transcript
from nano_agent_ros.nodes import agent as agent_module
from nano_agent_ros.nodes import executor as executor_module
from nano_agent_ros.nodes import listener as listener_module
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes import sim_robot as sim_robot_module
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.assent import is_no, is_release, is_yes
from nano_agent_ros.nodes.conversions import argument_messages, arguments_of, uuid_message, uuid_of
from nano_agent_ros.nodes.dialogue import Dialogue, Kind
from nano_agent_ros.nodes.executor import ExecutorNode
from nano_agent_ros.nodes.facts import FactBook
from nano_agent_ros.nodes.listener import ListenerNode
from nano_agent_ros.nodes.sim_robot import SimRobotNode
from nano_agent_ros.resources import default_skills, find
from nano_agent_ros.robot.simulation import Fault, State
from nano_agent_ros.skills import Action, Site
from nano_agent_ros.srv import Ask

ROOT = Path(__file__).resolve().parent.parent


def skills_file(path: Path, **of_navigate_to: Any) -> Path:
    """The skills that ship, with other settings of navigate_to."""
    content = yaml.safe_load(default_skills().read_text())
    content["skills"]["navigate_to"] |= of_navigate_to
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def add_agent(bench: Bench, **parameters: Any) -> AgentNode:
    return bench.add(AgentNode, **parameters)


def add_robot(bench: Bench, **parameters: Any) -> SimRobotNode:
    """The simulated robot, and the executor that stands before it, once it knows where the robot is."""
    robot = bench.add(SimRobotNode, **parameters)
    executor = bench.add(ExecutorNode)
    wait_for(lambda: executor._executor.robot.pose, "the robot's pose")
    return robot


def transcript(bench: Bench, text: str, age_s: float = 0.0, **fields: Any) -> Transcript:
    message = Transcript(utterance_id=uuid_message(uuid4()), text=text, is_final=True, confidence=1.0, **fields)
    nanoseconds = bench.probe.get_clock().now().nanoseconds - round(age_s * 1e9)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, 10**9)
    return message


def robot_action(bench: Bench, skill: str, plan: UUID | None = None, step: int = 0, count: int = 1, **arguments: Any):
    message = RobotAction(
        action_id=uuid_message(uuid4()),
        plan_id=uuid_message(plan or uuid4()),
        step=step,
        step_count=count,
        skill=skill,
        arguments=argument_messages(arguments),
    )
    message.header.stamp = bench.probe.get_clock().now().to_msg()
    return message


def states_of(statuses: list[ActionStatus], action: RobotAction) -> list[State]:
    return [State(s.state) for s in statuses if uuid_of(s.action_id) == uuid_of(action.action_id)]


def replies_to(replies: list[Reply], message: Transcript) -> list[Reply]:
    return [r for r in replies if uuid_of(r.utterance_id) == uuid_of(message.utterance_id)]


def test_the_enums_of_the_plain_parts_are_those_of_the_messages():
    for state in State:
        assert getattr(ActionStatus, state.name) == state
    for fault in Fault:
        assert getattr(ActionStatus, f"ERROR_{fault.name}") == fault
    for kind in Kind:
        assert getattr(Reply, kind.name) == kind


def test_typed_text_becomes_a_typed_action_that_the_robot_executes(bench):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    heard = bench.watch(Transcript, "transcript", qos.COMMAND)
    add_robot(bench, time_scale=200.0)
    agent = add_agent(bench)
    bench.add(ListenerNode, audio__source="none")
    bench.publish("text", String(data="go to dock 3"), qos.COMMAND)
    wait_for(lambda: replies, "a reply")
    wait_for(lambda: actions and len(actions) == actions[0].step_count, "all actions of the plan")

    assert [(t.text, t.source, t.gate, t.confidence) for t in heard] == [
        ("go to dock 3", Transcript.SOURCE_TEXT, Transcript.GATE_ACCEPTED, 1.0)
    ]
    action, session = actions[0], agent._thinking.dialogue.session
    location = arguments_of(action.arguments)["location"]
    assert (action.skill, action.target_id) == ("navigate_to", location)
    assert (action.pose.header.frame_id, action.has_pose) == ("map", True)
    assert uuid_of(action.utterance_id) == uuid_of(heard[0].utterance_id)
    assert [a.step for a in actions] == list(range(len(actions))) and {a.source for a in actions} == {"/agent"}
    assert [uuid_of(a.action_id) for a in actions] == [uuid5(session, f"0/{i}") for i in range(len(actions))]
    assert {uuid_of(a.plan_id) for a in actions} == {uuid5(session, "0")}
    assert (replies[0].kind, uuid_of(replies[0].utterance_id)) == (Reply.ACKNOWLEDGE, uuid_of(heard[0].utterance_id))
    wait_for(lambda: State.FINISHED in states_of(statuses, actions[-1]), "the end of the plan")
    ran = [s for s in states_of(statuses, action) if s is not State.RUNNING]
    assert ran == [State.WAITING, State.FINISHED] and not statuses[-1].error_msg


def test_what_is_said_is_what_is_done(bench):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    reports = bench.watch(DefectReport, "defect_report", qos.REPORT)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    bench.add(AgentNode)
    go = transcript(bench, "go to dock 3")
    bench.publish("transcript", go, qos.COMMAND)
    wait_for(lambda: actions and replies_to(replies, go), "an action")
    assert [(a.skill, arguments_of(a.arguments)) for a in actions] == [("navigate_to", {"location": "dock_3"})]
    defect = transcript(bench, "There's a crack in rack seven, bottom shelf.")
    bench.publish("transcript", defect, qos.COMMAND)
    wait_for(lambda: reports and replies_to(replies, defect), "a report")
    report = reports[0]
    assert (report.defect_type, report.location_id, report.source) == ("crack", "rack_7", DefectReport.SOURCE_SPOKEN)
    assert report.description == defect.text and report.has_pose and len(actions) == 1


def test_a_stop_needs_no_model_and_latches(bench):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    stops = bench.watch(Empty, "stop", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    states = bench.watch(AgentState, "agent_state", qos.LATEST)
    agent = add_agent(bench)
    bench.add(ListenerNode, audio__source="none")
    # The model's thread is busy, and what it is busy with must not come through after the stop.
    release = threading.Event()
    agent._thinking._worker.submit(release.wait, 60)
    waiting = transcript(bench, "go to dock 3")
    bench.publish("transcript", waiting, qos.COMMAND)
    wait_for(lambda: agent._thinking.waiting == 1, "the command to wait for the model")
    bench.publish("text", String(data="Robot, stop!"), qos.COMMAND)
    wait_for(lambda: stops and actions, "the stop")
    assert (actions[0].skill, actions[0].priority) == ("stop", RobotAction.PRIORITY_EMERGENCY)
    wait_for(lambda: states and states[-1].state == AgentState.STOPPED, "the state STOPPED")
    assert states[-1].turn == 0
    release.set()
    wait_for(lambda: replies_to(replies, waiting), "a reply to what was overtaken")
    assert replies_to(replies, waiting)[0].kind == Reply.REFUSE

    later = transcript(bench, "go to dock 3")
    bench.publish("transcript", later, qos.COMMAND)
    wait_for(lambda: replies_to(replies, later), "a reply while stopped")
    assert "stopped" in replies_to(replies, later)[0].text and [a.skill for a in actions] == ["stop"]

    assert bench.call(Trigger, "acknowledge_stop", Trigger.Request()).success
    assert not bench.call(Trigger, "acknowledge_stop", Trigger.Request()).success
    assert bench.call(Trigger, "reset_session", Trigger.Request()).success
    answer = bench.call(Ask, "ask", Ask.Request(text="go to dock 3"))
    assert answer.success and answer.actions[0].skill == "navigate_to"
    wait_for(lambda: len(actions) == 1 + len(answer.actions), "the actions of the service")
    assert [a.action_id for a in actions[1:]] == [a.action_id for a in answer.actions]


def test_resume_releases_a_stop_by_voice(bench):
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    agent = add_agent(bench)
    bench.publish("stop", Empty(), qos.COMMAND)
    wait_for(lambda: actions, "the stop")
    resume = transcript(bench, "Okay, resume.")
    bench.publish("transcript", resume, qos.COMMAND)
    wait_for(lambda: replies_to(replies, resume), "a reply")
    assert replies_to(replies, resume)[0].kind == Reply.ACKNOWLEDGE and not agent._thinking.dialogue.stopped


def test_words_that_must_not_act_do_not(bench):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    add_agent(bench)
    cases = [
        (transcript(bench, "go to dock 3", age_s=60.0), Reply.REFUSE, "too long ago"),
        (transcript(bench, "go to dock 3", gate=Transcript.GATE_LOW_CONFIDENCE), Reply.CLARIFY, "again"),
        (transcript(bench, "go to dock 3", gate=Transcript.GATE_TOO_LONG), Reply.REFUSE, "too long"),
        (Transcript(utterance_id=uuid_message(uuid4()), text="go", is_final=True, confidence=1.0), Reply.REFUSE, "ago"),
    ]
    quiet = transcript(bench, "go to dock 3")
    quiet.confidence = 0.1
    for message, kind, words in [*cases, (quiet, Reply.CLARIFY, "again")]:
        bench.publish("transcript", message, qos.COMMAND)
        wait_for(lambda message=message: replies_to(replies, message), "a reply")
        reply = replies_to(replies, message)[0]
        assert reply.kind == kind and words in reply.text
    assert not actions


def test_an_utterance_that_comes_twice_acts_once(bench):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    add_agent(bench)
    message, after = transcript(bench, "go to dock 3"), transcript(bench, "")
    for each in (message, message, after):
        bench.publish("transcript", each, qos.COMMAND)
    wait_for(lambda: replies_to(replies, after), "the reply to the last")
    assert len(actions) == actions[0].step_count and len(replies_to(replies, message)) == 1


def test_what_needs_confirmation_waits_for_a_yes(bench, tmp_path):
    actions = bench.watch(RobotAction, "action", qos.COMMAND)
    add_agent(bench, skills=str(skills_file(tmp_path / "confirmed.yaml", confirm=True)))

    def ask(text: str) -> Ask.Response:
        return bench.call(Ask, "ask", Ask.Request(text=text))

    def propose() -> Ask.Response:
        bench.call(Trigger, "reset_session", Trigger.Request())
        return ask("go to dock 3")

    proposed = propose()
    assert proposed.reply.kind == Reply.CONFIRM and proposed.actions[0].requires_confirmation
    assert ask("no, don't").reply.kind == Reply.ACKNOWLEDGE and not actions
    proposed = propose()
    agreed = ask("Yes please, go ahead.")
    assert [a.action_id for a in agreed.actions] == [a.action_id for a in proposed.actions]
    wait_for(lambda: len(actions) == len(agreed.actions), "the actions")
    assert not any(a.requires_confirmation for a in actions)


@pytest.mark.parametrize(
    ("parameter", "content", "words"),
    [
        ("model", None, "manifest.json"),
        ("engine", "steam", "steam"),
        ("site", "locations: [unclosed", "line 1"),
        ("site", "locations: {}", "at least one location"),
        ("skills", "skills: {fly: {}}", "description"),
        ("thinking", 9, "no thinking to switch on"),
    ],
)
def test_an_agent_that_cannot_be_configured_says_why_and_can_be_mended(bench, tmp_path, parameter, content, words):
    states = bench.watch(AgentState, "agent_state", qos.LATEST)
    value = content or str(tmp_path / "nowhere")
    if parameter in ("site", "skills"):
        value = str(tmp_path / f"{parameter}.yaml")
        Path(value).write_text(content)
    good = {"model": "", "engine": "native", "skills": "", "site": "warehouse", "thinking": 0}
    node = bench.add(AgentNode, up=False, **{**good, parameter: value})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    wait_for(lambda: states and states[-1].state == AgentState.ERROR, "the state ERROR")
    assert words in states[-1].last_error
    assert not bench.call(Ask, "ask", Ask.Request(text="go to dock 3")).success
    bench.set(node, **{parameter: good[parameter]})
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS


def test_an_error_in_a_turn_is_a_refusal_and_the_next_turn_works(bench):
    states = bench.watch(AgentState, "agent_state", qos.LATEST)
    node = add_agent(bench)
    engine = node._thinking.dialogue.agent.engine
    extend = engine.extend

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the disk is on fire")

    engine.extend = broken
    answer = bench.call(Ask, "ask", Ask.Request(text="go to dock 3"))
    assert answer.reply.kind == Reply.REFUSE and not answer.actions
    wait_for(lambda: states and states[-1].state == AgentState.ERROR, "the state ERROR")
    assert "on fire" in states[-1].last_error
    engine.extend = extend
    bench.call(Trigger, "reset_session", Trigger.Request())
    assert bench.call(Ask, "ask", Ask.Request(text="go to dock 3")).actions
    wait_for(lambda: states[-1].state == AgentState.IDLE and not states[-1].last_error, "the state IDLE")


@pytest.mark.parametrize("broken", ["missing", "empty", "noise", "microphone", "whisper"])
def test_a_listener_without_sound_still_takes_typed_commands(bench, tmp_path, broken, monkeypatch):
    heard = bench.watch(Transcript, "transcript", qos.COMMAND)
    wav = tmp_path / "broken.wav"
    if broken == "empty":
        wav.touch()
    elif broken == "noise":
        wav.write_bytes(bytes(range(256)) * 20)
    parameters: dict[str, Any] = {"audio__source": "wav", "audio__wav": str(wav)}
    if broken == "microphone":
        parameters = {"audio__source": "mic", "audio__device": "no such microphone"}
    elif broken == "whisper":
        parameters["whisper__model"] = str(tmp_path / "no model")
    node = bench.add(ListenerNode, **parameters)
    assert node.level == listener_module.ERROR
    bench.publish("text", String(data="go to dock 3"), qos.COMMAND)
    wait_for(lambda: heard, "the typed command")
    assert heard[0].text == "go to dock 3" and heard[0].gate == Transcript.GATE_ACCEPTED


def test_typed_text_is_bounded(bench):
    heard = bench.watch(Transcript, "transcript", qos.COMMAND)
    bench.add(ListenerNode, audio__source="none")
    bench.publish("text", String(data="x" * 10_000_000), qos.COMMAND)
    bench.publish("text", String(data=" \n "), qos.COMMAND)
    wait_for(lambda: len(heard) == 2, "two transcripts")
    assert [t.gate for t in heard] == [Transcript.GATE_TOO_LONG, Transcript.GATE_NO_SPEECH]
    assert len(heard[0].text) == 500


def test_a_sound_file_is_heard_and_its_stop_stops(bench, tmp_path):
    heard = bench.watch(Transcript, "transcript", qos.COMMAND)
    stops = bench.watch(Empty, "stop", qos.COMMAND)
    samples, rate = soundfile.read(find("config/audio/demo.wav"))
    ends = tmp_path / "ends.wav"  # the first command and the last word
    soundfile.write(ends, [*samples[: 4 * rate], *samples[-3 * rate :]], rate)
    bench.add(ListenerNode, audio__source="wav", audio__wav=str(ends), audio__realtime=False)
    wait_for(lambda: len(heard) >= 2, "two utterances", 120.0)
    assert "dock" in heard[0].text.lower() and heard[0].gate == Transcript.GATE_ACCEPTED
    assert all(t.source == Transcript.SOURCE_FILE and t.audio_duration.sec < 5 for t in heard)
    assert heard[-1].gate == Transcript.GATE_STOP
    wait_for(lambda: stops, "the stop")


def test_a_muted_listener_transcribes_nothing(bench, tmp_path):
    heard = bench.watch(Transcript, "transcript", qos.COMMAND)
    wav = tmp_path / "command.wav"
    samples, rate = soundfile.read(find("config/audio/demo.wav"))
    soundfile.write(wav, samples[: 4 * rate], rate)
    node = bench.add(ListenerNode, up=False, audio__source="wav", audio__wav=str(wav), audio__realtime=False)
    assert bench.call(SetBool, "mute", SetBool.Request(data=True)).success
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    wait_for(lambda: heard, "the utterance", 120.0)
    assert [(t.text, t.gate) for t in heard] == [("", Transcript.GATE_MUTED)]


def test_the_robot_executes_each_action_once_in_order_and_reports(bench):
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    batteries = bench.watch(BatteryState, "battery", qos.LATEST)
    add_robot(bench, time_scale=100.0)
    plan = uuid4()
    first = robot_action(bench, "navigate_to", plan, 0, 2, location="dock_3")
    second = robot_action(bench, "pick", plan, 1, 2, object="box")
    for message in (first, second, first):
        bench.publish("action", message, qos.COMMAND)
    wait_for(lambda: State.FINISHED in states_of(statuses, second), "the end of the plan")
    for message in (first, second):
        assert states_of(statuses, message).count(State.FINISHED) == 1
    ended = [s.skill for s in statuses if s.state == ActionStatus.FINISHED]
    assert ended == ["navigate_to", "pick"]
    wait_for(lambda: batteries and 0.5 < batteries[-1].percentage < 1.0, "a battery that was used")


def test_the_robot_refuses_what_it_must_not_do(bench):
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    add_robot(bench)
    unknown = robot_action(bench, "juggle")
    stale = robot_action(bench, "wait")
    stale.header.stamp.sec -= 60
    unconfirmed = robot_action(bench, "wait")
    unconfirmed.requires_confirmation = True
    for message in (unknown, stale, unconfirmed):
        bench.publish("action", message, qos.COMMAND)
    wait_for(lambda: len(statuses) == 3, "three statuses")
    assert [s.state for s in statuses] == [State.REJECTED, State.REJECTED, State.AWAITING_CONFIRMATION]
    assert [s.error_code for s in statuses] == [ActionStatus.ERROR_NOT_ALLOWED, ActionStatus.ERROR_STALE, 0]
    assert all(s.error_msg for s in statuses)
    assert bench.call(SetBool, "executor/confirm", SetBool.Request(data=False)).success
    wait_for(lambda: State.REJECTED in states_of(statuses, unconfirmed), "the no")
    assert statuses[-1].error_code == ActionStatus.ERROR_NOT_CONFIRMED


def test_a_typed_yes_answers_the_executors_question(bench):
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    add_robot(bench)
    add_agent(bench)
    unconfirmed = robot_action(bench, "wait", duration="1")
    unconfirmed.requires_confirmation = True
    bench.publish("action", unconfirmed, qos.COMMAND)
    wait_for(lambda: State.AWAITING_CONFIRMATION in states_of(statuses, unconfirmed), "the question")
    wait_for(lambda: bench.call(Ask, "ask", Ask.Request(text="yes")).reply.text == "Okay.", "the yes")
    wait_for(lambda: State.FINISHED in states_of(statuses, unconfirmed), "the end of what was agreed to")


def test_a_stop_reaches_the_robot_without_the_agent(bench):
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    add_robot(bench)
    drive = robot_action(bench, "navigate_to", location="rack_7")
    bench.publish("action", drive, qos.COMMAND)
    wait_for(lambda: State.RUNNING in states_of(statuses, drive), "the drive")
    bench.publish("stop", Empty(), qos.COMMAND)
    wait_for(lambda: State.CANCELED in states_of(statuses, drive), "the end of the drive")
    refused = robot_action(bench, "navigate_to", location="rack_7")
    bench.publish("action", refused, qos.COMMAND)
    wait_for(lambda: State.REJECTED in states_of(statuses, refused), "a refusal while stopped")
    wait_for(lambda: bench.call(Trigger, "executor/acknowledge_stop", Trigger.Request()).success, "acknowledgement")
    again = robot_action(bench, "navigate_to", location="rack_7")
    bench.publish("action", again, qos.COMMAND)
    wait_for(lambda: State.RUNNING in states_of(statuses, again), "another drive")


def test_one_acknowledgement_releases_agent_and_executor(bench):
    add_robot(bench)
    executor, agent = bench.nodes[-1]._executor, add_agent(bench)
    # Told to the agent alone: a stop by topic goes two ways to the executor, and the second may come after the release.
    wait_for(lambda: agent._out.heard, "the executor to listen")
    assert bench.call(Ask, "ask", Ask.Request(text="stop")).success
    wait_for(lambda: executor.gate.stopped and agent._thinking.dialogue.stopped, "the stop of both")
    wait_for(agent._robot._acknowledge.service_is_ready, "the executor's service")
    wait_for(lambda: bench.call(Trigger, "acknowledge_stop", Trigger.Request()).success, "acknowledgement")
    wait_for(lambda: not executor.gate.stopped, "the release of the executor")
    assert not agent._thinking.dialogue.stopped


def test_what_the_executor_asks_is_said_and_a_spoken_yes_answers_it(bench):
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    replies = bench.watch(Reply, "reply", qos.COMMAND)
    add_robot(bench, time_scale=100.0)
    add_agent(bench)
    risky = robot_action(bench, "lift")
    risky.risk = RobotAction.RISK_HIGH
    bench.publish("action", risky, qos.COMMAND)
    wait_for(lambda: [r for r in replies if r.kind == Reply.CONFIRM and "lift" in r.text], "the question")
    bench.publish("transcript", transcript(bench, "yes please"), qos.COMMAND)
    wait_for(lambda: State.FINISHED in states_of(statuses, risky), "the lift")


def test_a_late_joiner_executes_nothing_old_and_sees_how_it_ended(bench):
    robot = add_robot(bench, time_scale=100.0)
    first = bench.nodes[-1]
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    old = robot_action(bench, "wait", duration=1.0)
    bench.publish("action", old, qos.COMMAND)
    wait_for(lambda: State.FINISHED in states_of(statuses, old), "the end of the action")
    late: list[ActionStatus] = []
    bench.probe.create_subscription(ActionStatus, "status", late.append, qos.STATUS)
    wait_for(lambda: State.FINISHED in states_of(late, old), "the status for a late joiner")

    bench.remove(first)
    second = bench.add(ExecutorNode)
    new = robot_action(bench, "wait", duration=1.0)
    wait_for(lambda: bench._publishers["action"].get_subscription_count() == 1, "only the new executor to listen")
    bench.publish("action", new, qos.COMMAND)
    wait_for(lambda: State.FINISHED in states_of(statuses, new), "the end of the new action")
    assert second._executor.status_of(uuid_of(old.action_id)) is None
    assert robot._robot.status_of(uuid_of(new.action_id)) is not None


def test_the_action_server_executes_feeds_back_and_cancels(bench):
    bench.add(SimRobotNode, time_scale=2.0, status_rate_hz=20.0)
    client = ActionClient(bench.probe, ExecuteAction, "execute_action")
    wait_for(client.server_is_ready, "the action server")

    def send(feedback: list, **arguments: Any) -> Any:
        goal = ExecuteAction.Goal(action=robot_action(bench, "wait", **arguments))
        sent = client.send_goal_async(goal, feedback_callback=feedback.append)
        wait_for(sent.done, "acceptance")
        return sent.result()

    def result(handle: Any) -> ActionStatus:
        future = handle.get_result_async()
        wait_for(future.done, "the result")
        return future.result().result.status

    feedback: list[Any] = []
    status = result(send(feedback, duration=2.0))
    assert status.state == ActionStatus.FINISHED and status.progress == 1.0
    wait_for(lambda: any(0 < f.feedback.status.progress < 1 for f in feedback), "feedback")
    handle = send([], duration=600.0)
    handle.cancel_goal_async()
    assert result(handle).state == ActionStatus.CANCELED


def test_messages_that_make_no_sense_end_no_node(bench):
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    add_robot(bench, time_scale=100.0)
    add_agent(bench)
    bench.publish("status", ActionStatus(state=200), qos.STATUS)
    bench.publish("battery", BatteryState(percentage=float("nan")), qos.LATEST)
    nowhere = robot_action(bench, "navigate_to", location="nowhere")
    nowhere.has_pose, nowhere.pose.pose.position.x = True, float("inf")
    nameless = robot_action(bench, "wait")
    nameless.action_id = uuid_message(UUID(int=0))
    for message in (nowhere, nameless):
        bench.publish("action", message, qos.COMMAND)
    wait_for(lambda: [s for s in statuses if s.state == ActionStatus.REJECTED][1:], "two rejections")
    assert bench.call(Ask, "ask", Ask.Request(text="go to dock 3")).success


def test_yes_no_and_resume_are_whole_utterances():
    assert all(map(is_yes, ["Yes.", "yes please, go ahead", "okay", "That's right."]))
    assert not any(map(is_yes, ["yes but slowly", "please", "", "go ahead to dock 3"]))
    assert all(map(is_no, ["No.", "no, don't do that", "never mind"])) and not is_no("no, I meant dock 4")
    assert all(map(is_release, ["Resume.", "okay, you can move again"])) and not is_release("you can move the box")


def test_facts_follow_what_the_robot_reports():
    site = Site.load("warehouse")
    book = FactBook(site)
    book.battery(0.62)
    book.position(10.1, 1.2)
    pick = Action("pick", {"object": "blue_bin"}, "medium", False, 1.0, "blue_bin", None)
    key, other = uuid4(), uuid4()
    book.issued(key, pick)
    book.report(other, State.RUNNING)
    assert dict(book.facts()) == {"battery": 62, "location": "dock_3"} and not book.acting
    book.report(key, State.RUNNING)
    assert book.acting and book.facts()["task"] == "picking up the blue bin"
    book.report(key, State.FINISHED)
    assert dict(book.facts())["carrying"] == "blue_bin"
    assert (book.facts()["task"], book.facts()["last"], book.acting) == ("idle", "finished", False)
    book.position(0.0, 0.0)
    assert "location" not in book.facts()


def test_the_same_skill_waits_for_its_cool_down(tmp_path):
    skills = skills_file(tmp_path / "slow.yaml", cooldown_s=5)
    now = 0.0
    dialogue = Dialogue(Agent.open(skills=skills), uuid4(), clock=lambda: now)

    def hear() -> Any:
        dialogue.reset(dialogue.session)
        return dialogue.hear("go to dock 3", 1.0, {}, dialogue.ticket())

    assert hear().steps
    now = 4.0
    assert hear().kind is Kind.REFUSE
    now = 6.0
    assert hear().steps


def test_parameters_out_of_range_are_refused_with_a_reason(bench):
    node = bench.add(ListenerNode, up=False)
    for name, value in (("audio.source", "radio"), ("gate.min_confidence", float("nan")), ("whisper.beam_size", 9)):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful and name in result.reason


MODULES = [listener_module, agent_module, executor_module, sim_robot_module]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_every_parameter_is_documented_with_its_default(module):
    page = (ROOT / "docs/nodes.md").read_text()
    for parameter in module.PARAMETERS:
        row = re.search(rf"^\| `{re.escape(parameter.name)}` \| (.*?) \|", page, re.M)
        assert row, f"docs/nodes.md lacks parameter {parameter.name}"
        default = str(parameter.default).lower() if isinstance(parameter.default, bool) else str(parameter.default)
        assert f"`{default}`" in row.group(0) or (default == "" and '`""`' in row.group(0)), parameter.name
