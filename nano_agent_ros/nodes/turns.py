"""Turns as they are published for recorders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from nano_agent_ros.agent import Agent, Turn
from nano_agent_ros.msg import RobotAction, TurnRecord
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import RISKS, argument_messages, uuid_message
from nano_agent_ros.recording.replay import digest
from nano_agent_ros.skills import Action

Facts = Mapping[str, str | int | float]


class TurnPublisher:
    """The topic `turn`. Nothing is made of a turn that nobody receives."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publisher."""
        self._node = node
        self._turns = node.create_lifecycle_publisher(TurnRecord, "turn", qos.COMMAND)

    def publish(self, agent: Agent, session: UUID, utterance: UUID, facts: Facts, turn: Turn) -> None:
        """Publish a turn of this agent; `facts` are those that it was told with it. It may have been taken back."""
        if self._turns.get_subscription_count() == 0:
            return
        message = turn_message(agent, session, utterance, facts, turn)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._turns.publish(message)


def turn_message(agent: Agent, session: UUID, utterance: UUID, facts: Facts, turn: Turn) -> TurnRecord:
    """A turn as a message, its stamp aside."""
    prompt = len(turn.fed) - turn.tokens.get("reply", 0) if turn.fed else 0
    return TurnRecord(
        utterance_id=uuid_message(utterance),
        session_id=uuid_message(session),
        turn=turn.turn,
        kept=bool(turn.fed) and agent.turns > turn.turn,
        text=turn.text,
        facts=argument_messages(facts),
        kind=turn.kind,
        actions=[_action(action) for action in turn.actions],
        reply=turn.reply,
        tokens=list(turn.fed),
        prompt_tokens=prompt,
        prompt_digest=digest(turn.fed[:prompt]),
        configuration_digest=agent.identity,
        grammar_digest=agent.grammar_digest,
        timings=[Parameter(name, value=float(s)).to_parameter_msg() for name, s in turn.timings.items()],
    )


def _action(action: Action) -> RobotAction:
    values: dict[str, Any] = dict(action.arguments)
    return RobotAction(
        skill=action.skill,
        arguments=argument_messages(values),
        target_id=action.target_id,
        risk=RISKS[action.risk],
        requires_confirmation=action.requires_confirmation,
        confidence=action.confidence,
    )
