"""`nano-agent up`: the nodes of the launch files, brought up through their lifecycle and watched over."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nano_agent_ros import fleet
from nano_agent_ros.console import Keyboard, say, signals_as_interrupt
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.graph import BringUpError, Graph
from nano_agent_ros.resources import find
from nano_agent_ros.skills import Site
from nano_agent_ros.supervision import Limits, Supervisor
from nano_agent_ros.units import ORDER, NodeSpec, Unit, full_namespace, separate, write_parameters


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what the nodes run with; those that are not given are taken from the parameter file."""
    parser.add_argument("--model", help="model folder (default: the one that ships)")
    parser.add_argument("--engine", help="native (default) or another engine of the package")
    parser.add_argument("--skills", help="skills file (default: the one that ships)")
    parser.add_argument("--site", help="site file, or the name of one that ships (default: warehouse)")
    parser.add_argument("--whisper-model", help="faster-whisper model name or folder (default: tiny-bundled)")
    parser.add_argument("--params-file", type=Path, help="parameter file (default: config/agent.yaml)")
    parser.add_argument("--namespace", default="", help="namespace of the nodes, such as robot1")
    levels = ("debug", "info", "warn", "error")
    parser.add_argument("--log-level", default="info", choices=levels, help="least severity that is logged")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `nano-agent up`."""
    add_node_arguments(parser)
    sources = ("mic", "wav", "topic", "none")
    parser.add_argument("--audio-source", choices=sources, help="where speech comes from (default: mic)")
    modes = ("open", "push_to_talk", "wake_word")
    parser.add_argument("--address-mode", choices=modes, help="which speech is for the robot (default: open)")
    parser.add_argument("--device", help="microphone: index or part of its name (default: the system's)")
    parser.add_argument("--wav", type=Path, help="sound file; implies --audio-source wav")
    parser.add_argument("--no-sim-robot", action="store_true", help="the executor has a real robot (see back_ends)")
    parser.add_argument("--inspect", action="store_true", help="start the inspector too (docs/inspection.md)")
    parser.add_argument("--record", action="store_true", help="start the recorder too (docs/recording.md)")
    parser.add_argument(
        "--voice",
        nargs="?",
        const="auto",
        default="none",
        choices=("auto", "espeak", "piper", "none"),
        help="say replies aloud: start the speaker too (default: none; without a value: auto; docs/audio.md)",
    )
    parser.add_argument("--safety", type=Path, help="safety policy (default: config/safety.yaml)")
    parser.add_argument("--time-scale", type=float, metavar="X", help="simulated seconds of the robot per second")
    several = parser.add_argument_group("several robots (docs/fleet.md)")
    several.add_argument("--robots", type=int, metavar="N", help="N robots, called unit_1 to unit_N")
    several.add_argument("--robot-names", metavar="A,B,…", help="what the robots are called instead")
    several.add_argument(
        "--compose",
        action=argparse.BooleanOptionalAction,
        help="all nodes of a robot in one process (default: for several robots)",
    )
    limits, watch = Limits(), parser.add_argument_group("supervision")
    watch.add_argument(
        "--restart-limit",
        type=int,
        default=limits.crashes,
        metavar="K",
        help=f"a process that crashes K times in {limits.window_s:g} s is not started again (default: %(default)s); "
        "0: none is",
    )
    watch.add_argument(
        "--heartbeat-timeout",
        type=float,
        default=limits.silent_s,
        metavar="S",
        help="a node without a heartbeat for S seconds is killed and started again (default: %(default)s); 0: never",
    )


def nodes_of(args: argparse.Namespace) -> list[NodeSpec]:
    """The nodes of one robot with the parameters that the options name."""
    wav = str(args.wav.resolve()) if args.wav else None
    site = str(Path(args.site).resolve()) if args.site and Path(args.site).is_file() else args.site
    listener = {
        "audio.source": args.audio_source or ("wav" if wav else None),
        "audio.device": args.device,
        "audio.wav": wav,
        "whisper.model": args.whisper_model,
        "address.mode": getattr(args, "address_mode", None),
        "site": site,
    }
    agent = {"model": args.model, "engine": args.engine, "skills": args.skills, "site": site}
    nodes = [NodeSpec("listener", _given(listener)), NodeSpec("agent", _given(agent))]
    safety = str(args.safety.resolve()) if getattr(args, "safety", None) else None
    nodes.append(NodeSpec("executor", _given({"site": site, "safety": safety})))
    if not args.no_sim_robot:
        nodes.append(NodeSpec("sim_robot", _given({"site": site, "time_scale": getattr(args, "time_scale", None)})))
    if getattr(args, "inspect", False):
        nodes.append(NodeSpec("inspector", _given({"site": site, "skills": args.skills, "model": args.model})))
    if getattr(args, "record", False):
        nodes.append(NodeSpec("recorder", _given({"site": site, "skills": args.skills})))
    if getattr(args, "voice", "none") != "none":
        nodes.append(NodeSpec("speaker", {"engine": args.voice}))
    return nodes


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def units_of(args: argparse.Namespace, names: Sequence[str], files: Sequence[Path]) -> list[Unit]:
    """The processes to run: for robots of these names, or for one without a name; raises ConfigError."""
    nodes, namespace = nodes_of(args), full_namespace(args.namespace)
    robots: list[tuple[str, list[NodeSpec]]] = [(namespace, nodes)]
    if names:
        site = Site.load(args.site or fleet.setting(files, "sim_robot", "site", "warehouse"))
        members = fleet.fleet(names, site, namespace)
        robots = [(member.namespace, _with(nodes, member.parameters())) for member in members]
    compose = args.compose if args.compose is not None else len(robots) > 1
    if compose:
        return [Unit(tuple(nodes), where) for where, nodes in robots]
    return [unit for where, nodes in robots for unit in separate(nodes, where)]


def _with(nodes: Sequence[NodeSpec], more: Mapping[str, Mapping[str, Any]]) -> list[NodeSpec]:
    return [replace(node, parameters={**node.parameters, **more.get(node.name, {})}) for node in nodes]


def run(args: argparse.Namespace) -> int:
    """Run the nodes until Ctrl-C; returns 0 then, 1 if one could not be brought up or was given up."""
    if args.restart_limit < 0 or args.heartbeat_timeout < 0:
        raise ConfigError("--restart-limit and --heartbeat-timeout: not below 0")
    names = fleet.names_of(args.robots, args.robot_names)
    with signals_as_interrupt(), tempfile.TemporaryDirectory(prefix="nano_agent_") as folder:
        try:
            files = _params_files(args.params_file, len(names), Path(folder))
            code = _run(Graph(units_of(args, names, files), files, args.log_level), args)
        except BringUpError as error:
            say(str(error))
            code = 1
        except KeyboardInterrupt:
            code = 0
    say("all nodes have ended")
    return code


def _params_files(given: Path | None, robots: int, folder: Path) -> list[Path]:
    """The parameter files, the last of which wins: for several robots what they share of the machine stands before
    the user's own."""
    if robots < 2:
        return [given or find("config/agent.yaml")]
    shared = write_parameters(folder / "share.yaml", "/**", fleet.share(robots))
    return [find("config/agent.yaml"), find("config/fleet.yaml"), shared, *([given] if given else [])]


