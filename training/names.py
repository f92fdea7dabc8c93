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
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def number_words(n: int) -> str:
    """0 to 999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")
    rest = n % 100
    return f"{ONES[n // 100]} hundred" + (f" {number_words(rest)}" if rest else "")


NUMBER_OF = {number_words(n): n for n in range(1, 100)}


def plain(name: str) -> str:
    """A name without accents."""
    letters = name.translate({ord("ł"): "l", ord("Ł"): "L", ord("ø"): "o", ord("Ø"): "O", ord("ß"): "ss"})
    return unicodedata.normalize("NFKD", letters).encode("ascii", "ignore").decode()


@cache
def canonical(name: str) -> str:
    """A name as its digits and bare words, so that "the Dock three", "dock no. 3" and "third dock" equal "dock 3"."""
    text = plain(name).lower()
    words = re.sub(r"(?<=[a-z])(?=[0-9])|(?<=[0-9])(?=[a-z])|[^\w]+", " ", text).split()
    if len(words) > 1 and words[0] == "the":
        words = words[1:]
    if len(words) > 1 and words[0] in ORDINALS:
        words = [*words[1:], str(ORDINALS.index(words[0]) + 1)]
    out: list[str] = []
    was_tens = False
    for i, word in enumerate(words):
        value = _WORD_VALUES.get(word)
        follows = words[i + 1] if i + 1 < len(words) else ""
        if value is not None and was_tens and 0 < int(value) < 10:
            out[-1] = str(int(out[-1]) + int(value))
        elif word not in ("the", "number") and not (word == "no" and (follows.isdigit() or follows in _WORD_VALUES)):
            out.append(value or word)
        was_tens = value is not None and int(value) >= 20
    return _digit_by_digit(" ".join(out))


def _digit_by_digit(text: str) -> str:
    return re.sub(r"\b\d(?: \d)+\b", lambda m: m[0].replace(" ", ""), text)


def slug(name: str) -> str:
    """A name as an id: lower-case ASCII snake_case."""
    return re.sub(r"[^a-z0-9]+", "_", plain(name).lower().replace("'", "")).strip("_")
