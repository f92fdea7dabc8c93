"""The topic `audio`: which of the two messages it carries, and pieces of sound to and from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.msg import Audio
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.back_ends.interfaces import load_interface
from nano_agent_ros.nodes.conversions import seconds_of
from nano_agent_ros.speech.pcm import BadAudio, Piece, decode, encode_s16, interleaved
from nano_agent_ros.speech.topic_audio import PieceSource

TOPIC = "audio"
OWN = "nano_agent_ros/msg/Audio"
STAMPED = "audio_common_msgs/msg/AudioStamped"
TYPES = ("auto", OWN, STAMPED)
WATCH_S = 1.0

FORMATS: dict[int, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    1: ("float32_data", lambda x: x.astype(np.float32)),
    2: ("int32_data", lambda x: (x / 2**31).astype(np.float32)),
    8: ("int16_data", lambda x: x.astype(np.float32) / 2**15),
    16: ("int8_data", lambda x: x.astype(np.float32) / 2**7),
    32: ("uint8_data", lambda x: (x.astype(np.float32) - 128) / 2**7),
}
"""PortAudio's sample formats, which AudioInfo.format names: the field of AudioData, and what makes float32 of it."""


def piece_of(message: Any) -> Piece:
    """The sound in a message of either type; raises BadAudio."""
    return _piece_of_own(message) if isinstance(message, Audio) else _piece_of_stamped(message)


def _piece_of_own(message: Audio) -> Piece:
    frames = decode(message.data, message.encoding, message.sample_rate, message.channels)
    return Piece(frames, message.sample_rate, seconds_of(message.header.stamp), message.position)


def _piece_of_stamped(message: Any) -> Piece:
    info, data = message.audio.info, message.audio.audio_data
    if info.format not in FORMATS:
        known = ", ".join(f"{number} ({name.removesuffix('_data')})" for number, (name, _) in FORMATS.items())
        raise BadAudio(f"format {info.format} is unknown; there are {known}, as in PortAudio")
    name, convert = FORMATS[info.format]
    samples = np.asarray(getattr(data, name))
    if not len(samples):
        filled = [other for other, _ in FORMATS.values() if len(getattr(data, other))]
        raise BadAudio(f"{name} is empty" + (f", but {filled[0]} is filled: its format is wrong" if filled else ""))
    frames = interleaved(convert(samples), info.rate, info.channels)
    return Piece(frames, info.rate, seconds_of(message.header.stamp))


def own_message(samples: np.ndarray, sample_rate: int, position: int) -> Audio:
    """Float32 [n] of one channel as a message; the header is the caller's."""
    message = Audio(sample_rate=sample_rate, channels=1, encoding=Audio.S16LE, position=position)
    message.data = encode_s16(samples)
    return message


def stamped_message(samples: np.ndarray, sample_rate: int) -> Any:
    """Likewise as an AudioStamped; raises ConfigError if audio_common_msgs is not installed."""
    message = load_interface(STAMPED)()
    message.audio.audio_data.int16_data = np.frombuffer(encode_s16(samples), np.int16).tolist()
    info = message.audio.info
    info.format, info.channels, info.rate, info.chunk = 8, 1, sample_rate, len(samples)
    return message


def installed(kind: str) -> bool:
    """Whether a message type can be loaded here."""
    try:
        load_interface(kind)
    except ConfigError:
        return False
    return True


class TopicSource(PieceSource):
    """Sound from the topic `audio`. With type auto it is subscribed as what somebody publishes that we know."""

    def __init__(
        self,
        node: Node,
        kind: str = "auto",
        channel: int | None = None,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        """Subscribe; raises ConfigError if a type was named that is not installed here."""
        self._node = node
        self._topic = node.resolve_topic_name(TOPIC)
        super().__init__(f"topic {self._topic}", channel=channel, on_trouble=on_trouble, missing=self._explain)
        self._automatic = kind == "auto"
        self._group = MutuallyExclusiveCallbackGroup()
        self.kind = (self._published() or (STAMPED if installed(STAMPED) else OWN)) if self._automatic else kind
        self._subscription = self._subscribe()
        self._timer: Any = node.create_timer(WATCH_S, self._watch, callback_group=self._group)

    def _subscribe(self) -> Any:
        return self._node.create_subscription(
            load_interface(self.kind), TOPIC, self._on_audio, qos.SOUND, callback_group=self._group
        )

    def _on_audio(self, message: Any) -> None:
        self.push(lambda: piece_of(message))

    def _kinds(self) -> list[str]:
        return sorted({info.topic_type for info in self._node.get_publishers_info_by_topic(self._topic)})

    def _published(self) -> str:
        return next((kind for kind in self._kinds() if kind in TYPES and installed(kind)), "")

    def _watch(self) -> None:
        kinds = self._kinds() if self._automatic else []
        if not kinds or self.kind in kinds:
            return
        other = self._published()
        if other:
            self._node.destroy_subscription(self._subscription)
            self.kind = other
            self._subscription = self._subscribe()

    def _explain(self) -> str:
        kinds = self._kinds()
        if not kinds:
            return f"nobody publishes it; start one, such as the node microphone, or remap {TOPIC}"
        if self.kind not in kinds:
            return f"it is published as {', '.join(kinds)}, and listened to as {self.kind} (audio.topic_type)"
        return "it is published, but nothing comes"

    def close(self) -> None:
        """Unsubscribe and end `chunks`."""
        super().close()
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._node.destroy_subscription(self._subscription)
            self._timer = None

    def problem(self) -> str:
        """More than one publisher, or what is wrong with the level."""
        count = self._node.count_publishers(self._topic)
        if count > 1:
            return f"{count} publishers of {self._topic} at once: what is heard is a jumble; end all but one"
        return super().problem()

    def details(self) -> dict[str, object]:
        """As PieceSource, with the message type and how many publish it."""
        return super().details() | {"topic_type": self.kind, "publishers": self._node.count_publishers(self._topic)}
