"""The grammar of a reply, derived from skills and site, in llguidance's Lark syntax."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from nano_agent_ros.skills import Argument, Site, Skill, Skills
from nano_agent_ros.skills.quantities import UNITS

MAX_CALLS = 6
REPLY_TEXT = 160  # characters of an answer, question or refusal
_PLAIN = r"[^<>\x00-\x1f\x7f]"  # what a text argument may hold


def reply_grammar(skills: Skills, site: Site, control: Collection[str]) -> str:
    """Lark grammar of every reply of contracts.md for these skills and this site.

    `control` are the tokenizer's control tokens: where one stands in the dialect it is matched as the token itself.
    """
    writer = _Writer(control)
    names = [writer.skill(skill, site) for skill in skills if _possible(skill, site)]
    for kind in ("answer", "clarify", "refuse"):
        text = Argument("text", "text", max_length=REPLY_TEXT)
        writer.rule(f"r_{kind}", writer.call(kind, [(text, _words(REPLY_TEXT))]))
    writer.rule("r_ignore", writer.call("ignore", []))
    start = "r_answer | r_clarify | r_refuse | r_ignore"
    if names:
        start = f'call ("\\n" call){{0,{MAX_CALLS - 1}}} | {start}'
        writer.rule("call", " | ".join(names))
    return f"start: {start}\n" + "\n".join(writer.rules) + "\n"


class _Writer:
    def __init__(self, control: Collection[str]) -> None:
        self.rules: list[str] = []
        self._control = sorted(control, key=len, reverse=True)

    def rule(self, name: str, body: str) -> None:
        self.rules.append(f"{name}: {body}")

    def literal(self, text: str) -> str:
        """Text as grammar: control tokens by name, the rest as string literals."""
        if not text:
            return '""'
        pattern = "|".join(map(re.escape, self._control))
        parts = re.split(f"({pattern})", text) if pattern else [text]
        return " ".join(p if p in self._control else json.dumps(p) for p in parts if p)

    def call(self, name: str, parameters: Sequence[tuple[Argument, str]]) -> str:
        head = self.literal(f"<tool_call>\n<function={name}>\n")
        tail = self.literal("</function>\n</tool_call>")
        body = [self.parameter(argument, value) for argument, value in parameters]
        return " ".join([head, *body, tail])

    def parameter(self, argument: Argument, value: str) -> str:
        head = self.literal(f"<parameter={argument.name}>\n")
        text = f"{head} {value} {self.literal(chr(10) + '</parameter>' + chr(10))}"
        return f"({text})?" if argument.optional else text

    def skill(self, skill: Skill, site: Site) -> str:
        parameters = []
        for argument in skill.arguments:
            value = _value(argument, site)
            if value is None:
                continue  # an optional argument for which this site has no name
            rule = f"v_{skill.name}_{argument.name}"
            self.rule(rule, value)
            parameters.append((argument, rule))
        self.rule(f"s_{skill.name}", self.call(skill.name, parameters))
        return f"s_{skill.name}"


def _value(argument: Argument, site: Site) -> str | None:
    if argument.type in ("location", "object", "person", "place"):
        return " | ".join(json.dumps(key) for key in site.ids(argument.type)) or None
    if argument.type == "enum":
        return " | ".join(json.dumps(value) for value in argument.values)
    if argument.type == "integer":
        return "/[1-9][0-9]{0,3}|0/"
    if argument.type == "number":
        units = "|".join(re.escape(u).replace("/", r"\/") for u in UNITS[argument.quantity])
        return rf"/[0-9]{{1,4}}(\.[0-9]{{1,2}})? ({units})/"
    return _words(argument.max_length)


def _words(length: int) -> str:
    """One to `length` printable characters that begin with a letter or digit."""
    return f"/[\\p{{L}}\\p{{N}}]{_PLAIN}{{0,{length - 1}}}/"


def _possible(skill: Skill, site: Site) -> bool:
    return all(a.optional or _value(a, site) is not None for a in skill.arguments)
