"""Claims about the package itself: interfaces that cross processes, and one source tree that colcon and pip build."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rclpy
from geometry_msgs.msg import Point
from packaging.requirements import Requirement
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, RegionOfInterest

import nano_agent_ros
from nano_agent_ros.action import ExecuteAction
from nano_agent_ros.msg import ActionStatus, AgentState, DefectReport, Reply, RobotAction, Transcript
from nano_agent_ros.srv import Ask

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
ECHO_NODE = Path(__file__).with_name("echo_node.py")
DISCOVERY_S = 60.0  # a limit, not a wait: discovery takes 0.25 to 3 s on a quiet machine

FIELDS = {
    Transcript: "header utterance_id text is_final language confidence no_speech_prob source gate",
    RobotAction: "header action_id utterance_id plan_id step step_count skill arguments target_id pose has_pose"
    " priority risk requires_confirmation confidence",
    ActionStatus: "header action_id skill state progress error_code error_msg",
    DefectReport: "header report_id source status location_id object_class object_id defect_type severity description"
    " recommended_action confidence pose regions evidence evidence_uris",
    Reply: "header utterance_id kind text",
    AgentState: "header state session_id turn context_tokens state_bytes state_digest restored last_error",
}
ENUMS = [
    (ActionStatus, "WAITING AWAITING_CONFIRMATION RUNNING PAUSED FINISHED FAILED CANCELED REJECTED"),
    (Reply, "ANSWER CLARIFY CONFIRM REFUSE ACKNOWLEDGE"),
    (AgentState, "IDLE LISTENING TRANSCRIBING THINKING CONFIRMING ACTING PAUSED STOPPED ERROR"),
    (Transcript, "SOURCE_MIC SOURCE_FILE SOURCE_TEXT"),
    (Transcript, "GATE_ACCEPTED GATE_LOW_CONFIDENCE GATE_MUTED"),
    (DefectReport, "SOURCE_SPOKEN SOURCE_VISION SOURCE_BOTH"),
]


@pytest.mark.parametrize("message", FIELDS, ids=lambda m: m.__name__)
def test_a_message_has_the_fields_of_the_design(message: type) -> None:
    assert set(FIELDS[message].split()) <= set(message.get_fields_and_field_types())


@pytest.mark.parametrize(("message", "names"), ENUMS)
def test_states_are_distinct_constants(message: type, names: str) -> None:
    assert len({getattr(message, name) for name in names.split()}) == len(names.split())


def sample_action() -> RobotAction:
    """An action with every field set to something that is not its default."""
    action = RobotAction(skill="pick", target_id="bolt_box", step=1, step_count=3, confidence=0.75, has_pose=True)
    action.action_id.uuid[:] = range(16)
    action.plan_id.uuid[:] = range(16, 32)
    action.priority, action.risk = RobotAction.PRIORITY_HIGH, RobotAction.RISK_MEDIUM
    action.requires_confirmation = True
    action.pose.header.frame_id = "map"
    action.pose.pose.position = Point(x=1.5, y=-2.25, z=0.0)
    action.arguments = [
        Parameter(name="object", value=ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="bolt_box")),
        Parameter(name="quantity", value=ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=3)),
    ]
    return action


class Peer:
    """A node of this process and, in another process, echo_node.py."""

    def __init__(self, log: Path) -> None:
        self.context = rclpy.Context()
        domain = random.SystemRandom().randrange(1, 100)
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("package_test", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen([sys.executable, str(ECHO_NODE)], env=environment, stdout=out, stderr=out)

    def until(self, met: Callable[[], object], what: str) -> None:
        """Spin until `met()`; fails with the other process's output."""
        end = time.monotonic() + DISCOVERY_S
        while not met():
            assert self.process.poll() is None, f"echo_node.py died:\n{self.log.read_text()}"
            assert time.monotonic() < end, f"no {what} in {DISCOVERY_S} s; echo_node.py says:\n{self.log.read_text()}"
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.process.kill()  # nothing is asked of how it ends
        self.process.wait(30)
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        peer = Peer(tmp_path_factory.mktemp("peer") / "echo.log")
        yield peer
        peer.close()


