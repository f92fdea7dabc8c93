"""Start several robots on one machine, each a namespace of its own and one process that holds its nodes.

    ros2 launch nano_agent_ros multi_robot.launch.py robots:=4
    ros2 launch nano_agent_ros multi_robot.launch.py names:="alpha, fork lift 2"

They are called unit_1 to unit_4 ("unit two, go to dock 3"), or by the names that are given. `nano-agent up --robots 4`
does the same without launch. A robot on a computer of its own runs agent.launch.py there (docs/fleet.md).
"""

import atexit
import inspect
import shutil
import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteLocal, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from nano_agent_ros import fleet
from nano_agent_ros.skills import Site
from nano_agent_ros.units import NodeSpec, write_parameters

RESPAWN_DELAY_S = 2.0
CONFIG = Path(get_package_share_directory("nano_agent_ros")) / "config"

ARGUMENTS = {
    "robots": ("2", "How many robots there are, called unit_1, unit_2, …"),
    "names": ("", "What the robots are called instead, with commas between, such as 'alpha, fork lift 2'"),
    "namespace": ("", "Namespace above those of the robots"),
    "model": ("", "Model folder; empty: what the parameter file says, which is the model that ships"),
    "engine": ("", "What runs the model, such as native"),
    "skills": ("", "Skills file: what the robots can do"),
    "site": ("", "Site file, or the name of one that ships, such as warehouse"),
    "safety": ("", "Safety policy: what the robots may do; empty: what the parameter file says"),
    "time_scale": ("", "Seconds of simulated time per second, such as 4.0"),
    "use_sim_robot": ("true", "Start a simulated robot each; false if the executors have real ones"),
    "use_inspector": ("false", "Start an inspector each: camera pictures to defect reports (docs/inspection.md)"),
    "use_recorder": ("false", "Start a recorder each: logs for Foxglove and replay (docs/recording.md)"),
    "autostart": ("true", "The nodes configure and activate themselves; false if something else manages them"),
    "use_respawn": ("true", "Start the process of a robot again that ended"),
    "respawn_max_retries": ("10", "So often at most; -1: always. Needs Jazzy or newer"),
    "log_level": ("info", "Least severity that is logged: debug, info, warn or error"),
    "params_file": ("", "Parameters that win over config/agent.yaml and config/fleet.yaml"),
}

CHOICES = {
    "use_sim_robot": ["true", "false"],
    "use_inspector": ["true", "false"],
    "use_recorder": ["true", "false"],
    "autostart": ["true", "false"],
    "use_respawn": ["true", "false"],
    "log_level": ["debug", "info", "warn", "error", "fatal"],
}

PARAMETERS = {
    "listener": ("site",),
    "agent": ("model", "engine", "skills", "site"),
    "executor": ("site", "safety"),
    "sim_robot": ("site", "time_scale"),
    "inspector": ("model", "skills", "site"),
    "recorder": ("skills", "site"),
}
OPTIONAL = {"sim_robot": "use_sim_robot", "inspector": "use_inspector", "recorder": "use_recorder"}


def start_robots(context: LaunchContext) -> list[Node]:
    """A process for each robot, with parameter files of which a later one wins."""
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in ARGUMENTS}
    files = [CONFIG / "agent.yaml", CONFIG / "fleet.yaml"]
    if given["params_file"]:
        files.append(Path(given["params_file"]).resolve())
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"params_file: there is no file {missing[0]}")
    names = fleet.names_of(None if given["names"] else _number("robots", given["robots"]), given["names"] or None)
    names = names or ["unit_1"]
    site = Site.load(given["site"] or fleet.setting(files, "sim_robot", "site", "warehouse"))
    folder = Path(tempfile.mkdtemp(prefix="nano_agent_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files.insert(2, write_parameters(folder / "share.yaml", "/**", fleet.share(len(names))))

    chosen = [name for name in PARAMETERS if name not in OPTIONAL or given[OPTIONAL[name]] == "true"]
    respawn = {"respawn": given["use_respawn"] == "true", "respawn_delay": RESPAWN_DELAY_S}
    if "respawn_max_retries" in inspect.signature(ExecuteLocal.__init__).parameters:  # not in Humble
        respawn["respawn_max_retries"] = _number("respawn_max_retries", given["respawn_max_retries"])
    processes = []
    for robot in fleet.fleet(names, site, given["namespace"]):
        nodes = []
        for name in chosen:
            told = {key: given[key] for key in PARAMETERS[name] if given[key]}
            if "time_scale" in told:
                told["time_scale"] = _factor(told["time_scale"])
            own = robot.parameters().get(name, {})
            nodes.append(NodeSpec(name, {**told, **own, "autostart": given["autostart"] == "true"}))
        file = write_parameters(folder / f"{robot.namespace.strip('/').replace('/', '.')}.yaml", robot.namespace, nodes)
        loggers = [f"{robot.namespace.strip('/').replace('/', '.')}.{name}" for name in chosen]
        levels = [word for logger in loggers for word in ("--log-level", f"{logger}:={given['log_level']}")]
        processes.append(
            Node(
                package="nano_agent_ros",
                executable="robot",
                namespace=robot.namespace,
                parameters=[*map(str, files), str(file)],
                arguments=[*chosen, "--ros-args", *levels],
                output="screen",
                **respawn,
            )
        )
    return processes


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}: '{text}' is no whole number, such as {ARGUMENTS[name][0]}") from None


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"time_scale: '{text}' is no number, such as 4.0") from None


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default and description, then the robots."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=CHOICES.get(name))
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_robots)])
