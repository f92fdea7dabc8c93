"""All nodes of one robot in one process: less memory and fewer participants where many robots share a machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from nano_agent_ros.nodes.lifecycle import ManagedNode, run

NODES = {
    "listener": "ListenerNode",
    "agent": "AgentNode",
    "executor": "ExecutorNode",
    "sim_robot": "SimRobotNode",
    "inspector": "InspectorNode",
    "recorder": "RecorderNode",
    "speaker": "SpeakerNode",
}
"""Each node that this process can hold, a module beside this one, with its class."""

USUAL = ("listener", "agent", "executor", "sim_robot")


def classes(names: Sequence[str]) -> list[Callable[[], ManagedNode]]:
    """The classes of nodes by name; raises SystemExit for a name that there is not."""
    if wrong := [name for name in names if name not in NODES]:
        raise SystemExit(f"robot: '{wrong[0]}' is none of the nodes {', '.join(NODES)}")
    return [getattr(import_module(f"nano_agent_ros.nodes.{name}"), NODES[name]) for name in names]


def main() -> int:
    """Run the nodes that the command line names before `--ros-args`, or the usual four."""
    words = sys.argv[1:]
    names = words[: words.index("--ros-args")] if "--ros-args" in words else words
    return run(*classes(names or USUAL))


if __name__ == "__main__":
    sys.exit(main())
