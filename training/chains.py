"""Commands that go on with one thing: "pick up the box at dock 2, take it to the lab, put it down there and wait"."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from training import joins
from training.banks import SLOT, held_out, slots
from training.slots import Binding, CannotBind, Segment
from training.words import read

Call = tuple[str, dict[str, str]]

PATTERNS = (
    (("pick", "take", "there"), 6), (("pick", "at"), 3), (("pick", "take", "wait"), 3), (("pick", "at", "back"), 3),
    (("pick", "take", "there", "back"), 3), (("pick", "take", "there", "charge"), 2), (("pick", "look", "take"), 2),
    (("pick", "look", "take", "there"), 2), (("visit", "pick", "take"), 3), (("visit", "pick", "take", "there"), 4),
    (("visit", "pick", "at"), 3), (("visit", "pick", "look", "at"), 1), (("pick", "take", "wait", "there"), 1),
    (("visit", "pick", "take", "there", "back"), 2), (("visit", "pick", "take", "there", "charge"), 1),
    (("pick", "at", "charge"), 2), (("pick", "take", "there", "wait"), 2), (("attach", "tow"), 2),
    (("attach", "tow", "uncouple"), 4), (("visit", "attach", "tow", "uncouple"), 2), (("attach", "tow", "wait"), 1),
    (("attach", "tow", "uncouple", "back"), 2), (("attach", "tow", "uncouple", "charge"), 1),
    (("visit", "wait", "back"), 2), (("visit", "wait"), 2), (("visit", "wait", "next"), 3), (("visit", "next"), 4),
    (("visit", "wait", "charge"), 1), (("visit", "next", "back"), 4), (("visit", "next", "charge"), 2),
    (("visit", "survey"), 4), (("visit", "survey", "next"), 5), (("visit", "survey", "back"), 3),
    (("visit", "survey", "wait"), 2), (("visit", "survey", "charge"), 2), (("visit", "next", "survey"), 2),
    (("visit", "survey", "next", "wait"), 1), (("visit", "wait", "survey"), 1), (("visit", "pick", "next"), 1),
    (("pick", "take", "next"), 2), (("pick", "at", "next"), 1), (("attach", "tow", "next"), 3),
    (("attach", "tow", "uncouple", "next"), 2), (("load", "next", "unload"), 3), (("load", "wait", "next"), 1),
    (("load", "next", "unload", "charge"), 1), (("load", "next", "unload", "back"), 1),
)  # fmt: skip
STARTS = ("pick", "attach", "load")


@cache
def clauses(split: str) -> dict[str, tuple[str, ...]]:
    """The clauses of one split by what they mean."""
    chosen = {
        name: tuple(c for c in lines if held_out(c) == (split == "heldout")) for name, lines in read("clauses").items()
    }
    return {name: kept for name, kept in chosen.items() if kept}


def draw_pattern(rng: random.Random, split: str) -> tuple[str, ...]:
    """The steps of one chain, all of which this split has words for; raises CannotBind."""
    pattern = rng.choices([p for p, _ in PATTERNS], [w for _, w in PATTERNS])[0]
    known = clauses(split)
    if any(name not in known and name not in STARTS for name in pattern):
        raise CannotBind("clause")
    return pattern


def utter(
    rng: random.Random, split: str, pattern: tuple[str, ...], start: str, call: Call, binding: Binding, thing: str
) -> tuple[list[Segment], list[Call], tuple[str, ...]]:
    """Segments, calls and phrasings of a chain.

    `start` is the phrasing that takes the thing and `call` what it means, both bound by `binding`; `thing` is the id
    that "it" stands for afterwards (empty where the pattern takes none). Raises CannotBind.
    """
    known = clauses(split)
    said: list[list[Segment]] = []
    calls: list[Call] = []
    phrasings: list[str] = []
    for name in pattern:
        phrasing = start if name in STARTS else rng.choice(known[name])
        said.append(binding.utter(phrasing))
        calls.append(call if name in STARTS else _call(name, phrasing, binding, thing, calls))
        phrasings.append(phrasing)
    # Nobody says "once you're there" before the bare name of another place.
    skills = ["" if then == "next" else name for (name, _), then in zip(calls, (*pattern[1:], ""), strict=True)]
    return joins.in_order(rng, said, skills, split == "heldout"), calls, tuple(phrasings)


def step(
    rng: random.Random, split: str, name: str, binding: Binding, thing: str, before: Sequence[Call]
) -> tuple[list[Segment], list[Call], tuple[str, ...]]:
    """One clause of a chain alone, as a turn of its own after the calls before; raises CannotBind."""
    phrasing = rng.choice(clauses(split)[name])
    return binding.utter(phrasing), [_call(name, phrasing, binding, thing, before)], (phrasing,)


def fits(phrasing: str) -> bool:
    """Whether "it" can stand for what the phrasing takes: one thing, not several."""
    kinds = {kind for kind, _ in slots(phrasing)}
    return bool(kinds & {"object", "cart"}) and not kinds & {"count", "objects"}


def _call(name: str, phrasing: str, binding: Binding, thing: str, before: Sequence[Call]) -> Call:
    place = next((binding.get((m[1], m[2])).plan for m in SLOT.finditer(phrasing) if m[1] == "location"), "")
    here = next((arguments["location"] for skill, arguments in reversed(before) if skill == "navigate_to"), "")
    if name in ("take", "tow", "back", "visit", "next"):
        return "navigate_to", {"location": place}
    if name in ("there", "at"):
        return "place", {"object": thing, "location": place or binding.get(("location", "8")).plan}
    if name == "survey":
        return "inspect", {"location": here}
    if name == "unload":
        return "unload", {"object": thing, "location": here} if "there" in phrasing.split() else {"object": thing}
    if name == "look":
        return "inspect", {"object": thing}
    if name == "wait":
        return "wait", {"duration": binding.get(("duration", "")).plan}
    if name == "charge":
        return "dock", {}
    return "detach", {"object": thing}
