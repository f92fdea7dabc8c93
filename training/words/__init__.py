"""The vocabularies in this folder, loaded once: names of places, things and people, messages, defects, noise."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rapidfuzz import fuzz

from training.names import ONES, TENS

T = TypeVar("T")
ALIKE = 60.0  # percent of letters that words said and heard have in common
HELD_OUT_OF = 8  # one name in eight is for held-out sites
_NUMBER = re.compile(rf"\d|\b(?:half|quarter|{'|'.join((*ONES, *TENS))}|hundred|thousand)\b")
_DECIDING = frozenset((
    "load", "unload", "attach", "detach", "hook", "unhook", "couple", "uncouple", "dock", "undock", "lift", "lower",
    "raise", "left", "right", "up", "down", "forward", "forwards", "back", "backward", "backwards", "not", "don't",
    "no", "never", "stop", "go", "on", "off", "wait", "yes", "pause", "resume", "cancel", "me", "my", "i", "you",
    "your", "robot", "first", "then", "before", "after", "and", "or",
))  # fmt: skip

# Words too small to be recognised by what stands around them: they are never taken for others.
_SMALL = frozenset((
    "can", "been", "in", "by", "but", "way", "time", "him", "her", "come", "some", "have", "half", "them", "where",
    "there", "see", "be", "seen", "which", "whole", "good", "when", "need", "find", "bring", "count", "take",
))  # fmt: skip


@dataclass(frozen=True)
class Word:
    """Something that can be named: its names (the first is the usual one), their plurals, and how it is used."""

    names: tuple[str, ...]
    plurals: tuple[str, ...] = ()
    article: bool = True
    mass: bool = False
    cart: bool = False


@dataclass(frozen=True)
class Family:
    """A numbered or lettered kind of place (dock 1, dock 2 …); `also` are other words for it."""

    name: str
    also: tuple[str, ...]
    vehicle: bool
    largest: int


@dataclass(frozen=True)
class Pool:
    """Names of one split: those that are trained on, and those that only held-out sites have."""

    families: tuple[Family, ...]
    places: tuple[Word, ...]
    objects: tuple[Word, ...]
    names: tuple[str, ...]
    roles: tuple[Word, ...]
    carts: tuple[Word, ...]


def plural(noun: str) -> str:
    """The regular English plural of a noun phrase."""
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    if noun[-1].isdigit() or len(noun.split()[-1]) == 1:
        return noun
    return noun + "s"


@cache
def read(name: str) -> Any:
    """One YAML file of this folder."""
    return yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))


@cache
def values() -> dict[str, Any]:
    """Defects, positions, messages and noise."""
    return read("values")


@cache
def misheard() -> dict[str, tuple[str, ...]]:
    """Words that sound like a word: `noise` of values.yaml and the groups of alike.yaml."""
    out: dict[str, list[str]] = {word: list(heard) for word, heard in values()["noise"].items()}
    for line in read("alike")["groups"].split(","):
        group = _sound_alikes(line)
        for word in group:
            if " " not in word and word not in _SMALL:
                out.setdefault(word, []).extend(w for w in group if w != word)
    return {word: tuple(heard) for word, heard in out.items() if heard}


def _sound_alikes(line: str) -> list[str]:
    """A line's words; where what follows the first is the first in pieces ("wheel chair"), it is one of two."""
    first, *rest = line.split()
    joined = [" ".join(rest)] if len(rest) > 1 and fuzz.ratio("".join(rest), first) >= ALIKE else rest
    group = list(dict.fromkeys((first, *joined)))
    kept = [w for w in group if not set(w.split()) & (_DECIDING - {"dock"}) and not _NUMBER.search(w)]
    return kept if len(kept) > 1 else []


@cache
def asides() -> dict[str, list[str]]:
    """What people say before and after a command without changing it."""
    return read("asides")


def _held_out(name: str) -> bool:
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % HELD_OUT_OF == 0


@cache
def pools() -> tuple[Pool, Pool]:
    """The pool that training draws from and the pool kept for held-out sites."""
    places, things, people = read("locations"), read("objects"), read("people")
    families = [
        Family(name, tuple(body.get("also", ())), bool(body.get("vehicle")), int(body["max"]))
        for name, body in places["families"].items()
    ]
    objects = [_thing(line, cart=True) for line in things["carts"]]
    objects += [_thing(line) for line in things["things"]] + [_thing(line, mass=True) for line in things["mass"]]
    named = [_place(line) for line in places["places"]]
    roles = [_place(line) for line in people["roles"]]
    names = list(dict.fromkeys(people["names"].split()))

    def pool(kept: bool) -> Pool:
        return Pool(
            tuple(f for f in families if _held_out(f.name) == kept),
            tuple(w for w in named if _held_out(w.names[0]) == kept),
            tuple(w for w in objects if _held_out(w.names[0]) == kept),
            tuple(n for n in names if _held_out(n) == kept),
            tuple(w for w in roles if _held_out(w.names[0]) == kept),
            tuple(w for w in objects if w.cart and _held_out(w.names[0]) == kept),
        )

    return pool(False), pool(True)


def _place(line: str) -> Word:
    article = not line.startswith("-")
    return Word(tuple(n.strip() for n in line.lstrip("-").split("|")), article=article)


def _thing(line: str, mass: bool = False, cart: bool = False) -> Word:
    names, plurals = [], []
    for part in line.split("|"):
        name, _, many = (x.strip() for x in part.partition("="))
        names.append(name)
        plurals.append(many or (name if mass else plural(name)))
    return Word(tuple(names), tuple(plurals), mass=mass, cart=cart)


def choose(rng: random.Random, pool: str, kind: str) -> Any:
    """One word of a kind; on held-out sites every other one is a word that training never names."""
    train, kept = pools()
    source: Sequence[Any] = getattr(kept if pool == "heldout" and rng.random() < 0.5 else train, kind)
    return source[int(rng.random() * len(source))]


@cache
def alike(head: str, pool: str) -> tuple[Word, ...]:
    """Objects whose name ends in the same word: red bin, big blue bin."""
    train, kept = pools()
    objects = train.objects + (kept.objects if pool == "heldout" else ())
    return tuple(w for w in objects if w.names[0].split()[-1] == head)


@cache
def sharing(word: str, pool: str) -> tuple[Word, ...]:
    """Places whose name has a word in common: packing station, packing table."""
    train, kept = pools()
    places = train.places + (kept.places if pool == "heldout" else ())
    return tuple(p for p in places if word in p.names[0].split()) or places


@cache
def surnames() -> tuple[str, ...]:
    """Family names, which a site file may write after a first name."""
    return tuple(read("people")["surnames"].split())


@cache
def heard() -> dict[str, tuple[str, ...]]:
    """What a small Whisper heard for what was said (written by training.heard); empty where there is no table.

    Only what still sounds like it, and no word that decides what is meant: what cannot be recognised must not be
    learned as that, and "unload" must not be learned from "and load".
    """
    if not (Path(__file__).parent / "heard.yaml").exists():
        return {}
    out: dict[str, tuple[str, ...]] = {}
    for said, found in (read("heard") or {}).items():
        words = set(str(said).split())
        if words & _DECIDING or _NUMBER.search(str(said)):
            continue
        alike = [str(h) for h in found if fuzz.ratio(str(said), str(h)) >= ALIKE]
        kept = tuple(h for h in alike if not set(h.split()) & _DECIDING and not _NUMBER.search(h))
        if kept:
            out[str(said)] = kept
    return out
