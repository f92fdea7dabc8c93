"""Whether the words said so far read as a whole command, or as if more must come. Rules on text alone.

The two mistakes do not cost the same. Words wrongly taken for whole cut a sentence, and the robot acts on its first
half; words wrongly taken for open cost half a second. So whole is only what has one of a few shapes that a listener
would not wait behind, open is what ends in a word that no sentence ends in, and everything else is neither.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import Enum

from nano_agent_ros.speech import endings
from nano_agent_ros.speech.stop_words import is_stop


class Ending(Enum):
    """How a text ends. WHOLE: nothing must follow; OPEN: something must; UNSURE: neither is plain."""

    WHOLE = "whole"
    OPEN = "open"
    UNSURE = "unsure"


HESITATIONS, WANTING, BEFORE_AN_AMOUNT, LARGE = (
    frozenset(words.split())
    for words in (endings.HESITATIONS, endings.WANTING, endings.BEFORE_AN_AMOUNT, endings.LARGE)
)
OPENERS = {language: frozenset(words.split()) for language, words in endings.OPENERS.items()}
DIGITS = {word: str(number) for number, word in enumerate(endings.SMALL.split())}

Name = tuple[str, ...]


class Completeness:
    """Reads the endings of what is said at one site.

    Its names tell "dock 1", which is whole, from "cold", which must go on to "storage", and from "dock 1" where there
    is a dock 100.
    """

    def __init__(
        self, places: Iterable[str] = (), objects: Iterable[str] = (), robot: Iterable[str] = ("robot",)
    ) -> None:
        """Take spoken names: of locations and people, which can end a command; of objects, behind which the speaker
        may still say where; and of the robot."""
        self._places = _names(places)
        names = self._places | _names(objects)
        self._names = names
        self._beginnings = {name[:n] for name in names for n in range(1, len(name))}
        self._outgrown = {name for name in self._places if any(_goes_on(name, other) for other in names)}
        self._robot = tuple(robot)
        called = "|".join(re.escape(" ".join(_words(name))) for name in self._robot if _words(name)) or "robot"
        self._lead = re.compile(rf"(?:(?:{endings.LEADS}|{called}) )+")
        self._tail = re.compile(rf"(?: (?:{endings.TAILS}|{called}))+$")
        self._call = re.compile(rf"(?:(?:{endings.LEADS}|{called}) )*(?:{endings.CALLS}|{called})")

    def ending(self, text: str, language: str = "en") -> Ending:
        """Return how `text` ends, in a language of ISO 639-1.

        Only English is ever WHOLE, and a language that OPENERS lacks is OPEN only for a hesitation or half a name.
        """
        words = _words(text)
        if not words:
            return Ending.UNSURE
        if is_stop(text, self._robot):
            return Ending.WHOLE
        if words[-1] in HESITATIONS or re.search(r"(\.{2,}|…|[-–—])\s*$", text):
            return Ending.OPEN
        if language == "en" and not re.search(r"[,;:]\s*$", text) and self._whole(" ".join(words)):
            return Ending.WHOLE
        return Ending.OPEN if self._open(words, language) else Ending.UNSURE

    def _open(self, words: list[str], language: str) -> bool:
        last = words[-1]
        if _longest(words, self._names):
            return language == "en" and _lacks_and(words)
        if last in OPENERS.get(language, ()) or _longest(words, self._beginnings):
            return True
        if language != "en":
            return False
        if last in WANTING or words[-2:] in (["pick", "up"], ["and", "then"]) or self._call.fullmatch(" ".join(words)):
            return True
        amount = _is_number(last) and len(words) > 1 and words[-2] in BEFORE_AN_AMOUNT
        return amount or last == "point" or _lacks_and(words)

    def _whole(self, text: str) -> bool:
        lead = self._lead.match(text + " ")
        core = self._tail.sub("", text[lead.end() :] if lead else text)
        if core in endings.SET_PHRASES or any(re.fullmatch(shape, core) for shape in endings.AMOUNTS):
            return True
        words = core.split()
        count = _longest(words, self._places)
        if not count or tuple(words[-count:]) in self._outgrown:
            return False
        before = re.sub(r" ?\b(the|our)$", "", " ".join(words[:-count]))
        where = endings.TO if re.search(r"\b(from|between|via|through|past)\b", before) else endings.WHERE
        command = rf"(?:.+ (?:and|then) )?{endings.VERBS}(?: .+)? {where}"
        return bool(re.fullmatch(rf"{command}|follow|where is|wheres|how many .+ {endings.WHERE}", before))


def _names(texts: Iterable[str]) -> frozenset[Name]:
    names = {tuple(_words(text)) for text in texts}
    return frozenset(name[1:] if name[0] in ("the", "a", "an") and len(name) > 1 else name for name in names if name)


def _words(text: str) -> list[str]:
    """Lower case without punctuation and apostrophes; number words up to twenty in digits."""
    plain = re.sub("['’‘]", "", unicodedata.normalize("NFKC", text).casefold()).replace("%", " percent")
    return [DIGITS.get(word, word) for word in re.findall(r"\d+(?:[.,]\d+)?|\w+", plain)]


def _longest(words: list[str], names: Iterable[Name]) -> int:
    """Words at the end that are one of the names, or 0."""
    return max((len(name) for name in names if tuple(words[-len(name) :]) == name), default=0)


def _goes_on(name: Name, other: Name) -> bool:
    """Whether somebody who has said `name` may be about to say `other`: "dock 1" of "dock 1 east" or "dock 100"."""
    if len(other) > len(name):
        return other[: len(name)] == name
    one, two = name[-1], other[-1]
    if len(other) < len(name) or name[:-1] != other[:-1] or one == two or not (one.isdigit() and two.isdigit()):
        return False
    tens = len(one) == len(two) == 2 and one[1] == "0" and one[0] == two[0] and one != "10"
    return two.startswith(one) or tens


def _lacks_and(words: list[str]) -> bool:
    return "between" in words and "and" not in words[words.index("between") :]


def _is_number(word: str) -> bool:
    return word[0].isdigit() or word in LARGE
