"""Guesses of what a reply will be: from what was said, from earlier replies and from the dialect itself.

Whole calls are guessed first: a skill whose words, or words that led to it before, were said, with the ids and numbers
heard, in the order in which they were said. What no such plan foresees continues as the prompt or earlier replies did
after the same tokens (prompt lookup). A wrong guess costs only its share of a step.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from nano_agent_ros.decode.dialect import REPLY_KINDS, Dialect, DialectError
from nano_agent_ros.decode.generate import Step
from nano_agent_ros.decode.pace import Pace
from nano_agent_ros.skills import Argument, Call, Site, Skill, Skills

STEP = 10  # tokens of a step, guesses included: up to about eleven cost what one does on the 4B's shapes
ORDER = 6  # tokens that a continuation is looked up by, at most
REMEMBERED = 30_000  # continuations kept
RECENT = 8  # ids kept from earlier turns, for what pronouns stand for
NAMES = 4  # skills that are tried while none is named
NAMED = ("location", "object", "person", "place")
EMPTY = frozenset(
    ["a", "an", "and", "at", "for", "from", "in", "it", "its", "me", "my", "of", "on", "or", "please", "that", "the"]
    + ["this", "to", "with", "you", "your"]
)

_NAME = re.compile(r'(?:<function=|"name": ")([a-z0-9_]*)')


class Guesser:
    """Guesses for the replies of one conversation; implements `Guess`. It learns from every reply."""

    def __init__(
        self,
        dialect: Dialect,
        skills: Skills,
        site: Site,
        encode: Callable[[str], list[int]],
        decode: Callable[[list[int]], str],
        step: int | None = None,
    ) -> None:
        """`encode` gives the tokens of a whole reply from its text, `decode` the text of tokens.

        `step`: tokens of a step at most, 0 for no guesses; None is STEP for as long as guesses are seen to pay.
        """
        self._dialect, self._skills, self._site = dialect, skills, site
        self._encode, self._decode = encode, decode
        self._step = STEP if step is None else step
        self._pace = Pace() if step is None else None
        self._follows: dict[tuple[int, ...], int] = {}
        self._led: dict[str, Counter[str]] = {}
        self._recent: list[str] = []
        self._aliases = [
            (_words(name), key)
            for group in (site.locations, site.objects, site.people)
            for key, named in group.items()
            for name in (*named.names, key.replace("_", " "))
        ]
        for skill in skills:
            self._lead(_words(f"{skill.name} {skill.description}".replace("_", " ")), skill.name)
        self.begin("", [])

    def begin(self, words: str, prompt: Sequence[int]) -> None:
        """A turn begins: the words said, and the tokens of the turn."""
        self._words = _words(words)
        found = [(at, -len(alias), key) for alias, key in self._aliases for at in _places(alias, self._words)]
        self._said = [(key, self._words[at - 1] if at else "") for at, _, key in sorted(found)]
        self._prompt = prompt
        self._copied: dict[tuple[int, ...], int] | None = None
        self._plans: list[list[int]] = []
        self._planned: object = None

    def learn(self, calls: Sequence[Call], tokens: Sequence[int]) -> None:
        """A reply was given, without or with its eos token."""
        if not self._step:
            return
        if calls:
            self._lead(self._words, calls[0].name)
        ids = [*(key for key, _ in self._said), *(v for c in calls for v in c.arguments.values())]
        known = {key for _, key in self._aliases}
        self._recent = list(dict.fromkeys([*(i for i in reversed(ids) if i in known), *self._recent]))[:RECENT]
        for n in range(1, ORDER + 1):
            for i in range(n, len(tokens)):
                key = tuple(tokens[i - n : i])
                self._follows.pop(key, None)  # the last one seen is the last one forgotten
                self._follows[key] = tokens[i]
        while len(self._follows) > REMEMBERED:
            del self._follows[next(iter(self._follows))]

    def room(self) -> int:
        """See Guess."""
        return self._step if self._pace is None or self._pace.pays() else 0

    def observe(self, step: Step) -> None:
        """See Guess."""
        if self._pace:
            self._pace.observe(step)

    def propose(self, tokens: Sequence[int]) -> Iterator[int]:
        """See Guess."""
        size, so_far = len(tokens), list(tokens)
        self._plan(so_far)
        for plan in self._plans:
            if len(plan) > size and plan[:size] == so_far:
                yield plan[size]
        if self._copied is None:
            pairs = [(n, i) for n in (1, 2, 3) for i in range(n, len(self._prompt))]
            self._copied = {tuple(self._prompt[i - n : i]): self._prompt[i] for n, i in pairs}
        tail = tuple(tokens[-ORDER:])
        for n in range(len(tail), 0, -1):
            for table in (self._follows, self._copied):
                if (token := table.get(tail[-n:])) is not None:
                    yield token

    def _plan(self, tokens: list[int]) -> None:
        """Plan the call that stands open, after those that are complete."""
        text = self._decode(tokens)
        try:
            done = self._dialect.begun(text.lstrip("\n"))
        except DialectError:
            done = []
        named = _NAME.findall(text)
        name = named[-1] if len(named) > len(done) else ""
        if self._planned == (done, name):
            return
        self._planned = (done, name)
        used = {value for call in done for value in call.arguments.values()}
        names = [n for n in self._likely({call.name for call in done}) if n.startswith(name)]
        plans = [[*done, call] for n in names[:NAMES] for call in self._fill(n, used)]
        if done and not name:
            more = any(key not in used for key, _ in self._said)
            plans = [*plans, done] if more else [done, *plans]
        self._plans = [self._encode(self._dialect.write(plan)) for plan in plans]

    def _likely(self, done: set[str]) -> list[str]:
        """Names of skills and reply calls, the most likely first."""
        votes: Counter[str] = Counter()
        for word in set(self._words):
            led = self._led.get(word, Counter())
            total = sum(led.values())
            for name, count in led.items():
                votes[name] += round(1000 * count / total)
        names = [*(skill.name for skill in self._skills), *REPLY_KINDS]
        return sorted(names, key=lambda name: (name in done, -votes[name]))

    def _fill(self, name: str, used: set[str]) -> list[Call]:
        """Calls of a skill with what was heard: all arguments that it fits, then only those required."""
        if name not in self._skills:
            return [Call(name, {} if name == "ignore" else {"text": ""})]
        skill = self._skills[name]
        full = self._arguments(skill, used, optional=True)
        least = self._arguments(skill, used, optional=False)
        return [Call(name, full)] + ([Call(name, least)] if least != full else [])

    def _arguments(self, skill: Skill, used: set[str], optional: bool) -> dict[str, str]:
        taken, out = set(used), {}
        for argument in skill.arguments:
            if argument.optional and not optional:
                continue
            fitting = self._values(argument)
            value = next((v for v in fitting if v not in taken), None)
            if value is None and not argument.optional:
                value = next(iter([*fitting, *(i for i in self._recent if i in self._ids(argument))]), None)
            if value is None:
                if not argument.optional:
                    break  # what follows cannot be foreseen
                continue
            out[argument.name] = value
            taken.add(value)
        return out

    def _values(self, argument: Argument) -> list[str]:
        """Values of an argument among what was said; those right after its name (from, to) first."""
        if argument.type in NAMED:
            ids = self._ids(argument)
            heard = [(before != argument.name, key) for key, before in self._said if key in ids]
            return [key for _, key in sorted(heard, key=lambda pair: pair[0])]
        if argument.type == "enum":
            return [v for v in argument.values if set(v.split("_")) & set(self._words)]
        if argument.type == "integer":
            return [word for word in self._words if word.isdigit()]
        return []

    def _ids(self, argument: Argument) -> Sequence[str]:
        return self._site.ids(argument.type) if argument.type in NAMED else ()

    def _lead(self, words: Sequence[str], name: str) -> None:
        for word in set(words) - EMPTY:
            self._led.setdefault(word, Counter())[name] += 1


def _places(alias: Sequence[str], words: Sequence[str]) -> list[int]:
    size = len(alias)
    return [i for i in range(len(words) - size + 1) if words[i : i + size] == alias] if size else []


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", text.lower())
