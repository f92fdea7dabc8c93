"""The agent: Transcripts become RobotActions, DefectReports and Replies. The model runs in a thread of its own."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from sensor_msgs.msg import BatteryState
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from nano_agent_ros.agent import Agent
from nano_agent_ros.msg import ActionStatus, AgentState, Transcript
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.assent import is_release
from nano_agent_ros.nodes.conversions import arguments_of, seconds_of, uuid_of
from nano_agent_ros.nodes.dialogue import OVERTAKEN, STOPPED, Dialogue, Kind, Outcome
from nano_agent_ros.nodes.facts import FACTS, FactBook
from nano_agent_ros.nodes.lifecycle import ERROR, OK, WARN, ManagedNode, run
from nano_agent_ros.nodes.outbox import NIL, Outbox
from nano_agent_ros.nodes.parameters import Parameter
from nano_agent_ros.nodes.step import Step
from nano_agent_ros.robot.simulation import State
from nano_agent_ros.speech.stop_words import is_stop
from nano_agent_ros.srv import Ask

PARAMETERS = (
    Parameter("model", "", "Model folder; empty: the one that ships"),
    Parameter("engine", "native", "What runs the model: native, or another engine of the package"),
    Parameter("threads", 0, "CPU threads of the engine; 0: it decides", 0, 256),
    Parameter("skills", "", "Skills file: what the robot can do; empty: the one that ships"),
    Parameter("site", "warehouse", "Site file, or the name of one that ships"),
    Parameter("robot_names", ["robot"], "What people call the robot; part of stop words such as 'robot, stop'"),
    Parameter("max_transcript_age_s", 10.0, "Words that ended longer ago are refused, in seconds", 0.1, 3600.0),
    Parameter("min_confidence", 0.35, "Below this confidence the person is asked to say it again", 0.0, 1.0),
    Parameter("confirm_timeout_s", 20.0, "How long a plan waits for a yes, in seconds", 1.0, 600.0),
    Parameter("release_by_voice", True, "Whether 'resume' ends a stop, besides the service acknowledge_stop"),
    Parameter("max_waiting", 4, "Utterances that may wait for the model; more are refused", 1, 100),
    Parameter("ask_timeout_s", 30.0, "How long the service `ask` waits for its answer, in seconds", 1.0, 600.0),
    Parameter("facts", list(FACTS), "Facts of the robot that the model is told; [''] for none"),
    Parameter("near_m", 1.0, "The robot is at a location within this distance of its pose, in metres", 0.05, 100.0),
)
MEMORY = 1000  # utterance ids that are remembered


@dataclass(frozen=True)
class Utterance:
    """What is to be understood: `ended` is when the speech ended, by the node's clock in seconds."""

    key: UUID
    text: str
    confidence: float
    ended: float
    transcription_s: float = 0.0
    facts: Mapping[str, str | int | float] | None = None


