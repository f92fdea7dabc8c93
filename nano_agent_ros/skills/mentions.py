"""Entity linking: which of the site's names stand in an utterance, shown to the model behind it.

A site's list of names stands far away at the beginning of the prompt. What was said is looked up in it here, and a line
for each name that was found follows the utterance, as in the list a name before its id: `bag room=luggage_room`. A name
that several things share leads to all of them (`office=back_office/shipping_office`), one that was perhaps misheard is
marked (`male bag~mail_bag`), and one that reads as its id is left out (`=dock_3`). The model decides what is meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz import fuzz, process

from nano_agent_ros.skills.site import SPEAKER, Named, Site

ALIKE = 80.0
"""Percent of letters in common from which words may be a name that was misheard."""

ALIKE_MARKED = 74.0
"""The same for names with a number or a letter, if that was said: "word three" for ward 3."""

MOST = 8  # mentions of an utterance
SHOWN = 3  # ids of a name that several share
LONGEST = 12  # digits of a number

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUE = {word: n for n, word in enumerate(_UNITS)} | {word: 20 + 10 * n for n, word in enumerate(_TENS)}
_SOUNDS_LIKE = {"to": "2", "too": "2", "for": "4", "won": "1", "ate": "8"}
_SPELLED = {
    word[0]: word
    for word in (
        "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima",
        "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey",
        "xray", "yankee", "zulu",
    )
}  # fmt: skip
_ARTICLES = frozenset(("the", "a", "an"))
_COMMON = frozenset((
    "about", "above", "across", "after", "again", "all", "along", "also", "always", "and", "any", "are", "around",
    "at", "away", "back", "be", "because", "been", "before", "bring", "but", "by", "can", "carry", "charge",
    "check", "come", "could", "count", "do", "does", "doing", "done", "down", "drive", "drop", "each", "every",
    "fetch", "find", "follow", "for", "from", "front", "full", "get", "give", "go", "going", "good", "got", "grab",
    "had", "has", "have", "he", "head", "hello", "here", "hey", "him", "his", "hold", "how", "i", "if", "in",
    "inspect", "into", "is", "it", "its", "just", "keep", "know", "later", "lead", "leave", "left", "let", "lift",
    "like", "little", "load", "look", "lower", "made", "make", "many", "me", "mind", "more", "move", "much", "must",
    "my", "near", "need", "next", "nice", "nine", "no", "not", "now", "of", "off", "ok", "okay", "on", "once",
    "one", "only", "onto", "or", "other", "our", "out", "over", "pause", "pick", "place", "please", "pull", "push",
    "put", "quick", "quickly", "read", "ready", "report", "rest", "right", "robot", "run", "said", "same", "say",
    "see", "send", "set", "she", "should", "side", "slow", "so", "some", "soon", "speed", "start", "stay", "still",
    "stop", "sure", "take", "tell", "ten", "than", "thank", "thanks", "that", "their", "them", "then", "there",
    "these", "they", "thing", "this", "those", "three", "time", "to", "today", "told", "too", "try", "turn", "two",
    "under", "unload", "until", "up", "us", "use", "very", "wait", "want", "was", "way", "we", "well", "were",
    "what", "when", "where", "which", "while", "who", "why", "will", "with", "would", "yes", "you", "your",
))  # fmt: skip
"""Words that are what they are: none of them alone is a name that was misheard."""

_WORD = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class Mention:
    """Words of an utterance and the ids that they may stand for; not `sure` if they were perhaps misheard."""

    said: str
    ids: tuple[str, ...]
    sure: bool = True

    def __str__(self) -> str:
        """As the prompt shows it."""
        shown = "/".join(self.ids[:SHOWN]) + ("/..." if len(self.ids) > SHOWN else "")
        if self.sure and len(self.ids) == 1 and _keys(_normal(self.said)) == _keys(_normal(self.ids[0])):
            return f"={shown}"
        return f"{self.said}{'=' if self.sure else '~'}{shown}"


@dataclass(frozen=True)
class _Token:
    """A word in the form in which it is compared, and the words [first, last) of the utterance that it stands for."""

    key: str
    first: int
    last: int

    @property
    def mark(self) -> bool:
        """A number or a single letter: what tells names apart that are otherwise the same."""
        return self.key.isdecimal() or len(self.key) == 1


class Mentions:
    """Finds names of one site; locations, objects and people but the speaker."""

    def __init__(self, site: Site) -> None:
        """Index the names of `site`, its ids read as words among them."""
        self._names: dict[tuple[str, ...], list[str]] = {}
        self._kinds: dict[str, list[str]] = {}  # the last word of a name, or a long number: "office", "214"
        self._ways: dict[str, list[str]] = {}  # the first: "red"
        self._numbered: set[str] = set()  # kinds of which there are several by number
        self._letters: dict[tuple[str, ...], dict[str, list[str]]] = {}  # numbers of a name, its letters, ids
        groups: tuple[Mapping[str, Named], ...] = (site.locations, site.objects, site.people)
        self._before_a: set[str] = set()
        for named in (n for group in groups for n in group.values() if n.id != SPEAKER):
            for name in (*named.names, named.id):
                *before, last = ["", *_WORD.findall(name.lower())]
                if last == "a" and before[-1]:
                    self._before_a.add(before[-1])
                self._add(_normal(name, self._before_a), named.id)
        self._longest = max(map(len, self._names), default=0)

    def _add(self, tokens: Sequence[_Token], key: str) -> None:
        keys = _keys(tokens)
        if not keys:
            return
        for spelled in {keys, tuple(_SPELLED.get(word, word) for word in keys)}:  # "bay bravo" for "bay B"
            _append(self._names, spelled, key)
        words = [t.key for t in tokens if not t.mark]
        if words and len(keys) > 1 and words[-1] not in _COMMON:
            _append(self._kinds, words[-1], key)
            if len(words) > 1 and words[0] not in _COMMON:
                _append(self._ways, words[0], key)
            if len(words) < len(keys):
                self._numbered.add(words[-1])
        for number in (t.key for t in tokens if t.mark and len(t.key) > 2):
            _append(self._kinds, number, key)
        letters = "".join(words)
        if len(letters) >= 4:
            _append(self._letters.setdefault(_marks(tokens), {}), letters, key)

    def find(self, text: str) -> list[Mention]:
        """The names in `text`, in their order.

        Numbers side by side are one ("room two fourteen") or, if more names come of it, two ("aisle one three times").
        """
        joined, apart = (self._read(text, _normal(text, self._before_a, join)) for join in (True, False))
        return apart if _strength(apart) > _strength(joined) else joined

    def _read(self, text: str, tokens: Sequence[_Token]) -> list[Mention]:
        """Whole names first, then what may be one, then kinds of things."""
        words = _WORD.findall(text)
        found: dict[int, Mention] = {}
        free = [True] * len(tokens)

        def take(first: int, last: int, ids: Sequence[str], sure: bool) -> None:
            if all(free[first:last]):
                found[first] = Mention(_said(words, tokens[first:last]), tuple(ids), sure)
                free[first:last] = [False] * (last - first)

        for first in range(len(tokens)):
            size, ids = self._whole(tokens, first)
            if size:
                take(first, first + size, ids, sure=True)
        for _, first, last, ids in sorted(self._misheard(tokens, free), key=lambda one: -one[0]):
            take(first, last, ids, sure=False)
        for first in range(len(tokens)):
            if ids := self._kind(tokens, first):
                take(first, first + 1, ids, sure=True)
            elif ids := self._way(tokens, first):
                take(first, first + 2, ids, sure=True)
        return _distinct(found[first] for first in sorted(found))[:MOST]

    def show(self, text: str) -> str:
        """A line for each mention in `text`, each begun by a line break; empty if there is none."""
        return "".join(f"\n{mention}" for mention in self.find(text))

    def _whole(self, tokens: Sequence[_Token], at: int) -> tuple[int, list[str]]:
        for size in range(min(self._longest, len(tokens) - at), 0, -1):
            ids = self._names.get(_keys(tokens[at : at + size]))
            if ids:
                return size, ids
        return 0, []

    def _kind(self, tokens: Sequence[_Token], at: int) -> list[str]:
        """Names of a kind of which no number follows: "dock nine" is none of the docks that there are."""
        counted = at + 1 < len(tokens) and tokens[at + 1].mark and tokens[at].key in self._numbered
        return [] if counted else self._kinds.get(tokens[at].key, [])

    def _way(self, tokens: Sequence[_Token], at: int) -> list[str]:
        """Names that begin with a word that "one" follows: "the red one"."""
        one = at + 1 < len(tokens) and tokens[at + 1].key in ("1", "one")
        return self._ways.get(tokens[at].key, []) if one else []

    def _misheard(self, tokens: Sequence[_Token], free: Sequence[bool]) -> Iterator[tuple[float, int, int, list[str]]]:
        for first in range(len(tokens)):
            for last in range(first + 1, min(first + self._longest + 1, len(tokens)) + 1):
                if not free[last - 1]:
                    break
                window = tokens[first:last]
                if not all(t.key in _COMMON or t.mark for t in window):
                    yield from self._like(window, first, last)

    def _like(self, window: Sequence[_Token], first: int, last: int) -> Iterator[tuple[float, int, int, list[str]]]:
        *_, end = window
        readings = [(_marks(window), "".join(t.key for t in window if not t.mark))]
        if number := _SOUNDS_LIKE.get(end.key):
            readings.append(((*readings[0][0], number), "".join(t.key for t in window[:-1] if not t.mark)))
        for marks, letters in readings:
            names = self._letters.get(marks)
            if not names:
                continue
            cutoff = ALIKE_MARKED if marks else ALIKE
            if best := process.extractOne(letters, names.keys(), scorer=fuzz.ratio, score_cutoff=cutoff):
                yield best[1], first, last, names[best[0]]


def _normal(text: str, before_a: Collection[str] = (), join: bool = True) -> list[_Token]:
    """Words in the form in which they are compared: without articles, number words as digits, no plurals.

    "a" is no article behind the words `before_a`: "bay A". Numbers side by side `join`: "two fourteen" is 214.
    """
    raw = [word.lower() for word in _WORD.findall(text)]
    tokens: list[_Token] = []
    at = 0
    while at < len(raw):
        size, number = _number(raw, at, join)
        if size:
            tokens.append(_Token(number, at, at + size))
        elif raw[at] not in _ARTICLES or (raw[at] == "a" and at and raw[at - 1] in before_a):
            tokens.append(_Token(_singular(raw[at]), at, at + 1))
        at += size or 1
    return tokens


def _number(raw: Sequence[str], at: int, join: bool) -> tuple[int, str]:
    """How many words from `at` on are one number, and its digits: "forty two", "two fourteen", "three oh one"."""
    digits, size = "", 0
    while at + size < len(raw) and len(digits) < LONGEST:
        word = raw[at + size]
        value = _VALUE.get(word)
        if word.isdecimal() and len(word) <= LONGEST and not size:
            return 1, str(int(word))
        if word == "oh" and digits:
            digits += "0"
        elif word == "hundred" and len(digits) == 1:
            rest, more = _number(raw, at + size + 1 + (raw[at + size + 1 : at + size + 2] == ["and"]), join)
            if rest and len(more) < 3:
                return size + 1 + (raw[at + size + 1] == "and") + rest, digits + more.zfill(2)
            return size + 1, digits + "00"
        elif value is None:
            break
        elif value < 10 and size and raw[at + size - 1] in _TENS:
            digits = digits[:-1] + str(value)
        elif digits and not join:
            break
        else:
            digits += str(value)
        size += 1
    return (size, str(int(digits))) if digits else (0, "")


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        if word.endswith("ies"):
            return word[:-3] + "y"
        if word.endswith("ves"):
            return word[:-3] + "f"
        return word[:-2] if word.endswith(("ses", "xes", "zes", "ches", "shes")) else word[:-1]
    return word


def _keys(tokens: Sequence[_Token]) -> tuple[str, ...]:
    return tuple(token.key for token in tokens)


def _marks(tokens: Sequence[_Token]) -> tuple[str, ...]:
    return tuple(token.key for token in tokens if token.mark)


def _said(words: Sequence[str], tokens: Sequence[_Token]) -> str:
    return " ".join(words[tokens[0].first : tokens[-1].last]).lower()


def _strength(mentions: Sequence[Mention]) -> tuple[int, int]:
    return sum(mention.sure for mention in mentions), len(mentions)


def _append(index: dict[Any, list[str]], key: object, value: str) -> None:
    values = index.setdefault(key, [])
    if value not in values:
        values.append(value)


def _distinct(mentions: Iterator[Mention]) -> list[Mention]:
    out: dict[tuple[str, ...], Mention] = {}
    for mention in mentions:
        out.setdefault(mention.ids, mention)
    return list(out.values())
