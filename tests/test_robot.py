"""Claims about the simulated robot's plain part: kinematics, plans, stops, and actions that cannot be done."""

from __future__ import annotations

import math
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.resources import default_skills
from nano_agent_ros.robot.behaviours import BEHAVIOURS, Task, World
from nano_agent_ros.robot.kinematics import Body, Pose, angle_between
from nano_agent_ros.robot.simulation import Command, Fault, SimulatedRobot, State
from nano_agent_ros.skills import Site, Skills

SITE = Site.load("warehouse")
WORLD = World({key: Pose(*place.pose) for key, place in SITE.locations.items() if place.pose})


def command(skill: str, plan: UUID | None = None, step: int = 0, count: int = 1, **arguments: object) -> Command:
    return Command(uuid4(), plan or uuid4(), Task(skill, arguments), step, count)


def states(changes: list) -> list[tuple[str, State]]:
    return [(c.skill, c.state) for c in changes]


def run_out(robot: SimulatedRobot, limit_s: float = 5000.0) -> list:
    changes = []
    while robot.busy and limit_s > 0:
        changes += robot.step(0.7)
        limit_s -= 0.7
    assert not robot.busy
    return changes


def test_a_drive_ends_at_the_pose_and_takes_the_time_of_its_way():
    robot = SimulatedRobot(WORLD, Body(pose=Pose(0, 0, 0), speed_mps=2.0, turn_rate=1.0))
    robot.submit(command("navigate_to", location="dock_3"))
    goal = WORLD.locations["dock_3"]
    way = math.atan2(goal.y, goal.x)
    expected = abs(way) / 1.0 + math.hypot(goal.x, goal.y) / 2.0 + abs(angle_between(way, goal.yaw)) / 1.0
    changes = robot.step(expected - 1e-3)
    assert states(changes) == [("navigate_to", State.RUNNING)]
    assert states(robot.step(2e-3)) == [("navigate_to", State.FINISHED)]
    assert robot.body.pose == goal


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 3.0), min_size=1, max_size=40))
def test_how_time_is_cut_changes_nothing(slices):
    whole, cut = (SimulatedRobot(WORLD, Body()) for _ in range(2))
    for robot in (whole, cut):
        robot.submit(command("navigate_to", location="aisle_2"))
    whole.step(sum(slices))
    for dt in slices:
        cut.step(dt)
    assert cut.body.pose.distance_to(whole.body.pose) < 1e-6
    assert abs(angle_between(cut.body.pose.yaw, whole.body.pose.yaw)) < 1e-6


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_the_way_between_headings_is_the_short_one(a, b):
    way = angle_between(a, b)
    assert -math.pi - 1e-9 <= way <= math.pi + 1e-9
    assert math.cos(a + way) == pytest.approx(math.cos(b), abs=1e-6)


def test_the_robot_knows_every_skill_that_ships():
    at_once = {"stop", "cancel", "pause", "resume"}
    assert set(Skills.load(default_skills()).skills) - {"report_defect"} == set(BEHAVIOURS) | at_once


def test_a_plan_runs_in_order_even_if_its_steps_arrive_out_of_order():
    robot, plan = SimulatedRobot(WORLD), uuid4()
    steps = [
        command("navigate_to", plan, 0, 3, location="dock_1"),
        command("pick", plan, 1, 3, object="box"),
        command("place", plan, 2, 3),
    ]
    for step in reversed(steps):
        assert states(robot.submit(step)) == [(step.task.skill, State.WAITING)]
    finished = [c.skill for c in run_out(robot) if c.state is State.FINISHED]
    assert finished == ["navigate_to", "pick", "place"]


def test_a_failed_step_cancels_the_rest_of_its_plan_and_nothing_else():
    robot, plan = SimulatedRobot(WORLD), uuid4()
    robot.submit(command("place", plan, 0, 2))
    robot.submit(command("navigate_to", plan, 1, 2, location="dock_1"))
    robot.submit(command("wait", duration=1.0))
    changes = run_out(robot)
    assert ("place", State.FAILED) in states(changes)
    assert ("navigate_to", State.CANCELED) in states(changes)
    assert ("wait", State.FINISHED) in states(changes)
    assert next(c for c in changes if c.skill == "place").fault is Fault.PRECONDITION


def test_a_step_whose_predecessor_never_comes_fails_in_time():
    robot = SimulatedRobot(WORLD, step_timeout_s=5.0)
    robot.submit(command("navigate_to", uuid4(), 1, 2, location="dock_1"))
    changes = run_out(robot, 20.0)
    assert [(c.state, c.fault) for c in changes] == [(State.FAILED, Fault.TIMEOUT)]
    assert robot.body.pose == Pose(0, 0, 0)


def test_the_same_action_is_executed_once():
    robot, wait = SimulatedRobot(WORLD), command("wait", duration=2.0)
    assert robot.submit(wait) and robot.submit(wait) == []
    assert [c.state for c in run_out(robot)].count(State.FINISHED) == 1
    assert robot.submit(wait) == [] and not robot.busy


