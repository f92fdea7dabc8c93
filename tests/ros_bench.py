"""What tests of nodes share: an executor in a thread, a probe that collects messages, and waiting on conditions."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import rclpy  # noqa: E402
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from nano_agent_ros.nodes.lifecycle import spin  # noqa: E402

PATIENCE_S = 60.0


def wait_for(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The condition's first true value; fails the test when there is none in time."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {patience_s:.0f} s")


class Bench:
    """Nodes under test and a probe, in one process, over DDS, in a domain of their own."""

    def __init__(self) -> None:
        rclpy.init(args=[], domain_id=random.SystemRandom().randint(1, 100))
        self.executor = MultiThreadedExecutor(num_threads=8)
        self.probe = rclpy.create_node("probe")
        self.executor.add_node(self.probe)
        self.got: dict[str, list[Any]] = defaultdict(list)
        self.nodes: list[Any] = []
        self._clients: dict[str, Any] = {}
        self._publishers: dict[str, Any] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            spin(self.executor, self.probe, self._stop)

    def close(self) -> None:
        """Take everything down."""
        for node in list(self.nodes):
            self.remove(node)
        self._stop.set()
        self._thread.join(10)
        self.executor.shutdown()
        rclpy.try_shutdown()

    def add(self, make: Callable[[], Any], up: bool = True, **parameters: Any) -> Any:
        """A node with parameters (`__` for the dot in a name), configured and activated if `up`."""
        node = make()
        self.nodes.append(node)
        self.executor.add_node(node)
        self.set(node, **parameters)
        if up:
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        return node

    def set(self, node: Any, **parameters: Any) -> None:
        """Set parameters, which must succeed."""
        changes = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
        for result in node.set_parameters(changes):
            assert result.successful, result.reason

    def remove(self, node: Any) -> None:
        """Close and destroy a node."""
        self.nodes.remove(node)
        node.close()
        self.executor.remove_node(node)
        node.destroy_node()

    def watch(self, kind: Any, topic: str, qos: Any) -> list[Any]:
        """Collect a topic's messages from now on; returns the list that they go to."""
        self.probe.create_subscription(kind, topic, self.got[topic].append, qos)
        return self.got[topic]

    def publish(self, topic: str, message: Any, qos: Any) -> None:
        """Publish once a subscription is matched."""
        if topic not in self._publishers:
            self._publishers[topic] = self.probe.create_publisher(type(message), topic, qos)
        publisher = self._publishers[topic]
        wait_for(publisher.get_subscription_count, f"a subscription of {topic}")
        publisher.publish(message)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service."""
        if name not in self._clients:
            self._clients[name] = self.probe.create_client(kind, name)
        client = self._clients[name]
        wait_for(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        wait_for(future.done, f"an answer of {name}")
        return future.result()
