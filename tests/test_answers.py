"""Claims about questions after the event: "why did you stop?" is answered with the robot's own reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from ros_bench import wait_for
from test_execution import Rig

from nano_agent_ros.agent import Agent
from nano_agent_ros.answers import UNKNOWN, truthful
from nano_agent_ros.msg import ActionStatus, Reply
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.executor import ExecutorNode
from nano_agent_ros.nodes.facts import FactBook
from nano_agent_ros.nodes.sim_robot import SimRobotNode
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import State
from nano_agent_ros.safety import Order, Policy
from nano_agent_ros.skills import Action, Site
from nano_agent_ros.srv import Ask

SITE = Site.load("warehouse")
AGENT = Agent.open()
QUESTIONS = ("why did you stop?", "what happened?")


class Watched(Rig):
    """An executor over the simulated robot, and what an agent knows of it."""

    def __init__(self, **chosen: object) -> None:
        super().__init__(replace(Policy.load(), operators=("/console",)), **chosen)
        self.book, self._noted = FactBook(SITE), 0

    def order(self, skill: str, **arguments: object) -> Order:
        order = self.send(skill, source="/agent", **arguments)
        action = Action(skill, arguments, "low", False, 1.0, str(arguments.get("location", "")), None)
        self.book.issued(order.action_id, action, order.plan_id)
        return order

    def run(self, seconds: float, dt: float = 0.25) -> None:
        super().run(seconds, dt)
        for status in self.told[self._noted :]:
            self.book.report(status.action_id, status.state, status.message)
        self._noted = len(self.told)
        self.book.position(self.back_end.robot.body.pose.x, self.back_end.robot.body.pose.y)
        self.book.battery(self.back_end.robot.body.battery / 100.0)

    def ask(self, question: str) -> str:
        AGENT.reset()
        turn = AGENT.hear(question, self.book.facts())
        assert turn.kind == "answer", turn
        return turn.reply


def obstacle(rig: Watched) -> None:
    pose = rig.back_end.robot.body.pose
    rig.back_end.robot.body.obstacles = ((pose.x + 2.5, pose.y, 0.5),)


def zone(rig: Watched) -> None:
    rig.back_end.robot.body.pose = Pose(28.0, 16.0, 0.0)


CAUSES: dict[str, Callable[[Watched], object]] = {
    "The last action was cancelled: a stop was ordered.": lambda rig: rig.executor.stop(rig.now),
    "The last action was cancelled: stopped by an operator.": lambda rig: rig.send("stop", source="/console"),
    "The last action was cancelled: it was called off.": lambda rig: rig.order("cancel"),
    "The last action was cancelled: an operator called it off.": lambda rig: rig.send("cancel", source="/console"),
    "The last action was cancelled: an operator gave another order.": lambda rig: rig.send(
        "navigate_to", source="/console", location="dock_1"
    ),
    "The last action failed: the battery is empty.": lambda rig: setattr(rig.back_end.robot.body, "battery", 0.01),
    "The last action failed: an obstacle is in the way at": obstacle,
    "The last action was cancelled: the robot is in zone 'battery_room', which is closed.": zone,
    "I'm paused: driving to aisle 4": lambda rig: rig.order("pause"),
}


@pytest.mark.parametrize("answer", CAUSES)
def test_why_an_action_ended_is_answered_with_its_cause(answer):
    rig = Watched()
    rig.order("navigate_to", location="aisle_4")
    rig.run(2)
    assert rig.book.acting
    CAUSES[answer](rig)
    rig.run(4)
    for question in QUESTIONS:
        assert rig.ask(question).startswith(answer)


def test_an_order_that_replaces_another_is_its_cause():
    rig = Watched(new_plan="replace")
    first = rig.order("navigate_to", location="aisle_4")
    rig.run(2)
    rig.order("navigate_to", location="dock_1")
    rig.run(2)
    assert rig.last(first).message == "another order came first"
    assert rig.book.facts()["last"] == "cancelled: another order came first"


def test_steps_that_only_followed_do_not_hide_what_went_wrong():
    rig, plan = Watched(), uuid4()
    for step, (skill, arguments) in enumerate((("navigate_to", {"location": "aisle_4"}), ("pick", {"object": "box"}))):
        order = rig.send(skill, plan, step, 2, source="/agent", **arguments)
        rig.book.issued(order.action_id, Action(skill, arguments, "low", False, 1.0, "", None), plan)
    rig.run(2)
    obstacle(rig)
    rig.run(4)
    assert str(rig.book.facts()["last"]).startswith("failed: an obstacle is in the way")


def test_a_robot_that_gives_no_reason_was_stopped_by_whoever_stopped_it_last():
    book, drive = FactBook(SITE), Action("navigate_to", {"location": "dock_1"}, "low", False, 1.0, "dock_1", None)
    for skill, told in (("", "cancelled"), ("stop", "cancelled: a stop was ordered")):
        key = uuid4()
        book.issued(key, drive, key)
        book.report(key, State.RUNNING)
        if skill:
            book.issued(uuid4(), Action(skill, {}, "none", False, 1.0, "", None))
        book.report(key, State.CANCELED)
        assert book.facts()["last"] == told


def test_the_conversation_holds_the_answer_that_was_given():
    AGENT.reset()
    turn = AGENT.hear("what went wrong", {"last": "failed: the left fork is jammed"})
    assert turn.reply == "The last action failed: the left fork is jammed."
    assert turn.reply in AGENT._decoder.text(turn.fed)  # not what the model had made of it


@pytest.mark.parametrize(
    ("answer", "facts", "said"),
    [
        ("The last action failed: a per.", {"last": "failed: no way"}, "The last action failed: no way."),
        ("The last job was cancelled.", {"last": "finished"}, "The last action finished."),
        ("The last action finished.", {"task": "idle"}, UNKNOWN),
        ("The last action finished.", {"last": "lost"}, "The last action ended: lost."),
        ("My battery is at 62 percent.", {"battery": 26}, "My battery is at 26 percent."),
        ("My battery is at 62 percent.", {"last": "finished"}, "I don't know my battery level."),
        ("I don't know my battery level.", {"battery": 26}, "My battery is at 26 percent."),
        ("I'm at aisle 2.", {"location": "dock_3"}, "I'm at dock 3."),
        ("I don't know where I am.", {}, "I don't know where I am."),
        ("I'm carrying the box.", {"carrying": "blue_bin"}, "I'm carrying the blue bin."),
        ("I'm not carrying anything.", {"carrying": "nothing"}, "I'm carrying nothing."),
        ("I'm driving to aisle 2.", {"task": "driving to dock 3"}, "I'm driving to dock 3."),
        ("I don't know what my task is.", {"task": "idle"}, "I'm idle, I have no task."),
        ("I'mresume my task.", {"task": "paused: driving to dock 3"}, "I'm paused: driving to dock 3."),
        ("I'm following Tom.", {"task": "follow: tom"}, "My task is: follow: tom."),
        ("I'm charging, my battery is at 62 percent.", {"battery": 26}, "I'm charging, my battery is at 62 percent."),
        ("I'm fine, thanks.", {"task": "idle"}, "I'm fine, thanks."),
        ("I'm the robot of this site.", {"task": "idle"}, "I'm the robot of this site."),
        ("The last time was on Monday.", {"last": "finished"}, "The last time was on Monday."),
        ("I'm waiting.", {"task": "paused: waiting"}, "I'm paused: waiting."),
        (UNKNOWN, {}, UNKNOWN),
        (UNKNOWN, {"task": "paused: waiting"}, "I'm paused: waiting."),
    ],
)
def test_an_answer_about_one_fact_says_what_was_told(answer, facts, said):
    assert truthful(answer, facts, SITE.name_of) == said


def test_over_ros_the_robot_says_why_it_stands(bench, tmp_path):
    def ask(text: str) -> Reply:
        return bench.call(Ask, "ask", Ask.Request(text=text)).reply

    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    bench.add(SimRobotNode, start_location="dock_1", time_scale=1.0)
    executor = bench.add(ExecutorNode, state_dir=str(tmp_path / "executor"))
    agent = bench.add(AgentNode, state_dir=str(tmp_path / "agent"))
    wait_for(lambda: agent._thinking.note(lambda book: book.facts().get("location")) == "dock_1", "the place")
    wait_for(lambda: executor._executor.robot.pose, "the pose")
    ask("go to cold storage")
    wait_for(lambda: any(s.state == ActionStatus.RUNNING for s in statuses), "the drive")
    ask("stop")
    wait_for(lambda: any(s.state == ActionStatus.CANCELED for s in statuses), "its end")
    wait_for(lambda: "last" in agent._thinking.note(lambda book: book.facts()), "the fact")
    reply = ask("why did you stop?")
    assert reply.kind == Reply.ANSWER and reply.text == "The last action was cancelled: a stop was ordered."
