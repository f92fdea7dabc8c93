"""The listener: microphone, file or typed text becomes Transcripts; stop words act before anything else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Empty, String
from std_srvs.srv import SetBool

from nano_agent_ros.msg import Transcript
from nano_agent_ros.nodes import address_link, echo_link, qos, sources
from nano_agent_ros.nodes.conversions import duration_message, time_message, uuid_message, uuid_of
from nano_agent_ros.nodes.hearing import Heard, Hearing, Partial
from nano_agent_ros.nodes.lifecycle import ERROR, OK, WARN, ManagedNode, run
from nano_agent_ros.nodes.parameters import Live, Parameter
from nano_agent_ros.skills import Site
from nano_agent_ros.speech import (
    AudioSource,
    Completeness,
    EndpointConfig,
    Endpointer,
    SpeechError,
    Transcriber,
    Transcription,
)
from nano_agent_ros.speech.addressing import TOLERANCE_S

PARAMETERS = (
    *sources.PARAMETERS,
    Parameter("site", "warehouse", "Site file, or the name of one that ships: its names bias the transcription"),
    Parameter("whisper.model", "tiny-bundled", "faster-whisper model name, CTranslate2 folder, or tiny-bundled"),
    Parameter("whisper.language", "en", "ISO 639-1 code; empty: detect it (multilingual models only)"),
    Parameter("whisper.beam_size", 3, "1 is fastest, 5 most accurate", 1, 5),
    Parameter("whisper.threads", 2, "CPU threads of the transcription", 1, 64),
    Parameter("whisper.device", "cpu", "Where Whisper runs", choices=("cpu", "cuda", "auto")),
    Parameter("whisper.compute_type", "auto", "CTranslate2's type of weights; auto: int8 on a CPU, float16 on a GPU"),
    Parameter("whisper.use_hotwords", True, "Bias the transcription towards words of the trade and names of the site"),
    Parameter("whisper.hotwords", [""], "Words of your own that it is biased towards as well; [''] for none"),
    Live("endpoint.threshold", 0.5, "Speech probability at which an utterance begins; lower hears more", 0.05, 0.95),
    Parameter("endpoint.end_silence_s", 0.6, "Pause in seconds that ends an utterance", 0.1, 5.0),
    Parameter("endpoint.short_silence_s", 0.35, "Such a pause behind words that read as a whole command", 0.1, 5.0),
    Parameter("endpoint.long_silence_s", 1.1, "Such a pause where more must follow, as in 'go to the'", 0.1, 5.0),
    Parameter("endpoint.min_speech_s", 0.15, "Less voice than this, in seconds, is dropped as a click", 0.0, 2.0),
    Parameter("endpoint.max_utterance_s", 15.0, "Longer speech is cut and refused, in seconds", 1.0, 30.0),
    Parameter("endpoint.pre_roll_s", 0.3, "Audio kept before an utterance, in seconds", 0.0, 2.0),
    Parameter("endpoint.post_roll_s", 0.2, "Audio kept after an utterance, in seconds", 0.0, 2.0),
    Parameter("partial.every_s", 1.0, "Transcribe speech while it goes on, at most this often; 0: never", 0.0, 10.0),
    Live("gate.min_confidence", 0.35, "Below this confidence a transcript is not acted upon", 0.0, 1.0),
    Live("gate.max_no_speech", 0.6, "Above this no_speech_prob nothing was said", 0.0, 1.0),
    Parameter("text.max_length", 500, "Longer typed text is refused, in characters", 1, 10_000),
    *address_link.PARAMETERS,
    *echo_link.PARAMETERS,
)
PATIENCE_S = 3.0  # discovery takes 0.25 to 3 s


class ListenerNode(ManagedNode):
    """Publishes `transcript`, `partial_transcript` and `stop`; subscribes `text`; serves `mute`."""

    def __init__(self) -> None:
        """Create the topics; sound comes with activate."""
        super().__init__("listener", PARAMETERS)
        self._settings: Mapping[str, Any] = {}
        self._site: Site | None = None
        self._transcriber: Transcriber | None = None
        self._reads: Completeness | None = None
        self._hearing: Hearing | None = None
        self._publishing = threading.Lock()
        self._muted = False
        self._sound = sources.Sound(self)
        self._stopped_in: UUID | None = None  # the utterance that led to a stop before it was complete
        self._transcript = self.create_lifecycle_publisher(Transcript, "transcript", qos.COMMAND)
        self._partial = self.create_lifecycle_publisher(Transcript, "partial_transcript", qos.PARTIAL)
        self._stop = self.create_lifecycle_publisher(Empty, "stop", qos.COMMAND)
        group = MutuallyExclusiveCallbackGroup()
        self.create_subscription(String, "text", self._on_text, qos.COMMAND, callback_group=group)
        self.create_service(SetBool, "mute", self._on_mute, callback_group=group)
        self._address = address_link.AddressLink(self, group, self._cut)
        self._echo = echo_link.EchoLink(self)

    def setup(self, values: Mapping[str, Any]) -> None:
        """Load the site and Whisper. Without Whisper there is no speech, but text still works."""
        self._settings = values
        self._address.setup(values)
        self._echo.setup(values)
        self._site = Site.load(values["site"])
        self._endpoint = EndpointConfig(
            **{key.removeprefix("endpoint."): value for key, value in values.items() if key.startswith("endpoint.")}
        )
        places = [*self._site.locations.values(), *self._site.people.values()]
        self._reads = Completeness(
            [name for place in places for name in place.names],
            [name for thing in self._site.objects.values() for name in thing.names],
            values["robot_names"],
        )
        self._transcriber = None
        if values["audio.source"] == "none":
            return
        try:
            self._transcriber = Transcriber(
                values["whisper.model"],
                language=values["whisper.language"] or None,
                hotwords=self._site.aliases() if values["whisper.use_hotwords"] else None,
                own_words=values["whisper.hotwords"],
                beam_size=values["whisper.beam_size"],
                cpu_threads=values["whisper.threads"],
                device=values["whisper.device"],
                compute_type=values["whisper.compute_type"],
            )
        except SpeechError as error:
            self.get_logger().error(f"no speech, typed commands only: {error}")

    def start(self) -> None:
        """Open the source and listen, once the agent can hear it or the patience for that is over."""
        self._await_agent()
        kind = self._settings["audio.source"]
        if kind == "none":
            self.diagnose(OK, "typed commands only", audio="none")
            return
        if self._transcriber is None:
            self.diagnose(ERROR, "no speech model, typed commands only", audio="error")
            return
        try:
            source = self._address.listening_for_wake_word(self._sound.open(self._settings, kind))
        except SpeechError as error:
            self.get_logger().error(f"no sound, typed commands only: {error}")
            self.diagnose(ERROR, str(error), audio="error")
            return
        is_file = kind == "wav"
        every_s = self._settings["partial.every_s"]
        self._hearing = Hearing(
            source,
            Endpointer(self._endpoint),
            self._transcriber,
            self._on_heard,
            lambda error: self._on_end(source, error),
            paced=not is_file or self._settings["audio.realtime"],
            ready=self._somebody_listens if is_file else None,
            on_partial=self._on_partial if every_s else None,
            partial_every_s=every_s,
            reads=self._reads,
        )
        self._hearing.muted = self._muted
        self._hearing.start()
        self.get_logger().info("listening to " + (str(self._settings["audio.wav"]) if is_file else source.report()))
        self._sound.show()

    def halt(self) -> None:
        """Close the source."""
        self._sound.forget()
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            hearing.close()

    def teardown(self) -> None:
        """Release Whisper."""
        self._transcriber = None

    def retune(self, values: Mapping[str, Any]) -> None:
        """Go on with another way to be addressed."""
        self._address.retune(values)
        if self._hearing is not None:
            self._hearing.tune(values["endpoint.threshold"])

    def _cut(self) -> None:
        if self._hearing is not None:
            self._hearing.cut(TOLERANCE_S)

    def _await_agent(self) -> None:
        # What is published before an agent is matched never reaches it, and the first word may be "stop".
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self._transcript.get_subscription_count():
                return
            time.sleep(0.02)
        self.get_logger().warning("nobody listens to 'transcript' yet; is an agent active?")

    def _somebody_listens(self) -> bool:
        return self._transcript.get_subscription_count() >= self._settings["audio.min_subscribers"]

    def _on_heard(self, heard: Heard) -> None:
        if not self.active or not self.context.ok():
            return
        heard, echo = self._echo.heard(heard, self._address.addressing.ears.stops)
        said = heard.transcription
        message = self._message(heard.key, heard.began, heard.ended, said)
        message.is_final = True
        if echo:
            message.gate = Transcript.GATE_ECHO
        else:
            message.gate = self._gate(said, heard) if said else Transcript.GATE_MUTED
        lost = "the sound was lost while it was said" if heard.lost else ""
        self._send(message, (said.rejected or lost) if said else "muted")

    def _on_partial(self, whole: Partial) -> None:
        if not self.active or not self.context.ok():
            return
        partial = self._echo.partial(whole, self._address.addressing.ears.stops)
        if partial is None:
            return
        said = partial.transcription
        message = self._message(partial.key, partial.began, partial.began + (said.audio_s if said else 0.0), said)
        message.stable_text, message.speaking = partial.stable, partial.speaking
        if partial.dropped:
            message.gate = Transcript.GATE_NO_SPEECH
        elif not self._address.hears(partial):
            message.gate = Transcript.GATE_NOT_ADDRESSED
        ears = self._address.addressing.ears
        stops = said is not None and ears.stops_already(said.text, partial.settled)
        with self._publishing:
            first = stops and self._stopped_in != partial.key
            if first:
                self._stop.publish(Empty())
                self._stopped_in = partial.key
            if self._stopped_in == partial.key:
                message.gate = Transcript.GATE_STOP
            self._partial.publish(message)
        if first:
            self.get_logger().info(f"heard {message.text[:200]!r} so far (stop)")

    def _message(self, key: UUID, began: float, ended: float, said: Transcription | None) -> Transcript:
        """What was said in a piece of sound, by time.time() in seconds."""
        is_file = self._settings["audio.source"] == "wav"
        message = Transcript(
            utterance_id=uuid_message(key),
            source=Transcript.SOURCE_FILE if is_file else Transcript.SOURCE_MIC,
            audio_duration=duration_message(ended - began),
        )
        message.header.frame_id = self._settings["audio.frame_id"]
        message.header.stamp = time_message(began)
        if said is not None:
            message.text = said.text
            message.language = said.language
            message.confidence = float(said.confidence)
            message.no_speech_prob = float(said.no_speech_prob)
        now = self.get_clock().now().nanoseconds * 1e-9
        message.latency = duration_message(now - ended)
        return message

    def _gate(self, said: Transcription, heard: Heard) -> int:
        # A stop word acts however badly it was heard, and whoever is addressed.
        if self._address.addressing.ears.stops(said.text):
            return int(Transcript.GATE_STOP)
        if not said.text or said.no_speech_prob > self._settings["gate.max_no_speech"]:
            return int(Transcript.GATE_NO_SPEECH)
        if not self._address.addressing.heard(said.text, heard.began, heard.ended):
            return int(Transcript.GATE_NOT_ADDRESSED)
        if heard.truncated:
            return int(Transcript.GATE_TOO_LONG)
        if heard.lost or said.confidence < self._settings["gate.min_confidence"]:
            return int(Transcript.GATE_LOW_CONFIDENCE)
        return int(Transcript.GATE_ACCEPTED)

    def _on_text(self, text: String) -> None:
        if not self.active:
            return
        limit = self._settings["text.max_length"]
        too_long = len(text.data) > limit
        words = text.data[:limit]
        addressing = self._address.addressing
        gate = Transcript.GATE_TOO_LONG if too_long else Transcript.GATE_ACCEPTED
        if addressing.ears.stops(words):
            gate = Transcript.GATE_STOP
        elif not words.strip():
            gate = Transcript.GATE_NO_SPEECH
        elif not addressing.reads(words):
            gate = Transcript.GATE_NOT_ADDRESSED
        message = Transcript(
            utterance_id=uuid_message(uuid4()),
            text=words,
            is_final=True,
            confidence=1.0,
            source=Transcript.SOURCE_TEXT,
            gate=gate,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._send(message, f"longer than {limit} characters" if too_long else "")

    def _send(self, message: Transcript, why: str) -> None:
        with self._publishing:
            if message.gate == Transcript.GATE_STOP and uuid_of(message.utterance_id) != self._stopped_in:
                self._stop.publish(Empty())
            self._transcript.publish(message)
        gate = GATES[message.gate]
        note = f" ({gate}{': ' + why if why else ''})" if gate != "accepted" else ""
        self.get_logger().info(f"heard {message.text[:200]!r}, confidence {message.confidence:.2f}{note}")

    def _on_end(self, source: AudioSource, error: str) -> None:
        self._sound.forget()
        if not self.active or not self.context.ok():
            return
        if error:
            self.get_logger().error(f"no more sound, typed commands only: {error}")
            self.diagnose(ERROR, error, audio="error")
        else:
            self.get_logger().info(f"the sound is over: {source.report()}")
            self.diagnose(OK, "the file is over, typed commands only", audio="finished")

    def _on_mute(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._muted = bool(request.data)
        if self._hearing is not None:
            self._hearing.muted = self._muted
        response.success = True
        response.message = "muted: speech is not transcribed, typed commands still work" if self._muted else "listening"
        self._sound.note = response.message if self._muted else ""
        self.diagnose(WARN if self._muted else OK, response.message)
        return response


GATES = {
    getattr(Transcript, name): name.removeprefix("GATE_").lower().replace("_", " ")
    for name in (
        "GATE_ACCEPTED", "GATE_LOW_CONFIDENCE", "GATE_NO_SPEECH", "GATE_MUTED", "GATE_TOO_LONG", "GATE_STOP",
        "GATE_ECHO", "GATE_NOT_ADDRESSED",
    )
}  # fmt: skip


def main() -> int:
    """Run the node."""
    return run(ListenerNode)


if __name__ == "__main__":
    sys.exit(main())
