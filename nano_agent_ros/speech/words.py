"""A transcript as words: where each stands, what is between them, and the numbers that they are heard as."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

COMMA, SENTENCE = 1, 2
"""What may stand before a word: a pause within a sentence, or the end of the one before it."""

_ONES = (
    "zero oh o", "one won", "two to too tu", "three tree", "four for fore", "five fife", "six", "seven", "eight ate",
    "nine niner", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SOUNDS = {n: words.split() for n, words in enumerate(_ONES)} | {10 * n: [w] for n, w in enumerate(_TENS, 2)}
_PLAIN = {words[0]: n for n, words in _SOUNDS.items()}


@dataclass(frozen=True)
class Token:
    """A word of the text at [start, end), in lower case; `gap` is what stands before it (0, COMMA or SENTENCE)."""

    word: str
    start: int
    end: int
    gap: int


def tokens(text: str) -> list[Token]:
    """The words of a text; digits are words of their own ("unit2" is two)."""
    found: list[Token] = []
    for match in re.finditer(r"[^\W\d_]+(?:['’‘][^\W\d_]+)*|\d+|[&+]", text):
        word = re.sub("[’‘]", "'", match[0].casefold())
        between = text[found[-1].end if found else 0 : match.start()]
        decimal = between == "." and word.isdigit() and bool(found) and found[-1].word.isdigit()
        gap = 0
        if not found or (re.search(r"[.!?;\n…]", between) and not decimal):
            gap = SENTENCE
        elif re.search(r"[,:–—]|\s-+\s", between):
            gap = COMMA
        found.append(Token("and" if word in "&+" else word, match.start(), match.end(), gap))
    return found


def phrase(wanted: str, words: Sequence[Token], at: int) -> int:
    """Where a phrase that begins at a token ends; 0 if it does not stand there without a pause."""
    parts = wanted.split()
    here = words[at : at + len(parts)]
    return at + len(parts) if [t.word for t in here] == parts and not any(t.gap for t in here[1:]) else 0


def longest(phrases: Sequence[str], words: Sequence[Token], at: int) -> int:
    """Where the longest of the phrases that begins at a token ends; 0 if none does."""
    return max((phrase(each, words, at) for each in phrases), default=0)


def number(words: Sequence[Token], at: int) -> tuple[int, int] | None:
    """The number below 1000 that begins at a token, in digits or plain words: where it ends, and its value."""
    if at >= len(words):
        return None
    word = words[at].word
    if word.isdigit():
        return (at + 1, int(word)) if len(word) <= 3 else None
    value = _PLAIN.get(word)
    if value is None:
        return None
    one = _PLAIN.get(words[at + 1].word, 0) if at + 1 < len(words) and not words[at + 1].gap else 0
    return (at + 2, value + one) if value >= 20 and 0 < one < 10 else (at + 1, value)


def number_as(wanted: int, words: Sequence[Token], at: int, alike: bool) -> Iterator[int]:
    """Where a certain number that begins at a token may end: as one word or more, in digits, or digit by digit.

    `alike`: words that sound like it will do ("to", "too"), and so do "number two" and "zero two".
    """
    while alike and at + 1 < len(words) and words[at].word in ("number", "no", "nr"):
        at += 1
    while wanted and at + 1 < len(words) and words[at].word in ("zero", "oh", "0") and not words[at + 1].gap:
        at += 1
    spoken = [wanted] if wanted in _SOUNDS else [wanted // 10 * 10, wanted % 10] if wanted < 100 else []
    for sounds in (spoken, [int(digit) for digit in str(wanted)]):
        end = at + len(sounds)
        here = words[at:end]
        if not sounds or len(here) < len(sounds) or any(token.gap for token in here[1:]):
            continue
        heard = (_sounds(token.word, n, alike) for token, n in zip(here, sounds, strict=True))
        if all(heard) and not _goes_on(sounds[-1], words, end):
            yield end
    if words[at].word.isdigit() and int(words[at].word) == wanted:
        yield at + 1


def _sounds(word: str, number: int, alike: bool) -> bool:
    return word == str(number) or word in _SOUNDS[number][: None if alike else 1]


def _goes_on(last: int, words: Sequence[Token], at: int) -> bool:
    """Whether what follows makes another number of it: "twenty" of "twenty two"."""
    if at >= len(words) or words[at].gap:
        return False
    word = words[at].word
    return word in ("hundred", "thousand") or (last in range(20, 100, 10) and 0 < _PLAIN.get(word, 0) < 10)
