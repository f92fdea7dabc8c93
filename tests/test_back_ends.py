"""Claims about the back ends over DDS: Nav2's goals against real action servers, and any other robot by a YAML file."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import message_packages
import pytest
import yaml
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from ros_bench import wait_for
from std_msgs.msg import Empty, String
from std_srvs.srv import SetBool

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.execution import Report
from nano_agent_ros.msg import ActionStatus, RobotAction
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.back_ends import nav2 as nav2_module
from nano_agent_ros.nodes.back_ends.interfaces import fill, load_interface
from nano_agent_ros.nodes.back_ends.mapping import Mapping, read_mapping
from nano_agent_ros.nodes.back_ends.nav2_settings import PARAMETERS as NAV2
from nano_agent_ros.nodes.back_ends.nav2_settings import Nav2Settings
from nano_agent_ros.nodes.conversions import argument_messages, pose_message, uuid_message, uuid_of
from nano_agent_ros.nodes.executor import ExecutorNode
from nano_agent_ros.resources import find
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import Fault, State
from nano_agent_ros.safety import Order
from nano_agent_ros.skills import Site

SITE = Site.load("warehouse")
STAMP = PoseStamped().header.stamp


@pytest.fixture(scope="module")
def nav2() -> Any:
    """The back end, with Nav2's interfaces of Kilted."""
    message_packages.provide("nav2_msgs")
    return nav2_module


class Servers:
    """Action servers of every action of Nav2. Each goal ends at once, unless `hold`: then when it is cancelled."""

    def __init__(self, node: Any, actions: dict[str, str], package: str = "nav2_msgs") -> None:
        self.package = package
        self.goals: list[tuple[str, Any]] = []
        self.hold = False
        self.result: dict[str, Any] = {}
        self.feedback: dict[str, Any] = {}
        group = ReentrantCallbackGroup()
        self._servers = [
            ActionServer(
                node,
                load_interface(f"{package}/action/{kind}"),
                name,
                self._execute(kind),
                cancel_callback=lambda goal: CancelResponse.ACCEPT,
                callback_group=group,
            )
            for kind, name in actions.items()
        ]

    def _execute(self, kind: str) -> Callable[[Any], Any]:
        interface = load_interface(f"{self.package}/action/{kind}")

        def execute(goal: Any) -> Any:
            self.goals.append((kind, goal.request))
            if kind in self.feedback:
                goal.publish_feedback(fill(interface.Feedback(), self.feedback[kind], "map", STAMP))
            ended = threading.Event()
            while self.hold and not goal.is_cancel_requested and goal.is_active and not ended.wait(0.02):
                pass
            if goal.is_cancel_requested:
                goal.canceled()
                return interface.Result()
            (goal.abort if self.result.get("error_code") else goal.succeed)()
            return fill(interface.Result(), self.result, "map", STAMP)

        return execute


def order(skill: str, pose: Pose | None = None, **arguments: Any) -> Order:
    return Order(uuid4(), uuid4(), skill, arguments, pose=pose)


def end_of(reports: list[Report], key: UUID) -> Report:
    def ended() -> Report | None:
        return next((r for r in reports if r.action_id == key and r.state.final), None)

    return wait_for(ended, "the end of an action")


GOALS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    (
        "navigate_to",
        {"location": "dock_3"},
        "NavigateToPose",
        {"pose.pose.position.x": 10.0, "pose.header.frame_id": "map"},
    ),
    ("move", {"direction": "forward", "distance": 2.0}, "DriveOnHeading", {"target.x": 2.0, "speed": 0.25}),
    ("move", {"direction": "backward", "distance": 1.0}, "BackUp", {"target.x": 1.0, "time_allowance.sec": 13}),
    ("turn", {"direction": "right"}, "Spin", {"target_yaw": -math.pi / 2}),
    ("wait", {"duration": 2.5}, "Wait", {"time.sec": 2, "time.nanosec": 500_000_000}),
    (
        "dock",
        {},
        "DockRobot",
        {"use_dock_id": False, "dock_pose.pose.position.y": 16.0, "navigate_to_staging_pose": True},
    ),
    ("undock", {}, "UndockRobot", {"dock_type": "", "max_undocking_time": 30.0}),
]