def test_a_defect_report_with_pictures_comes_back_over_dds_as_it_was_sent(peer: Peer) -> None:
    report = DefectReport(
        source=DefectReport.SOURCE_BOTH,
        severity=DefectReport.SEVERITY_MAJOR,
        location_id="rack_7",
        defect_type="crack",
        description="bottom shelf, Riß",
        confidence=0.5,
        regions=[RegionOfInterest(x_offset=3, y_offset=4, width=50, height=60)],
        evidence=[CompressedImage(format="jpeg", data=os.urandom(100_000))],
        evidence_uris=["file:///tmp/a.jpg", "file:///tmp/b.jpg"],
    )
    received: list[DefectReport] = []
    peer.node.create_subscription(DefectReport, "echoed", received.append, 10)
    publisher = peer.node.create_publisher(DefectReport, "echo", 10)
    peer.until(lambda: publisher.get_subscription_count() and peer.node.count_publishers("echoed"), "echo topic")

    def sent_and_received() -> bool:
        publisher.publish(report)
        return bool(received)

    peer.until(sent_and_received, "echoed report")
    assert received[0] == report


def test_ask_carries_typed_facts_there_and_actions_back(peer: Peer) -> None:
    client = peer.node.create_client(Ask, "ask")
    peer.until(client.service_is_ready, "service")
    answer = client.call_async(Ask.Request(text="pick three bolt boxes", facts=sample_action().arguments))
    peer.until(answer.done, "answer")
    response = answer.result()
    assert response.success and response.reply.kind == Reply.ACKNOWLEDGE
    assert response.reply.text == "pick three bolt boxes"
    assert response.actions[0].arguments == sample_action().arguments


def test_execute_action_reports_progress_and_a_final_state(peer: Peer) -> None:
    client = ActionClient(peer.node, ExecuteAction, "execute")
    peer.until(client.server_is_ready, "action server")
    feedback: list[float] = []
    goal = ExecuteAction.Goal(action=sample_action())
    sent = client.send_goal_async(goal, feedback_callback=lambda m: feedback.append(m.feedback.status.progress))
    peer.until(sent.done, "goal response")
    assert sent.result().accepted
    result = sent.result().get_result_async()
    peer.until(lambda: result.done() and feedback, "result and feedback")
    status = result.result().result.status
    assert status.state == ActionStatus.FINISHED
    assert status.action_id == sample_action().action_id
    assert feedback == [0.5]


def copy_of_the_project(folder: Path) -> Path:
    """The files of this checkout without what was built or installed in it."""
    built = (".git", ".venv", "build", "install", "log", "out", "runs", "*.so", "__pycache__", ".*_cache", "*.egg-info")
    return Path(shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*built)))


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command with the programs of this environment first on PATH; fails with its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command[0]} failed ({done.returncode}):\n{done.stdout[-6000:]}"
    return done.stdout


USE = """
import ctypes, pathlib, sys
import nano_agent_ros, nano_agent_ros.engine
from nano_agent_ros.msg import RobotAction
RobotAction.__class__.__import_type_support__()
assert RobotAction.__class__._TYPE_SUPPORT is not None
engine = pathlib.Path(nano_agent_ros.engine.__file__).parent / "libnano_engine.so"
ctypes.CDLL(str(engine))
print(nano_agent_ros.__file__)
"""


@pytest.mark.slow
def test_the_wheel_holds_everything_and_works_away_from_the_checkout(tmp_path: Path) -> None:
    source = copy_of_the_project(tmp_path / "source")
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run(*pip, "-w", wheels, source, cwd=tmp_path)
    (wheel,) = wheels.glob("*.whl")
    assert "linux_" in wheel.name and "none-any" not in wheel.name

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    data = tmp_path / "unpacked" / f"nano_agent_ros-{nano_agent_ros.__version__}.data" / "data"
    share = data / "share" / "nano_agent_ros"
    for folder in ("launch", "config", "models"):
        files = [p for p in (source / folder).rglob("*") if p.is_file() and not p.parent.name.endswith("-float")]
        assert files, f"the project has no {folder}/"
        for file in files:
            assert (share / folder / file.relative_to(source / folder)).read_bytes() == file.read_bytes()
    for program in ("listener", "agent", "executor", "sim_robot", "robot", "nano-agent"):
        assert (data / "lib" / "nano_agent_ros" / program).is_file()
    package = tmp_path / "unpacked" / "nano_agent_ros"
    assert (package / "__init__.py").read_bytes() == (ROOT / "nano_agent_ros" / "__init__.py").read_bytes()
    assert not list(package.rglob("*.cpp"))

    libraries = f"{data / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    used = run(sys.executable, "-c", USE, cwd=tmp_path, PYTHONPATH=str(package.parent), LD_LIBRARY_PATH=libraries)
    assert Path(used.strip()).parent == package


