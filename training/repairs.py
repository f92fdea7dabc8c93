"""How people repair what they say: something wrong first, a piece before the whole, the same thing a second time.

Each keeps the meaning of the command that it is made of.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from training.slots import Binding, CannotBind, Segment

IN_PLACE = (
    ", no, ", ", no wait, ", ", sorry, ", ", i mean ", ", wait, no, ", ", sorry, i mean ", ", uh no, ",
    ", actually no, ", ", no sorry, ", ", correction, ", ", or rather ", ", make that ", ", scratch that, ", " no ",
    ", no, silly me, ", ", no, what am i saying, ", ", strike that, ", ", hang on, ", ", or no, ", ", ah no, ",
    ", pardon, ", ", my mistake, ", ", no no no, ", ", i tell a lie, ", "... no, ", ". no, sorry, ", ". correction, ",
    ", erm, ", ", that's wrong, ", ", not that, ", ", oh no, ", ". no wait, ", ". i mean ", ", or better ",
)  # fmt: skip
AFTERWARDS = (
    ", no, ", ", no wait, ", ", sorry, ", ", sorry, i meant ", ", i mean ", ", no sorry, ", ", correction, ",
    ", make that ", ", scratch that, ", ". no, ", ". sorry, i meant ", ". no wait, ", ". i mean ", ", wait, no, ",
    ". correction, ", ", actually ", ". actually no, ", ", oh no, ", ". ah, sorry, ", ", or better ", ". or rather ",
    " no i meant ", ", what am i saying, ",
)  # fmt: skip
AHEAD = (
    ", ", ", ", ". ", ". ", ", yes, ", ", that's it, ", ", right, ", "... ", " so ", ", so ", ", i said, ",
    ", please, ", "! ", ", okay, ", ", you know, ", " - ", ", i mean, ", ", i'd say, ", ". yes, ", ", er, ",
)  # fmt: skip
TWICE = (
    ", ", ". ", ". ", ", i mean ", ". i mean, ", ", that is, ", ", in other words ", ". i repeat, ", ", i say again, ",
    ", yes, ", "! ", ", so ", ", do you hear, ", ", you know, ", ", as i said, ", ". that is to say, ", " - ",
    ", please, ", ". once again, ", ", come on, ", ", right, ", ". what i want is this: ",
)  # fmt: skip
NAMED_AGAIN = (
    ", yes, {x}, ", ", {x}, ", ", i said {x}, ", ", that's {x}, ", ", you heard me, {x}, ", ", {x} it is, ",
    " yes {x} ", ", right, {x}, ", ", i repeat, {x}, ", " {x} ",
)  # fmt: skip
SAID_TWICE_MOVES_TWICE = frozenset((
    "move", "turn", "lift", "lower", "say", "wait", "count", "report_defect", "set_speed",
))  # fmt: skip
"""Skills of which the same order a second time may well be meant a second time, or adds what the first left out."""
_PREPOSITIONS = ("to", "from", "at", "in", "on", "for", "into", "onto")
_GROUPS = {"vehicle": "location", "cart": "object", "objects": "object"}


def repair(segments: list[Segment], binding: Binding, rng: random.Random) -> list[Segment]:
    """A command (its segments in this binding) with a repair of one kind; unchanged where none fits."""
    kind = rng.choices((corrected, false_start, afterthought, piece_first, named_again), (40, 15, 15, 20, 10))[0]
    places = [i for i, s in enumerate(segments) if s.slot and s.tag in "nv" and s.slot[0] not in ("objects", "defect")]
    if not places or any(s.tag == "c" for s in segments):
        return segments
    return kind(segments, rng.choice(places), binding, rng)


def corrected(segments: list[Segment], i: int, binding: Binding, rng: random.Random) -> list[Segment]:
    """Something wrong in the place of segment i, put right at once: "dock two, no, dock three"."""
    if not (wrong := _wrong(segments[i], binding)):
        return segments
    return [*segments[:i], wrong, Segment(rng.choice(IN_PLACE)), *segments[i:]]


def false_start(segments: list[Segment], i: int, binding: Binding, rng: random.Random) -> list[Segment]:
    """Broken off after something wrong, and begun anew: "take the box, no, take the crate to dock three"."""
    if not (wrong := _wrong(segments[i], binding)):
        return segments
    return [*segments[:i], wrong, Segment(rng.choice(IN_PLACE)), *segments]


def afterthought(segments: list[Segment], i: int, binding: Binding, rng: random.Random) -> list[Segment]:
    """Something wrong, put right at the end: "take the box to dock three, no, the crate"."""
    group = _group(segments[i])
    alone = sum(_group(s) == group for s in segments if s.slot) == 1
    if not alone or not (wrong := _wrong(segments[i], binding)):
        return segments  # among several of its kind it could stand for any
    right = with_preposition(segments, i) if rng.random() < 0.4 else [segments[i]]
    return [*_unended([*segments[:i], wrong, *segments[i + 1 :]]), Segment(rng.choice(AFTERWARDS)), *right]


def piece_first(segments: list[Segment], i: int, binding: Binding, rng: random.Random) -> list[Segment]:
    """A name before the whole command: "to dock three, take the crate to dock three"."""
    person = _group(segments[i]) == "person"
    piece = with_preposition(segments, i) if person or rng.random() < 0.6 else [segments[i]]
    if segments[i].tag != "n" or (person and len(piece) == 1):
        return segments  # whoever says a person's name first speaks to that person
    return [*piece, Segment(rng.choice(AHEAD)), *segments]


def named_again(segments: list[Segment], i: int, binding: Binding, rng: random.Random) -> list[Segment]:
    """A name or number said a second time: "to dock three, yes, dock three, and wait"."""
    before, _, after = rng.choice(NAMED_AGAIN).partition("{x}")
    rest = segments[i + 1 :]
    end = [Segment(after)] if rest and rest[0].text.startswith(" ") else []
    return [*segments[: i + 1], Segment(before), segments[i], *end, *rest]


def twice(first: Sequence[Segment], second: Sequence[Segment], rng: random.Random) -> list[Segment]:
    """The same command in other words: "go home and charge, back to the charger"."""
    return [*_unended(first), Segment(rng.choice(TWICE)), *second]


def _wrong(segment: Segment, binding: Binding) -> Segment | None:
    """Another filling of the segment's slot, none where the site has no other."""
    assert segment.slot is not None
    before = set(binding.used)
    try:
        wrong = binding.another(segment.slot)
    except CannotBind:
        return None
    finally:
        binding.used.clear()
        binding.used.update(before)
    if not wrong:
        return None
    return Segment(f"the {wrong}" if segment.text.startswith("the ") else wrong, segment.tag)


def _unended(segments: Sequence[Segment]) -> list[Segment]:
    """The segments without the mark at their end."""
    return [*segments[:-1], replace(segments[-1], text=segments[-1].text.rstrip(".,;!?… "))]


def _group(segment: Segment) -> str:
    return _GROUPS.get(segment.slot[0], segment.slot[0]) if segment.slot else ""


def with_preposition(segments: Sequence[Segment], i: int) -> list[Segment]:
    """The name with the words that lead to it, "to the"."""
    words = segments[i - 1].text.split()[-2:] if i and segments[i - 1].text.endswith(" ") else []
    while words and words[0].lower() not in (*_PREPOSITIONS, "the"):
        words = words[1:]
    return [Segment(" ".join(words) + " "), segments[i]] if words else [segments[i]]
