"""What leaves the agent: actions, reports, replies, and the state that it shows."""

from __future__ import annotations

import threading
from uuid import UUID

from rclpy.lifecycle import LifecycleNode

from nano_agent_ros.agent import Agent
from nano_agent_ros.msg import AgentState, DefectReport, Reply, RobotAction
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import action_message, defect_message, duration_message, uuid_message
from nano_agent_ros.nodes.diagnostics import EngineFigures
from nano_agent_ros.nodes.dialogue import Kind, Outcome
from nano_agent_ros.nodes.step import Step
from nano_agent_ros.nodes.turns import Facts, TurnPublisher

NIL = UUID(int=0)


class Outbox:
    """The publishers of the agent. Any thread may use it."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publishers; actions, replies and reports go out only while the node is active."""
        self._node = node
        self._lock = threading.Lock()
        self._shown = AgentState()
        self._digest: tuple[UUID, int, str] | None = None  # the last one told: session, turns, digest
        self._turns = TurnPublisher(node)
        self._actions = node.create_lifecycle_publisher(RobotAction, "action", qos.COMMAND)
        self._replies = node.create_lifecycle_publisher(Reply, "reply", qos.COMMAND)
        self._reports = node.create_lifecycle_publisher(DefectReport, "defect_report", qos.REPORT)
        # Not managed: an agent that cannot be configured has to be able to say so.
        self._states = node.create_publisher(AgentState, "agent_state", qos.LATEST)
        self.frame_id = ""
        self.figures = EngineFigures()

    @property
    def error(self) -> str:
        """The error that is shown; empty if there is none."""
        return self._shown.last_error

    @property
    def heard(self) -> bool:
        """Whether somebody receives actions."""
        return bool(self._actions.get_subscription_count() > 0)

    def act(self, step: Step, utterance_id: UUID = NIL) -> None:
        """Send an action to the robot."""
        self._actions.publish(self.action(step, utterance_id))

    def action(self, step: Step, utterance_id: UUID, held: bool = False) -> RobotAction:
        """The message of an action; `held` if it waits for a yes."""
        message = action_message(step, utterance_id, self._node.get_clock().now().to_msg(), self.frame_id, held)
        message.source = self._node.get_fully_qualified_name()
        return message

    def report(self, step: Step, words: str) -> None:
        """Publish a defect report."""
        self._reports.publish(defect_message(step, words, self._node.get_clock().now().to_msg(), self.frame_id))

    def say(self, utterance_id: UUID, kind: Kind, text: str) -> None:
        """Publish a reply."""
        self._replies.publish(self.reply(utterance_id, kind, text))

    def reply(self, utterance_id: UUID, kind: Kind, text: str) -> Reply:
        """The message of a reply."""
        message = Reply(utterance_id=uuid_message(utterance_id), kind=int(kind), text=text)
        message.header.stamp = self._node.get_clock().now().to_msg()
        return message

    def turn(self, agent: Agent, session: UUID, utterance_id: UUID, facts: Facts, outcome: Outcome) -> None:
        """Publish the turn of an outcome, if it has one, for recorders; `facts` are those that the model was told."""
        if outcome.turn is not None:
            self._turns.publish(agent, session, utterance_id, facts, outcome.turn)

    def show(
        self, state: int, session: UUID | None = None, error: str | None = None, restored: bool | None = None
    ) -> None:
        """Publish the state; what is not given stays as it is."""
        with self._lock:
            self._shown.state = state
            if error is not None:
                self._shown.last_error = error
            if session is not None:
                if self._shown.session_id != uuid_message(session):
                    self._shown = AgentState(state=state, session_id=uuid_message(session))
                self._shown.session_id = uuid_message(session)
            if restored is not None:
                self._shown.restored = restored
            self._shown.header.stamp = self._node.get_clock().now().to_msg()
            if self._node.context.ok():
                self._states.publish(self._shown)

    def digest(self, session: UUID, turns: int, digest: str) -> None:
        """Publish the digest of the conversation after so many turns, unless it has gone on since."""
        with self._lock:
            self._digest = (session, turns, digest)
            if not self._known_digest():
                return
            self._shown.state_digest = digest
            self._shown.header.stamp = self._node.get_clock().now().to_msg()
            if self._node.context.ok():
                self._states.publish(self._shown)

    def _known_digest(self) -> str:
        """The digest of the conversation that is shown; empty if it is not known yet."""
        if self._digest is None:
            return ""
        session, turns, digest = self._digest
        now = uuid_message(session) == self._shown.session_id and turns == self._shown.turn
        return digest if now else ""

    def conversation(self, agent: Agent) -> None:
        """Note how long and large the conversation is, for the next `show`."""
        with self._lock:
            self._shown.turn = agent.turns
            self._shown.context_tokens = agent.context_tokens
            self._shown.state_bytes = agent.state_bytes
            self._shown.state_digest = self._known_digest()

    def account(self, outcome: Outcome, transcription_s: float, turn_s: float) -> None:
        """Note the timings of a turn, for the next `show`."""
        with self._lock:
            shown, turn = self._shown, outcome.turn
            shown.last_error = ""
            shown.transcription_time = duration_message(transcription_s)
            shown.turn_time = duration_message(turn_s)
            if turn is not None:
                self.figures.take(turn)
                shown.prefill_time = duration_message(turn.timings.get("prefill", 0.0))
                shown.decode_time = duration_message(turn.timings.get("decode", 0.0))
                shown.prompt_tokens = turn.tokens.get("prompt", 0)
                shown.anticipated_tokens = turn.tokens.get("anticipated", 0)
                shown.reply_tokens = turn.tokens.get("reply", 0)