def test_each_skill_becomes_the_goal_of_a_nav2_server_and_its_result_an_end(bench, nav2):
    reports: list[Report] = []
    servers = Servers(bench.probe, nav2.ACTIONS)
    back_end = nav2.Nav2(bench.probe, reports.append, SITE)
    for skill, arguments, action, fields in GOALS:
        sent = order(skill, **arguments)
        back_end.start(sent, None)
        assert end_of(reports, sent.action_id).state is State.FINISHED
        kind, goal = servers.goals[-1]
        assert kind == action
        for path, value in fields.items():
            found = goal
            for name in path.split("."):
                found = getattr(found, name)
            assert found == (pytest.approx(value) if isinstance(value, float) else value), (skill, path)

    servers.feedback = {"FollowWaypoints": {"current_waypoint": 3}}
    patrol = order("patrol", location="dock_1", to="dock_2", rounds=3)
    back_end.start(patrol, None)
    assert end_of(reports, patrol.action_id).state is State.FINISHED
    assert [p.pose.position.x for p in servers.goals[-1][1].poses] == [2.0, 6.0] * 3
    wait_for(lambda: [r for r in reports if r.progress == 0.5], "progress")

    servers.result = {"error_code": 9003, "error_msg": "no way there"}
    lost = order("navigate_to", Pose(1.0, 2.0, 0.0))
    back_end.start(lost, None)
    end = end_of(reports, lost.action_id)
    assert (end.state, end.fault) == (State.FAILED, Fault.TIMEOUT) and "no way there" in end.message
    for impossible in (order("move", direction="left"), order("navigate_to", location="moon"), order("turn")):
        back_end.start(impossible, None)
        assert end_of(reports, impossible.action_id).state is State.REJECTED
    back_end.close()


def test_nav2_cancels_and_confirms_through_the_executor_and_drives_no_faster_than_it_may(bench, nav2):
    from nav2_msgs.msg import SpeedLimit

    servers = Servers(bench.probe, nav2.ACTIONS)
    servers.hold = True
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    limits = bench.watch(SpeedLimit, "speed_limit", 10)
    executor = bench.add(ExecutorNode, back_ends=["nav2"])
    here = pose_message((1.0, 16.0, 0.0), "map", bench.probe.get_clock().now().to_msg())
    bench.publish("pose", here, qos.LATEST)
    wait_for(lambda: executor._executor.robot.pose, "the pose")

    def send(skill: str, **arguments: Any) -> UUID:
        message = RobotAction(action_id=uuid_message(uuid4()), plan_id=uuid_message(uuid4()), skill=skill, step_count=1)
        message.arguments = argument_messages(arguments)
        message.header.stamp = bench.probe.get_clock().now().to_msg()
        bench.publish("action", message, qos.COMMAND)
        return uuid_of(message.action_id)

    def states(key: UUID) -> list[int]:
        return [s.state for s in statuses if uuid_of(s.action_id) == key]

    speed = send("set_speed", speed=0.4)
    wait_for(lambda: State.FINISHED in states(speed), "the speed")
    drive = send("navigate_to", location="dock_3")
    wait_for(lambda: State.RUNNING in states(drive), "the drive")
    wait_for(lambda: [m for m in limits if m.speed_limit == pytest.approx(0.4)], "the limit")
    pause = send("pause")
    wait_for(lambda: State.FINISHED in states(pause), "the pause")
    assert State.PAUSED in states(drive) and len(servers.goals) == 1
    resume = send("resume")
    wait_for(lambda: State.FINISHED in states(resume) and len(servers.goals) == 2, "the same goal once more")
    cancel = send("cancel")
    wait_for(lambda: State.FINISHED in states(cancel), "the cancellation")
    assert states(drive)[-1] == State.CANCELED
    servers.hold = False


def test_docks_planner_controller_and_tree_are_chosen_by_parameters_and_the_site(bench, nav2, tmp_path):
    content = yaml.safe_load(find("config/sites/warehouse.yaml").read_text())
    content["locations"]["dock_4"]["dock"] = {"id": "home_dock", "type": "charger"}
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump(content))
    chosen = {
        "dock_location": "dock_4",
        "navigate_to_staging_pose": False,
        "max_staging_time_s": 60.0,
        "max_undocking_time_s": 12.0,
        "behavior_tree": "/trees/slow.xml",
        "planner_id": "Smac",
        "controller_id": "MPPI",
    }
    servers = Servers(bench.probe, nav2.ACTIONS)
    parameters = {f"nav2__{name}": value for name, value in chosen.items()}
    executor = bench.add(ExecutorNode, back_ends=["nav2"], site=str(site), state_dir=str(tmp_path), **parameters)
    for topic, plugin in (("planner_selector", "Smac"), ("controller_selector", "MPPI")):
        told = bench.watch(String, topic, nav2.SELECTOR)  # a tree that starts later is told as well
        wait_for(lambda told=told: told, topic)
        assert told[0].data == plugin
    reports: list[Report] = []
    executor._back_end.report = reports.append
    for inner in executor._back_end._back_ends:
        inner.report = reports.append
    for sent in (order("dock"), order("undock"), order("navigate_to", location="dock_1")):
        executor._back_end.start(sent, None)
        assert end_of(reports, sent.action_id).state is State.FINISHED
    dock, undock, drive = (goal for _, goal in servers.goals)
    assert (dock.use_dock_id, dock.dock_id, dock.dock_type) == (True, "home_dock", "charger")
    assert (dock.navigate_to_staging_pose, dock.max_staging_time) == (False, 60.0)
    assert (undock.dock_type, undock.max_undocking_time) == ("charger", 12.0)
    assert drive.behavior_tree == "/trees/slow.xml"


