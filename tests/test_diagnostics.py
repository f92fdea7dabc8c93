"""Claims about /diagnostics: levels and words as diagnostic_updater has them, and a computer that is always read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_bench import wait_for

from nano_agent_ros.machine import Linux, Reading, open_machine
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.agent import AgentNode
from nano_agent_ros.nodes.conversions import pose_message
from nano_agent_ros.nodes.diagnostics import (
    ERROR,
    OK,
    STALE,
    WARN,
    EngineFigures,
    Frequency,
    TimeStamps,
    machine,
    queue,
    status_of,
)
from nano_agent_ros.nodes.executor import ExecutorNode
from nano_agent_ros.nodes.sim_robot import SimRobotNode
from nano_agent_ros.srv import Ask
from nano_agent_ros.turn import Turn


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_frequency_is_judged_over_the_last_updates():
    clock = Clock()
    poses = Frequency(clock, 1.0, 2.0)
    assert poses().level == STALE
    levels = []
    for events in (2, 2, 2, 2, 2, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 1):
        clock.now += 1.0
        for _ in range(events):
            poses.tick()
        levels.append(poses())
    assert [f.level for f in levels[:5]] == [OK] * 5
    assert (levels[10].level, levels[10].message) == (WARN, "Frequency too high.")
    assert (levels[16].level, levels[16].message) == (ERROR, "No events recorded.")
    assert (levels[17].level, levels[17].message) == (WARN, "Frequency too low.")
    assert levels[10].values["Actual frequency (Hz)"] == 9.0 and levels[17].values["Events since startup"] == 65


def test_stamps_of_the_past_the_future_and_none_are_told_apart():
    clock = Clock()
    stamps = TimeStamps(clock, oldest_s=2.0)
    said = []
    for age in (None, 0.5, 3.0, -1.5, 0.0, None, None, None):
        clock.now += 1.0
        if age is not None:
            stamps.tick(clock.now - age)
        said.append(stamps())
    assert [f.level for f in said] == [STALE, OK, ERROR, ERROR, OK, OK, OK, WARN]
    assert "past" in said[2].message and "future" in said[3].message and "No data for 3 s" in said[7].message
    assert said[7].values["Late diagnostic update count"] == said[7].values["Early diagnostic update count"] == 1
    stamps.tick(0.0)
    assert stamps().message == "Zero timestamp seen."


def test_a_full_queue_and_a_hot_or_full_computer_are_warned_of():
    assert (queue(1, 4, "utterances").level, queue(4, 4, "utterances").level) == (OK, WARN)
    warm = Reading("linux", {"cpu": 60.0, "gpu": 86.0}, 8_000_000_000, 4_000_000_000)
    assert machine(warm, 90.0, 90.0).level == OK and machine(warm, 85.0, 90.0).message == "gpu at 86 °C"
    assert machine(warm, 76.0, 90.0).level == ERROR
    full = Reading("linux", {}, 100, 99)
    assert (machine(full, 85.0, 90.0).level, machine(full, 85.0, 90.0).message) == (ERROR, "99 % of the memory in use")
    assert machine(Reading("linux"), 85.0, 90.0).level == STALE


def test_a_task_that_fails_is_an_error_and_not_the_end():
    told = status_of("agent: engine", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert (told.level, told.name) == (ERROR, "agent: engine") and "ZeroDivisionError" in told.message


def test_the_kernel_tells_temperatures_and_memory_and_what_is_off_is_left_out(tmp_path: Path):
    for number, (kind, value) in enumerate((("cpu", "51500"), ("gpu", None), ("cpu", "47000"), ("soc", "junk"))):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        if value is not None:
            (zone / "temp").write_text(value)
    assert Linux(tmp_path).read() == Reading("linux", {"cpu": 51.5, "cpu 2": 47.0})
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  1000 kB\nMemAvailable:  250 kB\nHugePages_Total: 0\nnonsense\n")
    reading = Linux(tmp_path).read()
    assert (reading.memory_total, reading.memory_used, reading.memory_percent) == (1_024_000, 768_000, 75.0)
    assert reading.hottest == ("cpu", 51.5)
    assert Linux().read().memory_total, "this computer's own memory"


class Jtop:
    """The properties of jtop as jetson-stats documents them; there is no Jetson in a test."""

    temperature = {"cpu": {"temp": 48.2, "online": True}, "cv0": {"temp": -256, "online": False}}
    memory = {"RAM": {"tot": 7_600_000, "used": 3_800_000, "free": 3_800_000}, "SWAP": {"tot": 0, "used": 0}}
    nvpmodel = SimpleNamespace(name="15W", id=0)
    power = {"rail": {}, "tot": {"power": 5300}}
    gpu = {"gpu": {"status": {"load": 37.5}}}
    service = True

    def __init__(self, interval: float) -> None:
        self.closed = False

    def start(self) -> None:
        if not self.service:
            raise RuntimeError("The jtop.service is not active. Please run:\nsudo jtop --install-service")

    def close(self) -> None:
        self.closed = True


def test_a_jetson_is_read_by_jtop_and_without_its_service_like_any_other(monkeypatch):
    module: Any = ModuleType("jtop")
    module.jtop = Jtop
    monkeypatch.setitem(sys.modules, "jtop", module)
    jetson, note = open_machine()
    reading = jetson.read()
    assert (reading.source, note) == ("jtop", "") and reading.temperatures_c == {"cpu": 48.2}
    assert (reading.memory_percent, reading.power_mode, reading.power_w, reading.gpu_load_percent) == (
        50.0, "15W", 5.3, 37.5,
    )  # fmt: skip
    assert machine(reading, 85.0, 90.0).values["Power mode"] == "15W"
    jetson.close()
    monkeypatch.setattr(Jtop, "service", False)
    other, note = open_machine()
    assert isinstance(other, Linux) and note.startswith("The jtop.service is not active. Please run: sudo")
    monkeypatch.setitem(sys.modules, "jtop", None)
    assert open_machine()[1] == ""


def test_the_speed_of_the_engine_is_of_the_tokens_that_it_read_and_wrote():
    figures = EngineFigures()
    assert figures.values() == {}
    for n in range(30):
        timings = {"prefill": 0.1, "decode": 0.2, "total": 0.3 + 0.01 * n}
        figures.take(Turn(n, "x", "act", (), "", timings, {"prompt": 30, "anticipated": 10, "reply": 40}))
    values = figures.values()
    assert values["Prefill (tokens/s)"] == pytest.approx(200.0) and values["Decode (tokens/s)"] == pytest.approx(200.0)
    assert values["Last turn (ms)"] == pytest.approx(590.0) and values["Turns in window"] == 20


def test_active_nodes_tell_of_their_tasks(bench, tmp_path):
    arrays = bench.watch(DiagnosticArray, "/diagnostics", 10)

    def newest(name: str) -> DiagnosticStatus | None:
        return next((s for a in reversed(arrays) for s in a.status if s.name == name), None)

    bench.add(AgentNode, state_dir=str(tmp_path / "a"))
    bench.add(ExecutorNode, state_dir=str(tmp_path / "e"))
    robot = bench.add(SimRobotNode, status_rate_hz=10.0)
    for name in ("agent: engine", "agent: queue", "agent: machine", "executor: plans", "executor: pose"):
        wait_for(lambda name=name: newest(name), name)
    assert newest("agent").message == "active" and newest("agent").hardware_id == "nano_agent_ros"
    bench.call(Ask, "ask", Ask.Request(text="how's your battery"))

    def figures() -> dict[str, str]:
        values = {v.key: v.value for v in newest("agent: engine").values}
        return values if "Decode (tokens/s)" in values else {}

    values = wait_for(figures, "the engine's speed")
    assert float(values["Decode (tokens/s)"]) > 0 and int(values["Turns"]) == 1
    wait_for(lambda: newest("executor: pose").level == OK and newest("sim_robot: pose"), "poses")
    robot.trigger_deactivate()
    old = pose_message((1.0, 1.0, 0.0), "map", bench.probe.get_clock().now().to_msg())
    old.header.stamp.sec -= 100
    bench.publish("pose", old, qos.LATEST)

    def of(name: str, since: int = 0) -> list[DiagnosticStatus]:
        return [s for a in arrays[since:] for s in a.status if s.name == name]

    wait_for(lambda: any(s.level == ERROR for s in of("executor: pose")), "old poses")
    seen = len(arrays)
    wait_for(lambda: of("sim_robot", seen), "the robot that rests")
    assert not of("sim_robot: pose", seen + 1)
