"""Claims about the safety gate: no sequence of inputs gets through it what the rules, stated here once more, forbid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import default_skills
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import Fault
from nano_agent_ros.safety import Allowed, Gate, Order, Policy, Refused, Risk, RobotView
from nano_agent_ros.safety.zones import clearance
from nano_agent_ros.skills import Site, Skills
from nano_agent_ros.skills.site import Zone

NO_GO, ASK, SLOW = (4.0, 4.0, 8.0, 8.0), (0.0, 10.0, 4.0, 12.0), (10.0, 0.0, 12.0, 3.0)
PLACES = {
    "near": (1.0, 1.0), "far": (10.5, 10.25), "east": (11.0, 1.5), "shelf": (2.0, 11.0), "vault": (6.0, 6.0),
    "desk": None,
}  # fmt: skip


def polygon(box: tuple[float, float, float, float]) -> list[list[float]]:
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


SITE = Site.load(
    {
        "site": "hall",
        "locations": {k: {"pose": [*p, 0.0]} if p else {"aliases": [k]} for k, p in PLACES.items()},
        "people": {"maria": ["Maria"]},
        "zones": {
            "pit": {"policy": "no_go", "polygon": polygon(NO_GO)},
            "racks": {"policy": "slow", "polygon": polygon(ASK)},
            "gate": {"policy": "slow", "polygon": polygon(SLOW)},
        },
    }
)
POLICY = Policy.load(
    {
        "max_age_s": 5,
        "max_ahead_s": 1,
        "max_wait_s": 30,
        "confirm_timeout_s": 8,
        "session_timeout_s": 12,
        "operators": ["/console"],
        "max_pose_age_s": 6,
        "slow_speed_mps": 0.4,
        "rate": {"count": 4, "per_s": 10},
        "limits": {"distance": {"max": 300, "unit": "cm"}, "height": {"min": 0.1, "max": 2, "unit": "m"}},
        "skills": {
            "go": {"motion": "places"},
            "shift": {"motion": "straight", "distance_m": 1},
            "lift": {"confirm": True},
            "cut": {"risk": "high"},
            "horn": {"rate": {"count": 1, "per_s": 4}},
        },
        "zones": {"racks": {"confirm": True, "max_speed_mps": 0.2}},
    }
)
ORDERS = [UUID(int=n) for n in range(1, 13)]


def crosses(box: tuple[float, float, float, float], a: tuple[float, float], b: tuple[float, float]) -> bool | None:
    """Whether a segment meets a box, by clipping (Liang and Barsky); None where rounding decides."""

    def clip(grow: float) -> bool:
        x0, y0, x1, y1 = box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow
        enter, leave = 0.0, 1.0
        for start, delta, low, high in ((a[0], b[0] - a[0], x0, x1), (a[1], b[1] - a[1], y0, y1)):
            if delta == 0.0:
                if not low <= start <= high:
                    return False
                continue
            first, last = sorted(((low - start) / delta, (high - start) / delta))
            enter, leave = max(enter, first), min(leave, last)
        return enter <= leave

    inside, outside = clip(-1e-6), clip(1e-6)
    return inside if inside == outside else None


@dataclass
class Known:
    """What the oracle remembers of an action."""

    order: Order
    first_asked: float | None = None
    admitted: float | None = None
    agreed: bool = False
    before_stop: bool = False


@dataclass
class Rules:
    """The rules, stated again without a look at the gate. `forbidden` says why an action must not pass, or ''."""

    now: float = 1000.0
    stopped: bool = False
    released_at: float = -math.inf
    pose: tuple[float, float, float] = (1.0, 1.0, 0.0)
    pose_at: float = 1000.0
    holder: str | None = None
    heard: float = -math.inf
    known: dict[UUID, Known] = field(default_factory=dict)
    taken: list[tuple[float, str]] = field(default_factory=list)

    def way(self, order: Order) -> list[tuple[float, float]]:
        if order.skill == "shift":
            x, y, yaw = self.pose
            angle = yaw + {"left": math.pi / 2, "backward": math.pi}.get(str(order.arguments.get("direction")), 0.0)
            distance = float(order.arguments.get("distance", 1.0))
            return [(x, y), (x + distance * math.cos(angle), y + distance * math.sin(angle))]
        goal = PLACES.get(str(order.arguments.get("location"))) or (order.pose and (order.pose.x, order.pose.y))
        drives = order.skill == "go"
        return [*([self.pose[:2]] if drives else []), *([goal] if goal else [])]

    def meets(self, box: tuple[float, float, float, float], order: Order) -> bool | None:
        way = self.way(order)
        if not way:
            return False
        return crosses(box, way[0], way[-1])

    def needs_yes(self, order: Order) -> bool | None:
        if order.skill in ("lift", "cut") or order.requires_confirmation or order.risk is Risk.HIGH:
            return True
        stands = [self.pose[:2]] if order.skill not in ("go", "shift") and self.pose_known() else []
        inside = [*(crosses(ASK, p, p) for p in stands), self.meets(ASK, order)]
        return True if True in inside else None if None in inside else False

    def pose_known(self) -> bool:
        return self.now - self.pose_at <= 6

    def forbidden(self, order: Order) -> str | None:
        """Why not; '' if nothing forbids it; None if rounding decides."""
        known = self.known.get(order.action_id)
        if self.stopped:
            return "stopped"
        if order.stamp_s <= self.released_at or (known and known.before_stop):
            return "from before the stop"
        if known is None and not -1 <= self.now - order.stamp_s <= 5:
            return "stale"
        if known is not None:
            if known.order != order:
                return "changed"
            since, limit = (known.first_asked, 8) if known.admitted is None else (known.admitted, 30)
            if self.now - since > limit:
                return "waited too long"
        if order.skill not in ("go", "shift", "lift", "cut", "horn"):
            return "not listed"
        if self.holder and self.now - self.heard <= 12 and order.source not in (self.holder, "/console"):
            return "not in charge"
        if "distance" in order.arguments and not 0 <= order.arguments["distance"] <= 3:
            return "too far"
        if "height" in order.arguments and not 0.1 <= order.arguments["height"] <= 2:
            return "too high"
        if set(order.arguments) - {"location", "distance", "height", "direction"}:
            return "an argument without a limit"
        place = order.arguments.get("location")
        if place is not None and place not in PLACES:
            return "nowhere"
        if order.pose and PLACES.get(place) and math.dist((order.pose.x, order.pose.y), PLACES[place]) > 0.5:
            return "a pose that is not the place's"
        if order.skill in ("go", "shift") and (not self.pose_known() or PLACES.get(place, ()) is None):
            return "no pose"
        goals = [PLACES.get(place) or (order.pose and (order.pose.x, order.pose.y))]
        if any(goal and crosses(NO_GO, goal, goal) for goal in goals):
            return "zone"
        if (inside := self.meets(NO_GO, order)) is not False:
            return "zone" if inside else None
        fresh = known is None or known.admitted is None
        count, per_s = (1, 4) if order.skill == "horn" else (4, 10)
        if fresh and sum(self.now - at < per_s and skill == order.skill for at, skill in self.taken) >= count:
            return "too often"
        if not (order.confirmed or (known and known.agreed)) and (asks := self.needs_yes(order)) is not False:
            return "unconfirmed" if asks else None
        return ""

    def passed(self, order: Order) -> None:
        known = self.known.setdefault(order.action_id, Known(order))
        if known.admitted is None:
            known.admitted = self.now
            self.taken.append((self.now, order.skill))
        self.holder, self.heard = order.source, self.now


finite = st.floats(-1.0, 13.0).map(lambda v: round(v * 8) / 8 + 0.03)
poses = st.builds(Pose, finite, finite, st.sampled_from([0.0, 1.0, -2.5]))
orders = st.builds(
    dict,
    action_id=st.sampled_from(ORDERS),
    skill=st.sampled_from(["go", "go", "go", "shift", "lift", "cut", "horn", "fly"]),
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "location": st.sampled_from([*PLACES, "moon"]),
            "direction": st.sampled_from(["left", "backward", "forward"]),
            "distance": st.sampled_from([0.5, 2.0, 3.0, 3.1, -0.1, math.nan, math.inf]),
            "height": st.sampled_from([0.1, 1.0, 2.0, 2.5]),
            "speed": st.just(0.1),
        },
    ),
    pose=st.none() | poses | st.just(Pose(math.nan, 0.0, 0.0)),
    source=st.sampled_from(["/agent", "/agent", "/other", "/console"]),
    risk=st.sampled_from([Risk.LOW, Risk.LOW, Risk.LOW, Risk.HIGH]),
    requires_confirmation=st.sampled_from([False, False, True]),
    confirmed=st.sampled_from([False, False, True]),
)


class AnySequence(RuleBasedStateMachine):
    """Whatever is sent, said and done in whatever order: what passes, the rules allow; what they allow, passes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(POLICY, SITE)
        self.rules = Rules()

    @initialize(pose=poses)
    def begin(self, pose: Pose) -> None:
        self.place(pose)

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 3.0, 9.0, 13.0]))
    def wait(self, seconds: float) -> None:
        self.rules.now += seconds

    @rule(pose=poses | st.just(Pose(1.0, 1.0, 0.0)))
    def place(self, pose: Pose) -> None:
        self.rules.pose, self.rules.pose_at = (pose.x, pose.y, pose.yaw), self.rules.now

    @rule(values=orders, age=st.sampled_from([0.0, 0.0, 0.0, 1.0, 4.9, 5.1, -0.9, -1.1, math.nan]))
    def send(self, values: dict, age: float) -> None:
        self.judge(Order(plan_id=values["action_id"], stamp_s=self.rules.now - age, **values))

    @rule(values=orders, place=st.sampled_from(["near", "far", "east", "shelf"]))
    def send_a_likely_one(self, values: dict, place: str) -> None:
        arguments = {"location": place}
        skill = values["skill"] if values["skill"] != "fly" else "go"
        self.place(Pose(*self.rules.pose))
        self.judge(Order(values["action_id"], values["action_id"], skill, arguments, self.rules.now, source="/agent"))

    @rule(key=st.sampled_from(ORDERS), change=st.booleans())
    def begin_what_was_sent(self, key: UUID, change: bool) -> None:
        if key in self.rules.known:
            order = self.rules.known[key].order
            self.judge(replace(order, arguments={**order.arguments, "distance": 2.75}) if change else order)

    @rule(key=st.sampled_from(ORDERS))
    def say_yes(self, key: UUID) -> None:
        known = self.rules.known.get(key)
        counts = bool(
            known and known.first_asked is not None and not known.before_stop and not self.rules.stopped
            and self.rules.now - known.first_asked <= 8
        )  # fmt: skip
        assert self.gate.confirm(key, self.rules.now) == counts
        if counts:
            known.agreed = True

    @rule()
    def stop(self) -> None:
        self.gate.stop(self.rules.now)
        self.rules.stopped, self.rules.released_at = True, self.rules.now
        for known in self.rules.known.values():
            known.before_stop = True

    @rule()
    def acknowledge(self) -> None:
        assert self.gate.acknowledge(self.rules.now) == self.rules.stopped
        if self.rules.stopped:
            self.rules.stopped, self.rules.released_at = False, self.rules.now

    @rule()
    def release(self) -> None:
        self.gate.release()
        self.rules.holder = None

    @rule(skill=st.sampled_from(["stop", "cancel", "pause"]), stamp=st.floats())
    def calm(self, skill: str, stamp: float) -> None:
        order = Order(ORDERS[0], ORDERS[0], skill, {"junk": math.nan}, stamp, source="/anyone")
        assert isinstance(self.gate.check(order, self.rules.now, RobotView()), Allowed)

    @invariant()
    def a_stop_is_in_force_as_long_as_nobody_acknowledged_it(self) -> None:
        assert self.gate.stopped == self.rules.stopped

    def judge(self, order: Order) -> None:
        rules = self.rules
        verdict = self.gate.check(order, rules.now, RobotView(Pose(*rules.pose), rules.pose_at))
        why = "not finite" if order.pose and math.isnan(order.pose.x) else rules.forbidden(order)
        if isinstance(verdict, Refused):
            assert why != "", verdict
            if verdict.code is Fault.NOT_CONFIRMED:
                known = rules.known.setdefault(order.action_id, Known(order))
                known.first_asked = rules.now if known.first_asked is None else known.first_asked
            return
        assert not why, f"{order} passed, but: {why}"
        slow = [v for box, v in ((ASK, 0.2), (SLOW, 0.4)) if rules.meets(box, order)]
        if slow and order.skill in ("go", "shift"):
            assert verdict.max_speed_mps is not None and verdict.max_speed_mps <= min(slow)
        assert order.skill != "fly" and (
            order.pose is None or crosses(NO_GO, *[(order.pose.x, order.pose.y)] * 2) is not True
        )
        rules.passed(order)