def test_a_dock_that_the_site_lacks_is_refused_when_it_is_read():
    with pytest.raises(ConfigError, match="nav2.dock_location: 'moon'"):
        values = {**{p.name: p.default for p in NAV2}, "nav2.dock_location": "moon"}
        Nav2Settings.of(values, SITE)
    with pytest.raises(ConfigError, match="'charger': dock is"):
        Site.load({"locations": {"charger": {"dock": {"name": "home"}}}})


def test_an_older_nav2_is_used_as_far_as_it_goes(bench):
    """Jazzy's definitions, of half its actions: what there is not, as docks in Humble, is no skill of the robot."""
    message_packages.provide("nav2_msgs_jazzy")
    there = {name: nav2_module.ACTIONS[name] for name in ("NavigateToPose", "FollowWaypoints", "Spin", "Wait")}
    servers = Servers(bench.probe, there, "nav2_msgs_jazzy")
    reports: list[Report] = []
    back_end = nav2_module.Nav2(bench.probe, reports.append, SITE, package="nav2_msgs_jazzy")
    skills = ("navigate_to", "guide", "patrol", "turn", "wait", "set_speed", "dock", "undock", "move")
    assert [skill for skill in skills if back_end.has(skill)] == list(skills[:6])
    for skill, arguments in (
        ("turn", {"direction": "left"}), ("wait", {"duration": 1.0}), ("navigate_to", {"location": "dock_1"}),
        ("patrol", {"location": "dock_1"}),
    ):  # fmt: skip
        sent = order(skill, **arguments)
        back_end.start(sent, None)
        assert end_of(reports, sent.action_id).state is State.FINISHED, skill
    # Jazzy's NavigateToPose has no names for the codes that it passes on from planner and controller.
    for code, fault, words in ((208, Fault.BLOCKED, "no valid path"), (102, Fault.PRECONDITION, "tf error")):
        servers.result = {"error_code": code}
        lost = order("navigate_to", location="dock_1")
        back_end.start(lost, None)
        end = end_of(reports, lost.action_id)
        assert (end.fault, end.message) == (fault, f"Nav2: {words} (error {code})")
    servers.result = {"missed_waypoints": [{"index": 1, "error_code": 208}], "error_code": 601}
    missed = order("patrol", location="dock_1", to="dock_2")
    back_end.start(missed, None)
    assert end_of(reports, missed.action_id).message == "Nav2: 1 waypoints were missed (error 601)"
    back_end.close()


def test_a_robot_that_nav2_drives_into_a_closed_zone_is_stopped_and_its_goal_cancelled(bench, nav2, tmp_path):
    servers = Servers(bench.probe, nav2.ACTIONS)
    servers.hold = True
    statuses = bench.watch(ActionStatus, "status", qos.STATUS)
    stops = bench.watch(Empty, "stop", qos.COMMAND)
    executor = bench.add(ExecutorNode, back_ends=["nav2"], state_dir=str(tmp_path))

    def stand(x: float, y: float) -> None:
        bench.publish("pose", pose_message((x, y, 0.0), "map", bench.probe.get_clock().now().to_msg()), qos.LATEST)

    stand(24.0, 12.0)
    wait_for(lambda: executor._executor.robot.pose, "the pose")
    message = RobotAction(action_id=uuid_message(uuid4()), plan_id=uuid_message(uuid4()), skill="navigate_to")
    message.step_count, message.arguments = 1, argument_messages({"location": "packing_station"})
    message.header.stamp = bench.probe.get_clock().now().to_msg()
    bench.publish("action", message, qos.COMMAND)
    wait_for(lambda: servers.goals, "the goal")
    stand(27.0, 15.0)  # the planner's way, or a push, leads where the straight way did not
    wait_for(lambda: stops and executor._executor.gate.stopped, "the stop")
    wait_for(lambda: statuses[-1].state == ActionStatus.CANCELED, "the end of the goal")
    assert "zone 'battery_room'" in statuses[-1].error_msg and statuses[-1].error_code == Fault.STOPPED


def test_what_is_not_installed_is_named_with_the_way_to_get_it():
    with pytest.raises(ConfigError, match="'no_such_msgs', which is not installed.*apt-get install"):
        load_interface("no_such_msgs/action/Fly")
    with pytest.raises(ConfigError, match="no srv 'Fly'"):
        load_interface("std_srvs/srv/Fly")
    with pytest.raises(ConfigError, match="no ROS type"):
        load_interface("Fly")