def _run(graph: Graph, args: argparse.Namespace) -> int:
    limits = Limits(crashes=args.restart_limit, silent_s=args.heartbeat_timeout)
    supervisor: Supervisor | None = None
    with graph:
        try:
            graph.configure()
            graph.activate(*ORDER)
            namespaces = list(dict.fromkeys(unit.namespace for unit in graph.units))
            nodes = [node.name for node in graph.units[0].nodes] if len(namespaces) > 1 else list(graph.processes)
            say(f"up in {', '.join(namespaces)}: {', '.join(nodes)}; Ctrl-C ends them")
            text = _Text(graph, namespaces)
            supervisor = Supervisor(graph, limits, say)
            while supervisor.any_left:
                graph.spin(0.1)
                text.publish()
                supervisor.tick()
            say("no node is left")
        except KeyboardInterrupt:
            pass
    return 1 if supervisor is not None and supervisor.given_up else 0


class _Text:
    """Typed lines become typed commands, on the topic `text` of every robot: each knows whether it is meant."""

    def __init__(self, graph: Graph, namespaces: Sequence[str]) -> None:
        from std_msgs.msg import String

        from nano_agent_ros.nodes import qos

        self._make = String
        topics = [f"{namespace.rstrip('/')}/text" for namespace in namespaces]
        self._publishers = [graph.node.create_publisher(String, topic, qos.COMMAND) for topic in topics]
        several = namespaces[-1].rsplit("/", 1)[-1].replace("_", " ") + ", " if len(namespaces) > 1 else ""
        self._keyboard = Keyboard(f"type a command, such as: {several}go to dock three")

    def publish(self) -> None:
        for line in self._keyboard.lines():
            for publisher in self._publishers:
                publisher.publish(self._make(data=line))
