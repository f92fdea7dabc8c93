"""The words that stop the robot without the model: plain rules on the transcript, safe side first.

An utterance is a stop command if, after its clauses are split at punctuation, one clause is nothing but a stop
phrase with names, politeness and fillers around it ("Robot, please stop", "no, no, stop!", "Stop. Go back."); if it
begins or ends with a stop word said twice ("stop stop you will hit it"); or if it begins with a stop word and goes on
with a warning or a reproach ("stop there's someone behind you", "halt watch out"). Where a listener could think
either, the robot stops: a needless stop costs a moment.

It is not one where stop is only mentioned ("go to the bus stop", "tell Maria to stop"), negated ("don't stop"),
asked about ("why did you stop") or bound to a place, a time or another thing ("stop at dock 3", "stop when you get
there", "stop the conveyor"); these go to the model. "Wait", "hold on", "pause" and "cancel" are skills, not stops.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_LENGTH = 2_000
"""Characters. Nobody cries out more; longer text is not searched, so that the check always takes microseconds."""

STRONG = (
    "emergency stop",
    "e stop",
    "estop",
    "full stop",
    "stop",
    "halt",
    "freeze",
    "abort",
    "dont move",
    "do not move",
    "stand still",
    "stay still",
    "hold still",
    "stay where you are",
    "stop moving",
    "stop driving",
)
"""Phrases that stop alone, repeated, or with a warning behind them."""

WEAK = ("whoa", "woah", "wo", "hold it", "hold up", "alt", "hault", "aboard", "a bort")
"""Phrases that stop only if the whole utterance is made of stop phrases: "whoa, that's a big box" is talk.

The last four are what Whisper tiny makes of a lone "halt" and "abort".
"""

TAILS = (
    "right there", "right here", "right now", "right away", "there", "here", "it", "that", "this", "everything",
    "all", "now", "immediately", "at once", "moving", "where you are", "what you are doing", "what youre doing",
    "mission", "the mission", "the task", "the robot", "robot",
)  # fmt: skip
"""What may follow a stop phrase and belongs to it."""

FILLERS = (
    "please", "hey", "hi", "ok", "okay", "no", "nope", "oh", "ah", "uh", "um", "er", "hmm", "well", "now", "just", "so",
    "right", "quick", "quickly", "thanks", "yo", "ey", "sorry", "yes", "yeah", "everybody", "everyone",
)  # fmt: skip
LEADS = (
    "can you", "could you", "will you", "would you", "can you just", "you need to", "you have to", "you must",
    "you should", "you better", "i need you to", "i want you to", "i said", "i say", "we need to", "make it",
    "oh my god", "oh god", "thank you", "thats enough", "for gods sake", "damn it", "god damn it", "watch out",
    "look out", "careful", "be careful", "lets",
)  # fmt: skip
WARNINGS = (
    "there", "theres", "you", "youre", "youll", "your", "youve", "watch", "look", "careful", "mind", "its", "hes",
    "shes", "hell", "shell", "someone", "someones", "somebody", "somebodys", "people", "person", "persons", "thats",
    "danger", "dangerous", "dont", "what", "he", "she", "im", "i", "we", "were", "they", "theyre", "wrong", "no",
    "fire", "help",
)  # fmt: skip
"""First words of what is said in alarm behind a stop word."""


def is_stop(text: str, names: Sequence[str] = ("robot",)) -> bool:
    """Return whether the transcript tells the robot (called by any of `names`) to stop at once."""
    if len(text) > MAX_LENGTH:
        return False
    clauses = [_words(clause) for clause in re.split(r"[.!?,;:\n…–—]+|\s-+\s", _plain(text))]
    clauses = [clause for clause in clauses if clause]
    called = [_words(_plain(name)) for name in names]
    fillers = [tuple(phrase.split()) for phrase in FILLERS + LEADS] + [tuple(n) for n in called if n]
    strong = [tuple(phrase.split()) for phrase in STRONG]
    weak = [tuple(phrase.split()) for phrase in WEAK]
    if any(_only(clause, strong, fillers) for clause in clauses):
        return True
    whole = [word for clause in clauses for word in clause]
    return _only(whole, strong + weak, fillers) or _twice(whole, strong) or _alarmed(whole, strong, fillers)


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("‘", "'")
    return text.replace("'", "")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _match(words: Sequence[str], at: int, phrases: Sequence[tuple[str, ...]]) -> int:
    """Return the length of the longest phrase that stands at `at`, or 0."""
    return max((len(p) for p in phrases if tuple(words[at : at + len(p)]) == p), default=0)


def _only(words: Sequence[str], stops: Sequence[tuple[str, ...]], fillers: Sequence[tuple[str, ...]]) -> bool:
    """Return whether the words are stop phrases and fillers, at least one of them a stop phrase."""
    tails = [tuple(tail.split()) for tail in TAILS]
    at, found = 0, False
    while at < len(words):
        stop = _match(words, at, stops)
        if stop:
            found = True
            at += stop
            at += _match(words, at, tails)
            continue
        filler = _match(words, at, fillers)
        if not filler:
            return False
        at += filler
    return found


def _twice(words: Sequence[str], stops: Sequence[tuple[str, ...]]) -> bool:
    """Return whether a stop phrase is said twice running at the beginning or the end."""
    for phrase in stops:
        twice = phrase + phrase
        if tuple(words[: len(twice)]) == twice or tuple(words[-len(twice) :]) == twice:
            return True
    return False


def _alarmed(words: Sequence[str], stops: Sequence[tuple[str, ...]], fillers: Sequence[tuple[str, ...]]) -> bool:
    """Return whether the words are fillers, a stop phrase, and then the beginning of a warning."""
    at = 0
    while skip := _match(words, at, fillers):
        at += skip
    stop = _match(words, at, stops)
    return bool(stop) and at + stop < len(words) and words[at + stop] in WARNINGS
