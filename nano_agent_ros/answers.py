"""Answers about how the last action ended: what is said is the fact that was told, not what the model makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

ABOUT_LAST = re.compile(
    r"the last (action|task|job|order|trip|drive) (was|is|has|had|went|finished|failed|stopped|ended)\b", re.IGNORECASE
)
ENDED = {"finished": "finished", "cancelled": "was cancelled", "failed": "failed", "stopped": "stopped"}
UNKNOWN = "I don't know how the last action ended."
HELD = "paused: "


def truthful(answer: str, facts: Mapping[str, object]) -> str:
    """The answer of a model, unless it is about the last action: then what the facts `task` and `last` say of it.

    A small model knows what it is asked, but of reasons only those that it was trained on: told "failed: an obstacle is
    in the way" it answers with another reason that it remembers, and told that a drive is paused, that it is driving.
    `facts` are those that it was told, in the forms of docs/contracts.md.
    """
    task = str(facts.get("task", ""))
    held = task.removeprefix(HELD) if task.startswith(HELD) else ""
    if held and answer.startswith(f"I'm {held}"):
        return "I'm " + HELD + answer.removeprefix("I'm ")
    if not ABOUT_LAST.match(answer):
        return answer
    if held:
        return f"I'm {HELD}{held}."
    if "last" not in facts:
        return UNKNOWN
    how, _, why = str(facts["last"]).partition(": ")
    ended = ENDED.get(how, f"ended: {how}")
    return f"The last action {ended}: {why}." if why else f"The last action {ended}."
