"""Claims about gate and executor together: what reaches the robot is agreed to, in open zones, from after a stop.

`test_safety.py` holds the gate's verdicts against its rules; here chance plays people, operators, a robot that strays,
goes deaf or no longer says where it is, and somebody who changes the live parameters, and what is looked at is what the
back end is told to begin.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_execution import SITE, Rig

from nano_agent_ros.execution import NEW_PLANS, Settings
from nano_agent_ros.execution.executor import STOP_AGAIN_S
from nano_agent_ros.execution.plan import Step
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import State
from nano_agent_ros.safety import Order, Policy, Risk, RobotView
from nano_agent_ros.safety.zones import clearance

CLOSED = SITE.zones["battery_room"]
INSIDE = Pose(28.0, 16.0, 0.0)
POLICY = replace(Policy.load(), operators=("/console",), session_timeout_s=20.0)
PLACES = ("aisle_1", "dock_2", "rack_7", "cold_storage", "battery_room")
poses = st.builds(Pose, st.floats(22.0, 32.0), st.floats(10.0, 20.0), st.just(0.0))


class AnyMisfortune(RuleBasedStateMachine):
    """Whoever commands what, and whatever becomes of the robot meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(POLICY)
        self.agreed: set[UUID] = set()
        self.released_at = float("-inf")
        self.blind = False
        self.begin, self.rig.back_end.start = self.rig.back_end.start, self.begun
        self.look, self.rig.look = self.rig.look, self.looks

    def looks(self) -> None:
        if not self.blind:
            self.look()

    def begun(self, order: Order, max_speed_mps: float | None) -> None:
        """What the robot is told to do, whatever led to it."""
        rig = self.rig
        assert not rig.executor.gate.stopped and order.stamp_s > self.released_at, "a motion after a stop"
        if order.risk is Risk.HIGH or order.requires_confirmation:
            assert order.confirmed or order.action_id in self.agreed, "a risky action that nobody agreed to"
        place = SITE.locations.get(str(order.arguments.get("location", "")))
        goal = place.pose[:2] if place and place.pose else (order.pose.x, order.pose.y) if order.pose else None
        if goal is not None:
            assert clearance(CLOSED, [goal]) >= POLICY.clearance_m, "a pose in a closed zone"
        if goal is not None and order.skill == "navigate_to":
            here = rig.executor.robot.pose
            assert here is not None and rig.now - rig.executor.robot.stamp_s <= POLICY.max_pose_age_s, "a lost robot"
            assert clearance(CLOSED, [(here.x, here.y), goal]) > 0.0, "a way through a closed zone"
        self.begin(order, max_speed_mps)

    def driving(self) -> list[Step]:
        return [step for step in self.rig.executor._book.steps() if step.in_hand and step.drives]

    def send(self, order: Order) -> None:
        self.rig.executor.receive(order, self.rig.now)

    @rule(
        skill=st.sampled_from(["navigate_to", "navigate_to", "pick", "lift", "undock", "fly"]),
        place=st.sampled_from(PLACES),
        pose=st.none() | poses,
        risk=st.sampled_from([Risk.LOW, Risk.LOW, Risk.HIGH]),
        asks=st.sampled_from([False, False, True]),
        confirmed=st.sampled_from([False, False, True]),
        source=st.sampled_from(["/agent", "/agent", "/other", "/console"]),
        age=st.sampled_from([0.0, 0.0, 3.0, 11.0]),
        steps=st.integers(1, 3),
    )
    def command(self, skill, place, pose, risk, asks, confirmed, source, age, steps) -> None:
        plan = uuid4()
        arguments = {} if skill in ("lift", "undock") or pose is not None else {"location": place}
        for step in range(steps):
            order = Order(uuid4(), plan, skill, arguments, self.rig.now - age, step, steps, pose=pose, source=source)
            self.send(replace(order, risk=risk, requires_confirmation=asks, confirmed=confirmed))

    @rule(skill=st.sampled_from(["stop", "cancel", "pause", "resume", "resume"]), junk=st.booleans())
    def control(self, skill: str, junk: bool) -> None:
        self.send(Order(uuid4(), uuid4(), skill, {}, self.rig.now, 0, 0 if junk else 1, source="/agent"))

    @rule()
    def stop_by_topic(self) -> None:
        self.rig.executor.stop(self.rig.now)

    @rule(yes=st.booleans())
    def answer(self, yes: bool) -> None:
        asked = [s.action_id for s in self.rig.executor._book.last.values() if s.state is State.AWAITING_CONFIRMATION]
        self.agreed |= set(asked) if yes else set()
        self.rig.executor.confirm(yes, self.rig.now)

    @rule()
    def acknowledge(self) -> None:
        was, executor = self.rig.executor.gate.stopped, self.rig.executor
        if executor.acknowledge(self.rig.now) == "" and was:
            self.released_at = self.rig.now

    @rule(
        new_plan=st.sampled_from(NEW_PLANS),
        max_plans=st.integers(1, 4),
        step_timeout_s=st.sampled_from([0.1, 5.0, 600.0]),
        answer_timeout_s=st.sampled_from([0.5, 5.0, 600.0]),
    )
    def change_the_live_parameters(self, **chosen) -> None:
        self.rig.executor.retune(Settings(**chosen))

    @rule(blind=st.booleans())
    def lose_or_find_its_place(self, blind: bool) -> None:
        self.blind = blind

    @rule()
    def turn_deaf_for_a_while(self) -> None:
        self.rig.back_end.deaf = True
        self.rig.run(7)
        self.rig.back_end.deaf = False
        self.rig.now += STOP_AGAIN_S  # it is told again what it did not hear
        self.rig.executor.tick(self.rig.now)

    @rule()
    def stray(self) -> None:
        """It slides into the closed zone: whatever it does there, it is stopped by the next look at it."""
        body = self.rig.back_end.robot.body
        before, body.pose = body.pose, INSIDE
        self.rig.executor.robot = RobotView(INSIDE, self.rig.now)
        self.rig.executor.tick(self.rig.now)
        driving = self.driving()
        assert self.rig.executor.gate.stopped or not driving
        assert not (driving and self.rig.back_end.robot.busy)
        body.pose = before  # somebody pushes it out
        self.rig.executor.robot = RobotView(before, self.rig.now)

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 20.0]))
    def time(self, seconds: float) -> None:
        stopped, before = self.rig.executor.gate.stopped, self.rig.back_end.robot.body.pose
        lost = self.blind and seconds > POLICY.max_pose_age_s
        self.rig.run(seconds)
        assert not stopped or self.rig.back_end.robot.body.pose == before, "it moved while stopped"
        if lost:
            assert not self.driving() or self.rig.executor.gate.stopped or self.rig.executor.paused

    @invariant()
    def every_end_is_said_once(self) -> None:
        ended = [s.action_id for s in self.rig.told if s.state.final]
        assert len(ended) == len(set(ended))


AnyMisfortune.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
test_nothing_gets_through_to_the_robot = AnyMisfortune.TestCase
