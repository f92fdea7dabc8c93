"""The few words that are understood without the model: yes, no, and the release of a stop."""

from __future__ import annotations

import re
from collections.abc import Sequence

YES = (
    "yes", "yeah", "yep", "yup", "sure", "ok", "okay", "confirm", "confirmed", "affirmative", "absolutely",
    "definitely", "correct", "right", "exactly", "certainly", "of course", "go ahead", "do it", "please do",
    "go for it", "that is right", "thats right", "sounds good", "go on", "proceed",
)  # fmt: skip
NO = (
    "no", "nope", "nah", "negative", "cancel", "abort", "never", "never mind", "do not", "dont", "do not do", "dont do",
    "please dont", "forget", "leave", "not now", "no way",
)  # fmt: skip
RELEASE = (
    "resume", "continue", "proceed", "carry on", "go on", "resume work", "you can go on", "you can continue",
    "you may continue", "you can move", "you may move", "you can move again", "release stop", "release the stop",
    "stop released", "all clear", "its clear", "it is clear", "its safe", "it is safe",
)  # fmt: skip
FILLERS = (
    "please", "robot", "thanks", "thank", "you", "now", "just", "and", "um", "uh", "well", "hey", "then", "that", "it",
    "again",
)  # fmt: skip


def _made_of(text: str, phrases: Sequence[str]) -> bool:
    """Whether the text is one or more of the phrases and fillers, and nothing else."""
    words = re.findall(r"[a-z]+", text.lower().replace("'", "").replace("’", ""))
    longest_first = sorted((phrase.split() for phrase in phrases), key=len, reverse=True)
    found, at = False, 0
    while at < len(words):
        phrase = next((p for p in longest_first if words[at : at + len(p)] == p), None)
        if phrase is None and words[at] not in FILLERS:
            return False
        found = found or phrase is not None
        at += len(phrase) if phrase else 1
    return found


def is_yes(text: str) -> bool:
    """Whether the whole utterance agrees: "yes please, go ahead". "Yes, but slowly" does not."""
    return _made_of(text, YES)


def is_no(text: str) -> bool:
    """Whether the whole utterance declines: "no, don't"."""
    return _made_of(text, NO)


def is_release(text: str) -> bool:
    """Whether the whole utterance lets a stopped robot move again: "okay, you can move again"."""
    return _made_of(re.sub(r"^\W*(ok|okay|alright|all right)\b", "", text.lower()), RELEASE)
