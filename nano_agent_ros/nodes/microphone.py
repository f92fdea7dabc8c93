"""The microphone node: a microphone anywhere on the robot as the topic `audio`, 16 kHz mono."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.audio_topic import OWN, STAMPED, TOPIC, own_message, stamped_message
from nano_agent_ros.nodes.back_ends.interfaces import load_interface
from nano_agent_ros.nodes.conversions import time_message
from nano_agent_ros.nodes.lifecycle import ERROR, ManagedNode, run
from nano_agent_ros.nodes.parameters import Parameter
from nano_agent_ros.nodes.sources import MICROPHONE, Sound
from nano_agent_ros.speech import SAMPLE_RATE
from nano_agent_ros.speech.audio import MeteredSource

PARAMETERS = (
    *MICROPHONE,
    Parameter("topic_type", OWN, "Type of the topic `audio` that is published", choices=(OWN, STAMPED)),
)


class MicrophoneNode(ManagedNode):
    """Publishes `audio`. A microphone that is lost is looked for; what was missed shows in `position`."""

    def __init__(self) -> None:
        """The topic comes with configure, which tells its type."""
        super().__init__("microphone", PARAMETERS)
        self._settings: Mapping[str, Any] = {}
        self._publisher: Any = None
        self._sound = Sound(self)
        self._source: MeteredSource | None = None
        self._thread: threading.Thread | None = None

    def setup(self, values: Mapping[str, Any]) -> None:
        """Create the topic; raises ConfigError if its type is not installed."""
        self._settings = values
        kind = load_interface(values["topic_type"])
        self._publisher = self.create_publisher(kind, TOPIC, qos.SOUND)

    def start(self) -> None:
        """Capture and publish from now on."""
        self._source = self._sound.open(self._settings, "mic")
        self._thread = threading.Thread(target=self._publish_all, args=(self._source,), name="publish", daemon=True)
        self._thread.start()
        self.get_logger().info(f"publishing {self._source.report()}")
        self._sound.show()

    def _publish_all(self, source: MeteredSource) -> None:
        position, lost_at = 0, None
        try:
            for samples in source.chunks():
                now = time.time()
                if not samples.size:
                    lost_at = time.monotonic()
                    continue
                if lost_at is not None:
                    position += round((time.monotonic() - lost_at) * SAMPLE_RATE)
                    lost_at = None
                own = self._settings["topic_type"] == OWN
                message = own_message(samples, SAMPLE_RATE, position) if own else stamped_message(samples, SAMPLE_RATE)
                message.header.frame_id = self._settings["audio.frame_id"]
                message.header.stamp = time_message(now - len(samples) / SAMPLE_RATE)
                position += len(samples)
                if not self.active or not self.context.ok():
                    return
                self._publisher.publish(message)
        except NanoAgentError as error:
            self._sound.forget()
            self.get_logger().error(f"no more sound: {error}")
            self.diagnose(ERROR, str(error), audio="error")

    def halt(self) -> None:
        """Close the microphone."""
        self._sound.forget()
        source, self._source = self._source, None
        if source is not None:
            source.close()
        if self._thread is not None:
            self._thread.join(5.0)

    def teardown(self) -> None:
        """Withdraw the topic."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            self.destroy_publisher(publisher)


def main() -> int:
    """Run the node."""
    return run(MicrophoneNode)


if __name__ == "__main__":
    sys.exit(main())
