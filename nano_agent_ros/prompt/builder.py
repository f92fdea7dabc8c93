"""Builds the tokens of a conversation by appending: each turn yields its own tokens, never the old ones again."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.prompt.template import ChatTemplate
from nano_agent_ros.prompt.tokenizer import Tokenizer
from nano_agent_ros.skills import Site, Skills

Facts = Mapping[str, str | int | float]

MAX_CHARACTERS = 2000  # longer is no spoken command
MAX_TOKENS = 400


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
    costs the rendering of itself alone.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, skills: Skills, site: Site) -> None:
        """Raises ConfigError for a template whose turns cannot be appended."""
        self._tokenizer, self._template = tokenizer, template
        self._system = {"role": "system", "content": site.describe()}
        self._tools = [skill.tool() for skill in skills]
        user, reply, mark = "qzuserzq", "qzreplyzq", "qznextzq"
        one = self._render([_user(user)], tools=True)
        two = self._render([_user(user), {"role": "assistant", "content": reply}, _user(mark)], tools=True)
        self._first, self._close = _split(one, user)
        head, rest = _split(two, reply)
        between, last = _split(rest, mark)
        if head != one or last != self._close:
            raise ConfigError("chat template: a later turn changes how an earlier one is rendered; it cannot stream")
        ends = [token for token, key in tokenizer.added.items() if key in tokenizer.eos_ids]
        eos = next((token for token in ends if between.startswith(token)), "")
        if not eos:
            raise ConfigError("chat template: a reply is not closed by an eos token")
        self.eos_id = tokenizer.added[eos]
        self._next = between.removeprefix(eos)
        short = self._render([_user(user)], tools=False, system="s")
        self._short_first, short_close = _split(short, user)
        if short_close != self._close:
            raise ConfigError("chat template: what follows a turn depends on the system message")

    def prefix(self) -> list[int]:
        """Tokens before the first person's words: system prompt, skills, site; the same for every conversation."""
        return self._tokenizer.encode(self._first)

    def turn(self, text: str, facts: Facts | None = None, first: bool = False) -> list[int]:
        """Tokens of one person's turn up to where the reply begins. `text` has passed `clean`.

        `first` is the turn right after `prefix`. Raises PromptError if it takes more tokens than a command may.
        """
        content = _content(text, facts)
        rendered = self._render([_user(content)], tools=False, system="s")
        body = rendered.removeprefix(self._short_first).removesuffix(self._close)
        tokens = self._tokenizer.encode_foreign(body)
        if len(tokens) > MAX_TOKENS:
            raise PromptError("That was too long for one command.")
        opening = [] if first else self._tokenizer.encode(self._next)
        return opening + tokens + self._tokenizer.encode(self._close)

    def reply(self, text: str) -> list[int]:
        """Tokens of a reply in the model's dialect, eos included."""
        return [*self._tokenizer.encode(text), self.eos_id]

    def conversation(self, messages: list[dict[str, object]]) -> str:
        """The chat template's own rendering of a whole conversation (for the proof that appending equals it)."""
        return self._render(messages, tools=True, generation=False)

    def _render(
        self, messages: list[dict[str, object]], tools: bool, system: str | None = None, generation: bool = True
    ) -> str:
        head = self._system if system is None else {"role": "system", "content": system}
        return self._template.render([head, *messages], self._tools if tools else None, generation)


def _user(content: str) -> dict[str, object]:
    return {"role": "user", "content": content}


def _content(text: str, facts: Facts | None) -> str:
    """The user message: a line of facts if there are any, then the utterance. The last line is always the person's."""
    if not facts:
        return text
    pairs = [f"{_one_line(key)}: {_one_line(value)}" for key, value in facts.items()]
    return "; ".join(pairs) + "\n" + text


def _one_line(value: str | int | float) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = "".join(c if unicodedata.category(c)[0] not in "C" and c != ";" else " " for c in text)
    return " ".join(text.split())[:80]


def _split(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found or mark in after:
        raise ConfigError("chat template: does not render the text of a message just once")
    return before, after
