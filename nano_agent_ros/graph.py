"""The processes of the nodes and their lifecycle: started, configured, activated and ended in order."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nano_agent_ros.console import deaf_to_signals, print_line
from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.processes import Process, describe_exit, stop_all
from nano_agent_ros.pulse import Pulses
from nano_agent_ros.resources import find
from nano_agent_ros.units import Unit, command_of, write_parameters

START_TIMEOUT_S = 60.0
START_TIMEOUT_EACH_S = 15.0  # more for each further process: they all start at the same time
CONFIGURE_TIMEOUT_S = 600.0  # a large model on a slow disk
ASK_AGAIN_S = 3.0  # a request may have gone to the server of a process that was killed, which DDS still believes in
LINES = {False: "{severity}: {message}", True: "{name} | {severity}: {message}"}
STATES = {"configure": ("unconfigured", "inactive"), "activate": ("inactive", "active")}


class BringUpError(NanoAgentError):
    """A node did not start, configure or activate; the message names it."""


class Graph:
    """The processes of nodes and their lifecycle. Use as a context: leaving it ends every process."""

    def __init__(
        self,
        units: Sequence[Unit],
        params_files: Sequence[Path] = (),
        log_level: str = "info",
        on_line: Callable[[str, str], None] = print_line,
    ) -> None:
        """Know what to run; of several parameter files a later one wins. Raises ConfigError for one that is not there.

        Without parameter files it is config/agent.yaml. `on_line` gets each line of output with the name of the unit
        or of the node in it, such as unit_1/agent.
        """
        self.units = tuple(units)
        self._params_files = tuple(params_files) or (find("config/agent.yaml"),)
        for file in self._params_files:
            if not file.is_file():
                raise ConfigError(f"{file}: no such parameter file")
        self._log_level = log_level
        self._on_line = on_line
        self.processes: dict[str, Process] = {}
        self._unit_of = {name: unit for unit in self.units for name in unit.node_names}
        self._start_timeout_s = START_TIMEOUT_S + START_TIMEOUT_EACH_S * (len(self.units) - 1)
        self._reported: set[int] = set()
        self._context: Any = None

    def __enter__(self) -> Graph:
        """Start the processes."""
        import rclpy
        from rclpy.context import Context

        self._folder = tempfile.TemporaryDirectory(prefix="nano_agent_")
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        try:
            namespaces = {unit.namespace for unit in self.units}
            namespace = namespaces.pop() if len(namespaces) == 1 else "/"
            self.node = rclpy.create_node(f"bring_up_{os.getpid()}", context=self._context, namespace=namespace)
            self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
            self._executor.add_node(self.node)
            self.pulses = Pulses(self.node)
            for unit in self.units:
                self.start(unit)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """End the processes."""
        self.close()

    def start(self, unit: Unit) -> None:
        """Start the process of a unit, anew if there was one."""
        files, together = list(self._params_files), len(unit.nodes) > 1
        if together:
            file = Path(self._folder.name) / f"{unit.name.replace('/', '.')}.yaml"
            files.append(write_parameters(file, unit.namespace, unit.nodes))
        if unit.name in self.processes:
            self.pulses.forget(self.processes[unit.name].pid)
        environment = {"RCUTILS_CONSOLE_OUTPUT_FORMAT": LINES[together], **os.environ}
        command = command_of(unit, files, self._log_level)
        self.processes[unit.name] = Process(unit.name, command, self._forward, environment)

    def close(self) -> None:
        """End every process: SIGINT, then SIGTERM, then SIGKILL, each with bounded patience."""
        # A second Ctrl-C must not leave half of them behind.
        with deaf_to_signals():
            for name in stop_all(list(self.processes.values())):
                self._on_line(name, "did not end by itself and was killed")
            if self._context is not None and self._context.ok():
                self._executor.shutdown()
                self.node.destroy_node()
                self._context.shutdown()
            self._folder.cleanup()

    def spin(self, seconds: float) -> None:
        """Handle ROS callbacks for about that long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.1))

    def configure(self) -> None:
        """Configure all nodes, the first unit's before the others'; raises BringUpError.

        What the first computes and keeps (the state after the system prompt), the others find.
        """
        first, *others = self.units
        self._spin_through(self.change(first.node_names, "configure"))
        self._spin_through(self.change([name for unit in others for name in unit.node_names], "configure"))

    def activate(self, *names: str) -> None:
        """Activate nodes in the given order, by their names without namespace; raises BringUpError."""
        for name in names:
            found = [each for unit in self.units for each in unit.node_names if each.rsplit("/", 1)[1] == name]
            self._spin_through(self.change(found, "activate"))

    def bring_up(self, unit: Unit) -> Iterator[None]:
        """Configure and activate the nodes of one unit; yields while it waits. Raises BringUpError."""
        yield from self.change(unit.node_names, "configure")
        for name in unit.node_names:
            yield from self.change([name], "activate")

    def crashed(self) -> list[str]:
        """A sentence for each process that has ended since the last call without being asked to."""
        sentences = []
        for name, process in self.processes.items():
            code = process.exit_code()
            if code is not None and not process.stopping and process.pid not in self._reported:
                self._reported.add(process.pid)
                sentences.append(f"{name} has ended ({describe_exit(code)})")
        return sentences

    def change(self, names: Sequence[str], transition: str) -> Iterator[None]:
        """Take nodes, by fully qualified names, through a transition; yields while it waits. Raises BringUpError."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        codes = {"configure": Transition.TRANSITION_CONFIGURE, "activate": Transition.TRANSITION_ACTIVATE}
        request = ChangeState.Request(transition=Transition(id=codes[transition]))
        timeout_s = CONFIGURE_TIMEOUT_S if transition == "configure" else self._start_timeout_s
        clients: dict[str, Any] = {name: self.node.create_client(ChangeState, f"{name}/change_state") for name in names}
        try:
            yield from self._until(
                lambda: all(client.service_is_ready() and self._state(name) for name, client in clients.items()),
                names,
                "answer",
                self._start_timeout_s,
            )
            asked = {name: _Asked(partial(client.call_async, request)) for name, client in clients.items()}
            yield from self._until(
                lambda: all(each.done(self._state(name), *STATES[transition]) for name, each in asked.items()),
                names,
                transition,
                timeout_s,
            )
        finally:
            for client in clients.values():
                self.node.destroy_client(client)
        failed = [name for name, each in asked.items() if each.failed]
        if failed:
            self.spin(0.3)  # the reason is on its way through the pipe
            raise BringUpError(f"{_listed(failed)} could not {transition}; the log above says why")

    def _state(self, name: str) -> tuple[str, float] | None:
        """State of a node's lifecycle and when it said so."""
        pulse = self.pulses.of(name, self.processes[self._unit_of[name].name].pid)
        return (pulse.lifecycle, pulse.time) if pulse else None

    def _until(self, done: Callable[[], bool], names: Sequence[str], what: str, timeout_s: float) -> Iterator[None]:
        """Yield at least once, until it is done; raises BringUpError if a process ends or the time is over."""
        until = time.monotonic() + timeout_s
        while True:
            yield
            for unit in {self._unit_of[name].name for name in names}:
                process = self.processes[unit]
                if (code := process.exit_code()) is not None:
                    process.wait(1.0)
                    raise BringUpError(f"{unit} has ended ({describe_exit(code)}); the log above says why")
            if done():
                return
            if time.monotonic() > until:
                raise BringUpError(f"{_listed(names)} did not {what} within {timeout_s:.0f} s")

    def _spin_through(self, steps: Iterator[None]) -> None:
        for _ in steps:
            self.spin(0.05)

    def _forward(self, name: str, line: str) -> None:
        """Of a process with several nodes, a log line names the node that it is from."""
        logger, bar, rest = line.partition(" | ")
        if bar and logger.replace(".", "/").startswith(f"{name}/"):
            name, line = logger.replace(".", "/"), rest
        self._on_line(name, line)


class _Asked:
    """A transition that was asked for, again if need be: whether it is over, and how."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.failed = False
        self._ask = ask
        self._answers = [ask()]
        self._when = time.monotonic()

    def done(self, state: tuple[str, float] | None, before: str, after: str) -> bool:
        """Whether it is over: by an answer, or by what the node has said of itself since."""
        said, heard = state or ("", 0.0)
        answered = [answer.result() for answer in self._answers if answer.done()]
        if (said == after and heard > self._when) or any(answer and answer.success for answer in answered):
            return True
        if len(answered) == len(self._answers):
            self.failed = True
        elif said == before and heard > self._when + ASK_AGAIN_S:
            self._answers.append(self._ask())
            self._when = time.monotonic()
        return self.failed


def _listed(names: Sequence[str]) -> str:
    return " and ".join(name.strip("/") for name in names)
