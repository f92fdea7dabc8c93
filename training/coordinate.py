"""One verb with several things: "count the drums and the pallets", "take the box to dock 1 and the crate to dock 2"."""

from __future__ import annotations

import random
import re

from training.banks import SLOT, slots

Arguments = tuple[tuple[str, str], ...]

SKILLS = frozenset((
    "navigate_to", "bring", "load", "unload", "pick", "inspect", "count", "find", "guide", "push", "report_defect",
))  # fmt: skip
COUNTED = frozenset(("bring", "load", "unload", "pick"))
AND = (
    " and ", " and ", " and ", " and ", ", and ", " and then ", ", then ", " then ", " plus ", ", ", " and also ",
    " as well as ", " and after that ", ", also ", ", and also ", ", after that ", " and, uh, ", " followed by ",
)  # fmt: skip
_SPOKEN = r"\{(?:location|vehicle|object|cart|objects|person|defect|count)\d*\}"
_LEADS = r"to|from|at|in|on|off|over|into|onto|by|near|for|out of|next to|inside|under|beside|with"
_DETERMINERS = r"the|a|an|some|any|all|all the|my|our"
_NAME = rf"(?:(?:{_DETERMINERS}) )?(?:\{{count\d*\}} )?{_SPOKEN}"
_SPAN = re.compile(
    rf"(?<!\S)(?:(?:{_LEADS}) )?{_NAME}(?: (?:(?:over|up|down|back|out|across) )?(?:(?:{_LEADS}) )?{_NAME})*"
)
_ENDS = re.compile(rf"(?:[,.!?]? ?(?:please|thanks|robot|for me|now|right away|asap|today)?[.!?]?|,? (?:{_LEADS}) .*)")
_CLAUSE = re.compile(
    r"\b(is|are|has|have|needs?|was|were|there's|got|gets?|and|or|not|only|both|if|when|it|its|it's|they|them)\b|[:;]",
    re.I,
)


def spans(skill: str, arguments: Arguments, phrasing: str) -> list[tuple[int, int]]:
    """Where a phrasing names what its verb can be said with once more ("the {object} to {location}").

    Empty for what cannot be said so: a clause of its own, a name that begins the sentence, words put right.
    """
    said = [_named(s) for s in slots(phrasing)]
    given = {key: slots(value) for key, value in arguments}
    used = {slot for inside in given.values() for slot in inside}
    if skill not in SKILLS or _CLAUSE.search(phrasing) or len(said) != len(used) or set(said) != used:
        return []
    if "severity" in given or "position" in given or given.get("quantity") == []:
        return []  # of which it is hard to say whether it holds for both
    # What the verb is about is what may be said twice; a place alone only where nothing else is named.
    about = given.get("defect_type") or given.get("object") or given.get("person") or given.get("location", [])
    found = []
    for match in _SPAN.finditer(phrasing):
        inside = {_named(s) for s in slots(match[0])}
        ends = match.start() and _ENDS.fullmatch(phrasing[match.end() :])
        if ends and inside and inside >= {*about, *given.get("quantity", [])}:
            found.append(match.span())
    return found


def _named(slot: tuple[str, str]) -> tuple[str, str]:
    return ("object", slot[1]) if slot[0] == "objects" else slot


def again(
    rng: random.Random, skill: str, arguments: Arguments, phrasing: str, span: tuple[int, int], number: str
) -> tuple[str, Arguments]:
    """The span with slots of their own, `number` before theirs, and the arguments that it and the rest then give."""
    part = phrasing[slice(*span)]
    inside = {_named(s) for s in slots(part)}
    if skill in COUNTED and "{object" in part and rng.random() < 0.45:
        counted = "{count} {objects}" if rng.random() < 0.6 else rng.choice(("the {object}", "a {object}"))
        part = re.sub(rf"(?:(?:{_DETERMINERS}) )?(?:\{{count\d*\}} )?\{{objects?\d*\}}", counted, part, count=1)
        arguments = tuple((k, v) for k, v in arguments if k != "quantity")
        if "{count}" in counted:
            arguments += (("quantity", "{count}"),)
            inside |= {("count", "")}
        objects = [s for s in inside if s[0] == "object"]
        inside = {s for s in inside if s[0] != "object"} | {("object", "")}
        arguments = tuple((k, "{object}" if slots(v) == objects else v) for k, v in arguments)

    def other(text: str) -> str:
        return SLOT.sub(lambda m: f"{{{m[1]}{number}{m[2]}}}" if _named((m[1], m[2])) in inside else m[0], text)

    return other(part), tuple((k, other(v)) for k, v in arguments)
