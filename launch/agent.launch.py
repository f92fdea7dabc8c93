"""Start listener, agent, executor and (unless a real robot is there) the simulated robot.

    ros2 launch nano_agent_ros agent.launch.py audio_source:=wav wav:=/path/to/command.wav

`nano-agent up` does the same without launch. All topic names are relative: `namespace:=robot1` moves them together. The
nodes bring themselves up, unless `autostart:=false`, and are started again when they end, at most
`respawn_max_retries` times, unless `use_respawn:=false`.
"""

import inspect
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteLocal, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

RESPAWN_DELAY_S = 2.0
PARAMS_FILE = str(Path(get_package_share_directory("nano_agent_ros")) / "config" / "agent.yaml")

ARGUMENTS = {
    "model": ("", "Model folder; empty: what the parameter file says, which is the model that ships"),
    "engine": ("", "What runs the model, such as native"),
    "skills": ("", "Skills file: what the robot can do"),
    "site": ("", "Site file, or the name of one that ships, such as warehouse"),
    "audio_source": ("", "Where speech comes from: mic, wav, topic or none"),
    "wav": ("", "Sound file for audio_source:=wav"),
    "device": ("", "Microphone: index or part of its name"),
    "whisper_model": ("", "faster-whisper model name, CTranslate2 folder, or tiny-bundled"),
    "address_mode": ("", "Which speech is for the robot: open (all), push_to_talk or wake_word"),
    "robot_names": ("", "What people call the robot, with commas: unit two, loader"),
    "other_robots": ("", "What people call the other robots, with commas"),
    "namespace": ("", "Namespace of all nodes, such as robot1"),
    "safety": ("", "Safety policy: what the robot may do; empty: what the parameter file says"),
    "use_sim_robot": ("true", "Start the simulated robot; false if the executor has a real one"),
    "use_inspector": ("false", "Start the inspector too: camera pictures to defect reports (docs/inspection.md)"),
    "use_recorder": ("false", "Start the recorder too: logs for Foxglove and replay (docs/recording.md)"),
    "use_speaker": ("false", "Start the speaker too: replies are said aloud (docs/audio.md)"),
    "voice": ("", "What speaks: auto, piper, espeak or command; empty: what the parameter file says, which is auto"),
    "autostart": ("true", "The nodes configure and activate themselves; false if something else manages them"),
    "use_respawn": ("true", "Start a node again whose process ended"),
    "respawn_max_retries": ("10", "So often at most; -1: always. Needs Jazzy or newer"),
    "log_level": ("info", "Least severity that is logged: debug, info, warn or error"),
    "params_file": (PARAMS_FILE, "Parameters of all nodes; the arguments above win over it if not empty"),
}

CHOICES = {
    "audio_source": ["", "mic", "wav", "topic", "none"],
    "address_mode": ["", "open", "push_to_talk", "wake_word"],
    "use_sim_robot": ["true", "false"],
    "use_inspector": ["true", "false"],
    "use_recorder": ["true", "false"],
    "use_speaker": ["true", "false"],
    "voice": ["", "auto", "piper", "espeak", "command"],
    "autostart": ["true", "false"],
    "use_respawn": ["true", "false"],
    "log_level": ["debug", "info", "warn", "error", "fatal"],
}

PARAMETERS = {
    "listener": {
        "audio.source": "audio_source",
        "audio.wav": "wav",
        "audio.device": "device",
        "whisper.model": "whisper_model",
        "site": "site",
        "address.mode": "address_mode",
        "robot_names": "robot_names",
        "other_robots": "other_robots",
    },
    "agent": {
        "model": "model",
        "engine": "engine",
        "skills": "skills",
        "site": "site",
        "robot_names": "robot_names",
        "other_robots": "other_robots",
    },
    "executor": {"site": "site", "safety": "safety"},
    "sim_robot": {"site": "site"},
    "inspector": {"model": "model", "skills": "skills", "site": "site"},
    "recorder": {"skills": "skills", "site": "site"},
    "speaker": {"engine": "voice"},
}
LISTS = ("robot_names", "other_robots")
OPTIONAL = {
    "sim_robot": "use_sim_robot",
    "inspector": "use_inspector",
    "recorder": "use_recorder",
    "speaker": "use_speaker",
}


def start_nodes(context: LaunchContext) -> list[Node]:
    """The nodes with the parameters that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if not Path(given["params_file"]).is_file():
        raise FileNotFoundError(f"params_file: there is no file {given['params_file']}")
    respawn = {"respawn": given["use_respawn"] == "true", "respawn_delay": RESPAWN_DELAY_S}
    if "respawn_max_retries" in inspect.signature(ExecuteLocal.__init__).parameters:  # not in Humble
        respawn["respawn_max_retries"] = _number("respawn_max_retries", given["respawn_max_retries"])
    prefix = "".join(f"{part}." for part in given["namespace"].split("/") if part)  # of the loggers
    return [
        Node(
            package="nano_agent_ros",
            executable=name,
            name=name,
            namespace=given["namespace"],
            parameters=[
                given["params_file"],
                {"autostart": given["autostart"] == "true"},
                *({key: _value(argument, given)} for key, argument in parameters.items() if given[argument]),
            ],
            arguments=["--ros-args", "--log-level", f"{prefix}{name}:={given['log_level']}"],
            output="screen",
            **respawn,
        )
        for name, parameters in PARAMETERS.items()
        if name not in OPTIONAL or given[OPTIONAL[name]] == "true"
    ]


def _value(argument: str, given: dict[str, str]) -> str | list[str]:
    return [part.strip() for part in given[argument].split(",")] if argument in LISTS else given[argument]


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}: '{text}' is no whole number, such as {ARGUMENTS[name][0]}") from None


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default and description, then the nodes."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=CHOICES.get(name))
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_nodes)])
