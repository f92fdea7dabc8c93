"""The grammar of a reply, derived from skills, site and dialect, in llguidance's Lark syntax."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from nano_agent_ros.decode.dialect import NEMOTRON_3, Dialect, NanoV2, control_in
from nano_agent_ros.skills import Argument, Site, Skill, Skills
from nano_agent_ros.skills.quantities import UNITS

MAX_CALLS = 6
REPLY_TEXT = 160  # characters of an answer, question or refusal

# What may stand around a reply: as text, or as line breaks that the model may leave out.
OPTIONAL_BREAKS = None


def reply_grammar(
    skills: Skills,
    site: Site,
    control: Collection[str],
    dialect: Dialect = NEMOTRON_3,
    before: str | None = "",
    after: str = "",
    said: Sequence[str] = (),
) -> str:
    """Lark grammar of every reply of contracts.md for these skills and this site.

    `control` are the tokenizer's control tokens: where one stands in the dialect it is matched as the token itself.
    `before` and `after` are what the chat template puts around the calls; `before` may be OPTIONAL_BREAKS. If `said` is
    given, a text argument consists of words of one of these utterances as they were said, else of any words.
    """
    writer: _Writer = _JsonWriter(control) if isinstance(dialect, NanoV2) else _TagWriter(control)
    for utterance in said:
        writer.said(utterance)
    names = [writer.skill(skill, site) for skill in skills if _possible(skill, site)]
    for kind in ("answer", "clarify", "refuse"):
        text = Argument("text", "text", max_length=REPLY_TEXT)
        writer.rule(f"r_{kind}", writer.call(kind, [(text, writer.words(REPLY_TEXT))]))
    writer.rule("r_ignore", writer.call("ignore", []))
    body = "r_answer | r_clarify | r_refuse | r_ignore"
    if names:
        more = f"({writer.literal(writer.between)} call)"
        body = f"call {more}{{0,{MAX_CALLS - 1}}} | {body}"
        writer.rule("call", " | ".join(names))
    writer.rule("body", body)
    head = r"/\n{0,2}/" if before is OPTIONAL_BREAKS else writer.literal(before)
    parts = [head, writer.literal(writer.opening), "body", writer.literal(writer.closing), writer.literal(after)]
    return "start: " + " ".join(p for p in parts if p != '""') + "\n" + "\n".join(writer.rules) + "\n"


def text_begins(skills: Skills, dialect: Dialect = NEMOTRON_3) -> re.Pattern[str] | None:
    """What the text of a reply holds once it has come to a text argument; None if no skill has one."""
    heads = []
    for skill in skills:
        for argument in (a for a in skill.arguments if a.type == "text"):
            if isinstance(dialect, NanoV2):
                heads.append(rf'"name": "{skill.name}", "arguments": {{[^{{}}]*"{argument.name}": ')
            else:
                heads.append(rf"<function={skill.name}>\n(?:(?!</function>)[\s\S])*<parameter={argument.name}>")
    return re.compile("|".join(heads)) if heads else None


class _Writer(ABC):
    """What both dialects share: rules by name, literals with control tokens, values by argument type."""

    opening = closing = between = ""

    def __init__(self, control: Collection[str]) -> None:
        self.rules: list[str] = []
        self._said: list[str] = []
        self._control = frozenset(control)

    def rule(self, name: str, body: str) -> None:
        self.rules.append(f"{name}: {body}")

    def said(self, utterance: str) -> None:
        name = f"SAID_{len(self._said)}"
        self._said.append(name)
        self.rule(name, f'%regex {{"substring_words": {_quoted(self.written(utterance))}}}')

    def literal(self, text: str) -> str:
        """Text as grammar: control tokens by name, the rest as string literals."""
        parts = control_in(text, self._control)
        return " ".join(p if p in self._control else _quoted(p) for p in parts) or '""'

    def skill(self, skill: Skill, site: Site) -> str:
        parameters = []
        for argument in skill.arguments:
            value = self.value(argument, site)
            if value is None:
                continue  # an optional argument for which this site has no name
            rule = f"v_{skill.name}_{argument.name}"
            if argument.type == "text" and self._said:  # both at once can be asked of a terminal only
                rule, value = rule.upper(), f"({self.quoting(' | '.join(self._said))}) & {value}"
            self.rule(rule, value)
            parameters.append((argument, rule))
        self.rule(f"s_{skill.name}", self.call(skill.name, parameters))
        return f"s_{skill.name}"

    def value(self, argument: Argument, site: Site) -> str | None:
        names = _names(argument, site)
        if names is not None:
            return " | ".join(self.name(name) for name in names) or None
        if argument.type == "integer":
            return "/[1-9][0-9]{0,3}|0/"
        if argument.type == "number":
            units = "|".join(re.escape(u).replace("/", r"\/") for u in UNITS[argument.quantity])
            return self.enclosed(rf"/[0-9]{{1,4}}(\.[0-9]{{1,2}})? ({units})/")
        return self.words(argument.max_length)

    def name(self, name: str) -> str:
        return _quoted(name)

    def enclosed(self, pattern: str) -> str:
        return pattern

    def quoting(self, terminals: str) -> str:
        return terminals

    def written(self, text: str) -> str:
        return text

    @abstractmethod
    def words(self, length: int) -> str:
        """One to `length` printable characters that begin with a letter or digit."""

    @abstractmethod
    def call(self, name: str, parameters: Sequence[tuple[Argument, str]]) -> str:
        """One call, its parameters in order, each with the rule of its value."""


class _TagWriter(_Writer):
    """Nemotron 3."""

    between = "\n"

    def words(self, length: int) -> str:
        return f"/[\\p{{L}}\\p{{N}}][^<>\\x00-\\x1f\\x7f]{{0,{length - 1}}}/"

    def call(self, name: str, parameters: Sequence[tuple[Argument, str]]) -> str:
        head = self.literal(f"<tool_call>\n<function={name}>\n")
        tail = self.literal("</function>\n</tool_call>")
        return " ".join([head, *(self._parameter(argument, value) for argument, value in parameters), tail])

    def _parameter(self, argument: Argument, value: str) -> str:
        head, tail = self.literal(f"<parameter={argument.name}>\n"), self.literal("\n</parameter>\n")
        return f"({head} {value} {tail})?" if argument.optional else f"{head} {value} {tail}"


class _JsonWriter(_Writer):
    """Nemotron Nano v2. Of the escapes of JSON only those are allowed that its writers need here: `\\"` and `\\\\`."""

    opening, closing, between = "<TOOLCALL>[", "]</TOOLCALL>", ", "

    def words(self, length: int) -> str:
        rest = r'([^<>"\\\x00-\x1f\x7f]|\\["\\])'
        return self.enclosed(f"/[\\p{{L}}\\p{{N}}]{rest}{{0,{length - 1}}}/")

    def name(self, name: str) -> str:
        return _quoted(f'"{name}"')

    def enclosed(self, pattern: str) -> str:
        return f'/"{pattern[1:-1]}"/'

    def quoting(self, terminals: str) -> str:
        quote = _quoted('"')
        return f"{quote} ({terminals}) {quote}"

    def written(self, text: str) -> str:
        return _quoted(text)[1:-1]

    def call(self, name: str, parameters: Sequence[tuple[Argument, str]]) -> str:
        head = self.literal(f'{{"name": "{name}", "arguments": {{')
        pairs = [(a.optional, _quoted(f'"{a.name}": ') + " " + value) for a, value in parameters]
        return " ".join([head, _separated(pairs), _quoted("}}")])


def _separated(items: Sequence[tuple[bool, str]]) -> str:
    """Items in order with commas between those that are there; each is (optional, grammar)."""
    choices = []
    for index, (optional, item) in enumerate(items):
        comma = '", "'
        rest = [f"({comma} {text})?" if may_lack else f"{comma} {text}" for may_lack, text in items[index + 1 :]]
        choices.append(" ".join([item, *rest]))
        if not optional:
            break
    else:
        choices.append('""')
    return f"({' | '.join(choices)})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _names(argument: Argument, site: Site) -> Sequence[str] | None:
    if argument.type in ("location", "object", "person", "place"):
        return site.ids(argument.type)
    return argument.values if argument.type == "enum" else None


def _possible(skill: Skill, site: Site) -> bool:
    return all(a.optional or _names(a, site) is None or _names(a, site) for a in skill.arguments)
