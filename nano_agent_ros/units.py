"""What `nano-agent up` runs: nodes with their parameters, and the processes that hold them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import ConfigError

ORDER = ("recorder", "inspector", "speaker", "sim_robot", "executor", "agent", "listener")
"""The order in which nodes are activated: who is spoken to before who speaks."""


@dataclass(frozen=True)
class NodeSpec:
    """A node to run: its name, which is its module below nano_agent_ros.nodes as well, and parameters to override."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """One process: one node of a namespace, or several."""

    nodes: tuple[NodeSpec, ...]
    namespace: str = "/"

    @property
    def name(self) -> str:
        """What its log lines are marked with: `agent`, `unit_1/agent`, or `unit_1` for several nodes."""
        if len(self.nodes) == 1:
            return f"{self.namespace}/{self.nodes[0].name}".strip("/")
        return self.namespace.strip("/") or "robot"

    @property
    def node_names(self) -> tuple[str, ...]:
        """Fully qualified names of its nodes, in the order in which they are activated."""
        names = sorted((node.name for node in self.nodes), key=ORDER.index)
        return tuple(f"{self.namespace.rstrip('/')}/{name}" for name in names)


def separate(nodes: Sequence[NodeSpec], namespace: str = "/") -> tuple[Unit, ...]:
    """Each node in a process of its own."""
    return tuple(Unit((node,), namespace) for node in nodes)


def command_of(unit: Unit, params_files: Sequence[Path], log_level: str) -> list[str]:
    """The command line of a process, with the environment's own Python; a later parameter file wins.

    The parameters of several nodes do not go on a command line, which cannot tell one node from another: write them
    with `write_parameters` and pass that file.
    """
    together = len(unit.nodes) > 1
    names = [node.name for node in unit.nodes]
    command = [sys.executable, "-m", f"nano_agent_ros.nodes.{'robot' if together else names[0]}"]
    command += [*(names if together else ()), "--ros-args", "-r", f"__ns:={unit.namespace}"]
    for file in params_files:
        command += ["--params-file", str(file)]
    if not together:
        for name, value in unit.nodes[0].parameters.items():
            command += ["-p", f"{name}:={_yaml(value)}"]
    for name in unit.node_names:
        command += ["--log-level", f"{name.strip('/').replace('/', '.')}:={log_level}"]
    return command


def write_parameters(file: Path, namespace: str, nodes: Sequence[NodeSpec]) -> Path:
    """Write a ROS parameter file for the nodes of a namespace; returns its path."""
    # In the form of JSON: ROS reads no YAML that has aliases.
    prefix = namespace.rstrip("/")
    content = {f"{prefix}/{node.name}": {"ros__parameters": dict(node.parameters)} for node in nodes if node.parameters}
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return file


def _yaml(value: Any) -> str:
    # ROS parses the value as YAML: a bare 1.0 or yes would not stay a string.
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value)


def full_namespace(namespace: str) -> str:
    """The namespace as ROS wants it, with a leading slash; raises ConfigError if it cannot be one."""
    parts = [part for part in namespace.split("/") if part]
    if not all(part.isidentifier() and part.isascii() for part in parts):
        raise ConfigError(f"namespace '{namespace}': only letters, digits, _ and / , such as robot1")
    return "/" + "/".join(parts)
