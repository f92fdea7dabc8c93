"""Whether a name or a number in an action was heard at all: the last guard against what nobody spoke of.

The model maps "dock nine" to an id of the site, and the grammar lets it choose only ids that exist. If no dock 9 exists
the model should refuse; should it choose dock 3 instead, this check sees that no 3 was said, and the action fails
closed. Likewise a distance of two metres where "twenty metres" was said. It never chooses anything itself.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from rapidfuzz import fuzz

from nano_agent_ros.skills.amounts import amounts, numbers
from nano_agent_ros.skills.ground import Action, Call, GroundingError, ground
from nano_agent_ros.skills.registry import Skills
from nano_agent_ros.skills.site import SPEAKER, Named, Site

ALIKE = 70.0  # percent of letters in common from which two words may be the same, misheard
NAMED_TYPES = ("location", "object", "person", "place")

_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_SOUNDS_LIKE = {"to": "2", "too": "2", "for": "4", "won": "1", "ate": "8"}
_NUMBER = {
    **{word: str(n) for n, word in enumerate(_UNITS)},
    **{word: str(20 + 10 * n) for n, word in enumerate(_TENS)},
    **{word: str(n) for n, word in enumerate(_ORDINALS, 1)},
}
_EMPTY = {"the", "a", "an", "of", "and", "in", "at", "on", "with", "my", "your"}


def was_heard(named: Named, heard: str) -> bool:
    """Whether any name of it was said, as far as misheard words let one tell.

    A number or letter in a name ("dock 3", "bay B") must have been said, as a digit, a word or one that sounds alike;
    of a name without one some word must.
    """
    said = _words(heard)
    return any(_name_was_heard(_tokens(name), said) for name in (*named.names, named.id.replace("_", " ")))


def is_contradicted(named: Named, heard: str) -> bool:
    """Whether another one of its kind was said: "dock nine" where its names are "dock 3" and the like."""
    said = _tokens(heard)
    for name in named.names:
        *kind, mark = _tokens(name)
        number = _NUMBER.get(mark, mark)
        if not kind or not number.isdigit():
            continue
        for word, following in zip(said, said[1:], strict=False):
            other = _NUMBER.get(following, following)
            if other.isdigit() and other != number and fuzz.ratio(kind[-1], word) >= ALIKE:
                return True
    return False


def unheard(action: Action, skills: Skills, site: Site, heard: str, earlier: str = "") -> list[str]:
    """Names of the arguments whose id was not heard.

    `heard` is this utterance, `earlier` what was said and told before: it counts for what pronouns stand for, but not
    where this utterance names another of the same kind.
    """
    out = []
    for argument in skills[action.skill].arguments:
        key = str(action.arguments.get(argument.name, SPEAKER))
        if argument.type not in NAMED_TYPES or key == SPEAKER:
            continue
        named = _named(site, key)
        known = was_heard(named, heard) or (was_heard(named, earlier) and not is_contradicted(named, heard))
        if not known:
            out.append(argument.name)
    return out


def other_amount(action: Action, skills: Skills, heard: str, earlier: str = "") -> str:
    """The name of an argument whose number is not the one that was said; empty if there is none.

    An amount with a unit must be one that this utterance names, if it names any of that quantity; "faster" names none.
    A bare number above one must have been said, now or earlier.
    """
    for argument in skills[action.skill].arguments:
        value = action.arguments.get(argument.name)
        if value is None:
            continue
        if argument.type == "number":
            said = amounts(heard, argument.quantity, argument.maximum)
            if said and not any(math.isclose(float(value), amount, rel_tol=0.02, abs_tol=1e-4) for amount in said):
                return argument.name
        counted = argument.type == "integer" and float(value) > 1
        if counted and float(value) not in numbers(heard) | numbers(earlier):
            return argument.name
    return ""


def checked(call: Call, skills: Skills, site: Site, heard: str, earlier: str = "") -> Action:
    """`ground`, and every name must have been heard, and no other number; raises GroundingError.

    Where nothing moves (risk none: a report, a message) an optional name that nobody spoke of is left out instead.
    """
    action = ground(call, skills, site)
    if name := other_amount(action, skills, heard, earlier):
        raise GroundingError(f"I'm not sure about the {name.replace('_', ' ')}. Please say it again.")
    missing = unheard(action, skills, site, heard, earlier)
    if not missing:
        return action
    optional = {argument.name for argument in skills[call.name].arguments if argument.optional}
    if action.risk == "none" and optional.issuperset(missing):
        kept = {name: value for name, value in call.arguments.items() if name not in missing}
        return ground(replace(call, arguments=kept), skills, site)
    name = site.name_of(str(action.arguments[missing[0]]))
    raise GroundingError(f"I don't know that name. Did you mean {name}?")


def _named(site: Site, key: str) -> Named:
    return site.locations.get(key) or site.objects.get(key) or site.people[key]


def _name_was_heard(name: list[str], said: set[str]) -> bool:
    if marks := _marks(name):
        return marks <= said
    return any(fuzz.ratio(word, other) >= ALIKE for word in set(name) - _EMPTY for other in said)


def _marks(name: list[str]) -> set[str]:
    """The numbers and letters of a name: {"42"} for "slot forty two", {"b"} for "bay B"."""
    marks: set[str] = set()
    tens = 0
    for word in name:
        number = _NUMBER.get(word, word)
        if tens and word in _UNITS[1:10]:
            marks.discard(str(tens))
            number = str(tens + int(number))
        if number.isdigit() or (len(word) == 1 and word not in _EMPTY):
            marks.add(number)
        tens = int(number) if word in _TENS else 0
    return marks


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", text.lower())


def _words(text: str) -> set[str]:
    """Lower-case words and numbers; number words count as both, and two words as one ("tool box")."""
    raw = _tokens(text)
    out = set(raw)
    out |= {word + following for word, following in zip(raw, raw[1:], strict=False) if (word + following).isalpha()}
    for index, word in enumerate(raw):
        number = _NUMBER.get(word) or _SOUNDS_LIKE.get(word)
        if number:
            out.add(number)
        following = raw[index + 1] if index + 1 < len(raw) else ""
        if word in _TENS and following in _UNITS[1:10]:
            out.add(str(int(_NUMBER[word]) + int(_NUMBER[following])))
    return out | _spelled_out(raw)


def _spelled_out(raw: list[str]) -> set[str]:
    """Numbers said digit by digit: "three zero one"; "oh" is a zero among digits."""
    out, run = set(), ""
    for word in [*raw, ""]:
        digit = "0" if word == "oh" and run else _NUMBER.get(word, word)
        if len(digit) == 1 and digit.isdigit() and word not in _ORDINALS:
            run += digit
            continue
        if len(run) > 1:
            out.add(run)
        run = ""
    return out
