"""Names put together from the words of many trades, so that a site holds names that were hardly ever drawn before.

"walnut press", known as "press" as well; beside it "walnut store" or "ice press". What is common to two names must not
decide which of them is meant.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from training.words import Word, pools, read, surnames
from training.words import plural as plural_of


@cache
def _words() -> dict[str, Any]:
    """Lists of words; lines with "|" are tuples of words said for one another."""
    out: dict[str, Any] = {}
    for name, body in read("trades").items():
        if isinstance(body, str):
            out[name] = tuple(body.split())
        else:
            out[name] = tuple(tuple(part.strip() for part in line.split("|")) for line in body)
    return out


@cache
def _kept() -> frozenset[str]:
    """Names that only held-out sites have."""
    kept = pools()[1]
    return frozenset(n for word in (*kept.places, *kept.objects, *kept.roles) for n in word.names)


def place(rng: random.Random, near: str = "") -> Word:
    """A place; `near` is a word that its name has in common with another one."""
    return _made(rng, "places", near)


def thing(rng: random.Random, near: str = "") -> Word:
    """A thing, with plurals."""
    word = _made(rng, "things", near)
    return Word(word.names, tuple(map(plural_of, word.names)))


def cart(rng: random.Random) -> Word:
    """Something that can be coupled."""
    words = _words()
    name = f"{rng.choice(words['before'])} {rng.choice(words['carts'])}"
    names = (name,) if rng.random() < 0.6 else (name, f"{name.split()[0]} {rng.choice(words['carts'])}")
    names = tuple(dict.fromkeys(names))
    return Word(names, tuple(map(plural_of, names)), cart=True)


def role(rng: random.Random) -> Word:
    """Somebody's work: "welder", "night nurse"."""
    words = _words()
    job = rng.choice(words["jobs"])
    return Word((job,) if rng.random() < 0.4 else (f"{rng.choice(words['before'])} {job}",))


def titled(rng: random.Random, name: str) -> tuple[str, ...]:
    """A person's names with a title: ("Sister Anne", "Anne"), ("Mr Okoro",)."""
    title = rng.choice(_words()["titles"])
    if rng.random() < 0.5:
        return (f"{title} {rng.choice(surnames())}",)
    return (f"{title} {name}", name) if rng.random() < 0.4 else (f"{title} {name}",)


def _made(rng: random.Random, kind: str, near: str) -> Word:
    words = _words()
    while True:
        heads = rng.choice(words[kind])
        before = rng.choice(words["before"])
        if near and rng.random() < 0.5:
            before = near
        elif near:
            heads = (near,)
        x = rng.random()
        first = f"{before} {heads[0]}"
        if x < 0.08:
            first = heads[0]
        elif x < 0.22:
            second = rng.choice(words["before"])
            first = f"{second} {before} {heads[0]}"
        elif x < 0.26 and kind == "things":
            first = f"{heads[0]} of {plural_of(before) if rng.random() < 0.3 else before}"
        elif x < 0.3 and kind == "places":
            first = before
        others = _others(rng, before, heads, first)
        names = tuple(dict.fromkeys((first, *others)))
        if before not in heads and not _kept().intersection(names):
            return Word(names)


def _others(rng: random.Random, before: str, heads: tuple[str, ...], first: str) -> list[str]:
    """Other names: the last word alone, what stands before alone, or another last word."""
    out = []
    if len(heads) > 1 and rng.random() < 0.5:
        out.append(f"{before} {heads[1]}")
    if " " in first:
        x = rng.random()
        if x < 0.12:
            out.append(first.split()[-1])
        elif x < 0.22:
            out.append(before)
        elif x < 0.34:
            out.append(f"{rng.choice(_words()['before'])} {first.split()[-1]}")
    return out
