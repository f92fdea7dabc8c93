"""Claims about several robots on one machine: each does what it is called for, a stop is for all, a crash for one."""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import rclpy
from geometry_msgs.msg import PoseStamped
from running import Running, running, up
from std_msgs.msg import Bool

from nano_agent_ros import bringup, fleet
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.msg import ActionStatus, RobotAction
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes import robot as robot_process
from nano_agent_ros.nodes.conversions import arguments_of
from nano_agent_ros.skills import Site
from nano_agent_ros.units import command_of

__all__ = ["running"]
PATIENCE_S = 180.0
GOALS = {
    "unit one": "dock_3",
    "unit two": "rack_7",
    "unit three": "dock_1",
    "unit four": "aisle_2",
    "unit five": "rack_6",
    "unit six": "packing_station",
    "unit seven": "cold_storage",
    "unit eight": "receiving",
}
ROBOTS = [f"unit_{number}" for number in range(1, 9)]
SITE = Site.load("warehouse")


class Fleet:
    """What a command's robots publish, by namespace."""

    def __init__(self, command: Running) -> None:
        self.command = command
        self.actions: dict[str, list[RobotAction]] = defaultdict(list)
        self.statuses: dict[str, list[ActionStatus]] = defaultdict(list)
        self.poses: dict[str, PoseStamped] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.stopped: dict[str, bool] = {}
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=command.domain)
        node = rclpy.create_node("spectator", context=self._context)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        for robot in ROBOTS:
            watch = partial(self._watch, node, robot)
            watch(RobotAction, "action", qos.COMMAND, self.actions[robot].append)
            watch(ActionStatus, "status", qos.STATUS, self.statuses[robot].append)
            watch(PoseStamped, "pose", qos.LATEST, partial(self._note, robot))
            watch(Bool, "stopped", qos.LATEST, lambda message, robot=robot: self.stopped.update({robot: message.data}))

    def _watch(self, node: Any, robot: str, kind: Any, topic: str, profile: Any, take: Callable[[Any], Any]) -> None:
        node.create_subscription(kind, f"/{robot}/{topic}", take, profile)

    def _note(self, robot: str, pose: PoseStamped) -> None:
        self.poses[robot] = pose
        self.counts[robot] += 1

    def locate(self, *names: str) -> None:
        """Until the executors of these robots know where they are: poses have come that were not kept from before."""
        wanted = {robot: self.counts[robot] + 3 for robot in names}
        self.until(lambda: all(self.counts[robot] >= n for robot, n in wanted.items()), f"poses of {', '.join(names)}")

    def close(self) -> None:
        self._executor.shutdown()
        self._context.try_shutdown()

    def until(self, condition: Callable[[], Any], what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > until or self.command.process.poll() is not None:
                seen = {robot: [(s.skill, s.state, s.error_msg) for s in self.statuses[robot]] for robot in ROBOTS}
                self.command.process.send_signal(signal.SIGINT)
                self.command.end()
                raise AssertionError(f"{what}: not within {PATIENCE_S:.0f} s: {seen}\n{''.join(self.command.lines)}")

    def say(self, words: str) -> None:
        self.command.type(words)

    def did(self, robot: str) -> list[tuple[str, str]]:
        """What a robot was told, as skill and place."""
        return [(a.skill, arguments_of(a.arguments).get("location", "")) for a in self.actions[robot]]

    def finished(self, robot: str, place: str) -> bool:
        """Whether the robot has finished a drive, and stands where it was sent."""
        done = any(s.skill == "navigate_to" and s.state == ActionStatus.FINISHED for s in self.statuses[robot])
        return done and robot in self.poses and self.away_m(robot, place) < 0.2

    def away_m(self, robot: str, place: str) -> float:
        x, y, _ = SITE.locations[place].pose or (math.inf, math.inf, 0.0)
        at = self.poses[robot].pose.position
        return math.hypot(at.x - x, at.y - y)

    def forget(self) -> None:
        for robot in ROBOTS:
            self.actions[robot].clear()
            self.statuses[robot].clear()


@pytest.fixture
def robots(running: list[Running]) -> Iterator[Fleet]:
    command = up(running, "--robots", "8", "--time-scale", "20", "--heartbeat-timeout", "60")
    command.wait_for_line("Ctrl-C ends them")
    watched = Fleet(command)
    yield watched
    watched.close()


def test_eight_robots_each_do_what_they_are_called_for_and_all_stop(robots):
    command = robots.command
    robots.until(lambda: len(robots.stopped) == 8, "a word of every robot")
    robots.locate(*ROBOTS)
    starts = [(p.pose.position.x, p.pose.position.y) for p in robots.poses.values()]
    assert all(math.dist(a, b) > 1.0 for i, a in enumerate(starts) for b in starts[:i])

    for name, place in GOALS.items():
        robots.say(f"{name}, go to {SITE.name_of(place)}")
    places = dict(zip(ROBOTS, GOALS.values(), strict=True))
    robots.until(lambda: all(robots.finished(r, p) for r, p in places.items()), "every robot at its goal")
    assert {robot: robots.did(robot) for robot in ROBOTS} == {r: [("navigate_to", p)] for r, p in places.items()}

    robots.forget()
    for name in GOALS:
        robots.say(f"{name}, go to shipping office")
    moving = lambda robot: any(s.state == ActionStatus.RUNNING for s in robots.statuses[robot])  # noqa: E731
    robots.until(lambda: all(moving(robot) for robot in ROBOTS), "every robot on its way")
    robots.say("stop")
    robots.until(lambda: all(robots.stopped.values()), "a stop of all")
    robots.say("resume")
    robots.until(lambda: not any(robots.stopped.values()), "the release of all")

    robots.forget()
    others = command.nodes()
    os.kill(others.pop("unit_5"), signal.SIGKILL)
    robots.say("unit two, go to dock 4")
    robots.until(lambda: robots.finished("unit_2", "dock_4"), "a robot at its goal while another is down")
    assert set(robots.did("unit_2")) == {("navigate_to", "dock_4")}
    assert not any(robots.did(robot) for robot in ROBOTS if robot != "unit_2")
    command.wait_for_line("unit_5 is up again")
    after = command.nodes()
    assert after.pop("unit_5") and after == others
    robots.locate("unit_5")
    robots.say("unit five, go to dock 2")
    robots.until(lambda: robots.finished("unit_5", "dock_2"), "the robot that came back at its goal")
    assert not any(robots.did(robot) for robot in ROBOTS if robot not in ("unit_2", "unit_5"))

    command.process.send_signal(signal.SIGINT)
    assert command.end() == 0 and not command.nodes()
    assert "unit_1/agent | INFO" in "".join(command.lines)  # a log line carries its robot


def test_names_become_namespaces_and_what_people_say():
    robots = fleet.fleet(["Alpha", "fork lift 2", "unit_13"], SITE, "/hall")
    assert [robot.namespace for robot in robots] == ["/hall/alpha", "/hall/fork_lift_2", "/hall/unit_13"]
    assert [robot.spoken for robot in robots] == [("alpha",), ("fork lift two", "fork lift 2"), ("unit 13",)]
    assert robots[0].others == ("fork lift two", "fork lift 2", "unit 13")
    assert len({robot.start for robot in robots}) == 3
    assert fleet.names_of(3, None) == ["unit_1", "unit_2", "unit_3"] and fleet.names_of(None, None) == []


@pytest.mark.parametrize(
    ("count", "names", "words"),
    [
        (0, None, "from 1 to"),
        (101, None, "from 1 to"),
        (3, "a,b", "2 names"),
        (None, "a, A", "twice"),
        (None, "a,,b", "robot name ''"),
        (None, "2 fast", "letter"),
        (None, "größe", "letters"),
    ],
)
def test_names_that_cannot_be_are_refused(count, names, words):
    with pytest.raises(ConfigError, match=words):
        fleet.names_of(count, names)


def test_more_robots_than_places_are_refused():
    with pytest.raises(ConfigError, match="give more locations a pose"):
        fleet.fleet([f"unit_{i}" for i in range(1, 50)], SITE)


def test_a_parameter_file_of_the_user_wins_over_what_a_fleet_shares(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("/unit_2/sim_robot:\n  ros__parameters: {site: elsewhere}\n")
    shared = bringup._params_files(own, 4, tmp_path)
    assert shared[-1] == own and [file.name for file in shared] == [
        "agent.yaml",
        "fleet.yaml",
        "share.yaml",
        "own.yaml",
    ]
    assert fleet.setting(shared, "sim_robot", "site", "") == "elsewhere"
    assert bringup._params_files(own, 0, tmp_path) == [own]


def test_the_threads_of_a_machine_are_shared():
    cores = len(os.sched_getaffinity(0))
    told = {node.name: node.parameters for node in fleet.share(2 * cores)}
    assert told == {"agent": {"threads": 1}, "listener": {"whisper": {"threads": 1}}}
    assert dict(fleet.share(1)[0].parameters) == {"threads": cores}


def test_one_robot_may_share_a_process_and_several_may_not():
    parser = argparse.ArgumentParser()
    bringup.add_arguments(parser)
    names = ["alpha", "beta"]
    for words, processes in (([], 2), (["--no-compose"], 8)):
        units = bringup.units_of(parser.parse_args(words), names, [])
        assert len(units) == processes and len({unit.name for unit in units}) == processes
    (unit,) = bringup.units_of(parser.parse_args(["--compose", "--no-sim-robot"]), [], [])
    assert unit.node_names == ("/executor", "/agent", "/listener")
    assert command_of(unit, [Path("p")], "info")[2:6] == ["nano_agent_ros.nodes.robot", "listener", "agent", "executor"]


def test_a_process_refuses_a_node_that_there_is_not():
    with pytest.raises(SystemExit, match="'pilot' is none of the nodes"):
        robot_process.classes(["pilot"])
    assert [make.__name__ for make in robot_process.classes(robot_process.NODES)] == list(robot_process.NODES.values())
