"""Claims about parameters: what may change while a node works changes at once, the rest is refused with the way out."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter as RosParameter
from ros_bench import wait_for

from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.conversions import pose_message
from nano_agent_ros.nodes.executor import ExecutorNode
from nano_agent_ros.nodes.parameters import Live, Parameter
from nano_agent_ros.nodes.sim_robot import SimRobotNode

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "nodes.md").read_text()
NODES = ("listener", "agent", "executor", "sim_robot", "inspector", "recorder", "speaker")


def change(node: Any, name: str, value: Any) -> str:
    """Set a parameter; why not, or an empty string."""
    (result,) = node.set_parameters([RosParameter(name, value=value)])
    assert result.successful == (result.reason == ""), result
    return str(result.reason)


def test_a_live_parameter_takes_effect_at_once_and_any_other_when_the_node_is_configured(bench):
    robot = bench.add(SimRobotNode, time_scale=2.0, update_rate_hz=50.0)
    poses = bench.watch(PoseStamped, "pose", qos.LATEST)
    assert change(robot, "time_scale", 50.0) == "" and robot._scale == 50.0
    assert change(robot, "status_rate_hz", 40.0) == ""
    seen = len(poses)
    wait_for(lambda: len(poses) > seen + 20, "poses at the new rate")
    why = change(robot, "start_location", "dock_3")
    assert "start_location takes effect at configure" in why and "clean the node up" in why
    assert change(robot, "start_location", "") == "", "what changes nothing is not refused"
    assert robot.get_parameter("start_location").value == ""
    assert "time_scale" in change(robot, "time_scale", float("nan")) and robot._scale == 50.0
    assert change(robot, "time_scale", 5000.0) != "" and robot._scale == 50.0
    robot.trigger_deactivate()
    assert "takes effect at configure" in change(robot, "start_location", "dock_3")
    robot.trigger_cleanup()
    assert change(robot, "start_location", "dock_3") == ""
    robot.trigger_configure()
    assert (robot._robot.body.pose.x, robot._scale) == (10.0, 50.0)


def test_all_changes_of_one_call_count_or_none(bench):
    robot = bench.add(SimRobotNode, time_scale=2.0)
    changes = [RosParameter("time_scale", value=3.0), RosParameter("site", value="moonbase")]
    assert not robot.set_parameters_atomically(changes).successful
    assert robot._scale == 2.0 and robot.get_parameter("time_scale").value == 2.0


def test_a_node_that_could_not_be_configured_can_be_given_any_other_value(bench):
    robot = bench.add(SimRobotNode, up=False, site="moonbase")
    robot.trigger_configure()
    assert change(robot, "site", "warehouse") == "" and change(robot, "autostart", True) != ""


def test_the_agent_and_the_executor_go_on_with_other_limits(bench, tmp_path):
    executor = bench.add(ExecutorNode, state_dir=str(tmp_path / "e"))
    for name, value in (("new_plan", "replace"), ("max_plans", 2), ("answer_timeout_s", 9.0)):
        assert change(executor, name, value) == ""
    settings = executor._executor._book.settings
    assert (settings.new_plan, settings.max_plans, settings.answer_timeout_s) == ("replace", 2, 9.0)
    assert "takes effect at configure" in change(executor, "safety", "/other.yaml")

    agent = bench.add(AgentNode, state_dir=str(tmp_path / "a"), near_m=1.0)
    bench.publish("pose", pose_message((10.0, 3.0, 0.0), "map", bench.probe.get_clock().now().to_msg()), qos.LATEST)
    thinking = agent._thinking
    for name, value in (("near_m", 4.0), ("max_waiting", 1), ("min_plan_confidence", 0.9), ("confirm_timeout_s", 5.0)):
        assert change(agent, name, value) == ""
    assert change(agent, "on_new_utterance", "interrupt") == "" and thinking._interrupt
    assert (thinking._max_waiting, thinking.dialogue.confirm_timeout_s) == (1, 5.0)
    assert change(agent, "max_plan_overheard", 0.2) == "" and thinking.dialogue.agent.max_overheard == 0.2
    assert thinking.dialogue.agent.min_confidence == 0.9

    def near() -> bool:
        bench.publish("pose", pose_message((10.0, 3.0, 0.0), "map", bench.probe.get_clock().now().to_msg()), qos.LATEST)
        return thinking.note(lambda book: book.facts().get("location")) == "dock_3"

    wait_for(near, "the location, from farther away")


def test_a_descriptor_says_when_a_change_counts():
    kinds = [Live("a", 1.0, "A", 0.0, 2.0), Parameter("b", "x", "B", choices=("x", "y")), Parameter("c", 1, "C")]
    told = [p.descriptor().additional_constraints for p in kinds]
    assert told == ["takes effect at once", "one of x, y; takes effect at configure", "takes effect at configure"]
    assert Parameter("d", False, "D", read_only=True).descriptor().read_only


@pytest.mark.parametrize("node", NODES)
def test_the_page_marks_what_is_live(node):
    section = PAGE.split(f"\n## {node}\n")[1].split("\n## ")[0]
    for parameter in import_module(f"nano_agent_ros.nodes.{node}").PARAMETERS:
        row = re.search(rf"^\| `{re.escape(parameter.name)}` \|.*$", section, re.M)
        assert row, f"docs/nodes.md lacks {parameter.name} of {node}"
        assert ("(live)" in row.group(0)) == parameter.live, f"docs/nodes.md: {parameter.name} of {node}, live or not"
