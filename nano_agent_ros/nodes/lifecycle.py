"""The lifecycle that every node shares: errors of a transition are logged and reported, and the node stays up."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.nodes.diagnostics import ERROR, OK, WARN, Finding, Task, status, status_of
from nano_agent_ros.nodes.parameters import Parameter, Parameters
from nano_agent_ros.speech import SpeechError

AUTOSTART = Parameter("autostart", False, "Configure and activate by itself once it runs", read_only=True)
LOOK_UP_S = 0.2  # how often it is seen that the process shall end: waiting for callbacks holds signals up
HEARTBEAT_S = 1.0  # how often the node says on /diagnostics how it is, and with that, that it is alive
END_S = 12.0  # how long nodes may take to close; `nano-agent up` sends the next signal after 10 s

__all__ = ["ERROR", "OK", "WARN", "ManagedNode", "run", "spin"]


class ManagedNode(LifecycleNode):
    """A lifecycle node whose subclasses say what `setup`, `start`, `halt` and `teardown` mean for them.

    configure reads the parameters and calls `setup`; if that raises, the transition fails with the message in the
    log and the node stays unconfigured. `halt` and `teardown` must be harmless when repeated.
    """

    def __init__(self, name: str, parameters: Iterable[Parameter]) -> None:
        """Declare parameters; nothing else happens before configure."""
        super().__init__(name)
        self.parameters = Parameters(self, [*parameters, AUTOSTART], self._retune)
        self.active = False
        self.level = OK
        self._diagnosis = "unconfigured"
        self._details: dict[str, str] = {}
        self.tasks: dict[str, Task] = {}
        """What else is reported on /diagnostics while the node is active, set by `start`."""
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Alone in its group: a transition that takes minutes does not hold the heartbeat up, a stuck executor does.
        self._heartbeat = self.create_timer(
            HEARTBEAT_S, self._beat, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def setup(self, values: Mapping[str, Any]) -> None:
        """Open what the parameters name; may raise."""

    def start(self) -> None:
        """Begin to work; may raise."""

    def halt(self) -> None:
        """Cease to work."""

    def teardown(self) -> None:
        """Release what `setup` opened."""

    def retune(self, values: Mapping[str, Any]) -> None:
        """Go on with changed live parameters; `values` is the mapping that `setup` was given, which shows them."""

    def diagnose(self, level: bytes, message: str, **values: object) -> None:
        """Report how the node is on /diagnostics, now and every HEARTBEAT_S."""
        self.level, self._diagnosis = level, message
        self._details.update({key: str(value) for key, value in values.items()})
        self._publish_diagnostics()

    @property
    def health(self) -> tuple[bytes, str]:
        """Level and message as they were last reported."""
        return self.level, self._diagnosis

    def bring_up(self) -> None:
        """Configure and activate; what keeps the node from either is logged, and it stays up."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and set up."""
        try:
            self.setup(self.parameters.read())
        except Exception as error:
            self._fail("configure", error)
            self._unconfigure()
            return TransitionCallbackReturn.FAILURE
        self.diagnose(OK, "inactive")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start."""
        result = super().on_activate(state)
        try:
            self.active = True
            self.diagnose(OK, "active")
            self.start()
        except Exception as error:
            self._fail("activate", error)
            self._rest()
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Halt."""
        self._rest()
        self.diagnose(OK, "inactive")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        self._unconfigure()
        self.diagnose(OK, "unconfigured")
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Halt and release everything."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, from where the node can be configured again."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Halt and release everything, whatever the state."""
        self._rest()
        self._unconfigure()

    def _unconfigure(self) -> None:
        self.parameters.release()
        self.teardown()

    def _retune(self, values: Mapping[str, Any]) -> None:
        self.retune(values)
        self.get_logger().info("changed parameters are in effect")

    def _rest(self) -> None:
        self.active = False
        self.tasks = {}
        self.halt()

    def _fail(self, transition: str, error: Exception) -> None:
        # Our own errors say what to do; of any other the kind matters as well.
        known = isinstance(error, NanoAgentError | SpeechError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self.get_logger().error(f"cannot {transition}: {text}")
        self.diagnose(ERROR, f"cannot {transition}: {text}")

    def _beat(self) -> None:
        self._publish_diagnostics(dict(self.tasks))

    def _publish_diagnostics(self, tasks: Mapping[str, Task] = MappingProxyType({})) -> None:
        # Whoever supervises the node tells by these the process that it started from one before it.
        known = {"lifecycle": self._state_machine.current_state[1], "pid": str(os.getpid()), **self._details}
        name = self.get_fully_qualified_name().lstrip("/")
        array = DiagnosticArray(status=[status(name, Finding(self.level, self._diagnosis, known))])
        array.status += [status_of(f"{name}: {key}", task) for key, task in tasks.items()]
        array.header.stamp = self.get_clock().now().to_msg()
        if self.context.ok():
            self._diagnostics.publish(array)


def spin(executor: Executor, node: Node, stop: threading.Event) -> None:
    """Execute callbacks until shutdown or `stop`; one that raises is logged and ends nothing."""
    while node.context.ok() and not stop.is_set():
        try:
            executor.spin_once(timeout_sec=LOOK_UP_S)
        except ExternalShutdownException:
            return
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
            node.get_logger().error(f"a message or request could not be handled: {text}")


def _once(node: Node, call: Callable[[], None]) -> None:
    """Call as soon as callbacks are executed, never at the same time as a transition that somebody asks for."""

    def fire() -> None:
        node.destroy_timer(timer)
        call()

    timer = node.create_timer(0.0, fire)  # in the callback group of the node's own services


def run(*make_nodes: Callable[[], ManagedNode]) -> int:
    """Spin one node or several until SIGINT or SIGTERM; return the exit code of the process.

    Each node has threads of its own. Nodes are closed while their publishers and clients still work: what one gives
    up then, it can say. One that has not closed END_S after the signal does not keep the process alive: it writes down
    where each thread hangs and exits with 1.
    """
    nodes: list[ManagedNode] = []
    threads: list[threading.Thread] = []
    stop = threading.Event()
    signals: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        # Not stop.set(): that takes a lock which the interrupted thread may hold, and would wait for itself for ever.
        if not signals:
            faulthandler.dump_traceback_later(END_S, exit=True)
        signals.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        for make in make_nodes:
            nodes.append(make())
        for node in nodes:
            executor = MultiThreadedExecutor(num_threads=4)
            executor.add_node(node)
            if node.get_parameter(AUTOSTART.name).value:
                _once(node, node.bring_up)
            threads.append(threading.Thread(target=spin, args=(executor, node, stop), name=node.get_name()))
        for thread in threads:
            thread.start()
        while not signals and any(thread.is_alive() for thread in threads):
            time.sleep(LOOK_UP_S)
    except Exception as error:
        # What cannot even become a node, such as a parameter file that is no YAML.
        print(f"cannot start: {str(error).strip()}", file=sys.stderr, flush=True)
        return 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for node in nodes:
            node.close()
        rclpy.try_shutdown()
        faulthandler.cancel_dump_traceback_later()
    return 0
