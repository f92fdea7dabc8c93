"""Replies: the dialect they are written in, the grammar that keeps them parseable, the loop that decodes them."""

from nano_agent_ros.decode.dialect import REPLY_KINDS, DialectError, parse_reply, reply_message, write_reply
from nano_agent_ros.decode.generate import Decoder, Reply
from nano_agent_ros.decode.grammar import reply_grammar

__all__ = [
    "REPLY_KINDS",
    "Decoder",
    "DialectError",
    "Reply",
    "parse_reply",
    "reply_grammar",
    "reply_message",
    "write_reply",
]
