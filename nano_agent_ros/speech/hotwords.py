"""The line of text that biases Whisper's decoder towards the words of the trade and the names of the site."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

COMMANDS = "Robot commands: go to, pick up, push, unload, patrol between, slow down, pause, stop, halt, abort, whoa."
"""English words of the trade that Whisper tiny mishears, and no sentence that it could repeat as a command."""

BUDGET = 200
"""Tokens, of the 223 that Whisper reads before it begins."""

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def hotwords_of(
    names: Iterable[str],
    tokens: Callable[[str], int],
    own: Iterable[str] = (),
    language: str | None = "en",
    budget: int = BUDGET,
) -> str:
    """Return the line: COMMANDS in English, then `own` words, then spoken names (aliases of a site).

    Written as a person would write it, since Whisper takes the style up as well. Of names that differ in a number
    only ("dock 1", "dock two") the first stands for all. `tokens` counts those of a text; what does not fit into
    `budget` of them is left out, own words last and then names that Whisper knows best: those whose words take the
    fewest tokens each. All that stays keeps its order.
    """
    own = _distinct(own)
    names = [name for name in _distinct(names) if name not in own]
    commands = COMMANDS if language == "en" else ""

    def rarity(name: str) -> float:
        return -tokens(" " + name) / len(name.split())

    chosen: list[str] = []
    left = budget - tokens(commands)
    for name in [*own, *sorted(names, key=rarity)]:
        cost = tokens(f" {name},")
        if cost <= left:
            chosen.append(name)
            left -= cost
    listed = ", ".join(name for name in [*own, *names] if name in chosen)
    if not listed:
        return commands
    return f"{commands} {listed[0].upper()}{listed[1:]}.".strip()


def _distinct(names: Iterable[str]) -> list[str]:
    stems: dict[str, str] = {}
    for name in names:
        name = re.sub(r"^(the|an?) ", "", " ".join(name.split()), flags=re.IGNORECASE)
        if name:
            stems.setdefault(re.sub(rf"\b(\d+|{'|'.join(NUMBERS)})\b", "#", name.casefold()), name)
    return list(stems.values())
