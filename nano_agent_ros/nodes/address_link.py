"""Addressing on ROS: its parameters, the talk button, and the replies after which an answer needs no name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from rclpy.callback_groups import CallbackGroup
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.msg import Reply, Spoken
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.hearing import Partial
from nano_agent_ros.nodes.parameters import Live, Parameter
from nano_agent_ros.speech.addressing import MODES, Addressing, AddressSettings, Ears
from nano_agent_ros.speech.audio import AudioSource
from nano_agent_ros.speech.wake_word import WakeWord, WakeWordSource

NAMES = (
    Parameter("robot_names", ["robot"], "What people call the robot"),
    Parameter("other_robots", [""], "What people call the other robots: what is said to them is not for this one"),
    Parameter("address.stop_for_others", True, "Whether 'unit three, stop' stops unit two as well"),
)
PARAMETERS = (
    *NAMES,
    Live("address.mode", "open", "Which speech is for the robot: all, with the button held, or with its name",
         choices=MODES),
    Live("address.follow_up_s", 8.0, "Mode wake_word: an answer that begins so soon after a reply needs no name, "
         "in seconds", 0.0, 120.0),
    Live("address.talk_timeout_s", 60.0, "A button that nothing was heard of for so long is released, in seconds",
         1.0, 3600.0),
    Parameter("address.wake_word_model", "", "Mode wake_word: an openWakeWord model of your own (.onnx) "
              "besides the names; empty: none"),
    Parameter("address.wake_word_threshold", 0.5, "Its score at which the wake word was heard", 0.01, 1.0),
)  # fmt: skip
WATCH_S = 0.5


class AddressLink:
    """Subscribes `talk`, `reply` and `speaking`, serves `toggle_talk`, and keeps `addressing` informed."""

    def __init__(self, node: LifecycleNode, group: CallbackGroup, on_release: Callable[[], None]) -> None:
        """Create the topics; `on_release` is called when the button is released and the mode is push_to_talk."""
        self._node, self._on_release = node, on_release
        self._unmanned = 0
        self._wake_word: WakeWord | None = None
        self._taken: UUID | None = None  # speech in progress that was meant for the robot when last looked at
        self.addressing = Addressing(Ears([]))
        node.create_subscription(Bool, "talk", self._on_talk, qos.COMMAND, callback_group=group)
        node.create_subscription(Reply, "reply", self._on_reply, qos.COMMAND, callback_group=group)
        # What was said before this node ran invites nobody: volatile.
        node.create_subscription(Spoken, "speaking", self._on_spoken, qos.COMMAND, callback_group=group)
        node.create_service(Trigger, "toggle_talk", self._on_toggle, callback_group=group)
        node.create_timer(WATCH_S, self._watch, callback_group=group)

    def setup(self, values: Mapping[str, Any]) -> None:
        """Begin anew; raises ConfigError for names that cannot be told apart, SpeechError without openWakeWord."""
        self.addressing = Addressing(ears_of(values), _settings(values))
        self._wake_word = None
        if values["address.wake_word_model"]:
            path = Path(values["address.wake_word_model"])
            self._wake_word = WakeWord(path, values["address.wake_word_threshold"])

    def retune(self, values: Mapping[str, Any]) -> None:
        """Go on with another mode and other times."""
        self.addressing.settings = _settings(values)

    def hears(self, partial: Partial) -> bool:
        """Whether speech in progress is meant for the robot. What is over without new words is what it was."""
        text = partial.transcription.text if partial.transcription else ""
        taken = self.addressing.hears(text, partial.began) or (not text and partial.key == self._taken)
        self._taken = partial.key if taken else None
        return taken

    def listening_for_wake_word(self, source: AudioSource) -> AudioSource:
        """The source, listened to for the sound of the wake word if there is a model of it."""
        if self._wake_word is None:
            return source
        return WakeWordSource(source, self._wake_word, lambda: self.addressing.woken())

    def _on_talk(self, message: Bool) -> None:
        self._unmanned = 0
        held = self.addressing.held
        self.addressing.talk(message.data)
        self._released(held)

    def _released(self, held: bool) -> None:
        """The button may not be `held` any more: what was said with it is complete."""
        if held and not self.addressing.held and self.addressing.settings.mode == "push_to_talk":
            self._on_release()

    def _on_reply(self, message: Reply) -> None:
        if message.kind != Reply.IGNORE:
            self.addressing.replied()

    def _on_spoken(self, message: Spoken) -> None:
        self.addressing.speaks(bool(message.text))

    def _on_toggle(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        held = self.addressing.toggle()
        self._released(not held)
        response.success, response.message = True, "speech is taken" if held else "speech is not taken"
        return response

    def _watch(self) -> None:
        # Whoever published a moment ago may not be in the graph yet: once is not enough.
        self._unmanned = 0 if self._node.count_publishers("talk") else self._unmanned + 1
        if self._unmanned >= 2:
            held = self.addressing.held
            self.addressing.left()
            self._released(held)


def ears_of(values: Mapping[str, Any]) -> Ears:
    """What the parameters NAMES say; raises ConfigError."""
    try:
        return Ears(values["robot_names"], values["other_robots"], values["address.stop_for_others"])
    except ValueError as error:
        raise ConfigError(f"parameters robot_names and other_robots: {error}") from error


def _settings(values: Mapping[str, Any]) -> AddressSettings:
    return AddressSettings(values["address.mode"], values["address.follow_up_s"], values["address.talk_timeout_s"])
