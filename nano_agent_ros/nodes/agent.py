"""The agent: Transcripts become RobotActions, DefectReports and Replies."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any
from uuid import UUID, uuid4

from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from sensor_msgs.msg import BatteryState
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from nano_agent_ros.agent import Agent
from nano_agent_ros.msg import ActionStatus, AgentState, Transcript
from nano_agent_ros.nodes import address_link, qos
from nano_agent_ros.nodes.agent_parameters import PARAMETERS, interrupts
from nano_agent_ros.nodes.assent import is_no, is_release, is_yes
from nano_agent_ros.nodes.conversions import arguments_of, seconds_of, uuid_of
from nano_agent_ros.nodes.dialogue import Dialogue, Kind, Outcome
from nano_agent_ros.nodes.facts import FactBook
from nano_agent_ros.nodes.keeping import Keeping, state_folder
from nano_agent_ros.nodes.lifecycle import ERROR, OK, WARN, ManagedNode, run
from nano_agent_ros.nodes.outbox import NIL, Outbox
from nano_agent_ros.nodes.robot_link import RobotLink
from nano_agent_ros.nodes.speaking import Speaking
from nano_agent_ros.nodes.thinking import Thinking, Utterance
from nano_agent_ros.nodes.vitals import Vitals
from nano_agent_ros.robot.simulation import State
from nano_agent_ros.speech.addressing import Ears
from nano_agent_ros.srv import Ask
from nano_agent_ros.state import PrefixCache

MEMORY = 1000  # utterance ids that are remembered
STOPPED = "Stopped. Say 'resume' to let me move again."


class AgentNode(ManagedNode):
    """Subscribes transcript, partial_transcript, stop, status, battery, pose; publishes action, reply, defect_report,
    agent_state."""

    def __init__(self) -> None:
        """Create topics and services; the model comes with configure."""
        super().__init__("agent", PARAMETERS)
        self._settings: Mapping[str, Any] = {}
        self._names = Ears([])
        self._thinking: Thinking | None = None
        self._vitals: Vitals | None = None
        self._out = Outbox(self)
        self._robot = RobotLink(self)
        self._seen: OrderedDict[UUID, None] = OrderedDict()
        self._stopped_by_topic = float("-inf")
        self._stopped_in: UUID | None = None  # an utterance that stopped the robot before it was complete
        self._speaking = Speaking()
        self._words, self._urgent = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self._ears: list[Any] = []
        self.create_timer(1.0, self._on_silence, callback_group=self._words)
        reports, services = MutuallyExclusiveCallbackGroup(), ReentrantCallbackGroup()
        self.create_subscription(ActionStatus, "status", self._on_status, qos.STATUS, callback_group=reports)
        self.create_subscription(BatteryState, "battery", self._on_battery, qos.MEASUREMENT, callback_group=reports)
        self.create_subscription(PoseStamped, "pose", self._on_pose, qos.MEASUREMENT, callback_group=reports)
        self.create_service(Ask, "ask", self._on_ask, callback_group=services)
        self.create_service(Trigger, "cancel_all", self._on_cancel_all, callback_group=services)
        self.create_service(Trigger, "reset_session", self._on_reset_session, callback_group=services)
        self.create_service(Trigger, "acknowledge_stop", self._on_acknowledge_stop, callback_group=services)

    def setup(self, values: Mapping[str, Any]) -> None:
        """Load the model and prefill skills and site."""
        began = time.monotonic()
        try:
            self._names = address_link.ears_of(values)
            agent = Agent.open(
                values["model"] or None,
                values["engine"],
                values["skills"] or None,
                values["site"],
                threads=values["threads"] or None,
                pin=values["pin"] or None,
                huge_pages=values["huge_pages"] or None,
                thinking=values["thinking"],
                guess=None if values["guess"] < 0 else values["guess"],
                min_confidence=values["min_plan_confidence"],
                cache=PrefixCache() if values["keep_state"] else None,
                keep_cut_turns=values["keep_cut_turns"],
                max_overheard=values["max_plan_overheard"],
            )
        except Exception as error:
            self._out.show(AgentState.ERROR, error=str(error))
            raise
        folder = state_folder(values["state_dir"], self.get_namespace()) if values["keep_state"] else None
        keeping = Keeping(agent, folder, values["resume_within_s"], self._out.digest)
        self._settings = values
        self._out.frame_id = agent.site.frame_id
        self._thinking = Thinking(
            Dialogue(agent, keeping.session_id, values["confirm_timeout_s"], stopped=keeping.stopped),
            FactBook(agent.site, values["near_m"]),
            self._out,
            keeping,
            self.get_logger(),
            self._now,
            self._refresh,
            told=tuple(values["facts"]),
            max_age_s=values["max_transcript_age_s"],
            max_waiting=values["max_waiting"],
            interrupt=interrupts(values),
        )
        self._vitals = Vitals(self._thinking, self._out.figures, values)
        self._out.show(AgentState.IDLE, keeping.session_id, restored=keeping.restored)
        self._out.conversation(agent)
        self._refresh()
        took_s = time.monotonic() - began
        self.get_logger().info(f"model ready in {took_s:.2f} s, {agent.context_tokens} tokens of context")
        if keeping.restored:
            self.get_logger().info(f"the conversation goes on after {agent.turns} turns")

    def retune(self, values: Mapping[str, Any]) -> None:
        """Go on with other thresholds and limits."""
        thinking = self._thinking
        if thinking is not None:
            thinking.retune(values["max_transcript_age_s"], values["max_waiting"], interrupts(values))
            thinking.dialogue.confirm_timeout_s = values["confirm_timeout_s"]
            thinking.dialogue.agent.min_confidence = values["min_plan_confidence"]
            thinking.dialogue.agent.max_overheard = values["max_plan_overheard"]
            thinking.note(lambda book: setattr(book, "near_m", values["near_m"]))

    def start(self) -> None:
        """Take words from now on: that there is a subscription tells a listener that it is heard."""
        self._ears = [
            self.create_subscription(Empty, "stop", self._on_stop, qos.COMMAND, callback_group=self._urgent),
            self.create_subscription(
                Transcript, "transcript", self._on_transcript, qos.COMMAND, callback_group=self._words
            ),
            self.create_subscription(
                Transcript, "partial_transcript", self._on_partial, qos.PARTIAL, callback_group=self._words
            ),
        ]
        if self._thinking is not None and self._vitals is not None:
            self.tasks = self._vitals.tasks()
            self._thinking.go_on()
        self._refresh()

    def halt(self) -> None:
        """Whatever is being thought about must not lead to an action any more."""
        for subscription in self._ears:
            self.destroy_subscription(subscription)
        self._ears = []
        self._speaking = Speaking()
        if self._thinking is not None:
            self._thinking.dialogue.cancel_all()

    def teardown(self) -> None:
        """Release the model; waits for the turn in progress."""
        vitals, self._vitals = self._vitals, None
        if vitals is not None:
            vitals.close()
        thinking, self._thinking = self._thinking, None
        if thinking is not None:
            thinking.close()

    def _on_stop(self, message: Empty) -> None:
        if self._thinking is not None and self.active:
            self._stopped_by_topic = time.monotonic()
            self._stop(self._thinking, NIL)

    def _on_transcript(self, message: Transcript) -> None:
        thinking = self._thinking
        if thinking is None or not self.active:
            return
        key = uuid_of(message.utterance_id)
        silent = message.gate in (Transcript.GATE_NO_SPEECH, Transcript.GATE_MUTED, Transcript.GATE_ECHO)
        stop = message.gate == Transcript.GATE_STOP or self._names.stops(message.text)
        said = self._names.call(message.text)
        elsewhere = message.gate == Transcript.GATE_NOT_ADDRESSED or said.elsewhere
        if stop and not silent:
            # The listener has sent the same stop on its own topic just before, most likely, or while it was said.
            if time.monotonic() - self._stopped_by_topic > 2.0 and key != self._stopped_in:
                self._stop(thinking, key)
            if message.is_final:
                self._out.say(key, Kind.ACKNOWLEDGE, STOPPED)
        elif message.is_final and not silent and not elsewhere and not self._heard_before(key):
            self._hear(thinking, message, key, said.words)
        if message.is_final and self._speaking.over(key):
            self._refresh()

    def _on_partial(self, message: Transcript) -> None:
        thinking, key = self._thinking, uuid_of(message.utterance_id)
        if thinking is None or not self.active or message.is_final or key == NIL:
            return
        if message.gate == Transcript.GATE_STOP and key != self._stopped_in:
            self._stopped_in = key
            if time.monotonic() - self._stopped_by_topic > 2.0:
                self._stop(thinking, key)
        if message.gate == Transcript.GATE_NOT_ADDRESSED:
            return
        if self._speaking.heard(message):
            self._refresh()
        words = self._names.call(message.stable_text).words
        if message.gate == Transcript.GATE_ACCEPTED and words:
            thinking.anticipate(words, complete=message.stable_text == message.text)

    def _on_silence(self) -> None:
        if self._speaking.expire():
            self._refresh()

    def _hear(self, thinking: Thinking, message: Transcript, key: UUID, words: str) -> None:
        """Pass the words that are the robot's on to the model if they may be acted upon, and say why otherwise."""
        ended = seconds_of(message.header.stamp) + seconds_of(message.audio_duration)
        utterance = Utterance(key, words, message.confidence, ended, seconds_of(message.latency))
        if message.gate == Transcript.GATE_TOO_LONG:
            self._out.say(key, Kind.REFUSE, "That was too long for me. Please say it in fewer words.")
        elif message.gate == Transcript.GATE_LOW_CONFIDENCE or message.confidence < self._settings["min_confidence"]:
            self._out.say(key, Kind.CLARIFY, "I didn't catch that. Please say it again.")
        elif thinking.stale(utterance):
            thinking.refuse_stale(utterance)
        elif self._stopped(thinking) and self._settings["release_by_voice"] and is_release(words):
            self._release(thinking)
            self._out.say(key, Kind.ACKNOWLEDGE, "All right, I can move again.")
        elif reply := self._answered(words):
            self._out.say(key, Kind.ACKNOWLEDGE, reply)
        elif thinking.submit(utterance) is None:
            self._out.say(key, Kind.REFUSE, "I am still busy with what you said before. Please wait a moment.")

    def _answered(self, text: str) -> str:
        """Pass on a yes or a no that the executor waits for; returns what to say, empty if it was none."""
        if not self._robot.asking or not (is_yes(text) or is_no(text)):
            return ""
        self._robot.confirm(is_yes(text))
        return "Okay." if is_yes(text) else "All right, I won't."

    def _heard_before(self, key: UUID) -> bool:
        if key == NIL:
            return False
        if key in self._seen:
            self.get_logger().warning(f"utterance {key} came a second time; it is acted upon once only")
            return True
        self._seen[key] = None
        while len(self._seen) > MEMORY:
            self._seen.popitem(last=False)
        return False

    def _stop(self, thinking: Thinking, utterance_id: UUID) -> None:
        thinking.stop(utterance_id)
        self.get_logger().warning("stop: no action until 'resume' or the service acknowledge_stop")
        self._refresh()

    def _stopped(self, thinking: Thinking) -> bool:
        return thinking.dialogue.stopped or self._robot.stopped

    def _release(self, thinking: Thinking) -> bool:
        released = self._stopped(thinking)
        thinking.acknowledge_stop()
        self._robot.acknowledge_stop()
        if released:
            self.get_logger().info("the stop is acknowledged")
        self._refresh()
        return released

    def _refresh(self) -> None:
        """Show what the agent is doing now."""
        thinking = self._thinking
        if thinking is None:
            return
        acting, paused = thinking.note(lambda book: (book.acting, book.paused))
        choices = (
            (thinking.dialogue.stopped, AgentState.STOPPED),
            (bool(thinking.failure), AgentState.ERROR),
            (thinking.waiting > 0, AgentState.THINKING),
            (self._speaking.state is not None, self._speaking.state),
            (thinking.dialogue.confirming, AgentState.CONFIRMING),
            (paused, AgentState.PAUSED),
            (acting, AgentState.ACTING),
        )
        state = next((state for applies, state in choices if applies and state is not None), AgentState.IDLE)
        self._out.show(state, thinking.dialogue.session, thinking.failure)
        health = {AgentState.STOPPED: (WARN, "stopped"), AgentState.ERROR: (ERROR, thinking.failure)}
        level, text = health.get(state, (OK, "active" if self.active else "inactive"))
        if (level, text) != self.health:
            self.diagnose(level, text)

    def _on_status(self, message: ActionStatus) -> None:
        if self._thinking is not None and message.state in State.__members__.values():
            key, state = uuid_of(message.action_id), State(message.state)
            question = self._robot.note(message)
            if question:
                self._out.say(NIL, Kind.CONFIRM, f"{question[0].upper()}{question[1:]}. Yes or no?")
            before = self._thinking.note(lambda book: (book.acting, book.paused))
            self._thinking.note(lambda book: book.report(key, state, message.error_msg))
            if self._thinking.note(lambda book: (book.acting, book.paused)) != before:
                self._refresh()

    def _on_battery(self, message: BatteryState) -> None:
        if self._thinking is not None:
            self._thinking.note(lambda book: book.battery(message.percentage))

    def _on_pose(self, message: PoseStamped) -> None:
        if self._thinking is not None:
            self._thinking.note(lambda book: book.position(message.pose.position.x, message.pose.position.y))

    def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        thinking = self._thinking
        if thinking is None or not self.active:
            response.message = "the agent is not active; configure and activate it"
            return response
        key = uuid4()
        said = self._names.call(request.text)
        if self._names.stops(request.text):
            self._stop(thinking, key)
            return self._answer(response, key, Outcome(Kind.ACKNOWLEDGE, STOPPED, 0))
        if said.elsewhere:
            return self._answer(response, key, Outcome(Kind.IGNORE, "", 0))
        if reply := self._answered(said.words):
            return self._answer(response, key, Outcome(Kind.ACKNOWLEDGE, reply, 0))
        facts = arguments_of(request.facts)
        future = thinking.submit(Utterance(key, said.words, 1.0, self._now(), facts=facts))
        if future is None:
            response.message = f"busy: {thinking.waiting} utterances wait already; ask again in a moment"
            return response
        try:
            outcome = future.result(self._settings["ask_timeout_s"])
        except FutureTimeout:
            response.message = f"no answer within {self._settings['ask_timeout_s']:g} s; it goes on"
            return response
        except CancelledError:
            response.message = "the agent was shut down before it could answer"
            return response
        return self._answer(response, key, outcome)

    def _answer(self, response: Ask.Response, key: UUID, outcome: Outcome) -> Ask.Response:
        response.success = True
        response.actions = [self._out.action(step, key, outcome.held) for step in outcome.steps]
        response.reply = self._out.reply(key, outcome.kind, outcome.text)
        return response

    def _on_cancel_all(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._thinking is None or not self.active:
            response.message = "the agent is not active"
            return response
        self._thinking.cancel_all()
        self._refresh()
        response.success, response.message = True, "everything is cancelled"
        return response

    def _on_reset_session(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._thinking is None:
            response.message = "the agent is not configured"
            return response
        session = uuid4()
        try:
            self._thinking.reset(session).result(self._settings["ask_timeout_s"])
        except (FutureTimeout, CancelledError, RuntimeError) as error:
            response.message = f"not reset: {type(error).__name__} {error}"
            return response
        response.success, response.message = True, f"new session {session}"
        return response

    def _on_acknowledge_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._thinking is None:
            response.message = "the agent is not configured"
            return response
        response.success = self._release(self._thinking)
        response.message = "the robot may move again" if response.success else "there was no stop"
        return response

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9


def main() -> int:
    """Run the node."""
    return run(AgentNode)


if __name__ == "__main__":
    sys.exit(main())
