"""Answers about what was told: the model chooses what it speaks of, the fact itself is what is said.

A small model knows what it is asked, but copies what it was told unreliably, and of reasons only those that it was
trained on: told "failed: an obstacle is in the way" it answers with another reason that it remembers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

HELD = "paused: "
UNKNOWN = "I don't know how the last action ended."
ENDED = {"finished": "finished", "cancelled": "was cancelled", "failed": "failed", "stopped": "stopped"}


def _about(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# One subject in the whole answer; what speaks of several is left as it is.
ABOUT_LAST = _about(
    r"(the last (action|task|job|order|trip|drive) (was|is|has|had|went|finished|failed|stopped|ended)\b.*"
    r"|I don't know how the last action ended\.?)"
)
ABOUT_BATTERY = _about(r"(my battery is at [\w. ]+|I don't know my battery level)\.?")
ABOUT_PLACE = _about(r"(I'm at [^,.]+|I don't know where I am)\.?")
ABOUT_LOAD = _about(r"(I'm carrying [^,.]+|I'm not carrying anything|I don't know what I'm carrying)\.?")
ABOUT_TASK = _about(
    r"(I'm ?(resum\w*|paus\w*|(?!charging)\w+ing\b)[^,.]*|I'm idle[^.]*|I don't know what my task is)\.?"
)


def truthful(answer: str, facts: Mapping[str, object], name_of: Callable[[str], str] = str) -> str:
    """The answer of a model, with what it says of one fact made of that fact; of several, or of none, unchanged.

    `facts` are those that it was told, in the forms of docs/contracts.md; `name_of` gives the spoken name of an id.
    """
    task = str(facts.get("task", ""))
    held = task.startswith(HELD)
    if ABOUT_LAST.fullmatch(answer):
        return _task(task) if held else _last(facts.get("last"))
    if ABOUT_BATTERY.fullmatch(answer):
        battery = facts.get("battery")
        return "I don't know my battery level." if battery is None else f"My battery is at {battery} percent."
    if ABOUT_PLACE.fullmatch(answer):
        place = facts.get("location")
        return "I don't know where I am." if place is None else f"I'm at {name_of(str(place))}."
    if ABOUT_LOAD.fullmatch(answer):
        load = str(facts.get("carrying", ""))
        if not load:
            return "I don't know what I'm carrying."
        return "I'm carrying nothing." if load == "nothing" else f"I'm carrying the {name_of(load)}."
    if ABOUT_TASK.fullmatch(answer):
        return _task(task)
    return answer


def _task(task: str) -> str:
    if not task:
        return "I don't know what my task is."
    if task == "idle":
        return "I'm idle, I have no task."
    return f"I'm {task}." if task.startswith(HELD) or re.match(r"\w+ing\b", task) else f"My task is: {task}."


def _last(told: object) -> str:
    if told is None:
        return UNKNOWN
    how, _, why = str(told).partition(": ")
    ended = ENDED.get(how, f"ended: {how}")
    return f"The last action {ended}: {why}." if why else f"The last action {ended}."
