"""Claims about `nano-agent up` and `demo`: what is started is ended, what crashes is reported."""

from __future__ import annotations

import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from running import PATIENCE_S, Running, running, up

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.graph import Graph
from nano_agent_ros.processes import Process, stop_all
from nano_agent_ros.resources import default_model, find
from nano_agent_ros.supervision import Limits, Restarts
from nano_agent_ros.units import NodeSpec, Unit, command_of, full_namespace, separate

__all__ = ["running"]


@pytest.fixture(scope="module")
def model() -> str:
    return str(default_model())


def gone(command: Running) -> bool:
    until = time.monotonic() + PATIENCE_S
    while command.nodes():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_ctrl_c_ends_every_node_and_the_exit_code_is_0(running, model):
    command = up(running, "--model", model, "--namespace", "robot1")
    line = command.wait_for_line("Ctrl-C ends them")
    assert "/robot1" in line and set(command.nodes()) == {"listener", "agent", "executor", "sim_robot"}
    command.type("wait two minutes")
    command.wait_for_line("sim_robot | INFO: wait(")  # the robot is at work
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 0 and not command.nodes()
    assert "Traceback" not in "".join(command.lines)


def test_what_is_typed_while_it_runs_is_a_command(running, model):
    command = up(running, "--model", model)
    command.wait_for_line("Ctrl-C ends them")
    command.type("please stop, robot")
    command.wait_for_line("heard 'please stop, robot'")
    command.wait_for_line("no action until")
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 0


def test_a_crashed_node_is_started_again_and_the_others_go_on(running, model):
    command = up(running, "--model", model)
    command.wait_for_line("Ctrl-C ends them")
    before = command.nodes()
    os.kill(before["agent"], signal.SIGKILL)
    assert "again in 1 s" in command.wait_for_line("agent has ended (signal SIGKILL)")
    command.wait_for_line("agent is up again")
    after = command.nodes()
    assert after.pop("agent") != before.pop("agent") and after == before
    command.type("please stop, robot")
    command.wait_for_line("no action until")  # it works
    command.process.send_signal(signal.SIGTERM)
    assert command.end() == 0 and not command.nodes()


def test_a_node_that_hangs_is_killed_and_started_again(running, model):
    command = up(running, "--model", model, "--heartbeat-timeout", "4")
    command.wait_for_line("Ctrl-C ends them")
    hung = command.nodes()["sim_robot"]
    os.kill(hung, signal.SIGSTOP)
    command.wait_for_line("sim_robot was silent for 4 s and was killed")
    command.wait_for_line("sim_robot is up again")
    assert command.nodes()["sim_robot"] != hung
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 0


def test_a_node_that_crashes_too_often_is_given_up_and_the_exit_code_says_so(running, model):
    command = up(running, "--model", model, "--restart-limit", "1")
    command.wait_for_line("Ctrl-C ends them")
    os.kill(command.nodes()["agent"], signal.SIGKILL)
    assert "not started again" in command.wait_for_line("agent has ended (signal SIGKILL)")
    assert set(command.nodes()) == {"listener", "executor", "sim_robot"}
    command.process.send_signal(signal.SIGTERM)
    assert command.end() == 1 and not command.nodes()


@settings(deadline=None)
@given(
    limits=st.builds(
        Limits,
        first_s=st.floats(0.1, 5.0),
        longest_s=st.floats(5.0, 60.0),
        crashes=st.integers(1, 12),
        window_s=st.floats(10.0, 1000.0),
        healthy_s=st.floats(1.0, 100.0),
    ),
    lives=st.lists(st.floats(0.0, 200.0), min_size=1, max_size=40),
)
def test_pauses_between_restarts_grow_to_a_bound_and_too_many_crashes_end_them(limits, lives):
    restarts, now, crashes = Restarts(limits), 0.0, []
    expected = limits.first_s
    for life in lives:
        now += life
        if life > limits.healthy_s:
            crashes, expected = [], limits.first_s
        crashes = [t for t in [*crashes, now] if now - t <= limits.window_s]
        pause = restarts.crash(now, life)
        if len(crashes) >= limits.crashes:
            assert pause is None
            return
        assert pause == expected
        expected = min(2 * expected, limits.longest_s)
        now += pause


def test_a_node_can_bring_itself_up_and_stays_up_if_it_cannot(monkeypatch):
    from lifecycle_msgs.srv import GetState

    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    lines: list[str] = []
    nodes = [
        NodeSpec("sim_robot", {"autostart": True}),
        NodeSpec("listener", {"autostart": True, "site": "moonbase"}),
    ]
    with Graph(separate(nodes), on_line=lambda name, line: lines.append(f"{name}: {line}")) as graph:

        def state(name: str) -> str:
            client = graph.node.create_client(GetState, f"{name}/get_state")
            future = client.call_async(GetState.Request()) if client.service_is_ready() else None
            graph.spin(0.5)
            return future.result().current_state.label if future is not None and future.done() else ""

        until = time.monotonic() + PATIENCE_S
        while not (state("sim_robot") == "active" and any("moonbase" in line for line in lines)):
            assert time.monotonic() < until and not graph.crashed(), lines
        while (label := state("listener")) == "":
            assert time.monotonic() < until, lines
        assert label == "unconfigured"


