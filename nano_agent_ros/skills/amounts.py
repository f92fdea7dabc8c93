"""Numbers and amounts as people speak them: "two and a half metres", "1 hour 20", "a couple of boxes".

For the check that the number of an action is one that was said: what is read here is compared, never chosen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from nano_agent_ros.skills.quantities import UNITS

_UNITS_TEENS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_ONES = {word: n for n, word in enumerate(_UNITS_TEENS)} | {"oh": 0}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
_FRACTIONS = {"half": 0.5, "quarter": 0.25, "quarters": 0.25, "third": 1 / 3, "thirds": 1 / 3}
_GROUPS = {"couple": 2, "pair": 2, "dozen": 12}
_ALONE = {"both": 2, "single": 1, "another": 1, "once": 1, "twice": 2, "thrice": 3}
_SOUNDS_LIKE = {"to": 2, "too": 2, "for": 4, "fore": 4, "won": 1, "ate": 8}
_NO_NUMBER = re.compile(  # a speed that is said without one
    r"\b(fast\w*|slow\w*|quick\w*|speed up|throttle|crawl\w*|all you've got|"
    r"(half|full|top|max\w*|quarter|normal|low|high) (speed|pace))\b"
)
_LONGEST = 9  # words of one number

# Speeds come first: their "metres" are no distance.
_UNIT_WORDS: tuple[tuple[str, str, str], ...] = (
    ("speed", "m/s", r"m ?/ ?s|mps|met(?:re|er)s? (?:per|a) (?:second|sec)"),
    ("speed", "km/h", r"km ?/ ?h|kmh|kph|k p h|k an hour|kays?|kilomet(?:re|er)s?(?: (?:per|an) hour)?"),
    ("speed", "%", r"%|per ?cents?"),
    ("distance", "mm", r"mm|milli(?:met(?:re|er))?s?|mills?"),
    ("distance", "cm", r"cms?|centi(?:met(?:re|er))?s?"),
    ("distance", "m", r"m|met(?:re|er)s?"),
    ("duration", "s", r"s|secs?|seconds?"),
    ("duration", "min", r"mins?|minutes?"),
    ("duration", "h", r"h|hrs?|hours?"),
    ("angle", "deg", r"deg|degrees?|°"),
    ("angle", "rad", r"rad|radians?"),
)
_UNIT = re.compile("|".join(f"(?P<u{i}>(?<![^\\W\\d_])(?:{p})(?![^\\W_]))" for i, (_, _, p) in enumerate(_UNIT_WORDS)))
_WORD = re.compile(r"<\d+>|\d+(?:\.\d+)?|[^\W\d_]+")


def numbers(text: str) -> set[float]:
    """Every number that may have been said; words that sound like one count."""
    found: set[float] = set()
    for words in _readings(text):
        found.update(float(_ALONE[w]) for w in words if w in _ALONE)
        for end in range(1, len(words) + 1):
            for start in range(max(0, end - _LONGEST), end):
                value = _read(words[start:end])
                if value is not None:
                    found.add(value)
    return found


def amounts(text: str, quantity: str, maximum: float) -> set[float] | None:
    """Amounts of a quantity that were said, in SI, each in every sense it may have; a speed in % is of `maximum`.

    None if there is one that cannot be read ("a few minutes", "full speed"). Empty if none was said.
    """
    if quantity == "speed" and _NO_NUMBER.search(text.lower()):
        return None
    found: set[float] = set()
    for words in _readings(_UNIT.sub(lambda m: f" <{int(str(m.lastgroup)[1:])}> ", text.lower())):
        here = _amounts(words, quantity, maximum)
        if here is None:
            return None
        found |= here
    return found


def _amounts(words: Sequence[str], quantity: str, maximum: float) -> set[float] | None:
    found: set[float] = set()
    before: list[float] = []
    for end, word in enumerate(words):
        if not word.startswith("<"):
            continue
        kind, unit, _ = _UNIT_WORDS[int(word[1:-1])]
        if kind != quantity:
            before = []
            continue
        factor = maximum / 100 if unit == "%" else UNITS[quantity][unit]
        value = _longest(words, end)
        if value is None:
            return None
        own = [(value + more) * factor for more in _after(words, end, unit)]
        found.update(own)
        found.update(a + b for a in before for b in own)
        before = own
    return found


def _readings(text: str) -> tuple[list[str], list[str]]:
    """The words, and the words with numbers in the place of those that sound like one."""
    words = _words(text)
    return words, [str(_SOUNDS_LIKE.get(w, w)) for w in words]


def _words(text: str) -> list[str]:
    return _WORD.findall(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.lower()).replace("-", " "))


def _after(words: Sequence[str], end: int, unit: str) -> Iterator[float]:
    """What may follow a unit and belong to its number: "a minute and a half", "one metre twenty"."""
    yield 0.0
    rest = list(words[end + 1 : end + 4])
    if rest[:3] == ["and", "a", "half"] or rest[:2] == ["and", "half"]:
        yield 0.5
    if rest[:3] == ["and", "a", "quarter"]:
        yield 0.25
    if rest[:2] == ["or", "two"]:
        yield 1.0
    if unit in ("m", "h", "min"):
        for minor in (_read(rest[:1]), _read(rest[:2])):
            if minor:
                yield minor / (100.0 if unit == "m" else 60.0)


def _longest(words: Sequence[str], end: int) -> float | None:
    """The value of the longest number that ends before `end`; "a" may be one."""
    for start in range(max(0, end - _LONGEST), end):
        value = _read(words[start:end], article=True)
        if value is not None:
            return value
    return None


def _read(words: Sequence[str], article: bool = False) -> float | None:
    """One number from exactly these words, or None."""
    words = [w for i, w in enumerate(words) if not (w == "of" and i)]
    if len(words) > 1 and words[-1] in ("a", "an"):  # half an (hour), a quarter of an (hour)
        words = words[:-1]
        if words[-1] not in (*_FRACTIONS, *_GROUPS):
            return None
    if not words:
        return None
    if words[-1] in _FRACTIONS and "and" in words:
        at = len(words) - 1 - list(reversed(words)).index("and")
        times = 1.0 if words[at + 1 : -1] in ([], ["a"]) else _whole(words[at + 1 : -1])
        whole = _read(words[:at])
        return None if whole is None or times is None else whole + times * _FRACTIONS[words[-1]]
    if words[-1] in _FRACTIONS or words[-1] in _GROUPS:
        each = _FRACTIONS.get(words[-1]) or float(_GROUPS[words[-1]])
        head = words[:-1]
        if not head or head in (["a"], ["one"], ["the"]):
            return each
        if head == ["half", "a"] or head == ["half"]:
            return each / 2
        times = _whole(head)
        return None if times is None else times * each
    if "point" in words:
        at = words.index("point")
        return _decimal(words[:at], words[at + 1 :])
    if article and words in (["a"], ["an"]):
        return 1.0
    return _whole(words)


def _decimal(before: Sequence[str], after: Sequence[str]) -> float | None:
    whole = _whole(before) if before else 0.0
    digits = "".join(str(_ONES[w]) if w in _ONES and _ONES[w] < 10 else w if w.isdigit() else "?" for w in after)
    if len(after) == 1 and (after[0] in _TENS or after[0] in _ONES):
        digits = str(_TENS.get(after[0], _ONES.get(after[0])))
    if len(after) == 2 and after[0] in _TENS and _ONES.get(after[1], 10) < 10:
        digits = str(_TENS[after[0]] + _ONES[after[1]])
    if whole is None or not digits.isdigit():
        return None
    return whole + float(f"0.{digits}")


def _whole(words: Sequence[str]) -> float | None:
    """Digits, or words of a whole number: "a hundred and twenty", "twenty five", "2 hundred"."""
    total = current = 0.0
    room = math.inf  # what may still be added: after twenty less than ten, after five nothing
    seen = False
    for i, word in enumerate(words):
        if word == "and" and seen and i + 1 < len(words) and room > 10:
            continue
        if word in ("hundred", "thousand"):
            scale = 100.0 if word == "hundred" else 1000.0
            current = (current if seen and current else 1.0) * scale
            if word == "thousand":
                total, current = total + current, 0.0
            room, seen = scale, True
            continue
        if word in ("a", "an") and i == 0 and len(words) > 1:
            continue
        value = _TENS.get(word, _ONES.get(word))
        if i == 1 and words[0] in _ONES and value and value >= 10 and 0 < current < 10:
            current, room = 100 * current, 100.0  # one seventy: 170
        if value is None and re.fullmatch(r"\d+(\.\d+)?", word):
            if seen and room <= float(word):
                return None
            current, room, seen = current + float(word), 0.0, True
            continue
        if value is None or value >= room:
            return None
        current, room, seen = current + value, 10.0 if word in _TENS else 0.0, True
    return total + current if seen else None
