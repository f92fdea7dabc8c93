"""The speaker: replies are said aloud, and not a block longer than people want to listen."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from rclpy.callback_groups import ReentrantCallbackGroup
from std_msgs.msg import Empty, String

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.msg import Reply, Transcript
from nano_agent_ros.msg import Spoken as SpokenMessage
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import duration_message, seconds_of, time_message, uuid_message, uuid_of
from nano_agent_ros.nodes.lifecycle import ERROR, OK, ManagedNode, run
from nano_agent_ros.nodes.parameters import Live, Parameter
from nano_agent_ros.nodes.saying import Mouth, Spoken, Words
from nano_agent_ros.nodes.speaking import Speaking
from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.playback import Loudspeaker
from nano_agent_ros.speech.speakable import MAX_LENGTH, is_cut
from nano_agent_ros.speech.voice import Synthesizer, VoiceConfig
from nano_agent_ros.speech.voices import ENGINES, open_voice

KINDS = {"answer": Reply.ANSWER, "clarify": Reply.CLARIFY, "confirm": Reply.CONFIRM, "refuse": Reply.REFUSE,
         "acknowledge": Reply.ACKNOWLEDGE}  # fmt: skip
NIL = UUID(int=0)

PARAMETERS = (
    Parameter("engine", "auto", "What speaks; auto: the command, Piper or espeak-ng that is there", choices=ENGINES),
    Parameter("voice", "", "Piper: path or name of an .onnx voice; espeak-ng: such as en-gb; empty: the default"),
    Parameter("language", "en", "ISO 639-1 code: espeak-ng's voice, and how numbers with units are read"),
    Parameter("command", "", "A program to speak with, such as `pico2wave -l {language} -w {wav}`"),
    Parameter("rate", 1.0, "Speed of the voice, a factor", 0.5, 2.0),
    Live("volume", 0.8, "Loudness, a factor", 0.0, 1.0),
    Parameter("device", "", "Loudspeaker: index or part of its name; empty: the system's default"),
    Parameter("kinds", list(KINDS), "Kinds of replies that are said; [''] for none"),
    Parameter("urgent", ["confirm", "refuse"], "Kinds that are said before others that wait; [''] for none"),
    Live("barge_in", True, "Fall silent when a person speaks, and let them finish"),
    Live("max_age_s", 10.0, "What could not be said for longer is not said at all, in seconds", 0.1, 600.0),
    Parameter("max_waiting", 8, "Replies that may wait; the oldest go", 1, 100),
    Parameter("max_length", MAX_LENGTH, "Longer texts are cut after a sentence, in characters", 20, 10_000),
    Parameter("timeout_s", 10.0, "A program that takes longer for a sentence is killed, in seconds", 0.5, 600.0),
    Parameter("start_timeout_s", 60.0, "Likewise for the first sentence of a program that loads a model", 1.0, 600.0),
    Parameter("block_s", 0.02, "Sound that is handed over at a time, in seconds", 0.005, 0.2),
    Parameter("latency_s", 0.1, "Sound that the driver keeps in advance, in seconds", 0.01, 1.0),
)


class SpeakerNode(ManagedNode):
    """Subscribes `reply`, `say`, `stop` and `partial_transcript`; publishes `speaking`."""

    def __init__(self) -> None:
        """Create the topics; the voice comes with configure, the loudspeaker with activate."""
        super().__init__("speaker", PARAMETERS)
        self._settings: Mapping[str, Any] = {}
        self._config = VoiceConfig()
        self._voice: Synthesizer | None = None
        self._mouth: Mouth | None = None
        self._no_voice = self._trouble = ""
        self._speaking = Speaking()
        self._spoken = self.create_lifecycle_publisher(SpokenMessage, "speaking", qos.STATUS)
        group = ReentrantCallbackGroup()  # a stop waits for nothing
        self.create_subscription(Reply, "reply", self._on_reply, qos.COMMAND, callback_group=group)
        self.create_subscription(String, "say", self._on_say, qos.COMMAND, callback_group=group)
        self.create_subscription(Empty, "stop", self._on_stop, qos.COMMAND, callback_group=group)
        self.create_subscription(
            Transcript, "partial_transcript", self._on_partial, qos.PARTIAL, callback_group=group
        )
        self.create_timer(1.0, self._on_second, callback_group=group)

    def setup(self, values: Mapping[str, Any]) -> None:
        """Find a voice and have it speak into memory. Without one the node stays up and says so."""
        for name in ("kinds", "urgent"):
            if unknown := [kind for kind in values[name] if kind and kind not in KINDS]:
                raise ConfigError(f"parameter {name}: '{unknown[0]}' is none of {', '.join(KINDS)}")
        self._settings = values
        self._config = VoiceConfig(**{name: values[name] for name in VoiceConfig.__dataclass_fields__})
        self._no_voice = ""
        try:
            self._voice = open_voice(self._config, self._warn)
        except SpeechError as error:
            self._no_voice = str(error)
            self.get_logger().error(f"replies are not said: {error}")

    def start(self) -> None:
        """Open the loudspeaker and listen for what to say."""
        if self._no_voice:
            self._show()
            return
        if self._voice is None:  # closed by a deactivation before
            self._voice = open_voice(self._config, self._warn)
        loudspeaker: Loudspeaker | None = None
        self._trouble = ""
        try:
            loudspeaker = self._open_loudspeaker()
            self.get_logger().info(f"speaking with {self._voice.name} through {loudspeaker.report()}")
        except SpeechError as error:
            self._trouble = str(error)
            self.get_logger().error(f"replies are not said: {error}")
        self._speaking = Speaking()
        values = self._settings
        self._mouth = Mouth(
            self._voice,
            loudspeaker,
            self._open_loudspeaker,
            self._on_spoken,
            self._on_trouble,
            clock=self._now,
            language=values["language"],
            volume=values["volume"],
            max_age_s=values["max_age_s"],
            max_waiting=values["max_waiting"],
            max_length=values["max_length"],
        )
        self._show()

    def halt(self) -> None:
        """Fall silent and release the loudspeaker."""
        mouth, self._mouth = self._mouth, None
        if mouth is not None:
            mouth.close()
            self._voice = None

    def teardown(self) -> None:
        """End the voice."""
        voice, self._voice = self._voice, None
        if voice is not None:
            voice.close()

    def retune(self, values: Mapping[str, Any]) -> None:
        """Go on as loud, and as late, as is wanted now."""
        if self._mouth is not None:
            self._mouth.tune(values["volume"], values["max_age_s"])
            if not values["barge_in"]:
                self._mouth.hold(False)

    def _open_loudspeaker(self) -> Loudspeaker:
        values = self._settings
        return Loudspeaker(values["device"] or None, block_s=values["block_s"], latency_s=values["latency_s"])

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text)

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def _on_reply(self, reply: Reply) -> None:
        kind = next((name for name, number in KINDS.items() if number == reply.kind), "")
        if kind and kind in self._settings.get("kinds", ()):
            at = seconds_of(reply.header.stamp) or self._now()
            self._say(Words(uuid_of(reply.utterance_id), reply.text, at, kind in self._settings["urgent"]))

    def _on_say(self, text: String) -> None:
        self._say(Words(NIL, text.data, self._now()))

    def _say(self, words: Words) -> None:
        if self._mouth is None or not self.active:
            return
        if is_cut(words.text, self._settings["max_length"], self._settings["language"]):
            self.get_logger().warning(f"a text of {len(words.text)} characters is too long; its end is not said")
        self._mouth.say(words)

    def _on_stop(self, message: Empty) -> None:
        if self._mouth is not None:
            self._mouth.interrupt(everything=True)

    def _on_partial(self, partial: Transcript) -> None:
        mouth = self._mouth
        if mouth is None:
            return
        if partial.gate == Transcript.GATE_STOP:
            mouth.interrupt(everything=True)
        if not self._settings["barge_in"] or partial.gate == Transcript.GATE_ECHO:
            return
        self._speaking.heard(partial)
        if partial.speaking:
            mouth.hold(True)
            mouth.interrupt()
        else:
            mouth.hold(False)

    def _on_second(self) -> None:
        mouth = self._mouth
        if mouth is not None and self.active:
            if self._speaking.expire():
                mouth.hold(False)
            self._show()

    def _on_spoken(self, spoken: Spoken) -> None:
        if not self.context.ok():
            return
        message = SpokenMessage(
            utterance_id=uuid_message(spoken.key),
            text=spoken.text,
            duration=duration_message(spoken.duration_s),
            cut=spoken.cut,
        )
        # As the Transcript's stamps: of the system's clock, whatever time ROS has.
        message.header.stamp = time_message(time.time())
        self._spoken.publish(message)
        if spoken.text:
            self.get_logger().info(f"says {spoken.text!r}")
        elif spoken.cut:
            self.get_logger().info("was interrupted")

    def _on_trouble(self, trouble: str) -> None:
        self._trouble = trouble
        if trouble:
            self.get_logger().error(f"a reply was not said: {trouble}")
        self._show()

    def _show(self) -> None:
        """Diagnose how speaking is going."""
        mouth, device = self._mouth, "none"
        if self._no_voice or mouth is None:
            self.diagnose(ERROR, self._no_voice or "inactive", engine="none", device=device)
            return
        if mouth.loudspeaker is not None:
            device = mouth.loudspeaker.report()
        voice = getattr(self._voice, "name", "none")
        restarts = max(0, getattr(self._voice, "restarts", 0))
        level, text = (ERROR, self._trouble) if self._trouble else (OK, "ready to speak")
        details = {"engine": voice, "device": device, "waiting": mouth.waiting, "restarts": restarts}
        self.diagnose(level, text, **details, **vars(mouth.counts))


def main() -> int:
    """Run the node."""
    return run(SpeakerNode)


if __name__ == "__main__":
    sys.exit(main())