AnySequence.TestCase.settings = settings(
    deadline=None, max_examples=150, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
test_no_sequence_of_inputs_gets_through_what_the_rules_forbid = AnySequence.TestCase


def order(skill: str = "go", n: int = 1, at: float = 100.0, **fields: object) -> Order:
    return Order(UUID(int=n), UUID(int=n), skill, stamp_s=at, **{"source": "/agent", **fields})  # type: ignore[arg-type]


HERE = RobotView(Pose(1.0, 1.0, 0.0), 100.0)


def code(verdict: object) -> Fault:
    return verdict.code if isinstance(verdict, Refused) else Fault.NONE


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (order(arguments={"location": "near"}), Fault.NONE),
        (order("fly"), Fault.NOT_ALLOWED),
        (order(at=94.0, arguments={"location": "near"}), Fault.STALE),
        (order("shift", arguments={"distance": 3.5}), Fault.LIMIT),
        (order("shift", arguments={"distance": math.nan}), Fault.LIMIT),
        (order("shift", arguments={"speed": 0.1}), Fault.LIMIT),
        (order(arguments={"location": "vault"}), Fault.ZONE),
        (order(arguments={"location": "far"}), Fault.ZONE),
        (order(pose=Pose(5.0, 5.0, 0.0)), Fault.ZONE),
        (order("horn", pose=Pose(5.0, 5.0, 0.0)), Fault.ZONE),
        (order(pose=Pose(0.0, 0.0, 0.0), frame_id="odom"), Fault.INVALID_ARGUMENT),
        (order(arguments={"location": "near"}, pose=Pose(3.0, 3.0, 0.0)), Fault.INVALID_ARGUMENT),
        (order(arguments={"location": "moon"}), Fault.INVALID_ARGUMENT),
        (order(arguments={"to": "near"}), Fault.INVALID_ARGUMENT),
        (order(arguments={"location": "desk"}), Fault.BLOCKED),
        (order(arguments={"location": "shelf"}), Fault.NOT_CONFIRMED),
        (order("lift"), Fault.NOT_CONFIRMED),
        (order("horn", risk=Risk.HIGH), Fault.NOT_CONFIRMED),
        (order("lift", confirmed=True), Fault.NONE),
    ],
)
def test_a_refusal_names_its_cause(sent, fault):
    verdict = Gate(POLICY, SITE).check(sent, 100.0, HERE)
    assert code(verdict) is fault, verdict


