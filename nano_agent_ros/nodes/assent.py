"""The few words that are understood without the model: yes, no, "no, wait", and the release of a stop."""

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
CALL_OFF = (
    "no", "nope", "wait", "hold on", "hang on", "never mind", "nevermind", "forget it", "forget that", "scratch that",
    "cancel that", "not that", "dont do that", "i changed my mind",
)  # fmt: skip
"""What takes back the words before it. "Stop" and its like are in speech/stop_words.py and act before this is asked."""
CALL_OFF_AND_GO_ON = (
    "no", "nope", "wait no", "hold on", "hang on", "never mind", "nevermind", "forget it", "forget that",
    "scratch that", "cancel", "not that", "i changed my mind",
)  # fmt: skip
"""Those that do so with more words right behind them; of the rest ("wait two minutes") many are commands."""
NOT_CALLED_OFF = (
    "no problem", "no worries", "no need", "no rush", "no hurry", "no one", "no thanks", "no more", "no longer",
    "no entry", "no parking", "no idea", "no doubt", "no matter", "no wonder",
)  # fmt: skip
FILLERS = (
    "please", "robot", "thanks", "thank", "you", "now", "just", "and", "um", "uh", "well", "hey", "then", "that", "it",
    "again",
)  # fmt: skip
OPENERS = ("robot", "oh", "um", "uh", "er", "ah", "hey", "okay", "ok", "sorry", "please", "well", "actually")


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


def calls_off(text: str) -> bool:
    """Whether an utterance takes back what was said just before: "no, wait", "wait, go to dock 2", "cancel"."""
    plain = re.sub("['’]", "", text.lower())
    clauses = [re.findall(r"[a-z0-9]+", clause) for clause in re.split(r"[.,!?;:…–—]+|\s-+\s", plain)]
    while clauses and set(clauses[0]) <= {*OPENERS}:
        clauses.pop(0)
    words = [word for clause in clauses for word in clause]
    while words and words[0] in OPENERS:
        words.pop(0)

    def begins(phrases: Sequence[str]) -> bool:
        return any(words[: len(phrase.split())] == phrase.split() for phrase in phrases)

    if begins(CALL_OFF_AND_GO_ON) and not begins(NOT_CALLED_OFF):
        return True
    return bool(clauses) and _made_of(" ".join(clauses[0]), CALL_OFF)


def is_call_off(text: str) -> bool:
    """Whether an utterance takes back what was said just before and says no more: "no, wait", "never mind"."""
    return _made_of(text, CALL_OFF)


def is_release(text: str) -> bool:
    """Whether the whole utterance lets a stopped robot move again: "okay, you can move again"."""
    return _made_of(re.sub(r"^\W*(ok|okay|alright|all right)\b", "", text.lower()), RELEASE)
