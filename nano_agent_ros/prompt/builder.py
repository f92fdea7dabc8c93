"""Builds the tokens of a conversation by appending: each turn yields its own tokens, never the old ones again."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence

from nano_agent_ros.decode.dialect import control_in, find_dialect
from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.prompt.template import ChatTemplate
from nano_agent_ros.prompt.tokenizer import Tokenizer
from nano_agent_ros.skills import Call, Site, Skills
from nano_agent_ros.skills.mentions import Mentions

Facts = Mapping[str, str | int | float]

MAX_CHARACTERS = 2000  # longer is no spoken command
MAX_TOKENS = 400
RESULT = "last"  # the fact that is told as the result of a tool, where the template has a place for one

_USER, _MARK, _RESULT = "qzuserzq", "qznextzq", "qzresultzq"
_SWITCH = re.compile(r"/+(?=(?:no_)?think)")


class PromptError(NanoAgentError):
    """An utterance that cannot become a turn; the message is what the robot says."""


def clean(text: str) -> str:
    """One line of printable text: control and format characters go, white space folds.

    Raises PromptError if nothing is left or it is longer than any spoken command.
    """
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"That was too long: {len(text)} characters, at most {MAX_CHARACTERS}.")
    text = unicodedata.normalize("NFC", text)
    text = "".join(c if unicodedata.category(c)[0] not in "C" else " " for c in text)
    text = " ".join(text.split())
    if not any(c.isalnum() for c in text):
        raise PromptError("I didn't hear any words.")
    return text


class PromptBuilder:
    """Turns of one model's chat template as tokens, split where text from outside begins and ends.

    What surrounds a turn is read off the template once, by rendering short conversations around marks; a turn then
    costs the rendering of itself alone. Text between two control tokens is always encoded in one piece, so that the
    tokens are those of the whole rendering.

    A template may show a finished reply otherwise than where it is being written: it drops the thinking, or the
    marks that switch it off. Then `rewrites` is true: the last `opening` of a turn's tokens must be taken back before
    the tokens of `reply` are appended.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate, skills: Skills, site: Site, thinking: bool = False
    ) -> None:
        """Raises ConfigError for a template whose turns cannot be appended, of no known tool-call dialect, or that
        has no thinking to switch on (or none to switch off)."""
        self._tokenizer, self._template, self._thinking = tokenizer, template, thinking
        self._switched = "/no_think" in template.source  # thinking is switched by a word in a message
        self._mentions = Mentions(site)
        self.system = self._system_message(site.describe())
        self.tools = [skill.tool() for skill in skills]
        self.dialect, *_ = find_dialect(skills, self._past)
        probe = self.dialect.message([Call("probe", {"text": "a"})])
        one = self._render([_user(_USER)], tools=True)
        two = self._render([_user(_USER), probe, _user(_MARK)], tools=True)
        self._first, self._close = _split(one, _USER)
        kept = self._kept(one, two)
        self.rewrites = kept < len(one)
        past, self.eos_id, self._next, last = self._after(two[kept:])
        if last != self._close:
            raise ConfigError("chat template: a later turn changes how an earlier one is rendered; it cannot stream")
        self._before, _, self._after_calls = past.partition(self.dialect.write([Call("probe", {"text": "a"})]))
        self.opening = self._tokenizer.encode(one[kept:])
        self._check_thinking(one)
        self._short_first, close = _split(self._render([_user(_USER)]), _USER)
        if close != self._close:
            raise ConfigError("chat template: what follows a turn depends on the system message")
        self._result = self._result_frame(probe)

    @property
    def around(self) -> tuple[str | None, str]:
        """What the model writes before and after its calls; None stands for line breaks that it may leave out."""
        before = self._before if not self.rewrites else None if self._thinking else ""
        return before, self._after_calls

    def prefix(self) -> list[int]:
        """Tokens before the first turn: system prompt, skills, site; the same for every conversation."""
        skeleton, _ = _split(self._render([_user(_USER)], tools=True, system=_MARK), _USER)
        tags = {token for token in self._tokenizer.added if token in skeleton}  # none that only the site names
        return self._encode([(self._cut_first()[0], True)], tags)

    def turn(self, text: str, facts: Facts | None = None, first: bool = False) -> list[int]:
        """Tokens of one person's turn up to where the model writes. `text` has passed `clean`.

        `first` is the turn right after `prefix`. Raises PromptError if it takes more tokens than a command may.
        """
        told = dict(facts or {})
        before = [(self._cut_first()[1] if first else self._next, True)]
        if self._result and not first and RESULT in told:
            head, between = self._result
            result = json.dumps({RESULT: _one_line(told.pop(RESULT))}, ensure_ascii=False)
            before = [(head, True), (re.sub("[<>]", " ", result), False), (between, True)]
        body = self._body(self.content(text, told))
        if len(self._tokenizer.encode_foreign(body)) > MAX_TOKENS:
            raise PromptError("That was too long for one command.")
        return self._encode([*before, (body, False), (self._close, True)])

    def reply(self, text: str) -> list[int]:
        """Tokens of a reply in the model's dialect as the conversation keeps it, eos included."""
        return self._reply(self._before + text + self._after_calls)

    def written(self, text: str) -> list[int]:
        """Tokens of a reply as the model writes it, eos included; those of `reply` unless the template rewrites."""
        before, after = self.around
        return self._reply((before or "") + text + after)

    def _reply(self, whole: str) -> list[int]:
        tags = {tag for tag in self.dialect.tags if tag in self._tokenizer.added}
        return [*self._encode([(whole, True)], tags), self.eos_id]

    def content(self, text: str, facts: Facts | None = None) -> str:
        """The user message: a line of facts if there are any, the utterance, and a line for each name of the site in
        it (`skills.mentions`). These come last, for the utterance is read while it is still being said."""
        mentions = self._mentions.show(text)
        if facts:
            text = "; ".join(f"{_one_line(k)}: {_one_line(v)}" for k, v in facts.items()) + "\n" + text
        while self._switched and _SWITCH.search(text):  # nobody switches thinking by saying so
            text = _SWITCH.sub("", text)
        return text + mentions

    def conversation(self, messages: list[dict[str, object]], generation: bool = False) -> str:
        """The chat template's own rendering of a whole conversation (for the proof that appending equals it)."""
        return self._render(messages, tools=True, generation=generation)

    def _system_message(self, content: str) -> dict[str, object]:
        if self._switched:
            content += "\n/think" if self._thinking else "\n/no_think"
        return {"role": "system", "content": content}

    def _past(self, reply: dict[str, object]) -> str:
        """A past turn's reply as the template shows it, from where all renderings agree up to eos."""
        one = self._render([_user(_USER)])
        two = self._render([_user(_USER), reply, _user(_MARK)])
        return self._after(two[self._kept(one, two) :])[0]

    def _kept(self, one: str, two: str) -> int:
        """How much of a turn's rendering `one` stays in that of the conversation gone on, `two`."""
        if two.startswith(one):
            return len(one)
        same = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        kept = place = 0
        for part in control_in(one[:same], self._tokenizer.added):
            place += len(part)
            kept = place if part in self._tokenizer.added else kept
        if kept <= one.find(_USER):
            raise ConfigError("chat template: a later turn changes how an earlier one is rendered; it cannot stream")
        return kept

    def _after(self, text: str) -> tuple[str, int, str, str]:
        """Reply, its eos token, what stands between that and the next person's words, and what follows these."""
        ends = {token for token, key in self._tokenizer.added.items() if key in self._tokenizer.eos_ids}
        parts = control_in(text, ends)
        eos = next((i for i, part in enumerate(parts) if part in ends), None)
        if eos is None:
            raise ConfigError("chat template: a reply is not closed by an eos token")
        following, last = _split("".join(parts[eos + 1 :]), _MARK)
        return "".join(parts[:eos]), self._tokenizer.added[parts[eos]], following, last

    def _check_thinking(self, rendered: str) -> None:
        opened = rendered.rstrip().endswith("<think>")
        if self._thinking and not opened:
            raise ConfigError("chat template: it has no thinking to switch on; leave thinking off")
        if opened and not self._thinking:
            raise ConfigError("chat template: its thinking cannot be switched off; switch thinking on")

    def _result_frame(self, probe: dict[str, object]) -> tuple[str, str] | None:
        """What stands before and after a tool's result, up to the person's words; None if results are not shown."""
        tool: dict[str, object] = {"role": "tool", "content": _RESULT}
        try:
            text = self._render([_user(_USER), probe, tool, _user(_MARK)])
        except ConfigError:
            return None
        if text.count(_RESULT) != 1 or text.count(_MARK) != 1:
            return None
        head, rest = text.split(_RESULT)
        between, last = rest.split(_MARK)
        eos = next(token for token, key in self._tokenizer.added.items() if key == self.eos_id)
        probed = self._before + self.dialect.write([Call("probe", {"text": "a"})]) + self._after_calls + eos
        opening = head.rpartition(probed)[2]
        return (opening, between) if probed in head and last == self._close else None

    def _cut_first(self) -> tuple[str, str]:
        """What precedes the first person's words: up to the last control token, and the text after it."""
        parts = control_in(self._first, self._tokenizer.added)
        plain = parts.pop() if parts and parts[-1] not in self._tokenizer.added else ""
        return "".join(parts), plain

    def _body(self, content: str) -> str:
        rendered = self._render([_user(content)])
        return rendered.removeprefix(self._short_first).removesuffix(self._close)

    def _encode(self, pieces: Sequence[tuple[str, bool]], tags: set[str] | None = None) -> list[int]:
        """Tokens of pieces (text, trusted): only in trusted ones control tokens count (those of `tags`, or all)."""
        added = self._tokenizer.added
        tokens, text = [], ""
        for piece, trusted in pieces:
            for part in control_in(piece, added if tags is None else tags) if trusted else [piece]:
                if trusted and part in added and (tags is None or part in tags):
                    tokens += [*self._tokenizer.encode_foreign(text), added[part]]
                    text = ""
                else:
                    text += part
        return tokens + self._tokenizer.encode_foreign(text)

    def _render(
        self,
        messages: list[dict[str, object]],
        tools: bool = False,
        generation: bool = True,
        system: str | None = None,
    ) -> str:
        head = self.system if tools and system is None else self._system_message(system or "s")
        return self._template.render([head, *messages], self.tools if tools else None, generation, self._thinking)


def _user(content: str) -> dict[str, object]:
    return {"role": "user", "content": content}


def _one_line(value: str | int | float) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = "".join(c if unicodedata.category(c)[0] not in "C" and c != ";" else " " for c in text)
    return " ".join(text.split())[:80]


def _split(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found or mark in after:
        raise ConfigError("chat template: does not render the text of a message just once")
    return before, after