@pytest.mark.slow
def test_colcon_builds_a_workspace_that_can_be_sourced_and_run(tmp_path: Path) -> None:
    copy_of_the_project(tmp_path / "workspace" / "src" / "nano_agent_ros")
    workspace = tmp_path / "workspace"
    run(sys.executable, "-m", "venv", tmp_path / "colcon", cwd=tmp_path)
    tools = tmp_path / "colcon" / "bin"
    clean = {"LD_LIBRARY_PATH": "", "_ROS_WHEELS_BOOTSTRAP_COMPLETE": ""}
    extensions = ["colcon-core", "colcon-bash", "colcon-cmake", "colcon-ros"]
    run(tools / "pip", "install", "-q", *extensions, cwd=tmp_path, **clean)

    over_wheels = [
        f"-DCMAKE_PROJECT_INCLUDE={workspace}/src/nano_agent_ros/cmake/ros_wheels.cmake",
        f"-DROS_WHEELS_PREFIX={sys.prefix}",
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DBUILD_TESTING=OFF",
    ]
    prefixes = {"AMENT_PREFIX_PATH": sys.prefix, "CMAKE_PREFIX_PATH": sys.prefix}
    run(tools / "colcon", "build", "--cmake-args", *over_wheels, cwd=workspace, **prefixes)

    installed = workspace / "install" / "nano_agent_ros"
    for folder in ("launch", "config", "models"):
        assert any((installed / "share" / "nano_agent_ros" / folder).rglob("*")), f"{folder}/ is not installed"
    for program in ("listener", "agent", "executor", "sim_robot", "robot", "nano-agent"):
        assert os.access(installed / "lib" / "nano_agent_ros" / program, os.X_OK)
    sourced = f". install/setup.bash && cd / && {sys.executable} -c '{USE}'"
    used = run("bash", "-c", sourced, cwd=workspace, **prefixes)
    assert used.startswith(str(installed))
    version = f". install/setup.bash && {sys.executable} {installed}/lib/nano_agent_ros/nano-agent --version"
    assert run("bash", "-c", version, cwd=workspace, **prefixes).strip() == nano_agent_ros.__version__


def requirements(path: str) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / path).read_text().splitlines())
    parsed = [Requirement(line) for line in lines if line]
    return {r.name: r for r in parsed}


def test_pip_and_make_hold_ros_to_the_same_distribution() -> None:
    whole = requirements("requirements/ros-kilted.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    told = [Requirement(line) for line in project["build-system"]["requires"]]
    for requirement in [*told, *requirements("requirements/ros-run.txt").values()]:
        if requirement.name.startswith("ros-"):
            assert requirement.specifier == whole[requirement.name].specifier, requirement.name
    others = {r.name: r.specifier for r in told if not r.name.startswith("ros-")}
    assert others == {r.name: r.specifier for r in requirements("requirements/build.txt").values()}


def test_the_version_is_said_alike_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert project == nano_agent_ros.__version__ == ElementTree.parse(ROOT / "package.xml").findtext("version")


def test_make_demo_plans_no_pytorch_and_make_test_plans_one(tmp_path: Path) -> None:
    plan = run("make", "-n", "demo", f"VENV={tmp_path}/none", cwd=ROOT)
    used = [requirements(name) for name in re.findall(r"-r (\S+)", plan)]
    assert used and "nano-agent demo" in plan
    assert not any("torch" in names for names in used)
    plan = run("make", "-n", "test", f"VENV={tmp_path}/none", cwd=ROOT)
    pins = [requirements(name)["torch"] for name in re.findall(r"-r (\S+)", plan) if "torch" in requirements(name)]
    assert {str(pin) for pin in pins} == {"torch==2.13.0"}
