"""How several commands are said in one breath: what stands before, between and after them, and in which order."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from training.augment import IMPERATIVE
from training.slots import Segment

Weighted = tuple[tuple[str, float], ...]

OPENINGS: Weighted = (
    ("", 14), ("first ", 4), ("first of all ", 1), ("first off ", 0.7), ("listen, ", 0.5), ("a few things, ", 0.7),
    ("here's the plan, ", 0.5), ("right, so ", 0.5), ("do the following, ", 0.5),
)  # fmt: skip
BETWEEN: Weighted = (
    (", then ", 5), (" and then ", 4), (" then ", 4), (", after that ", 3), (" and after that ", 2), (", ", 5),
    (". then ", 2), (". after that ", 1.5), (". ", 2), (", next ", 1), (" and ", 3), (", and ", 2),
    (", once that's done ", 1), (", when that's done ", 1), (", when you're done with that ", 1), ("; ", 0.5),
    (" and afterwards ", 1), (", and after that ", 1.5), (", followed by this, ", 0.4), (", from there ", 0.3),
    (". when you're done, ", 1), (". next, ", 0.7), (" and also ", 0.5), (", thereafter ", 0.3), (", and next ", 0.5),
    (". once you've finished that, ", 0.5), (" and when you finish ", 0.5), (", as soon as that's finished ", 0.4),
)  # fmt: skip
LAST: Weighted = (
    (" and finally ", 4), (", finally ", 2), (", and finally ", 3), (" and then ", 3), (", and then ", 3), (" and ", 3),
    (", lastly ", 1), (", and last of all ", 0.7), (", and when all that is done ", 1), (", and to finish ", 0.7),
    (". finally, ", 1), (", and at the end ", 1), (", oh and then ", 0.5), (", and after all that ", 0.7),
)  # fmt: skip
ARRIVED: Weighted = (
    (", once you're there ", 4), (", when you get there ", 3), (" and when you're there ", 2), (", once there ", 1.5),
    (" and once you're there ", 2), (", when you arrive ", 1.5), (". once you're there, ", 1.5), (", on arrival ", 0.5),
    (" and as soon as you get there ", 0.7), (". when you've arrived, ", 0.7),
)  # fmt: skip
TAKEN: Weighted = (
    (", once you have it ", 2), (", when you've got it ", 2), (" and once you've got it ", 1),
    (" and when you have it ", 1),
)  # fmt: skip
HELD_OUT: Weighted = (
    (", and once you've done that ", 2), (", when that is finished ", 1), (", with that out of the way ", 1),
    (" and right after that ", 1), (". after you've done that, ", 1), (", and immediately afterwards ", 1),
)  # fmt: skip
# What is said last is done first.
REVERSED: Weighted = (
    ("{1}, but before that {0}", 4), ("{1}, but first {0}", 4), ("{1} but {0} first", 2), ("before you {1}, {0}", 4),
    ("before you {1} {0}", 2), ("{1} after you {0}", 1.5), ("after you {0}, {1}", 1.5), ("{1}. but first {0}", 1.5),
    ("{1}, only {0} before that", 0.7), ("{1}. oh, and {0} before that", 0.7), ("{1}, but make sure you {0} first", 1),
)  # fmt: skip
_YOU = re.compile(r"\byou(?:'re| make sure you)? \{(\d)\}")
_NUMBERED = (("one, ", ", two, ", ", three, ", ", four, ", ", five, "), ("step one, ", ", step two, ", ", step three, ",
             ", step four, ", ", step five, "))  # fmt: skip


def pick(rng: random.Random, choices: Weighted) -> str:
    """One of the texts by its weight."""
    return rng.choices([text for text, _ in choices], [weight for _, weight in choices])[0]


def connector(rng: random.Random, after: str, last: bool, held_out: bool) -> str:
    """What stands between two commands; `after` is the skill of the one before, `last` whether none follows."""
    x = rng.random()
    if held_out and x < 0.35:
        return pick(rng, HELD_OUT)
    if after == "navigate_to" and x > 0.75:
        return pick(rng, ARRIVED)
    if after == "pick" and x > 0.9:
        return pick(rng, TAKEN)
    return pick(rng, LAST) if last and rng.random() < 0.55 else pick(rng, BETWEEN)


def in_order(
    rng: random.Random, parts: Sequence[Sequence[Segment]], skills: Sequence[str], held_out: bool
) -> list[Segment]:
    """The commands one after the other; `skills` are those that the parts end with."""
    if len(parts) > 2 and rng.random() < 0.03:
        before = rng.choice(_NUMBERED)
        return [s for text, part in zip(before, parts, strict=False) for s in (Segment(text), *part)]
    out = [Segment(pick(rng, OPENINGS))]
    # People who say commas only say them all the way.
    bare = len(parts) > 2 and rng.random() < 0.12
    for i, part in enumerate(parts):
        if i:
            last = i == len(parts) - 1 and len(parts) > 2
            text = connector(rng, skills[i - 1], last, held_out)
            out.append(Segment(", " if bare and not (last and rng.random() < 0.5) else text))
        out += part
    return [s for s in out if s.text]


def in_reverse(rng: random.Random, first: Sequence[Segment], second: Sequence[Segment]) -> list[Segment] | None:
    """Two commands of which the second is said first; None where that would be no sentence."""
    texts = ["".join(s.text for s in part) for part in (first, second)]
    form = pick(rng, REVERSED)
    if any(not IMPERATIVE.match(texts[int(i)].lower()) for i in _YOU.findall(form)):
        return None
    parts = (first, second)
    out: list[Segment] = []
    for piece in re.split(r"(\{\d\})", form):
        out += parts[int(piece[1])] if re.fullmatch(r"\{\d\}", piece) else [Segment(piece)]
    return [s for s in out if s.text]