def test_a_robot_that_is_lost_does_not_drive_but_may_blow_its_horn():
    for lost in (RobotView(), RobotView(HERE.pose, 90.0), RobotView(Pose(math.nan, 0.0, 0.0), 100.0)):
        gate = Gate(POLICY, SITE)
        assert code(gate.check(order(arguments={"location": "near"}), 100.0, lost)) is Fault.PRECONDITION
        assert code(gate.check(order("horn", 2), 100.0, lost)) is Fault.NONE


def test_what_does_not_drive_is_judged_where_it_stands_and_where_it_is_for_not_in_between():
    here = RobotView(Pose(0.0, 12.5, 0.0), 100.0)  # from here to 'near' a straight line crosses the racks
    assert Gate(POLICY, SITE).check(order("horn", arguments={"location": "near"}), 100.0, here) == Allowed()
    for arguments, pose in (({"location": "shelf"}, here.pose), ({"location": "near"}, Pose(2.0, 11.0, 0.0))):
        verdict = Gate(POLICY, SITE).check(order("horn", arguments=arguments), 100.0, RobotView(pose, 100.0))
        assert code(verdict) is Fault.NOT_CONFIRMED


def test_a_way_through_a_slow_zone_is_slow():
    gate = Gate(POLICY, SITE)
    assert gate.check(order(arguments={"location": "near"}), 100.0, HERE) == Allowed()
    assert gate.check(order(n=2, arguments={"location": "east"}), 100.0, HERE) == Allowed(0.4)
    sent = order(n=3, arguments={"location": "shelf"}, confirmed=True)
    assert gate.check(sent, 100.0, HERE) == Allowed(0.2)


