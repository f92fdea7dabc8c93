"""What the simulated robot does for each skill: a short list of phases, each advanced over simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nano_agent_ros.robot.kinematics import Body, Pose

Value = str | float | int | bool


class CannotDo(Exception):
    """An action cannot be started or went wrong; `code` is an error code of ActionStatus."""

    INVALID_ARGUMENT = 3
    BLOCKED = 7
    PRECONDITION = 10

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Task:
    """What a behaviour is made from: typed arguments in SI units, and the pose of the action if it has one."""

    skill: str
    arguments: Mapping[str, Value]
    pose: Pose | None = None


@dataclass(frozen=True)
class World:
    """Poses of the site's locations; those without one cannot be driven to. `charger` is the location of `dock`."""

    locations: Mapping[str, Pose]
    charger: str = "charging_station"


class Phase(Protocol):
    """One part of an action."""

    def advance(self, body: Body, dt: float) -> float:
        """Work for at most dt seconds; return the seconds used, fewer than dt once it is done. Raises CannotDo."""
        ...


@dataclass
class DriveTo:
    """Turn to the goal, drive there, turn to its heading. `factor` scales the robot's speed."""

    goal: Pose
    factor: float = 1.0
    max_speed_mps: float = math.inf

    def advance(self, body: Body, dt: float) -> float:
        body.docked = False
        used = 0.0
        if body.pose.distance_to(self.goal) > 1e-6:
            way = math.atan2(self.goal.y - body.pose.y, self.goal.x - body.pose.x)
            used += body.turn(way, dt)
            used += body.drive(self.goal, dt - used, self.factor, self.max_speed_mps)
            _check_free(body, self.goal)
        return used + (body.turn(self.goal.yaw, dt - used) if used < dt else 0.0)


@dataclass
class Shift:
    """Move along the robot's own axes by metres, heading kept."""

    forward: float
    left: float
    goal: Pose | None = None
    max_speed_mps: float = math.inf

    def advance(self, body: Body, dt: float) -> float:
        body.docked = False
        self.goal = self.goal or body.pose.offset(self.forward, self.left)
        used = body.drive(self.goal, dt, 0.5, self.max_speed_mps)
        _check_free(body, self.goal)
        return used


@dataclass
class Rotate:
    """Turn by an angle in radians, positive to the left."""

    angle: float

    def advance(self, body: Body, dt: float) -> float:
        # A whole turn is no difference of headings, so it is walked in steps below half a turn.
        used = 0.0
        while used < dt and abs(self.angle) > 1e-9:
            part = math.copysign(min(abs(self.angle), 1.0, (dt - used) * body.turn_rate), self.angle)
            used += body.turn(body.pose.yaw + part, dt - used)
            self.angle -= part
        return used


@dataclass
class Work:
    """Stand and do something for some seconds."""

    seconds: float

    def advance(self, body: Body, dt: float) -> float:
        used = min(dt, self.seconds)
        self.seconds -= used
        body.rest(used)
        return used


@dataclass
class Effect:
    """Change the robot in no time."""

    apply: Callable[[Body], None]

    def advance(self, body: Body, dt: float) -> float:
        self.apply(body)
        return 0.0


def phases(task: Task, world: World) -> list[Phase]:
    """The phases of a task; raises CannotDo for arguments that lead nowhere, KeyError for an unknown skill.

    Every task may have the argument `max_speed` in m/s, which no drive of it exceeds.
    """
    found = BEHAVIOURS[task.skill](task, world)
    limit = _number(task, "max_speed", math.inf, 0.01, math.inf)
    for phase in found:
        if isinstance(phase, DriveTo | Shift):
            phase.max_speed_mps = limit
    return found


def _check_free(body: Body, goal: Pose) -> None:
    if body.free_way(goal) < min(1e-6, body.pose.distance_to(goal)):
        raise CannotDo(CannotDo.BLOCKED, f"an obstacle is in the way at x {body.pose.x:.1f}, y {body.pose.y:.1f}")


def _go(task: Task, world: World, name: str) -> list[Phase]:
    """Drive to the location that an argument names; nothing if it is not given or is a person."""
    place = str(task.arguments.get(name, ""))
    if place in world.locations:
        return [DriveTo(world.locations[place])]
    return []


def _reach(task: Task, world: World) -> list[Phase]:
    """Drive to the argument `location`, else to the pose of the action."""
    way = _go(task, world, "location")
    if not way and task.pose is not None:
        if not all(math.isfinite(v) for v in (task.pose.x, task.pose.y, task.pose.yaw)):
            raise CannotDo(CannotDo.INVALID_ARGUMENT, f"the pose {task.pose} is not finite")
        way = [DriveTo(task.pose)]
    return way


def _navigate(task: Task, world: World) -> list[Phase]:
    way = _reach(task, world)
    if not way:
        place = task.arguments.get("location", "")
        raise CannotDo(CannotDo.BLOCKED, f"no pose is known for location '{place}'; give it one in the site file")
    return way


def _number(task: Task, name: str, default: float, low: float, high: float) -> float:
    """A number within its limits; whoever sent the action may not have checked them."""
    value = float(task.arguments.get(name, default))
    if not low <= value <= high:  # NaN is neither
        raise CannotDo(CannotDo.INVALID_ARGUMENT, f"{name} {value:g} is outside {low:g} to {high:g}")
    return value


def _quantity(task: Task) -> int:
    return int(_number(task, "quantity", 1, 1, 1000))