class AgentNode(ManagedNode):
    """Subscribes transcript, stop, status, battery, pose; publishes action, reply, defect_report, agent_state."""

    def __init__(self) -> None:
        """Create topics and services; the model comes with configure."""
        super().__init__("agent", PARAMETERS)
        self._settings: Mapping[str, Any] = {}
        self._dialogue: Dialogue | None = None
        self._facts: FactBook | None = None
        self._facts_lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._seen: OrderedDict[UUID, None] = OrderedDict()
        self._stopped_by_topic = float("-inf")
        self._failure = ""
        self._out = Outbox(self)
        self._words, self._urgent = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self._ears: list[Any] = []
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
            agent = Agent.open(
                values["model"] or None,
                values["engine"],
                values["skills"] or None,
                values["site"],
                threads=values["threads"] or None,
            )
        except Exception as error:
            self._out.show(AgentState.ERROR, error=str(error))
            raise
        self._settings = values
        self._dialogue = Dialogue(agent, uuid4(), values["confirm_timeout_s"])
        self._facts = FactBook(agent.site, values["near_m"])
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._waiting = 0
        self._out.frame_id = agent.site.frame_id
        self._failure = ""
        self._refresh()
        took_s = time.monotonic() - began
        self.get_logger().info(f"model ready in {took_s:.2f} s, {agent.context_tokens} tokens of prompt")

    def start(self) -> None:
        """Take words from now on: that there is a subscription tells a listener that it is heard."""
        self._ears = [
            self.create_subscription(Empty, "stop", self._on_stop, qos.COMMAND, callback_group=self._urgent),
            self.create_subscription(
                Transcript, "transcript", self._on_transcript, qos.COMMAND, callback_group=self._words
            ),
        ]
        self._refresh()

    def halt(self) -> None:
        """Whatever is being thought about must not lead to an action any more."""
        for subscription in self._ears:
            self.destroy_subscription(subscription)
        self._ears = []
        if self._dialogue is not None:
            self._dialogue.cancel_all()

    def teardown(self) -> None:
        """Release the model; waits for the turn in progress."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=True, cancel_futures=True)
        self._dialogue = None

    # Words

    def _on_stop(self, message: Empty) -> None:
        dialogue = self._dialogue
        if dialogue is not None and self.active:
            self._stopped_by_topic = time.monotonic()
            self._stop(dialogue, NIL)

    def _on_transcript(self, message: Transcript) -> None:
        dialogue = self._dialogue
        if dialogue is None or not self.active:
            return
        key = uuid_of(message.utterance_id)
        silent = message.gate in (Transcript.GATE_NO_SPEECH, Transcript.GATE_MUTED, Transcript.GATE_ECHO)
        stop = message.gate == Transcript.GATE_STOP or is_stop(message.text, self._settings["robot_names"])
        if stop and not silent:
            # The listener has sent the same stop on its own topic just before, most likely.
            if time.monotonic() - self._stopped_by_topic > 2.0:
                self._stop(dialogue, key)
            if message.is_final:
                self._out.say(key, Kind.ACKNOWLEDGE, "Stopped. Say 'resume' to let me move again.")
            return
        if silent or not message.is_final or self._heard_before(key):
            return
        ended = seconds_of(message.header.stamp) + seconds_of(message.audio_duration)
        utterance = Utterance(key, message.text, message.confidence, ended, seconds_of(message.latency))
        if message.gate == Transcript.GATE_TOO_LONG:
            self._out.say(key, Kind.REFUSE, "That was too long for me. Please say it in fewer words.")
        elif message.gate == Transcript.GATE_LOW_CONFIDENCE or message.confidence < self._settings["min_confidence"]:
            self._out.say(key, Kind.CLARIFY, "I didn't catch that. Please say it again.")
        elif self._stale(utterance):
            self._refuse_stale(utterance)
        elif dialogue.stopped and self._settings["release_by_voice"] and is_release(message.text):
            self._release(dialogue)
            self._out.say(key, Kind.ACKNOWLEDGE, "All right, I can move again.")
        elif self._submit(dialogue, utterance) is None:
            self._out.say(key, Kind.REFUSE, "I am still busy with what you said before. Please say it again in a moment.")

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

    def _stale(self, utterance: Utterance) -> bool:
        return abs(self._now() - utterance.ended) > self._settings["max_transcript_age_s"]

    def _refuse_stale(self, utterance: Utterance) -> None:
        age = self._now() - utterance.ended
        self.get_logger().warning(f"refused words that ended {age:.1f} s ago: {utterance.text[:100]!r}")
        self._out.say(utterance.key, Kind.REFUSE, "That was too long ago. Please say it again.")

    def _submit(self, dialogue: Dialogue, utterance: Utterance) -> Future[Outcome] | None:
        worker = self._worker
        if worker is None or self._waiting >= self._settings["max_waiting"]:
            return None
        self._waiting += 1
        return worker.submit(self._think, dialogue, utterance, dialogue.ticket())

    # The model's thread

    def _think(self, dialogue: Dialogue, utterance: Utterance, ticket: int) -> Outcome:
        began = time.monotonic()
        try:
            if self._stale(utterance):
                self._refuse_stale(utterance)
                return Outcome(Kind.REFUSE, "That was too long ago. Please say it again.", ticket)
            self._refresh()
            facts = {**self._robot_facts(), **(utterance.facts or {})}
            outcome = dialogue.hear(utterance.text, utterance.confidence, facts, ticket)
            outcome = self._publish(dialogue, utterance, outcome)
            self._failure = ""
            if self.level == ERROR:
                self.diagnose(OK, "active")
            turn_s = time.monotonic() - began
            self._out.account(dialogue.agent, outcome, utterance.transcription_s, turn_s)
            self._log(utterance, outcome, turn_s)
            return outcome
        except Exception as error:  # whatever it is: no action, and the node goes on
            self.get_logger().error(f"could not understand {utterance.text[:100]!r}: {type(error).__name__}: {error}")
            self._failure = f"{type(error).__name__}: {error}"
            self.diagnose(ERROR, self._failure)
            text = "Something went wrong in my head, so I do nothing. Please say it again."
            self._out.say(utterance.key, Kind.REFUSE, text)
            return Outcome(Kind.REFUSE, text, ticket)
        finally:
            self._waiting -= 1
            self._refresh()

    def _log(self, utterance: Utterance, outcome: Outcome, turn_s: float) -> None:
        acts = ", ".join(step.action.skill for step in (*outcome.steps, *outcome.reports)) or "no action"
        took = f"{turn_s * 1e3:.0f} ms"
        self.get_logger().info(f"{utterance.text[:100]!r} -> {outcome.kind.name} {outcome.text!r}, {acts}, {took}")

    def _publish(self, dialogue: Dialogue, utterance: Utterance, outcome: Outcome) -> Outcome:
        """Send what may be sent; a stop that came meanwhile has called it off."""
        with dialogue.lock:
            if not (dialogue.valid(outcome.ticket) and self.active):
                text = STOPPED if dialogue.stopped else OVERTAKEN
                outcome = Outcome(Kind.REFUSE, text, outcome.ticket, turn=outcome.turn)
            for report in outcome.reports:
                self._out.report(report, utterance.text)
            if not outcome.held:
                for step in outcome.steps:
                    self._send(step, utterance.key)
        self._out.say(utterance.key, outcome.kind, outcome.text)
        return outcome

    def _robot_facts(self) -> Mapping[str, str | int | float]:
        assert self._facts is not None
        with self._facts_lock:
            return {key: value for key, value in self._facts.facts().items() if key in self._settings["facts"]}

    # What goes out

    def _send(self, step: Step, utterance_id: UUID) -> None:
        assert self._facts is not None
        if step.action.skill not in ("stop", "cancel", "pause", "resume"):
            with self._facts_lock:
                self._facts.issued(step.action_id, step.action)
        self._out.act(step, utterance_id)

    def _stop(self, dialogue: Dialogue, utterance_id: UUID) -> None:
        with dialogue.lock:
            self._send(dialogue.stop(), utterance_id)
        self.get_logger().warning("stop: no action until 'resume' or the service acknowledge_stop")
        self.diagnose(WARN, "stopped")
        self._refresh()

    def _release(self, dialogue: Dialogue) -> bool:
        released = dialogue.acknowledge_stop()
        if released:
            self.get_logger().info("the stop is acknowledged")
            self.diagnose(OK, "active")
        self._refresh()
        return released

    def _refresh(self) -> None:
        """Show what the agent is doing now."""
        dialogue, facts = self._dialogue, self._facts
        if dialogue is None or facts is None:
            return
        with self._facts_lock:
            acting, paused = facts.acting, facts.paused
        choices = (
            (dialogue.stopped, AgentState.STOPPED),
            (bool(self._failure), AgentState.ERROR),
            (self._waiting > 0, AgentState.THINKING),
            (dialogue.confirming, AgentState.CONFIRMING),
            (paused, AgentState.PAUSED),
            (acting, AgentState.ACTING),
        )
        state = next((state for applies, state in choices if applies), AgentState.IDLE)
        self._out.show(state, dialogue.session, self._failure)

    # What the robot reports

    def _on_status(self, message: ActionStatus) -> None:
        if self._facts is None:
            return
        with self._facts_lock:
            before = (self._facts.acting, self._facts.paused)
            self._facts.report(uuid_of(message.action_id), State(message.state), message.error_msg)
            changed = (self._facts.acting, self._facts.paused) != before
        if changed:
            self._refresh()

    def _on_battery(self, message: BatteryState) -> None:
        if self._facts is not None:
            with self._facts_lock:
                self._facts.battery(message.percentage)

    def _on_pose(self, message: PoseStamped) -> None:
        if self._facts is not None:
            with self._facts_lock:
                self._facts.position(message.pose.position.x, message.pose.position.y)

    # Services

    def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        dialogue = self._dialogue
        if dialogue is None or not self.active:
            response.message = "the agent is not active; configure and activate it"
            return response
        key = uuid4()
        if is_stop(request.text, self._settings["robot_names"]):
            self._stop(dialogue, key)
            return self._answer(response, key, Outcome(Kind.ACKNOWLEDGE, "Stopped.", 0))
        facts = arguments_of(request.facts)
        future = self._submit(dialogue, Utterance(key, request.text, 1.0, self._now(), facts=facts))
        if future is None:
            response.message = f"busy: {self._waiting} utterances wait already; ask again in a moment"
            return response
        try:
            outcome = future.result(self._settings["ask_timeout_s"])
        except FutureTimeout:
            response.message = f"no answer within {self._settings['ask_timeout_s']:g} s; it goes on"
            return response
        except BaseException as error:  # a cancelled future is no Exception
            response.message = f"given up: {type(error).__name__}"
            return response
        return self._answer(response, key, outcome)

    def _answer(self, response: Ask.Response, key: UUID, outcome: Outcome) -> Ask.Response:
        response.success = True
        response.actions = [self._out.action(step, key, outcome.held) for step in outcome.steps]
        response.reply = self._out.reply(key, outcome.kind, outcome.text)
        return response

    def _on_cancel_all(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        dialogue = self._dialogue
        if dialogue is None or not self.active:
            response.message = "the agent is not active"
            return response
        with dialogue.lock:
            self._send(dialogue.cancel_all(), NIL)
        self._refresh()
        response.success, response.message = True, "everything is cancelled"
        return response

    def _on_reset_session(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        dialogue, worker = self._dialogue, self._worker
        if dialogue is None or worker is None:
            response.message = "the agent is not configured"
            return response
        try:
            worker.submit(dialogue.reset, uuid4()).result(self._settings["ask_timeout_s"])
        except BaseException as error:
            response.message = f"could not reset: {type(error).__name__}: {error}"
            return response
        self._failure = ""
        self._refresh()
        response.success, response.message = True, f"new session {dialogue.session}"
        return response

    def _on_acknowledge_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        dialogue = self._dialogue
        if dialogue is None:
            response.message = "the agent is not configured"
            return response
        response.success = self._release(dialogue)
        response.message = "the robot may move again" if response.success else "there was no stop"
        return response

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9


def main() -> int:
    """Run the node."""
    return run(AgentNode)


if __name__ == "__main__":
    sys.exit(main())
