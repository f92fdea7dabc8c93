"""The Nemotron 3 tool-call dialect: calls to text, text to calls."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.skills import Call

REPLY_KINDS = ("answer", "clarify", "refuse", "ignore")  # reply calls, which are no actions

_CALL = re.compile(r"<tool_call>\n<function=([a-z0-9_]+)>\n(.*?)</function>\n</tool_call>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([a-z0-9_]+)>\n([^\n]*)\n</parameter>\n")


class DialectError(NanoAgentError):
    """A reply that is not in the dialect."""


def write_reply(calls: Sequence[Call]) -> str:
    """The text of a reply, without its eos token."""
    blocks = []
    for call in calls:
        parameters = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in call.arguments.items())
        blocks.append(f"<tool_call>\n<function={call.name}>\n{parameters}</function>\n</tool_call>")
    return "\n".join(blocks)


def parse_reply(text: str) -> list[Call]:
    """The calls of a reply, in order; raises DialectError if anything else is in it."""
    calls = []
    for name, body in _CALL.findall(text):
        arguments = dict(_PARAMETER.findall(body))
        calls.append(Call(name, arguments))
    if not calls or write_reply(calls) != text:
        raise DialectError(f"not a reply in the tool-call dialect: {text[:80]!r}")
    return calls


def reply_message(calls: Sequence[Call]) -> dict[str, object]:
    """The reply as a chat message, as templates take it."""
    tool_calls = [
        {"type": "function", "function": {"name": c.name, "arguments": dict(c.arguments)}} for c in calls
    ]
    return {"role": "assistant", "content": "", "tool_calls": tool_calls}
