"""Turns that take up the one before: put right, again, the same with something else, on with what was taken."""

from __future__ import annotations

import random
from functools import cache

from training import chains
from training.banks import SLOT, held_out
from training.compose import HERE, PRONOUN, Composer, Said, Single, calls_of
from training.slots import Binding, CannotBind, Segment, Slot
from training.words import read

REPEATED = frozenset((
    "move", "turn", "count", "inspect", "patrol", "say", "wait", "bring", "load", "unload", "lift", "lower", "find",
    "report_defect", "push",
))  # fmt: skip
SHARED = frozenset((
    "navigate_to", "count", "inspect", "patrol", "bring", "load", "unload", "find", "push", "pick", "guide",
))  # fmt: skip
NAMES = ("location", "vehicle", "object", "cart", "person")
NUMBERS = ("count", "duration", "distance", "speed", "angle")


@cache
def texts(split: str) -> dict[str, tuple[str, ...]]:
    """What is said afterwards, of one split."""
    chosen = {
        name: tuple(t for t in lines if held_out(t) == (split == "heldout") or name == "openings")
        for name, lines in read("followups").items()
    }
    return {name: kept for name, kept in chosen.items() if kept}


def follow_up(rng: random.Random, split: str, single: Single, binding: Binding, said: Said) -> Said:
    """A turn after `said`, which is `single` in this binding; raises CannotBind where none fits."""
    if len(said.calls) != 1 or split not in ("train", "heldout"):
        raise CannotBind("one command")
    (name, arguments), known = said.calls[0], texts(split)
    ways = [way for way in ("correct", "correct", "also", "again") if way in known]
    way = rng.choice(ways)
    if way == "again":
        if name not in REPEATED:
            raise CannotBind("command that is repeated")
        text = rng.choice(known[way])
        return Said([Segment(text)], "act", [(name, dict(arguments))], phrasings=(text,))
    if way == "also" and name not in SHARED:
        raise CannotBind("command that is shared")
    argument, slot = _slot(rng, single, NAMES if way == "also" else NAMES + NUMBERS)
    text = rng.choice(known[way])
    other: Slot = (slot[0], "8")
    if slot[1] in binding.countable:
        binding.countable = binding.countable | {"8"}
    if slot in binding.limits:
        binding.limits = {**binding.limits, other: binding.limits[slot]}
    segments = binding.utter(text.replace("{x}", f"{{{slot[0]}8}}").replace("{old}", f"{{{slot[0]}{slot[1]}}}"))
    if binding.get(other).plan == binding.get(slot).plan:
        raise CannotBind("another value")
    changed = {**arguments, argument: binding.get(other).plan}
    return Said(segments, "act", [(name, changed)], phrasings=(text,))


def afresh(composer: Composer, single: Single) -> Said:
    """A command of the same skill with names of its own, which takes nothing from the one before; raises CannotBind."""
    if single.turn.facts or PRONOUN.search(single.phrasing) or HERE.search(single.phrasing):
        raise CannotBind("command that stands alone")
    said = composer.single(single)
    said.segments.insert(0, Segment(composer.rng.choice(texts(composer.bank.split)["openings"])))
    return said


def _slot(rng: random.Random, single: Single, kinds: tuple[str, ...]) -> tuple[str, Slot]:
    """An argument and its slot that is the only one of its kind, so that another name can stand for no other."""
    found: list[tuple[str, Slot]] = []
    groups: list[str] = []
    for argument, template in single.turn.plan.calls[0][1]:
        match = SLOT.fullmatch(template)
        if match:
            groups.append({"vehicle": "location", "cart": "object"}.get(match[1], match[1]))
            found.append((argument, (match[1], match[2])))
    free = [f for f, group in zip(found, groups, strict=True) if groups.count(group) == 1 and f[1][0] in kinds]
    if not free:
        raise CannotBind("argument")
    return rng.choice(free)


def chain_of_turns(composer: Composer) -> list[tuple[Said, dict[str, str | int]]]:
    """A chain with a turn for each step and the facts that may be told with it; raises CannotBind."""
    rng, split = composer.rng, composer.bank.split
    pattern = chains.draw_pattern(rng, split)
    if pattern[0] not in chains.STARTS:
        raise CannotBind("chain that begins with what it takes")
    parts = composer.bank.chain_starts[pattern[0]]
    if not parts:
        raise CannotBind("command to begin with")
    start = rng.choice(parts)
    binding = composer.binding(start.entry, [start.phrasing])
    first = composer.turn(start.turn, start.phrasing, binding)
    thing = calls_of(start.turn.plan, binding)[0][1]["object"]
    out: list[tuple[Said, dict[str, str | int]]] = [(first, {})]
    facts: dict[str, str | int] = {"carrying": thing} if pattern[0] == "pick" else {}
    for step in pattern[1:]:
        segments, calls, phrasings = chains.step(rng, split, step, binding, thing)
        opening = rng.choice(texts(split)["openings"])
        told = facts if facts and rng.random() < 0.35 else {}
        facts = {} if told or step not in ("take", "look") else facts
        if step in ("take", "tow"):
            facts = {**facts, "location": calls[0][1]["location"]}
        elif step in ("there", "at"):
            facts = {"carrying": "nothing"}
        elif step != "look":
            facts = {}
        out.append(
            (Said([Segment(opening), *segments] if opening else segments, "act", calls, phrasings=phrasings), told)
        )
    return out
