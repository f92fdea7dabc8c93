"""Replies: the dialect they are written in, the grammar that keeps them parseable, the loop that decodes them."""

from nano_agent_ros.decode.dialect import (
    NEMOTRON_3,
    REPLY_KINDS,
    Dialect,
    DialectError,
    NanoV2,
    parse_reply,
    plain,
    reply_message,
    write_reply,
)
from nano_agent_ros.decode.generate import Decoder, Interrupted, Reply
from nano_agent_ros.decode.grammar import REPLY_TEXT, reply_grammar, text_begins
from nano_agent_ros.decode.guess import Guesser

__all__ = [
    "NEMOTRON_3",
    "REPLY_KINDS",
    "REPLY_TEXT",
    "Decoder",
    "Dialect",
    "DialectError",
    "Guesser",
    "Interrupted",
    "NanoV2",
    "Reply",
    "parse_reply",
    "plain",
    "reply_grammar",
    "reply_message",
    "text_begins",
    "write_reply",
]
