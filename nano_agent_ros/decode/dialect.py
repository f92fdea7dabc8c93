"""Tool-call dialects: how calls stand in a reply's text. Calls to text, text to calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.skills import Call, Skills

REPLY_KINDS = ("answer", "clarify", "refuse", "ignore")  # reply calls, which are no actions

_CALL = re.compile(r"<tool_call>\n<function=([a-z0-9_]+)>\n(.*?)</function>\n</tool_call>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([a-z0-9_]+)>\n([^\n]*)\n</parameter>\n")


class DialectError(NanoAgentError):
    """A reply that is not in the dialect."""


class Dialect(Protocol):
    """The text form of calls. No value holds `<` or `>`: the grammar lets none through, `plain` takes them out."""

    @property
    def name(self) -> str:
        """Of the dialect."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """What may be control tokens in a reply."""
        ...

    def write(self, calls: Sequence[Call]) -> str:
        """The text of a reply, without what its chat template puts around it."""
        ...

    def parse(self, text: str) -> list[Call]:
        """The calls of a reply, in order; raises DialectError if anything else is in it."""
        ...

    def message(self, calls: Sequence[Call]) -> dict[str, object]:
        """The reply as a chat message, as templates take it."""
        ...

    def begun(self, text: str) -> list[Call]:
        """The calls that are complete in the beginning of a reply."""
        ...


@dataclass(frozen=True)
class Nemotron3:
    """`<tool_call>` blocks with `<function=…>` and `<parameter=…>`, a line each (Nemotron 3)."""

    name: str = "nemotron_3"
    tags: tuple[str, ...] = ("<tool_call>", "</tool_call>", "<think>", "</think>")

    def write(self, calls: Sequence[Call]) -> str:
        """See Dialect."""
        blocks = []
        for call in calls:
            parameters = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in call.arguments.items())
            blocks.append(f"<tool_call>\n<function={call.name}>\n{parameters}</function>\n</tool_call>")
        return "\n".join(blocks)

    def parse(self, text: str) -> list[Call]:
        """See Dialect."""
        calls = [Call(name, dict(_PARAMETER.findall(body))) for name, body in _CALL.findall(text)]
        if not calls or self.write(calls) != text:
            raise DialectError(f"not a reply in the tool-call dialect: {text[:80]!r}")
        return calls

    def message(self, calls: Sequence[Call]) -> dict[str, object]:
        """See Dialect."""
        return _message([(call.name, dict(call.arguments)) for call in calls])

    def begun(self, text: str) -> list[Call]:
        """See Dialect."""
        complete, found, _ = text.rpartition("</tool_call>")
        return self.parse(complete + found) if found else []


@dataclass(frozen=True)
class NanoV2:
    """One `<TOOLCALL>` with a JSON list of name and arguments (Nemotron Nano v2); `integers` are written as numbers.

    The JSON is what `json.dumps` writes without ASCII escapes, as the template's `tojson` does.
    """

    integers: frozenset[tuple[str, str]] = frozenset()  # (skill, argument)
    name: str = "nano_v2"
    tags: tuple[str, ...] = ("<TOOLCALL>", "</TOOLCALL>", "<think>", "</think>")

    def write(self, calls: Sequence[Call]) -> str:
        """See Dialect."""
        listed = [
            f'{{"name": "{c.name}", "arguments": {json.dumps(self._typed(c), ensure_ascii=False)}}}' for c in calls
        ]
        return f"<TOOLCALL>[{', '.join(listed)}]</TOOLCALL>"

    def parse(self, text: str) -> list[Call]:
        """See Dialect."""
        inner = text.removeprefix("<TOOLCALL>").removesuffix("</TOOLCALL>")
        try:
            calls = [_call_of(item) for item in json.loads(inner)]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            calls = []
        if not calls or self.write(calls) != text:
            raise DialectError(f"not a reply in the tool-call dialect: {text[:80]!r}")
        return calls

    def message(self, calls: Sequence[Call]) -> dict[str, object]:
        """See Dialect."""
        return _message([(call.name, self._typed(call)) for call in calls])

    def begun(self, text: str) -> list[Call]:
        """See Dialect."""
        complete, found, _ = text.rpartition("}}")
        return self.parse(f"{complete}}}}}]</TOOLCALL>") if found else []

    def _typed(self, call: Call) -> dict[str, Any]:
        whole = re.compile(r"0|[1-9][0-9]{0,8}")
        numbers = {k for k, v in call.arguments.items() if (call.name, k) in self.integers and whole.fullmatch(v)}
        return {k: int(v) if k in numbers else v for k, v in call.arguments.items()}


NEMOTRON_3 = Nemotron3()
write_reply, parse_reply, reply_message = NEMOTRON_3.write, NEMOTRON_3.parse, NEMOTRON_3.message


def find_dialect(skills: Skills, render: Callable[[dict[str, object]], str]) -> tuple[Dialect, str, str]:
    """The dialect in which a chat template writes calls, and what it puts before and after them in a turn.

    `render` gives a turn of the assistant from its message. Raises ConfigError for a template of neither dialect.
    """
    numbers = {(s.name, a.name) for s in skills for a in s.arguments if a.type == "integer"}
    one = [Call("probe", {"text": 'a "b" \\ ü'})]
    several = [Call("probe", {"first": "1 m", "second": "2"}), Call("none", {}), *one]
    dialects: tuple[Dialect, ...] = (NEMOTRON_3, NanoV2(frozenset(numbers)))
    for dialect in dialects:
        before, found, after = render(dialect.message(one)).partition(dialect.write(one))
        if found and render(dialect.message(several)) == before + dialect.write(several) + after:
            return dialect, before, after
    raise ConfigError(
        "chat template: it writes tool calls neither as Nemotron 3 does (<tool_call> with <function=…>) nor as "
        "Nemotron Nano v2 (<TOOLCALL>[…]); use the checkpoint's own chat_template.jinja"
    )


def call_ends(dialect: Dialect, calls: Sequence[Call]) -> list[int]:
    """How many characters of the reply's text are written when each of its calls is complete."""
    whole = dialect.write(calls)
    ends = []
    for count in range(1, len(calls) + 1):
        part = dialect.write(calls[:count])
        ends.append(next((i for i, (a, b) in enumerate(zip(part, whole, strict=False)) if a != b), len(part)))
    return ends


def plain(text: str, length: int) -> str:
    """Text as a value of a call may hold it: one line, no angle brackets, at most `length` characters."""
    return " ".join(re.sub(r"[<>\x00-\x1f\x7f]", " ", text).split())[:length].rstrip()


def control_in(text: str, tokens: Collection[str]) -> list[str]:
    """Text cut before and after each of these tokens; the longest counts where several begin."""
    if not tokens:
        return [text] if text else []
    pattern = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))
    return [part for part in re.split(f"({pattern})", text) if part]


def _message(calls: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, object]:
    tool_calls = [{"type": "function", "function": {"name": name, "arguments": args}} for name, args in calls]
    return {"role": "assistant", "content": "", "tool_calls": tool_calls}


def _call_of(item: Any) -> Call:
    if set(item) != {"name", "arguments"}:
        raise KeyError("name, arguments")
    values = {str(k): v for k, v in item["arguments"].items()}
    if not all(isinstance(v, str) or type(v) is int for v in values.values()):
        raise TypeError("arguments are text or whole numbers")
    return Call(item["name"], {k: str(v) for k, v in values.items()})
