"""The robot's own voice on ROS: what it says is known from `speaking`, and taken out of what the listener hears."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode

from nano_agent_ros.msg import Spoken
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import seconds_of
from nano_agent_ros.nodes.hearing import Heard, Partial
from nano_agent_ros.nodes.parameters import Parameter
from nano_agent_ros.speech.echo import OwnVoice

PARAMETERS = (
    Parameter("echo", "compare", "What becomes of speech that is heard while the robot speaks: its own words are taken "
              "out (compare), all of it is passed over (mute), or nothing (off: headset, echo-cancelling microphone)",
              choices=("compare", "mute", "off")),
    Parameter("echo_tail_s", 0.5, "How much later the robot's voice may be heard than it was made, in seconds",
              0.0, 5.0),
)  # fmt: skip

IsStop = Callable[[str], bool]


class EchoLink:
    """Subscribes `speaking` and tells what was heard from what the robot said itself."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the subscription."""
        self._mode, self._lead_s, self._min_confidence = "off", 0.0, 0.0
        self._voice = OwnVoice()
        self._announced: UUID | None = None  # speech in progress that was passed on
        node.create_subscription(
            Spoken, "speaking", self._on_spoken, qos.STATUS, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def setup(self, values: Mapping[str, Any]) -> None:
        """Take over the parameters."""
        self._mode, self._lead_s = values["echo"], values["endpoint.pre_roll_s"]
        self._min_confidence = values["gate.min_confidence"]
        self._voice.tail_s = values["echo_tail_s"]

    def heard(self, heard: Heard, is_stop: IsStop) -> tuple[Heard, bool]:
        """An utterance without the robot's own words, and whether there is nothing else to it."""
        said = heard.transcription
        began = heard.began + self._lead_s
        if self._mode == "off" or said is None or not self._voice.during(began, heard.ended):
            return heard, False
        if self._mode == "mute":
            return replace(heard, transcription=replace(said, text="")), True
        sifted = self._voice.sift(said.text, began, heard.ended, is_stop)
        # Nobody is asked to say again what may well have been the robot.
        unsure = said.confidence < self._min_confidence and not is_stop(sifted.text)
        if said.text and sifted.own and (not sifted.text or unsure):
            return heard, True
        return replace(heard, transcription=replace(said, text=sifted.text)), False

    def partial(self, partial: Partial, is_stop: IsStop) -> Partial | None:
        """Speech in progress without the robot's own words; None if nobody else is heard, or not for certain yet."""
        if not partial.speaking:
            return partial if self._mode == "off" or partial.key == self._announced else None
        sifted = self._sifted(partial, is_stop)
        if sifted is not None:
            self._announced = partial.key
        return sifted

    def _sifted(self, partial: Partial, is_stop: IsStop) -> Partial | None:
        said = partial.transcription
        began, ended = partial.began + self._lead_s, partial.began + (said.audio_s if said else self._lead_s)
        if self._mode == "off" or not self._voice.during(began, ended):
            return partial
        if said is None or self._mode == "mute":
            return None
        sifted = self._voice.sift(said.text, began, ended, is_stop)
        if not sifted.own:
            return partial
        if not sifted.text:
            return None
        # Nothing of it is stable: with the next words it may turn out that fewer are a person's.
        settled = partial.settled or sifted.closed
        return replace(partial, transcription=replace(said, text=sifted.text), stable="", settled=settled)

    def _on_spoken(self, message: Spoken) -> None:
        at = seconds_of(message.header.stamp)
        if message.text:
            self._voice.begins(message.text, at, seconds_of(message.duration))
        else:
            self._voice.silent(at)