def test_nodes_do_not_outlive_a_killed_parent(running, model):
    command = up(running, "--model", model, "--no-sim-robot")
    command.wait_for_line("Ctrl-C ends them")
    assert set(command.nodes()) == {"listener", "agent", "executor"}
    command.process.kill()
    assert gone(command)


STUCK = """
import sys, threading
from nano_agent_ros.nodes import lifecycle

class Stuck(lifecycle.ManagedNode):
    def __init__(self):
        super().__init__("stuck", ())
        self.create_timer(0.1, lambda: print("up", flush=True))

    def teardown(self):
        threading.Event().wait()

lifecycle.END_S = 1.0
sys.exit(lifecycle.run(Stuck))
"""


def test_a_node_that_cannot_close_says_where_it_hangs_and_ends():
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 1 and "in teardown" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "/nowhere/at/all"), "/nowhere/at/all"),
        (("--site", "atlantis"), "atlantis"),
        (("--engine", "steam"), "steam"),
    ],
)
def test_what_cannot_come_up_says_why_and_leaves_nothing_behind(running, model, arguments, words):
    command = up(running, *(() if "--model" in arguments else ("--model", model)), *arguments)
    assert "ERROR" in command.wait_for_line(words)
    command.wait_for_line("could not configure")
    assert command.end() == 1 and not command.nodes()


def test_a_parameter_file_that_is_no_yaml_is_named(running, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("agent: [unclosed")
    command = up(running, "--params-file", str(broken))
    command.wait_for_line("broken.yaml")
    command.wait_for_line("has ended (exit code 1)")
    assert command.end() == 1 and not command.nodes()


@pytest.mark.parametrize("name", ["1robot", "a b", "ä", "a//b;c"])
def test_a_namespace_that_ros_refuses_is_refused_first(name):
    with pytest.raises(ConfigError, match="namespace"):
        full_namespace(name)


def test_strings_stay_strings_on_the_way_into_a_node():
    node = NodeSpec("agent", {"model": "1.0", "site": "it's", "x": True, "names": ["unit two", "no"]})
    command = command_of(Unit((node,)), [Path("p.yaml")], "info")
    assert {"model:='1.0'", "site:='it''s'", "x:=true", 'names:=["unit two", "no"]'} <= set(command)


def test_a_process_that_ignores_its_signals_is_killed(monkeypatch):
    monkeypatch.setattr(
        "nano_agent_ros.processes.PATIENCE_S",
        ((signal.SIGINT, 0.2), (signal.SIGTERM, 0.2), (signal.SIGKILL, 20.0)),
    )
    lines: list[str] = []
    deaf = "import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(600)"
    process = Process("deaf", [sys.executable, "-c", deaf], lambda name, line: lines.append(line), os.environ)
    until = time.monotonic() + PATIENCE_S
    while not lines and time.monotonic() < until:
        time.sleep(0.02)
    assert stop_all([process]) == ["deaf"] and process.exit_code() == -signal.SIGKILL


def demo(running: list[Running], *arguments: str) -> Running:
    running.append(Running("demo", *arguments))
    return running[-1]


def output_of(command: Running) -> Sequence[str]:
    code = command.end()
    lines = list(command.lines)
    while True:
        try:
            lines.append(command._queue.get(timeout=0.5))
        except queue.Empty:
            return [f"exit code {code}", *lines]


def test_the_demo_shows_what_was_heard_done_and_when(running, model, tmp_path):
    samples, rate = soundfile.read(find("config/audio/demo.wav"))
    wav = tmp_path / "short.wav"  # the first command and "Stop."
    soundfile.write(wav, [*samples[: 4 * rate], *samples[-3 * rate :]], rate)
    command = demo(running, "--wav", str(wav), "--fast", "--json", "--model", model, "--time-scale", "50")
    code, *lines = output_of(command)
    assert code == "exit code 0", "".join(lines)
    text = "".join(lines)
    assert re.search(r"heard .*dock", text) and re.search(r"action +stop\(\)", text) and "robot" in text
    summary = json.loads(text[text.index("\n{\n") :])
    first, last = summary["utterances"][0], summary["utterances"][-1]
    assert "dock" in first["text"].lower() and first["asr_s"] > 0 and first["kind"]
    assert [(a["skill"], a["state"]) for a in last["actions"]] == [("stop", "FINISHED")]
    assert not command.nodes()


def test_a_demo_that_hears_nothing_fails(running, model, tmp_path):
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, [0.0] * 16_000, 16_000)
    command = demo(running, "--wav", str(silent), "--fast", "--model", model)
    code, *lines = output_of(command)
    assert code == "exit code 1" and "nothing was heard" in "".join(lines)
    assert not command.nodes()


def test_a_demo_of_a_missing_file_names_it(running):
    code, *lines = output_of(demo(running, "--wav", "/nowhere/at/all.wav"))
    assert code == "exit code 2" and "/nowhere/at/all.wav" in "".join(lines)