def test_stop_empties_the_queue_and_holds_still():
    robot = SimulatedRobot(WORLD)
    robot.submit(command("navigate_to", location="dock_3"))
    robot.submit(command("navigate_to", location="dock_1"))
    robot.step(3.0)
    where = robot.body.pose
    changes = robot.submit(command("stop"))
    assert states(changes) == [("navigate_to", State.CANCELED)] * 2 + [("stop", State.FINISHED)]
    robot.step(10.0)
    assert robot.body.pose == where


def test_pause_holds_the_action_and_resume_goes_on():
    robot = SimulatedRobot(WORLD)
    robot.submit(command("navigate_to", location="dock_3"))
    robot.step(2.0)
    assert states(robot.submit(command("pause"))) == [("navigate_to", State.PAUSED), ("pause", State.FINISHED)]
    where = robot.body.pose
    robot.step(5.0)
    assert robot.body.pose == where
    assert states(robot.submit(command("resume")))[0] == ("navigate_to", State.RUNNING)
    assert states(run_out(robot))[-1] == ("navigate_to", State.FINISHED)


@pytest.mark.parametrize(
    ("skill", "arguments", "fault"),
    [
        ("juggle", {}, Fault.UNKNOWN_SKILL),
        ("report_defect", {"defect_type": "crack"}, Fault.UNKNOWN_SKILL),
        ("navigate_to", {"location": "the_moon"}, Fault.BLOCKED),
        ("set_speed", {"speed": -1.0}, Fault.INVALID_ARGUMENT),
        ("move", {"direction": "up"}, Fault.INVALID_ARGUMENT),
        ("wait", {"duration": "long"}, Fault.INVALID_ARGUMENT),
        ("wait", {"duration": math.nan}, Fault.INVALID_ARGUMENT),
        ("patrol", {"location": "dock_1", "rounds": 10**9}, Fault.INVALID_ARGUMENT),
    ],
)
def test_what_cannot_be_done_is_rejected_with_the_reason(skill, arguments, fault):
    robot = SimulatedRobot(WORLD)
    (change,) = robot.submit(command(skill, **arguments))
    assert (change.state, change.fault) == (State.REJECTED, fault) and change.message
    assert not robot.busy


def test_what_nobody_agreed_to_is_rejected():
    robot = SimulatedRobot(WORLD)
    (change,) = robot.submit(Command(uuid4(), uuid4(), Task("wait", {}), confirmed=False))
    assert (change.state, change.fault) == (State.REJECTED, Fault.NOT_CONFIRMED)


def test_an_empty_battery_ends_the_drive():
    robot = SimulatedRobot(WORLD, Body(battery=0.05, drain_driving=0.02))
    robot.submit(command("navigate_to", location="rack_7"))
    changes = run_out(robot)
    assert (changes[-1].state, changes[-1].fault) == (State.FAILED, Fault.PRECONDITION)
    assert "battery" in changes[-1].message


def test_carrying_docking_and_speed_follow_the_actions():
    robot = SimulatedRobot(WORLD)
    robot.submit(command("set_speed", speed=0.5))
    assert robot.body.speed_mps == 0.5
    robot.submit(command("pick", object="box"))
    run_out(robot)
    assert robot.body.carrying == "box"
    robot.body.battery = 50.0
    robot.submit(command("dock"))
    run_out(robot)
    assert robot.body.docked
    robot.step(10.0)
    assert robot.body.battery > 50.0 - 1.0 + 0.5


def test_an_obstacle_ends_the_drive_before_it_and_the_robot_may_back_off():
    robot = SimulatedRobot(WORLD, Body(Pose(4.0, 1.0, 0.0), obstacles=((7.0, 1.2, 0.5),)))
    blocked = command("navigate_to", location="dock_3")
    robot.submit(blocked)
    run_out(robot)
    assert robot.status_of(blocked.action_id).fault is Fault.BLOCKED
    assert 6.4 < robot.body.pose.x < 6.6 and robot.body.pose.y == pytest.approx(1.0)
    back = command("move", direction="backward", distance=1.0)
    robot.submit(back)
    run_out(robot)
    assert robot.status_of(back.action_id).state is State.FINISHED
    robot.body.obstacles = ()
    free = command("navigate_to", location="dock_3")
    robot.submit(free)
    run_out(robot)
    assert robot.status_of(free.action_id).state is State.FINISHED


def test_a_skill_fails_once_when_it_is_told_to():
    robot = SimulatedRobot(WORLD)
    robot.defects["pick"] = "the box is stuck"
    first, second = command("pick", object="box"), command("pick", object="box")
    robot.submit(first)
    robot.submit(second)
    run_out(robot)
    status = robot.status_of(first.action_id)
    assert (status.state, status.fault, status.message) == (State.FAILED, Fault.UNKNOWN, "the box is stuck")
    assert robot.status_of(second.action_id).state is State.FINISHED


def test_no_drive_is_faster_than_it_may_be():
    slow, fast = (SimulatedRobot(WORLD, Body(Pose(2.0, 1.0, 0.0), speed_mps=1.0)) for _ in range(2))
    slow.submit(command("navigate_to", location="dock_3", max_speed=0.2))
    fast.submit(command("navigate_to", location="dock_3", max_speed=5.0))
    for robot in (slow, fast):
        robot.step(4.0)
    assert slow.body.pose.x == pytest.approx(2.8) and fast.body.pose.x == pytest.approx(6.0)
