"""Where a node's sound comes from: the parameters of it, the source they name, and how it is, on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.nodes.audio_topic import TYPES, TopicSource
from nano_agent_ros.nodes.lifecycle import ERROR, OK, WARN, ManagedNode
from nano_agent_ros.nodes.parameters import Parameter
from nano_agent_ros.speech import MicrophoneSource, SpeechError, WavSource
from nano_agent_ros.speech.audio import MeteredSource
from nano_agent_ros.speech.levels import dbfs

MICROPHONE = (
    Parameter("audio.device", "", "Microphone: its index, name or a part of that; empty: the system's default"),
    Parameter("audio.channel", -1, "The one channel to hear of several; 0: the first, -1: the average of all", -1, 63),
    Parameter("audio.frame_id", "microphone", "Frame of the microphone, in the header of Transcripts and Audio"),
)
PARAMETERS = (
    Parameter("audio.source", "mic", "Where speech comes from", choices=("mic", "wav", "topic", "none")),
    *MICROPHONE,
    Parameter("audio.topic_type", "auto", "Type of the topic `audio`; auto: what is published", choices=TYPES),
    Parameter("audio.wav", "", "Sound file to play to the agent, for source wav"),
    Parameter("audio.realtime", True, "Play the file at the pace of speech, not as fast as it can be transcribed"),
    Parameter("audio.min_subscribers", 1, "A file begins once so many listen to `transcript`, or after 10 s", 0, 100),
)
WATCH_S = 1.0


class Sound:
    """The source of a node. What becomes of it is logged once and shown on the node's diagnostics every second."""

    def __init__(self, node: ManagedNode) -> None:
        """Nothing is open yet."""
        self._node = node
        self._source: MeteredSource | None = None
        self.note = ""
        """Why sound is not used though it comes, such as muted; shown as a warning."""
        node.create_timer(WATCH_S, self.show, callback_group=MutuallyExclusiveCallbackGroup())

    def open(self, values: Mapping[str, Any], kind: str) -> MeteredSource:
        """Open the source that the parameters name; raises SpeechError or ConfigError."""
        self._source = self._make(values, kind)
        return self._source

    def _make(self, values: Mapping[str, Any], kind: str) -> MeteredSource:
        if kind == "wav":
            if not values["audio.wav"]:
                raise SpeechError("audio.source is wav but audio.wav names no file; give its path")
            return WavSource(values["audio.wav"], realtime=values["audio.realtime"])
        channel = values["audio.channel"] if values["audio.channel"] >= 0 else None
        if kind == "topic":
            try:
                return TopicSource(self._node, values["audio.topic_type"], channel, self._on_trouble)
            except ConfigError as error:
                raise SpeechError(str(error)) from error
        device = values["audio.device"] or None
        return MicrophoneSource(device, channel=channel, patient=True, on_trouble=self._on_trouble)

    def forget(self) -> None:
        """The source is over or closed: nothing more is shown of it."""
        self._source = None

    def _on_trouble(self, trouble: str) -> None:
        if not self._node.active or not self._node.context.ok():
            return
        if trouble:
            self._node.get_logger().error(trouble)
            self._node.diagnose(ERROR, trouble, audio="lost")
        else:
            self._node.get_logger().info(f"sound is back: {self._source.report() if self._source else ''}")
            self.show()

    def show(self) -> None:
        """Report how the source is, if there is one."""
        source = self._source
        if source is None or not self._node.active:
            return
        level = source.levels.recent()
        problem = source.problem()
        shown: dict[str, object] = {"search": ""} | source.details()
        shown |= {"level_window_s": f"{level.seconds:.1f}", "rms_dbfs": f"{dbfs(level.rms):.1f}"}
        shown |= {"peak_dbfs": f"{dbfs(level.peak):.1f}", "clipped_percent": f"{100 * level.clipped:.2f}"}
        shown |= {"hint": problem, "audio": "lost" if source.trouble else "listening"}
        if source.trouble:
            self._node.diagnose(ERROR, source.trouble, **shown)
        elif self.note or problem:
            self._node.diagnose(WARN, self.note or problem, **shown)
        else:
            self._node.diagnose(OK, "listening", **shown)
