"""Turns that take up the one before: put right, again, the same with something else, on with what was taken."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache

from training import chains, repairs
from training.banks import SLOT, held_out, slots
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
_GROUPS = {"vehicle": "location", "cart": "object"}
_LED = re.compile(r"(^|, |\b(no|not|meant|mean|said|sorry|actually|wait) )\{x\}")  # where "to {x}" can be said
_SAME = re.compile(r"\b(same|likewise|repeat|once more|again)\b")


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
    kinds = NAMES if way == "also" else NAMES + NUMBERS
    leads = _leads(said.segments) if way == "correct" else {}
    argument, slot = _slot(rng, single, kinds, leads)
    text = rng.choice(known[way])
    if way == "also" and "quantity" in arguments and argument == "object" and not _SAME.search(text):
        raise CannotBind("number that clearly holds for both")
    other: Slot = (slot[0], "8")
    if slot[1] in binding.countable:
        binding.countable = binding.countable | {"8"}
    if slot in binding.limits:
        binding.limits = {**binding.limits, other: binding.limits[slot]}
    named = f"{{{slot[0]}8}}"
    if slot[0] == "object" and ("objects", slot[1]) in slots(single.phrasing):
        named = "{objects8}"
    lead = leads.get(slot, "")
    if lead and _LED.search(text) and (_shared(single, slot) or rng.random() < 0.35):
        named = lead + named
    elif _shared(single, slot):
        raise CannotBind("argument that is plain")
    segments = binding.utter(text.replace("{x}", named).replace("{old}", f"{{{slot[0]}{slot[1]}}}"))
    if binding.get(other).plan == binding.get(slot).plan:
        raise CannotBind("another value")
    changed = {**arguments, argument: binding.get(other).plan}
    return Said(segments, "act", [(name, changed)], phrasings=(text,))


def restated(composer: Composer, single: Single, binding: Binding) -> Said:
    """The whole command once more with another name or number in it, in the same words or others; raises CannotBind."""
    rng, bank = composer.rng, composer.bank
    needed = {s for _, arguments in single.turn.plan.calls for _, value in arguments for s in slots(value)}
    if not needed or single.turn.facts or PRONOUN.search(single.phrasing) or HERE.search(single.phrasing):
        raise CannotBind("command that stands alone")
    slot = rng.choice(sorted(needed))
    before = binding.bound.pop(slot)
    if binding.get(slot).plan == before.plan:
        raise CannotBind("another value")
    others = [one.phrasing for one in bank.by_entry[single.entry.where] if set(slots(one.phrasing)) == needed]
    phrasing = rng.choice(others) if others and rng.random() < 0.8 else single.phrasing
    opening = rng.choice(texts(bank.split)["restate"])
    segments = [Segment(opening), *binding.utter(phrasing)]
    return Said(segments, "act", calls_of(single.turn.plan, binding), phrasings=(opening, phrasing))


def afresh(composer: Composer, single: Single) -> Said:
    """A command of the same skill with names of its own, which takes nothing from the one before; raises CannotBind."""
    if single.turn.facts or PRONOUN.search(single.phrasing) or HERE.search(single.phrasing):
        raise CannotBind("command that stands alone")
    said = composer.single(single)
    said.segments.insert(0, Segment(composer.rng.choice(texts(composer.bank.split)["besides"])))
    return said


def _slot(rng: random.Random, single: Single, kinds: tuple[str, ...], leads: Mapping[Slot, str]) -> tuple[str, Slot]:
    """An argument and its slot, for which another name can stand: the only one of its kind, or told by its lead."""
    found: list[tuple[str, Slot]] = []
    for argument, template in single.turn.plan.calls[0][1]:
        match = SLOT.fullmatch(template)
        if match and match[1] in kinds:
            found.append((argument, (match[1], match[2])))
    free = [f for f in found if not _shared(single, f[1]) or leads.get(f[1])]
    if not free:
        raise CannotBind("argument")
    return rng.choice(free)


def _shared(single: Single, slot: Slot) -> bool:
    """Whether the plan has several slots of this kind, so that a bare name could stand for any."""
    groups = [_GROUPS.get(kind, kind) for _, value in single.turn.plan.calls[0][1] for kind, _ in slots(value)]
    return groups.count(_GROUPS.get(slot[0], slot[0])) > 1


def _leads(segments: Sequence[Segment]) -> dict[Slot, str]:
    """The words that lead to each name ("to the "), of those that lead to one name only."""
    found = {}
    for i, segment in enumerate(segments):
        if segment.slot and segment.tag == "n" and segment.slot not in found:
            words = "".join(s.text for s in repairs.with_preposition(segments, i)[:-1])
            found[segment.slot] = words if words.split()[:1] not in ([], ["the"]) else ""
    first = [words.split()[0] for words in found.values() if words]
    return {slot: words.lower() for slot, words in found.items() if words and first.count(words.split()[0]) == 1}


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
        segments, calls, phrasings = chains.step(rng, split, step, binding, thing, [c for s, _ in out for c in s.calls])
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
