"""Claims about the executor, over the simulated robot: order, ends that the robot confirms, stops that hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nano_agent_ros.execution import BackEnd, Blocking, Executor, Report, Router, Settings
from nano_agent_ros.robot.behaviours import BEHAVIOURS, Task, World
from nano_agent_ros.robot.kinematics import Body, Pose
from nano_agent_ros.robot.simulation import Command, SimulatedRobot
from nano_agent_ros.robot.status import Fault, State, Status
from nano_agent_ros.safety import Gate, Order, Policy, Risk, RobotView
from nano_agent_ros.safety.order import HIGH
from nano_agent_ros.skills import Site

SITE = Site.load("warehouse")
WORLD = World({key: Pose(*place.pose) for key, place in SITE.locations.items() if place.pose})


class Direct(BackEnd):
    """The simulated robot without ROS in between. `deaf`: it hears nothing any more. `holds`: it can pause."""

    def __init__(self, report, holds: bool = True) -> None:
        super().__init__(report)
        self.robot = SimulatedRobot(WORLD, Body(Pose(1.0, 8.0, 0.0)))
        self.holds, self.deaf = holds, False
        self.begun: list[str] = []

    def has(self, skill: str) -> bool:
        return skill in BEHAVIOURS

    def start(self, order: Order, max_speed_mps: float | None) -> None:
        self.begun.append(order.skill)
        if not self.deaf:
            # The simulation takes an id once; an action that is begun again is a new one to it.
            key = order.action_id if self.robot.status_of(order.action_id) is None else uuid4()
            self.ids = {**getattr(self, "ids", {}), order.action_id: key}
            self.pass_on(self.robot.submit(Command(key, key, Task(order.skill, order.arguments, order.pose))))

    def cancel(self, action_id: UUID) -> None:
        if not self.deaf:
            self.pass_on(self.robot.cancel(self.ids[action_id]))

    def stop(self) -> None:
        if not self.deaf:
            self.pass_on(self.robot.stop())

    def can_pause(self, skill: str) -> bool:
        return self.holds

    def can_restart(self, skill: str) -> bool:
        return skill == "navigate_to"

    def pause(self, action_id: UUID) -> None:
        self.control("pause")

    def resume(self, action_id: UUID) -> None:
        self.control("resume")

    def control(self, skill: str) -> None:
        if not self.deaf:
            key = uuid4()
            self.pass_on(self.robot.submit(Command(key, key, Task(skill, {}))))

    def pass_on(self, changes: Sequence[Status]) -> None:
        back = {inner: outer for outer, inner in getattr(self, "ids", {}).items()}
        for s in changes:
            if s.action_id in back:
                self.report(Report(back[s.action_id], s.state, s.progress, s.fault, s.message))


class Rig:
    """An executor over a simulated robot, and a clock."""

    def __init__(self, policy: Policy | None = None, holds: bool = True, site: Site = SITE, **chosen: object) -> None:
        self.now = 1000.0
        self.told: list[Status] = []
        self.alarms: list[str] = []
        self.back_end = Direct(lambda report: self.executor.post(report), holds)
        self.executor = Executor(
            Gate(policy or Policy.load(), site), self.back_end, self.told.append, Settings(**chosen), self.alarms.append
        )
        self.look()

    def look(self) -> None:
        self.executor.robot = RobotView(self.back_end.robot.body.pose, self.now)

    def send(self, skill: str, plan: UUID | None = None, step: int = 0, count: int = 1, **kw: object) -> Order:
        fields = {key: kw.pop(key) for key in ("priority", "risk", "source", "confirmed") if key in kw}
        order = Order(uuid4(), plan or uuid4(), skill, kw, self.now, step, count, **fields)  # type: ignore[arg-type]
        self.executor.receive(order, self.now)
        return order

    def run(self, seconds: float, dt: float = 0.25) -> None:
        for _ in range(math.ceil(seconds / dt)):
            self.now += dt
            if not self.back_end.deaf:
                self.back_end.pass_on(self.back_end.robot.step(dt))
            self.look()
            self.executor.tick(self.now)

    def states(self, order: Order) -> list[State]:
        return [s.state for s in self.told if s.action_id == order.action_id]

    def last(self, order: Order) -> Status:
        return self.executor.status_of(order.action_id)  # type: ignore[return-value]


def test_a_plan_runs_in_order_and_every_step_ends_once():
    rig, plan = Rig(), uuid4()
    second = rig.send("pick", plan, 1, 2, object="box")
    assert not rig.told
    first = rig.send("navigate_to", plan, 0, 2, location="aisle_1")
    assert not rig.executor.receive(first, rig.now)
    rig.run(60)
    ends = [(s.skill, s.state) for s in rig.told if s.state.final]
    assert ends == [("navigate_to", State.FINISHED), ("pick", State.FINISHED)]
    assert rig.states(first)[:2] == [State.WAITING, State.RUNNING] and rig.last(second).progress == 1.0
    assert rig.back_end.robot.body.carrying == "box" and not rig.executor.busy


def test_a_plan_of_which_a_step_is_refused_is_not_begun():
    rig, plan = Rig(), uuid4()
    first = rig.send("navigate_to", plan, 0, 3, location="aisle_1")
    closed = rig.send("navigate_to", plan, 1, 3, location="battery_room")
    last = rig.send("say", plan, 2, 3, text="hello")
    rig.run(5)
    assert [rig.last(o).state for o in (first, closed, last)] == [State.CANCELED, State.REJECTED, State.CANCELED]
    assert rig.last(closed).fault is Fault.ZONE and not rig.back_end.begun


def test_a_way_is_judged_from_where_the_step_before_leads():
    limits = {"distance": {"max": 5}}
    skills = {"navigate_to": {"motion": "places"}, "move": {"motion": "straight", "limits": limits}}
    site = Site.load(
        {
            "locations": {"a": {"pose": [0, 0, 0]}, "b": {"pose": [10, 0, 0]}},
            "zones": {"pit": {"policy": "no_go", "polygon": [[11, -1], [12, -1], [12, 1], [11, 1]]}},
        }
    )
    for distance, state in ((0.5, State.WAITING), (2.0, State.REJECTED)):
        plan = uuid4()
        rig = Rig(Policy.load({"skills": skills}), site=site)
        rig.executor.robot = RobotView(Pose(0, 0, 0), rig.now)
        rig.send("navigate_to", plan, 0, 2, location="b")
        move = rig.send("move", plan, 1, 2, direction="forward", distance=distance)
        assert rig.last(move).state is state


def test_steps_whose_plan_never_completes_are_refused():
    rig = Rig()
    lonely = rig.send("navigate_to", uuid4(), 0, 2, location="aisle_1")
    rig.run(6)
    assert (rig.last(lonely).state, rig.last(lonely).fault) == (State.REJECTED, Fault.TIMEOUT)
    assert not rig.back_end.begun


def test_a_failed_step_ends_its_plan_and_the_next_plan_goes_on():
    rig, plan = Rig(), uuid4()
    bad = rig.send("place", plan, 0, 2, location="aisle_1")
    rest = rig.send("navigate_to", plan, 1, 2, location="dock_1")
    other = rig.send("navigate_to", location="aisle_2")
    rig.run(90)
    assert [rig.last(o).state for o in (bad, rest, other)] == [State.FAILED, State.CANCELED, State.FINISHED]
    assert rig.last(bad).fault is Fault.PRECONDITION


def test_a_cancel_is_done_when_the_robot_says_so():
    rig = Rig()
    drive, queued = rig.send("navigate_to", location="rack_7"), rig.send("navigate_to", location="dock_1")
    rig.run(2)
    pass_on, kept = rig.back_end.pass_on, []
    rig.back_end.pass_on = kept.extend  # the robot's word is on its way
    cancel = rig.send("cancel")
    assert rig.last(cancel).state is State.RUNNING and rig.last(drive).state is State.RUNNING
    assert rig.last(queued).state is State.CANCELED
    rig.back_end.pass_on = pass_on
    pass_on(kept)
    rig.run(0.5)
    assert (rig.last(cancel).state, rig.last(drive).state) == (State.FINISHED, State.CANCELED)
    assert not rig.alarms


@pytest.mark.parametrize("skill", ["cancel", "pause", "stop"])
def test_a_robot_that_does_not_confirm_is_stopped_and_said_to_be_in_error(skill):
    rig = Rig()
    drive = rig.send("navigate_to", location="rack_7")
    rig.run(2)
    rig.back_end.deaf = True
    control = rig.send(skill)
    rig.run(4)
    assert not rig.last(control).state.final and (skill == "stop") == rig.executor.gate.stopped
    assert skill != "stop" or rig.executor.acknowledge(rig.now)
    rig.run(2)
    assert (rig.last(drive).state, rig.last(drive).fault) == (State.FAILED, Fault.NO_ROBOT)
    assert rig.last(control).state in (State.FAILED, State.CANCELED)
    assert rig.alarms and rig.executor.gate.stopped


def test_a_robot_that_does_not_take_an_action_is_stopped():
    rig = Rig()
    rig.back_end.deaf = True
    drive = rig.send("navigate_to", location="rack_7")
    rig.run(6)
    assert rig.last(drive).fault is Fault.NO_ROBOT and rig.executor.gate.stopped


def test_after_a_stop_nothing_moves_until_something_new_is_said():
    rig = Rig()
    orders = [rig.send("navigate_to", location=place) for place in ("rack_7", "dock_1", "dock_2")]
    rig.run(2)
    rig.executor.stop(rig.now)
    rig.run(1)
    assert {rig.last(o).state for o in orders} == {State.CANCELED}
    here, meanwhile = rig.back_end.robot.body.pose, rig.send("navigate_to", location="dock_3")
    assert (rig.last(meanwhile).state, rig.last(meanwhile).fault) == (State.REJECTED, Fault.STOPPED)
    assert rig.executor.acknowledge(rig.now) == ""
    resume = rig.send("resume")
    assert rig.last(resume).state is State.REJECTED  # decided at the very moment
    rig.run(30)
    assert rig.back_end.robot.body.pose == here
    assert rig.last(rig.send("resume")).fault is Fault.PRECONDITION
    again = rig.send("navigate_to", location="dock_3")
    rig.run(30)
    assert rig.last(again).state is State.FINISHED


@pytest.mark.parametrize("holds", [True, False])
def test_a_pause_holds_and_resume_goes_on_whether_or_not_the_robot_can_hold(holds):
    rig = Rig(holds=holds)
    drive = rig.send("navigate_to", location="rack_7")
    rig.run(2)
    pause = rig.send("pause")
    rig.run(0.5)
    assert (rig.last(pause).state, rig.last(drive).state) == (State.FINISHED, State.PAUSED)
    here = rig.back_end.robot.body.pose
    rig.run(20)
    assert rig.back_end.robot.body.pose == here
    resume = rig.send("resume")
    rig.run(60)
    assert (rig.last(resume).state, rig.last(drive).state) == (State.FINISHED, State.FINISHED)
    assert rig.back_end.begun == ["navigate_to"] * (1 if holds else 2)


def test_what_the_robot_can_neither_hold_nor_begin_again_is_not_paused():
    rig = Rig(holds=False)
    pick = rig.send("pick", object="box", location="aisle_1")
    rig.run(2)
    pause = rig.send("pause")
    rig.run(1)
    assert rig.last(pause).state is State.FAILED and "pick" in rig.last(pause).message
    assert rig.last(pick).state is State.RUNNING


def test_a_paused_plan_that_is_stopped_does_not_resume():
    rig = Rig()
    drive = rig.send("navigate_to", location="rack_7")
    rig.run(2)
    rig.send("pause")
    rig.run(1)
    rig.send("stop")
    rig.run(1)
    rig.executor.acknowledge(rig.now)
    rig.run(1)
    here, resume = rig.back_end.robot.body.pose, rig.send("resume")
    rig.run(10)
    assert rig.last(resume).fault is Fault.PRECONDITION and rig.back_end.robot.body.pose == here
    assert rig.last(drive).state is State.CANCELED


@pytest.mark.parametrize(
    ("chosen", "sent", "first", "second"),
    [
        ({}, {}, State.RUNNING, State.WAITING),
        ({}, {"priority": HIGH}, State.CANCELED, State.RUNNING),
        ({"new_plan": "replace"}, {}, State.CANCELED, State.RUNNING),
        ({"new_plan": "refuse"}, {}, State.RUNNING, State.REJECTED),
        ({}, {"source": "/console"}, State.CANCELED, State.RUNNING),
        ({}, {"source": "/stranger"}, State.RUNNING, State.REJECTED),
    ],
)
def test_a_new_plan_waits_replaces_or_is_refused(chosen, sent, first, second):
    rig = Rig(Policy(Policy.load().skills, operators=("/console",)), **chosen)
    before = rig.send("navigate_to", location="rack_7")
    rig.run(2)
    after = rig.send("navigate_to", location="dock_1", **sent)
    rig.run(1)
    assert (rig.last(before).state, rig.last(after).state) == (first, second)
    if first is State.CANCELED:
        assert rig.last(before).fault is Fault.REPLACED
        rig.run(30)
        assert rig.last(after).state is State.FINISHED


@pytest.mark.parametrize("holds", [True, False])
def test_a_resume_that_comes_before_the_robot_holds_is_not_lost(holds):
    rig, plan = Rig(holds=holds), uuid4()
    drive = rig.send("navigate_to", location="aisle_1")
    rig.send("pause", plan, 0, 2)
    after = rig.send("navigate_to", plan, 1, 2, location="aisle_2")
    resume = rig.send("resume")
    rig.run(60)
    assert [rig.last(o).state for o in (drive, after, resume)] == [State.FINISHED] * 3


def test_a_plan_that_begins_with_a_cancel_takes_its_place():
    rig, plan = Rig(), uuid4()
    before = rig.send("navigate_to", location="rack_7")
    rig.run(2)
    cancel = rig.send("cancel", plan, 0, 2)
    assert rig.last(cancel).state is State.FINISHED and rig.last(before).state is State.CANCELED  # without the rest
    after = rig.send("navigate_to", plan, 1, 2, location="dock_1")
    rig.run(40)
    assert [rig.last(o).state for o in (before, cancel, after)] == [State.CANCELED, State.FINISHED, State.FINISHED]


def test_a_plan_whose_resume_finds_nothing_is_not_done():
    rig, plan = Rig(), uuid4()
    resume = rig.send("resume", plan, 0, 2)
    after = rig.send("navigate_to", plan, 1, 2, location="dock_1")
    rig.run(5)
    assert [rig.last(o).state for o in (resume, after)] == [State.FAILED, State.CANCELED] and not rig.back_end.begun


def test_a_stop_stops_whatever_else_is_wrong_with_it():
    for wrong in ({"action_id": UUID(int=0)}, {"step": 3}, {"step_count": 0}, {"stamp_s": math.nan}, {"source": "/x"}):
        rig = Rig()
        drive = rig.send("navigate_to", location="rack_7")
        rig.run(2)
        rig.executor.receive(replace(Order(uuid4(), uuid4(), "stop"), **wrong), rig.now)
        rig.run(1)
        assert rig.executor.gate.stopped and rig.last(drive).state is State.CANCELED


def test_a_speed_that_is_set_alone_counts_at_once():
    rig = Rig()
    drive = rig.send("navigate_to", location="rack_7")
    rig.run(1)
    speed = rig.send("set_speed", speed=0.3)
    rig.run(0.5)
    assert rig.last(speed).state is State.FINISHED and rig.back_end.robot.body.speed_mps == 0.3
    assert rig.last(drive).state is State.RUNNING


def test_what_blocks_nothing_lets_the_next_step_begin():
    for blocking, begun in ((Blocking.NONE, 2), (Blocking.SOFT, 1), (Blocking.HARD, 1)):
        rig, plan = Rig(blocking={"say": blocking}), uuid4()
        rig.send("say", plan, 0, 2, text="make way please, I am coming through")
        rig.send("navigate_to", plan, 1, 2, location="aisle_1")
        assert len(rig.back_end.begun) == begun
    rig, plan = Rig(blocking={"lift": Blocking.SOFT}), uuid4()
    rig.send("lift", plan, 0, 2)
    rig.send("say", plan, 1, 2, text="up it goes")
    assert len(rig.back_end.begun) == 2


def test_what_needs_a_yes_waits_for_it():
    policy = Policy.load()
    for answer, state in ((True, State.FINISHED), (False, State.REJECTED), (None, State.REJECTED)):
        rig = Rig(policy)
        lift = rig.send("lift", risk=Risk.HIGH)
        rig.run(1)
        assert rig.last(lift).state is State.AWAITING_CONFIRMATION and "lift" in rig.executor.question
        assert not rig.back_end.begun
        if answer is not None:
            assert rig.executor.confirm(answer, rig.now) == ""
        rig.run(30)
        assert rig.last(lift).state is state
        assert rig.executor.confirm(True, rig.now)  # there is no question any more


def test_a_robot_that_strays_into_a_closed_zone_is_stopped():
    rig = Rig()
    drive = rig.send("navigate_to", location="cold_storage")
    rig.run(1)
    rig.executor.robot = RobotView(Pose(28.0, 16.0, 0.0), rig.now)
    rig.executor.tick(rig.now)
    rig.executor.tick(rig.now)
    assert rig.alarms and rig.executor.gate.stopped and rig.last(drive).state is State.CANCELED
    assert "battery_room" in rig.last(drive).message


def test_a_skill_goes_to_the_first_back_end_that_has_it():
    told: list[Report] = []

    class One(Direct):
        def has(self, skill: str) -> bool:
            return skill == "say"

    one, other = One(told.append), Direct(told.append)
    router = Router([one, other])
    for skill in ("say", "wait", "juggle"):
        router.start(Order(uuid4(), uuid4(), skill, {"text": "hi"}), None)
    assert (one.begun, other.begun, told[-1].fault) == (["say"], ["wait"], Fault.UNKNOWN_SKILL)


class AnyDay(RuleBasedStateMachine):
    """Whatever is said to the robot and whenever it turns deaf."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.orders: list[Order] = []
        self.standing: Pose | None = None

    @rule(
        skill=st.sampled_from(["navigate_to", "pick", "place", "lift", "say", "move"]),
        place=st.sampled_from(["aisle_1", "dock_2", "battery_room"]),
    )
    def one(self, skill: str, place: str) -> None:
        arguments = {"move": {"direction": "left"}, "say": {"text": "x"}, "lift": {}}.get(skill, {"location": place})
        self.sent(self.rig.send(skill, **arguments))

    @rule(
        first=st.sampled_from(["", "", "cancel", "pause", "resume"]),
        places=st.lists(st.sampled_from(["aisle_1", "dock_2", "rack_6"]), min_size=1, max_size=3),
        last=st.sampled_from(["", "", "cancel", "pause"]),
    )
    def plan(self, first: str, places: list[str], last: str) -> None:
        plan, steps = uuid4(), [step for step in (first, *places, last) if step]
        for i, step in enumerate(steps):
            arguments = {"location": step} if step in places else {}
            self.sent(self.rig.send("navigate_to" if arguments else step, plan, i, len(steps), **arguments))

    @rule(skill=st.sampled_from(["stop", "cancel", "pause", "resume", "resume"]))
    def control(self, skill: str) -> None:
        self.orders.append(self.rig.send(skill))
        if self.rig.executor.gate.stopped:
            self.stood_still()

    @rule()
    def acknowledge(self) -> None:
        self.rig.executor.acknowledge(self.rig.now)

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 20.0]))
    def time(self, seconds: float) -> None:
        self.rig.run(seconds)

    def sent(self, order: Order) -> None:
        self.orders.append(order)
        if self.rig.last(order) is None or not self.rig.last(order).state.final:
            self.standing = None  # something new is wanted, so the robot may move again

    def stood_still(self) -> None:
        self.standing = self.rig.back_end.robot.body.pose

    @invariant()
    def after_a_stop_it_stands_until_something_new_is_wanted(self) -> None:
        if self.standing is not None:
            assert self.rig.back_end.robot.body.pose == self.standing

    @invariant()
    def at_most_one_drive_is_in_hand_and_every_end_is_said_once(self) -> None:
        assert sum(s.state is State.RUNNING for s in self.rig.executor.current()) <= 1
        ended = [s.action_id for s in self.rig.told if s.state.final]
        assert len(ended) == len(set(ended)) and not self.rig.alarms

    def teardown(self) -> None:
        for _ in range(30):  # a plan may end with a pause, and hold up the next
            self.rig.send("resume")
            self.rig.run(60, 1.0)
            if not self.rig.executor.busy:
                break
        assert all(self.rig.last(order).state.final for order in self.orders if self.rig.last(order))
        assert not self.rig.executor.busy and not self.rig.executor.paused


AnyDay.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
test_whatever_is_said_stops_hold_and_every_action_ends = AnyDay.TestCase
