"""`nano-agent up`: the nodes of launch/agent.launch.py, each a process, brought up through their lifecycle."""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.processes import Process, describe_exit, stop_all
from nano_agent_ros.resources import find

START_TIMEOUT_S = 30.0
CONFIGURE_TIMEOUT_S = 600.0  # a large model on a slow disk
LINE = "{severity}: {message}"


class BringUpError(NanoAgentError):
    """A node did not start, configure or activate; the message names it."""


@dataclass(frozen=True)
class NodeProcess:
    """A node to run: its name, which is its module below nano_agent_ros.nodes as well, and parameters to override."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def node_command(node: NodeProcess, namespace: str, params_file: Path, log_level: str) -> list[str]:
    """The command line of a node, with the environment's own Python."""
    command = [sys.executable, "-m", f"nano_agent_ros.nodes.{node.name}", "--ros-args"]
    command += ["-r", f"__ns:={namespace}", "--params-file", str(params_file)]
    for name, value in node.parameters.items():
        command += ["-p", f"{name}:={_yaml(value)}"]
    return [*command, "--log-level", f"{node.name}:={log_level}"]


def _yaml(value: Any) -> str:
    # ROS parses the value as YAML: a bare 1.0 or yes would not stay a string.
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)


def full_namespace(namespace: str) -> str:
    """The namespace as ROS wants it, with a leading slash; raises ConfigError if it cannot be one."""
    parts = [part for part in namespace.split("/") if part]
    if not all(part.isidentifier() and part.isascii() for part in parts):
        raise ConfigError(f"namespace '{namespace}': only letters, digits, _ and / , such as robot1")
    return "/" + "/".join(parts)


