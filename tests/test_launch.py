"""Claims about the launch files: what they pass on exists, and they run where ROS 2's launch is installed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = ("agent.launch.py", "multi_robot.launch.py")
PATIENCE_S = 120.0


def constants(file: str) -> dict[str, Any]:
    """What a launch file declares as literals, read without launch."""
    found = {}
    for node in ast.parse((ROOT / "launch" / file).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                if isinstance(node.value, ast.Dict):  # with a name among its values
                    found[node.targets[0].id] = {ast.literal_eval(key): None for key in node.value.keys if key}
    return found


@pytest.mark.parametrize("file", FILES)
def test_every_argument_is_passed_to_a_parameter_that_a_node_has(file):
    declared = constants(file)
    for node, parameters in declared["PARAMETERS"].items():
        known = {p.name for p in importlib.import_module(f"nano_agent_ros.nodes.{node}").PARAMETERS}
        assert set(parameters) <= known, f"{node}: {set(parameters) - known}"
        arguments = parameters.values() if isinstance(parameters, dict) else parameters
        assert set(arguments) <= set(declared["ARGUMENTS"])
    assert set(declared["CHOICES"]) <= set(declared["ARGUMENTS"])
    assert set(declared["OPTIONAL"].values()) <= set(declared["ARGUMENTS"])
    used = set(re.findall(r'given\["(\w+)"\]', (ROOT / "launch" / file).read_text()))
    assert used <= set(declared["ARGUMENTS"])


@pytest.mark.skipif(importlib.util.find_spec("ros2launch") is None, reason="ROS 2's launch is not installed")
@pytest.mark.parametrize(
    ("file", "arguments", "ready"),
    [
        ("agent.launch.py", ("audio_source:=none", "namespace:=unit_2"), 1),
        ("multi_robot.launch.py", ("robots:=2",), 2),
    ],
)
def test_what_is_launched_comes_up_and_ends_with_ctrl_c(file, arguments, ready):
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix),
    }
    main = "import sys; from ros2cli.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "launch", str(ROOT / "launch" / file), *arguments]
    lines: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        until = time.monotonic() + PATIENCE_S
        try:
            for line in running.stdout:
                lines.append(line)
                if sum("model ready" in seen for seen in lines) == ready:
                    break
                assert time.monotonic() < until, "".join(lines)
            os.killpg(running.pid, signal.SIGINT)
            rest, _ = running.communicate(timeout=PATIENCE_S)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0 and "died" not in rest, "".join(lines) + rest