def test_a_robot_that_strays_into_a_closed_zone_is_stopped():
    gate = Gate(POLICY, SITE)
    assert gate.watch(100.0, HERE) is None
    assert code(gate.watch(100.0, RobotView(Pose(5.0, 5.0, 0.0), 100.0))) is Fault.ZONE
    assert code(gate.watch(107.0, HERE)) is Fault.PRECONDITION


def test_command_is_held_by_the_first_until_it_is_silent_or_an_operator_comes():
    gate = Gate(POLICY, SITE)
    assert code(gate.check(order("horn", 1), 100.0, HERE)) is Fault.NONE
    assert code(gate.check(order(n=2, at=101, source="/b", arguments={"location": "near"}), 101.0, HERE)) is (
        Fault.NOT_IN_CHARGE
    )
    taken = gate.check(order(n=3, at=102, source="/console", arguments={"location": "near"}), 102.0, HERE)
    assert taken == Allowed(replaced="/agent") and gate.holder(102.0) == "/console"
    gate.keep(110.0)
    assert gate.holder(120.0) == "/console" and gate.holder(123.0) is None


@settings(deadline=None, max_examples=200)
@given(st.tuples(finite, finite), st.tuples(finite, finite))
def test_the_clearance_of_a_way_is_the_least_distance_of_its_points(a, b):
    zone = Zone("pit", "no_go", tuple(map(tuple, polygon(NO_GO))))  # type: ignore[arg-type]
    x0, y0, x1, y1 = NO_GO

    def distance(t: float) -> float:
        x, y = a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])
        return math.hypot(max(x0 - x, 0.0, x - x1), max(y0 - y, 0.0, y - y1))

    sampled = min(distance(i / 400) for i in range(401))
    assert sampled - math.dist(a, b) / 400 - 1e-9 <= clearance(zone, [a, b]) <= sampled + 1e-9


