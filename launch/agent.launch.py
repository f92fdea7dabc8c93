"""Start listener, agent, executor and (unless a real robot is there) the simulated robot, and bring them up.

    ros2 launch nano_agent_ros agent.launch.py audio_source:=wav wav:=/path/to/command.wav

`nano-agent up` does the same without launch. All topic names are relative: `namespace:=robot1` moves them together.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

PARAMS_FILE = str(Path(get_package_share_directory("nano_agent_ros")) / "config" / "agent.yaml")

ARGUMENTS = {
    "model": ("", "Model folder; empty: what the parameter file says, which is the model that ships"),
    "engine": ("", "What runs the model, such as native"),
    "skills": ("", "Skills file: what the robot can do"),
    "site": ("", "Site file, or the name of one that ships, such as warehouse"),
    "audio_source": ("", "Where speech comes from: mic, wav or none"),
    "wav": ("", "Sound file for audio_source:=wav"),
    "device": ("", "Microphone: index or part of its name"),
    "whisper_model": ("", "faster-whisper model name, CTranslate2 folder, or tiny-bundled"),
    "namespace": ("", "Namespace of all nodes, such as robot1"),
    "safety": ("", "Safety policy: what the robot may do; empty: what the parameter file says"),
    "use_sim_robot": ("true", "Start the simulated robot; false if the executor has a real one"),
    "log_level": ("info", "Least severity that is logged: debug, info, warn or error"),
    "params_file": (PARAMS_FILE, "Parameters of all nodes; the arguments above win over it if not empty"),
}

PARAMETERS = {
    "listener": {
        "audio.source": "audio_source",
        "audio.wav": "wav",
        "audio.device": "device",
        "whisper.model": "whisper_model",
        "site": "site",
    },
    "agent": {"model": "model", "engine": "engine", "skills": "skills", "site": "site"},
    "executor": {"site": "site", "safety": "safety"},
    "sim_robot": {"site": "site"},
}


def start_nodes(context: LaunchContext) -> list:
    """The nodes with the parameters that were given, each with the handlers that bring it up."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    entities: list = []
    for name, parameters in PARAMETERS.items():
        if name == "sim_robot" and given["use_sim_robot"].lower() not in ("true", "1", "yes", "on"):
            continue
        overrides = {parameter: given[argument] for parameter, argument in parameters.items() if given[argument]}
        node = LifecycleNode(
            package="nano_agent_ros",
            executable=name,
            name=name,
            namespace=given["namespace"],
            parameters=[given["params_file"], *([overrides] if overrides else [])],
            arguments=["--ros-args", "--log-level", f"{name}:={given['log_level']}"],
            output="screen",
        )
        # The handlers come first: an event that nobody waits for yet is lost.
        entities += [*bring_up(node), node]
    return entities


def bring_up(node: LifecycleNode) -> list:
    """Handlers that configure a node once its process runs, and activate it once it is configured."""

    def change(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    started = OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])
    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
    )
    return [RegisterEventHandler(started), RegisterEventHandler(configured)]


def generate_launch_description() -> LaunchDescription:
    """Every argument with its default and description, then the nodes."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_nodes)])