def _take(task: Task) -> list[Phase]:
    thing = str(task.arguments.get("object", "")) or "load"

    def take(body: Body) -> None:
        body.carrying = thing

    return [Work(3.0 + _quantity(task)), Effect(take)]


def _put(task: Task, needs_load: bool) -> list[Phase]:
    def check(body: Body) -> None:
        if needs_load and not body.carrying:
            raise CannotDo(CannotDo.PRECONDITION, "the robot carries nothing that it could put down")

    def put(body: Body) -> None:
        body.carrying = ""

    return [Effect(check), Work(3.0), Effect(put)]


def _pick(task: Task, world: World) -> list[Phase]:
    return [*_reach(task, world), *_take(task)]


def _place(task: Task, world: World) -> list[Phase]:
    return [*_reach(task, world), *_put(task, needs_load=True)]


def _bring(task: Task, world: World) -> list[Phase]:
    return [*_go(task, world, "from"), *_take(task), *_go(task, world, "to"), *_put(task, needs_load=True)]


def _handle(task: Task, world: World) -> list[Phase]:
    return [*_reach(task, world), Work(2.0 + 2.0 * min(_quantity(task), 10)), *_put(task, needs_load=False)]


def _dock(task: Task, world: World) -> list[Phase]:
    if world.charger not in world.locations:
        raise CannotDo(CannotDo.BLOCKED, f"the site has no location '{world.charger}' with a pose to dock at")

    def dock(body: Body) -> None:
        body.docked = True

    return [DriveTo(world.locations[world.charger]), Work(3.0), Effect(dock)]


def _attach(task: Task, world: World) -> list[Phase]:
    def attach(body: Body) -> None:
        body.attached = str(task.arguments.get("object", "cart"))

    return [*_reach(task, world), Work(4.0), Effect(attach)]


def _detach(task: Task, world: World) -> list[Phase]:
    def detach(body: Body) -> None:
        if not body.attached:
            raise CannotDo(CannotDo.PRECONDITION, "nothing is coupled")
        body.attached = ""

    return [Effect(detach), Work(3.0)]


def _push(task: Task, world: World) -> list[Phase]:
    way = _reach(task, world)
    slow: list[Phase] = [DriveTo(phase.goal, 0.5) for phase in way if isinstance(phase, DriveTo)]
    return [Work(2.0), *(slow or [Shift(1.0, 0.0)])]


def _look(task: Task, world: World) -> list[Phase]:
    return [*_reach(task, world), Work(4.0)]


def _patrol(task: Task, world: World) -> list[Phase]:
    legs = [*_go(task, world, "location"), *_go(task, world, "to")]
    if not legs:
        raise CannotDo(CannotDo.INVALID_ARGUMENT, "a patrol needs a location with a pose")
    goals = [phase.goal for phase in legs if isinstance(phase, DriveTo)]
    rounds: list[Phase] = []
    for _ in range(int(_number(task, "rounds", 1, 1, 1000))):
        rounds += [DriveTo(goal) for goal in goals]
        rounds.append(Rotate(2 * math.pi))
    return rounds


def _wait(task: Task, world: World) -> list[Phase]:
    return [Work(_number(task, "duration", 10.0, 0.0, 1e6))]


def _set_speed(task: Task, world: World) -> list[Phase]:
    speed = _number(task, "speed", 0.0, 0.01, 3.0)

    def set_speed(body: Body) -> None:
        body.speed_mps = speed

    return [Effect(set_speed)]


def _move(task: Task, world: World) -> list[Phase]:
    distance = _number(task, "distance", 0.5, 0.0, 100.0)
    ways = {"forward": (1, 0), "backward": (-1, 0), "left": (0, 1), "right": (0, -1)}
    direction = str(task.arguments.get("direction", ""))
    if direction not in ways:
        raise CannotDo(CannotDo.INVALID_ARGUMENT, f"direction '{direction}' is none of {', '.join(ways)}")
    forward, left = ways[direction]
    return [Shift(forward * distance, left * distance)]


def _turn(task: Task, world: World) -> list[Phase]:
    direction = str(task.arguments.get("direction", ""))
    if direction not in ("left", "right", "around"):
        raise CannotDo(CannotDo.INVALID_ARGUMENT, f"direction '{direction}' is none of left, right, around")
    angle = _number(task, "angle", math.pi if direction == "around" else math.pi / 2, 0.0, 100.0)
    return [Rotate(-angle if direction == "right" else angle)]


def _lift(task: Task, world: World) -> list[Phase]:
    return [Work(1.0 + _number(task, "height", 0.3, 0.0, 10.0) / 0.1)]


def _follow(task: Task, world: World) -> list[Phase]:
    return [Shift(3.0, 0.0), Work(15.0)]


def _undock(task: Task, world: World) -> list[Phase]:
    return [Shift(-1.0, 0.0)]


def _say(task: Task, world: World) -> list[Phase]:
    return [Work(0.5 + 0.06 * len(str(task.arguments.get("text", ""))))]


BEHAVIOURS: dict[str, Callable[[Task, World], list[Phase]]] = {
    "navigate_to": _navigate,
    "pick": _pick,
    "place": _place,
    "bring": _bring,
    "load": _handle,
    "unload": _handle,
    "follow": _follow,
    "guide": _navigate,
    "dock": _dock,
    "undock": _undock,
    "attach": _attach,
    "detach": _detach,
    "push": _push,
    "inspect": _look,
    "count": _look,
    "find": _look,
    "patrol": _patrol,
    "wait": _wait,
    "set_speed": _set_speed,
    "move": _move,
    "turn": _turn,
    "lift": _lift,
    "lower": _lift,
    "say": _say,
}