def test_fields_are_filled_from_plain_values_or_refused_by_name():
    message = fill(
        RobotAction(),
        {"skill": "x", "pose": Pose(1.0, 2.0, 0.0), "step": 2, "arguments": [{"name": "a"}]},
        "map",
        STAMP,
    )
    assert (message.skill, message.pose.pose.position.y, message.step) == ("x", 2.0, 2)
    assert message.arguments[0].name == "a" and message.pose.header.frame_id == "map"
    for wrong in ({"skil": "x"}, {"step": 1.5}, {"step": -1}, {"has_pose": "yes"}, {"header": 3}, {"arguments": "a"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            fill(RobotAction(), wrong, "map", STAMP)


def mapping(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_mapping_calls_what_the_file_says(bench, tmp_path):
    says = {"success": "success", "message": "message"}
    path = mapping(
        tmp_path / "robot.yaml",
        skills={
            "lift": {"service": "std_srvs/srv/SetBool", "name": "forks", "fields": {"data": True}, **says},
            "say": {"topic": "std_msgs/msg/String", "name": "speech", "fields": {"data": "$text"}},
            "navigate_to": {
                "action": "nano_agent_ros/action/ExecuteAction",
                "name": "drive",
                "fields": {"action": {"skill": "drive", "pose": "$pose_of.location", "confidence": "$max_speed"}},
                "defaults": {"max_speed": 1.0},
                "progress": "status.progress",
                "message": "status.error_msg",
            },
        },
        stop=[{"topic": "geometry_msgs/msg/Twist", "name": "cmd_vel"}],
    )  # fmt: skip
    said, twists = bench.watch(String, "speech", 10), bench.watch(Twist, "cmd_vel", 10)
    answers = [True, False]

    def serve(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = answers.pop(0), "jammed"
        return response

    bench.probe.create_service(SetBool, "forks", serve)
    goals: list[Any] = []
    kind = load_interface("nano_agent_ros/action/ExecuteAction")

    def drive(goal: Any) -> Any:
        goals.append(goal.request.action)
        goal.succeed()
        return kind.Result()

    ActionServer(bench.probe, kind, "drive", drive)
    reports: list[Report] = []
    back_end = Mapping(bench.probe, reports.append, SITE, path)
    wait_for(lambda: bench.probe.count_subscribers("speech") and bench.probe.count_publishers("speech"), "the topic")
    orders = [order("lift"), order("lift"), order("navigate_to", location="dock_2"), order("say", text="hello")]
    for sent in orders:
        back_end.start(sent, 0.5)
        end_of(reports, sent.action_id)
    ends = [end_of(reports, sent.action_id) for sent in orders]
    assert [e.state for e in ends] == [State.FINISHED, State.FAILED, State.FINISHED, State.FINISHED]
    assert ends[1].message == "jammed"
    assert (goals[0].pose.pose.position.x, goals[0].confidence) == (6.0, 0.5)
    wait_for(lambda: said and said[-1].data == "hello", "what was said")
    silent = order("say")
    back_end.start(silent, None)
    assert end_of(reports, silent.action_id).fault is Fault.INVALID_ARGUMENT
    wait_for(lambda: back_end.stop() or twists, "the stop")
    back_end.close()


def test_a_server_that_is_not_there_is_named(bench, tmp_path):
    path = mapping(tmp_path / "robot.yaml", skills={"lift": {"service": "std_srvs/srv/Trigger", "name": "nowhere"}})
    reports: list[Report] = []
    back_end = Mapping(bench.probe, reports.append, SITE, path)
    sent = order("lift")
    back_end.start(sent, None)
    end = end_of(reports, sent.action_id)
    assert end.fault is Fault.NO_ROBOT and "nowhere" in end.message
    back_end.close()


@pytest.mark.parametrize(
    ("skills", "words"),
    [
        ({"lift": {"name": "x"}}, "needs one of action, service, topic"),
        ({"lift": {"service": "std_srvs/srv/Trigger", "name": "x", "field": {}}}, "'field' is unknown"),
        ({"lift": {"service": "no_such_msgs/srv/Trigger", "name": "x"}}, "no_such_msgs"),
        ({"lift": {"service": "std_srvs/srv/SetBool", "name": "x", "fields": {"dat": True}}}, "no field 'dat'"),
        ({"lift": {"service": "std_srvs/srv/SetBool", "name": "x", "success": "ok"}}, "no field 'ok'"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_when_it_is_read(bench, tmp_path, skills, words):
    with pytest.raises(ConfigError, match=words):
        Mapping(bench.probe, lambda report: None, SITE, mapping(tmp_path / "robot.yaml", skills=skills))


def test_the_mapping_that_ships_can_be_read():
    entries, stops = read_mapping(find("config/mapping_example.yaml"))
    assert set(entries) == {"lift", "lower", "say"} and len(stops) == 1
