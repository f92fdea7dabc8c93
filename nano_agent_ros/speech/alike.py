"""How alike words sound, as far as spelling tells: Whisper writes "isle" for "aisle" and "3" for "three"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rapidfuzz.fuzz import ratio

from nano_agent_ros.speech.words import tokens

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SHORT = {"'m": "am", "'re": "are", "'ll": "will", "'ve": "have", "n't": "not"}
_SPELLINGS = (
    ("ph", "f"), ("gh", ""), ("wh", "w"), ("kn", "n"), ("wr", "r"), ("ck", "k"), ("tch", "x"), ("ch", "x"),
    ("sh", "x"), ("dge", "j"), ("qu", "k"), ("c(?=[eiy])", "s"), ("c", "k"), ("q", "k"), ("z", "s"), ("g(?=[ei])", "j"),
    ("v", "f"), ("b", "p"), ("d", "t"), ("g", "k"), ("th", "t"), ("mp?(?=t)", "n"), ("[hwy]", ""),
)  # fmt: skip
_SPELLING = [(re.compile(pattern), sound) for pattern, sound in _SPELLINGS]


def words_of(text: str) -> list[tuple[str, int, int]]:
    """Each spoken word, in lower case, with the place [start, end) in the text that it comes from.

    Numbers and short forms are several words of one place: "21" is "twenty one", "I'm" is "i am".
    """
    return [(word, t.start, t.end) for t in tokens(text) for word in _spoken(t.word)]


@lru_cache(1 << 14)
def alike(one: str, other: str) -> float:
    """How alike two words sound, in [0, 1]."""
    if one == other:
        return 1.0
    spelling, sound = ratio(one, other) / 100, ratio(sound_of(one), sound_of(other)) / 100
    return (spelling + 2 * sound) / 3


@lru_cache(4096)
def sound_of(word: str) -> str:
    """The consonants of a word, voiced and unvoiced ones as one; a vowel only where it begins."""
    for pattern, sound in _SPELLING:
        word = pattern.sub(sound, word)
    word = re.sub(r"(.)\1+", r"\1", re.sub(r"^[aeiou]+", "A", word))
    return word[:1] + re.sub("[aeiou]", "", word[1:])


def _spoken(word: str) -> Iterator[str]:
    if word.isdigit() and word.isascii():
        yield from _number(word)
        return
    for ending, full in _SHORT.items():
        if word.endswith(ending) and len(word) > len(ending):
            yield word.removesuffix(ending)
            yield full
            return
    yield word.replace("'", "")


def _number(digits: str) -> Iterator[str]:
    value = int(digits) if len(digits) <= 4 else -1
    if value < 0 or (digits[0] == "0" and len(digits) > 1):
        yield from (_ONES[int(digit)] for digit in digits)
        return
    if value >= 1000:
        yield from (_ONES[value // 1000], "thousand")
        value %= 1000
        if not value:
            return
    if value >= 100:
        yield from (_ONES[value // 100], "hundred")
        value %= 100
        if not value:
            return
    if value >= 20:
        yield _TENS[value // 10 - 2]
        value %= 10
        if not value:
            return
    yield _ONES[value]