class Graph:
    """The nodes' processes and their lifecycle. Use as a context: leaving it ends every process."""

    def __init__(
        self,
        nodes: Sequence[NodeProcess],
        namespace: str = "/",
        params_file: Path | None = None,
        log_level: str = "info",
        on_line: Callable[[str, str], None] | None = None,
    ) -> None:
        """Know what to run; `on_line` gets each line of output with the node's name."""
        self.nodes = nodes
        self.namespace = full_namespace(namespace)
        self._params_file = params_file or find("config/agent.yaml")
        if not self._params_file.is_file():
            raise ConfigError(f"{self._params_file}: no such parameter file")
        self._log_level = log_level
        self._on_line = on_line or _print_line
        self.processes: dict[str, Process] = {}
        self._reported: set[str] = set()
        self._context: Any = None

    def __enter__(self) -> Graph:
        """Start the processes."""
        import rclpy
        from rclpy.context import Context

        environment = dict(os.environ)
        environment.setdefault("RCUTILS_CONSOLE_OUTPUT_FORMAT", LINE)
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        try:
            self.node = rclpy.create_node(f"bring_up_{os.getpid()}", context=self._context, namespace=self.namespace)
            self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
            self._executor.add_node(self.node)
            for node in self.nodes:
                command = node_command(node, self.namespace, self._params_file, self._log_level)
                self.processes[node.name] = Process(node.name, command, self._on_line, environment)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """End the processes."""
        self.close()

    def close(self) -> None:
        """End every process: SIGINT, then SIGTERM, then SIGKILL, each with bounded patience."""
        # A second Ctrl-C must not leave half of them behind.
        with _deaf_to_signals():
            for name in stop_all(list(self.processes.values())):
                self._on_line(name, "did not end by itself and was killed")
            if self._context is not None and self._context.ok():
                self._executor.shutdown()
                self.node.destroy_node()
                self._context.shutdown()

    def spin(self, seconds: float) -> None:
        """Handle ROS callbacks for about that long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.1))

    def configure(self) -> None:
        """Configure all nodes, at the same time; raises BringUpError."""
        self._change(list(self.processes), "configure", CONFIGURE_TIMEOUT_S)

    def activate(self, *names: str) -> None:
        """Activate nodes in the given order; raises BringUpError."""
        for name in names:
            self._change([name], "activate", START_TIMEOUT_S)

    def crashed(self) -> list[str]:
        """A sentence for each process that has ended since the last call without being asked to."""
        sentences = []
        for name, process in self.processes.items():
            code = process.exit_code()
            if code is not None and not process.stopping and name not in self._reported:
                self._reported.add(name)
                sentences.append(f"{name} has ended ({describe_exit(code)})")
        return sentences

    @property
    def running(self) -> bool:
        """Whether any process still runs."""
        return any(process.exit_code() is None for process in self.processes.values())

    def _change(self, names: Sequence[str], transition: str, timeout_s: float) -> None:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        codes = {"configure": Transition.TRANSITION_CONFIGURE, "activate": Transition.TRANSITION_ACTIVATE}
        clients: dict[str, Any] = {name: self.node.create_client(ChangeState, f"{name}/change_state") for name in names}
        try:
            self._wait(lambda: all(c.service_is_ready() for c in clients.values()), names, "answer", START_TIMEOUT_S)
            request = ChangeState.Request(transition=Transition(id=codes[transition]))
            futures = {name: client.call_async(request) for name, client in clients.items()}
            self._wait(lambda: all(f.done() for f in futures.values()), names, transition, timeout_s)
        finally:
            for client in clients.values():
                self.node.destroy_client(client)
        results = {name: future.result() for name, future in futures.items()}
        failed = [name for name, result in results.items() if result is None or not result.success]
        if failed:
            self.spin(0.3)  # the reason is on its way through the pipe
            raise BringUpError(f"{' and '.join(failed)} could not {transition}; the log above says why")

    def _wait(self, done: Callable[[], bool], names: Sequence[str], what: str, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while not done():
            self.spin(0.05)
            ended = [name for name in names if self.processes[name].exit_code() is not None]
            if ended:
                self.processes[ended[0]].wait(1.0)
                code = self.processes[ended[0]].exit_code() or 0
                raise BringUpError(f"{ended[0]} has ended ({describe_exit(code)}); the log above says why")
            if time.monotonic() > until:
                raise BringUpError(f"{', '.join(names)} did not {what} within {timeout_s:.0f} s")


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
    parser.add_argument("--audio-source", choices=("mic", "wav", "none"), help="where speech comes from (default: mic)")
    parser.add_argument("--device", help="microphone: index or part of its name (default: the system's)")
    parser.add_argument("--wav", type=Path, help="sound file; implies --audio-source wav")
    parser.add_argument("--no-sim-robot", action="store_true", help="the executor has a real robot (see back_ends)")
    parser.add_argument("--inspect", action="store_true", help="start the inspector too (docs/inspection.md)")
    parser.add_argument("--record", action="store_true", help="start the recorder too (docs/recording.md)")
    parser.add_argument("--safety", type=Path, help="safety policy (default: config/safety.yaml)")


def nodes_of(args: argparse.Namespace) -> list[NodeProcess]:
    """The nodes with the parameters that the options name."""
    wav = str(args.wav.resolve()) if args.wav else None
    site = str(Path(args.site).resolve()) if args.site and Path(args.site).is_file() else args.site
    listener = {
        "audio.source": args.audio_source or ("wav" if wav else None),
        "audio.device": args.device,
        "audio.wav": wav,
        "whisper.model": args.whisper_model,
        "site": site,
    }
    agent = {"model": args.model, "engine": args.engine, "skills": args.skills, "site": site}
    nodes = [NodeProcess("listener", _given(listener)), NodeProcess("agent", _given(agent))]
    safety = str(args.safety.resolve()) if getattr(args, "safety", None) else None
    nodes.append(NodeProcess("executor", _given({"site": site, "safety": safety})))
    if not args.no_sim_robot:
        nodes.append(NodeProcess("sim_robot", _given({"site": site})))
    if getattr(args, "inspect", False):
        nodes.append(NodeProcess("inspector", _given({"site": site, "skills": args.skills, "model": args.model})))
    if getattr(args, "record", False):
        nodes.append(NodeProcess("recorder", _given({"site": site, "skills": args.skills})))
    return nodes


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def run(args: argparse.Namespace) -> int:
    """Run the nodes until Ctrl-C; returns 0 then, 1 if one could not be brought up or has crashed."""
    code = 0
    with signals_as_interrupt():
        try:
            with Graph(nodes_of(args), args.namespace, args.params_file, args.log_level) as graph:
                graph.configure()
                order = ("recorder", "inspector", "sim_robot", "executor", "agent", "listener")
                graph.activate(*(n for n in order if n in graph.processes))
                say(f"up in {graph.namespace}: {', '.join(graph.processes)}; Ctrl-C ends them")
                keyboard = Keyboard(graph)
                while graph.running:
                    graph.spin(0.1)
                    keyboard.publish()
                    for sentence in graph.crashed():
                        code = 1  # before it is said: who reads it may send the signal that ends this
                        say(f"{sentence}; the other nodes go on")
                say("no node is left")
        except BringUpError as error:
            say(str(error))
            code = 1
        except KeyboardInterrupt:
            pass
    say("all nodes have ended")
    return code


class Keyboard:
    """Lines typed while the nodes run become typed commands, on the topic `text`."""

    def __init__(self, graph: Graph) -> None:
        """Begin to read standard input, unless another job of the terminal has it."""
        from std_msgs.msg import String

        from nano_agent_ros.nodes import qos

        self._make = String
        self._publisher = graph.node.create_publisher(String, "text", qos.COMMAND)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        if _may_read_terminal():
            if sys.stdin.isatty():
                say("type a command, such as: go to dock three")
            threading.Thread(target=self._read, name="keyboard", daemon=True).start()

    def publish(self) -> None:
        """Publish what has been typed since the last call."""
        while not self._lines.empty():
            self._publisher.publish(self._make(data=self._lines.get()))

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip():
                self._lines.put(line.strip())


def _may_read_terminal() -> bool:
    """A background job that reads its terminal would be suspended."""
    try:
        return not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def say(text: str) -> None:
    """Print a line of the supervisor's own."""
    _print_line("nano-agent", text)


_PRINTING = threading.Lock()


def _print_line(name: str, line: str) -> None:
    with _PRINTING:
        print(f"{name:>10} | {line}", flush=True)


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _deaf_to_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
