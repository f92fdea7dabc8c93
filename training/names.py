"""Names in words and digits, as they are compared and as ids."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORD_VALUES = {w: str(i) for i, w in enumerate(ONES)} | {w: str(10 * i) for i, w in enumerate(TENS, 2)}


def number_words(n: int) -> str:
    """0 to 999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")
    rest = n % 100
    return f"{ONES[n // 100]} hundred" + (f" {number_words(rest)}" if rest else "")


@cache
def canonical(name: str) -> str:
    """A name as its digits and bare words, so that "the Dock three" and "dock 3" are equal."""
    words = re.sub(r"(?<=[a-z])(?=[0-9])|(?<=[0-9])(?=[a-z])|[^\w]+", " ", name.lower()).split()
    out: list[str] = []
    was_tens = False
    for word in words:
        value = _WORD_VALUES.get(word)
        if value is not None and was_tens and 0 < int(value) < 10:
            out[-1] = str(int(out[-1]) + int(value))
        elif word not in ("the", "number"):
            out.append(value or word)
        was_tens = value is not None and int(value) >= 20
    return " ".join(out)


def slug(name: str) -> str:
    """A name as an id: lower-case ASCII snake_case."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", ascii_name.lower().replace("'", "")).strip("_")
