"""Names that no word list holds, so that a name must be copied from the prompt and cannot be remembered.

Three kinds: a word of no language (zelkori), one in the place of a name's own word (zelkori yard), and words of other
names put together (badge yard).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from training.words import Word, plural

_ONSETS = (
    "b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kr", "l", "m", "n", "p", "pl", "qu", "r",
    "s", "sh", "sk", "st", "t", "th", "tr", "v", "w", "y", "z", "",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "ee", "oo", "ai", "ou", "ie", "y")
_ENDS = ("", "", "", "n", "r", "l", "s", "t", "k", "m", "x", "nd", "rk", "ll", "ck", "st", "ng", "p", "ff")


def coined(rng: random.Random) -> str:
    """A word of one to three syllables that can be pronounced."""
    syllables = rng.choice((1, 2, 2, 2, 3))
    text = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_ENDS)
    return text if len(text) > 2 else text + rng.choice(("ra", "lo", "mi"))


def name(rng: random.Random) -> str:
    """A first name nobody has."""
    return coined(rng).capitalize()


def renamed(rng: random.Random, word: Word, others: Sequence[Word]) -> Word:
    """A thing or place of the same kind with a name of its own; `others` lend their words."""
    head = word.names[0].split(" of ")[0].split()[-1]
    x = rng.random()
    if x < 0.2:
        made = coined(rng)
    elif x < 0.55:
        made = f"{coined(rng)} {head}"
    else:
        lent = rng.choice(others).names[0].split()[0]
        made = f"{lent} {head}" if lent != head else f"{coined(rng)} {head}"
    plurals = (made if word.mass else plural(made),) if word.plurals else ()
    return replace(word, names=(made,), plurals=plurals)