def test_the_policy_that_ships_lists_every_skill_that_ships_and_lets_the_warehouse_work():
    policy, site = Policy.load(), Site.load("warehouse")
    assert set(Skills.load(default_skills()).skills) - set(policy.skills) == {
        "stop", "cancel", "pause", "report_defect",
    }  # fmt: skip
    gate = Gate(policy, site)
    start = RobotView(Pose(*site.locations["charging_station"].pose), 100.0)
    for n, place in enumerate(site.locations.values()):
        verdict = gate.check(order("navigate_to", n, arguments={"location": place.id}), 100.0, start)
        assert code(verdict) is (Fault.ZONE if site.forbids(place.id) else Fault.NONE), place.id


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({}, "skills"),
        ({"skills": {"go": {"motion": "fast"}}}, "motion"),
        ({"skills": {"go": {}}, "max_age": 3}, "max_age"),
        ({"skills": {"go": {}}, "max_age_s": -1}, "max_age_s"),
        ({"skills": {"go": {}}, "limits": {"speed": {"max": 1, "unit": "mph"}}}, "mph"),
        ({"skills": {"go": {"limits": {"speed": {"min": 2, "max": 1}}}}}, "min 2"),
        ({"skills": {"go": {"rate": {"count": 0}}}}, "count"),
        ({"skills": {"go": {"risk": "huge"}}}, "huge"),
        ({"skills": {"go": {"confirm": "yes"}}}, "confirm"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_by_name(policy, words):
    with pytest.raises(ConfigError, match=words):
        Policy.load(policy)


def test_a_policy_for_another_site_is_refused():
    with pytest.raises(ConfigError, match="racks"):
        Gate(POLICY, Site.load("warehouse"))


def test_what_was_known_before_a_stop_stays_void_even_if_its_clock_runs_ahead():
    gate = Gate(POLICY, SITE)
    early = order("horn", at=100.9)
    assert code(gate.check(early, 100.0, HERE)) is Fault.NONE
    gate.stop(100.1)
    gate.acknowledge(100.2)
    assert code(gate.check(early, 101.0, HERE)) is Fault.STOPPED
    assert code(gate.check(order("horn", 2, at=104.5), 104.5, HERE)) is Fault.NONE
