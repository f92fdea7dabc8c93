"""Messages, reasons and remarks put together from words/sayings.yaml, so that hardly any is drawn twice.

A message must be copied word for word into the plan, which is learnt only from messages that were never seen before.
"""

from __future__ import annotations

import random
import re
from functools import cache

from training.names import number_words
from training.words import read

LONGEST = 110  # characters; config/skills.yaml allows 120
_WORD = re.compile(r"\{(\w+)\}")


@cache
def _lists() -> dict[str, tuple[str, ...]]:
    return {name: tuple(body.split() if isinstance(body, str) else body) for name, body in read("sayings").items()}


def message(rng: random.Random, places: tuple[str, ...] = (), objects: tuple[str, ...] = ()) -> str:
    """A message, in lower case; `places` and `objects` are names of the site that it may hold."""
    names = {"place": places, "object": objects}
    while True:
        form = rng.choice(_lists()["forms"])
        if any(not names[m] for m in _WORD.findall(form) if m in names):
            continue
        text = _filled(rng, form, names).lower()
        if len(text) <= LONGEST:
            return text


def reason(rng: random.Random) -> str:
    """Why something is to be done; said after a command."""
    return _filled(rng, rng.choice(_lists()["reasons"]), {})


def lead_in(rng: random.Random) -> str:
    """How things are; said before a command."""
    return _filled(rng, rng.choice(_lists()["lead_ins"]), {})


def clause(rng: random.Random) -> str:
    """Which of them, where it stands or whose it is; said after a name."""
    return _filled(rng, rng.choice(_lists()["clauses"]), {})


def _filled(rng: random.Random, form: str, names: dict[str, tuple[str, ...]]) -> str:
    def word(match: re.Match[str]) -> str:
        name = match[1]
        if name == "n":
            n = rng.choice((rng.randint(2, 12), rng.randint(2, 99)))
            return number_words(n) if rng.random() < 0.7 else str(n)
        return rng.choice(names.get(name) or _lists()[name])

    return _WORD.sub(word, form)
