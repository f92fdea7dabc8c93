"""The words that stop the robot without the model: plain rules on the transcript, safe side first.

An utterance is a stop command if, after its clauses are split at punctuation, one clause is nothing but a stop
phrase with names, politeness and fillers around it ("Robot, please stop", "no, no, stop!", "Stop. Go back."); if it
begins or ends with a stop word said twice ("stop stop you will hit it"); or if it begins with a stop word and goes on
with a warning, a reproach or "and" ("stop there's someone behind you", "halt watch out", "stop and come back"). Where
a listener could think either, the robot stops: a needless stop costs a moment.

It is not one where stop is only mentioned ("go to the bus stop", "tell Maria to stop"), negated ("don't stop"),
asked about ("why did you stop") or bound to a place, a time or another thing ("stop at dock 3", "stop when you get
there", "stop the conveyor"); these go to the model. "Wait", "stay where you are", "pause" and "cancel" are skills.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_LENGTH = 500
"""Characters, more than fits into an utterance. Longer text is not searched, so that no text can delay the check."""

STRONG = (
    "stop", "stopp", "emergency stop", "emergency halt", "emergency shutdown", "emergency off", "emergency brake",
    "e stop", "estop", "full stop", "all stop", "dead stop", "hard stop", "total stop", "complete stop", "safety stop",
    "quick stop", "halt", "freeze", "come to a stop", "come to a full stop", "come to a halt", "bring it to a stop",
    "dont move", "dont you move", "do not move", "stand still", "hold still", "stay still", "keep still",
    "quit moving", "cease movement", "cease all motion", "cease moving", "brake", "brakes", "hit the brake",
    "hit the brakes", "slam the brakes", "slam on the brakes", "step on the brakes", "put on the brakes",
    "kill the motors", "kill the engine", "kill the power", "cut the motors", "cut the engine", "cut the power",
    "turn off the robot", "switch off the robot", "turn off the motors", "switch off the motors", "thats far enough",
    "brake hard", "brakes on", "apply brakes", "apply the brakes", "put the brakes on", "jam on the brakes",
    "crash stop", "panic stop", "protective stop", "immediate stop", "kill the drive", "cut the drive",
    "cut your motors", "shut off the motors", "shut the motors down", "arrest your motion", "get stopped",
    "come to a standstill", "come to a complete stop", "bring it to a dead stop", "bring yourself to a stop",
    "bring yourself to a halt", "quit driving", "quit rolling",
)  # fmt: skip
"""Phrases that stop alone, repeated, or with a warning behind them."""

WEAK = (
    "whoa", "woah", "wo", "hold it", "hold up", "abort", "emergency", "cease", "quit it", "kill it", "help",
    "shut down",
    "shut it down", "shut it off", "turn it off", "switch it off", "power off", "make a stop", "no further",
    "not another inch", "not one more step", "no move", "not move", "do stop", "make stop", "the emergency stop",
    "the stop button", "stop button", "motors off", "hit the anchors", "no closer", "not any closer", "not any further",
    "not another step", "not an inch further", "not another centimetre", "not one more centimetre",
    "dont you dare move", "dont come nearer", "dont come any closer", "dont come any further", "dont go any further",
    "dont go another inch", "dont take another step",
)  # fmt: skip
"""Phrases that stop only if the whole utterance is made of stop phrases: "whoa, that's a big box" is talk, "abort, go
to dock two" a change of plan, "turn it off at the wall" for somebody else."""

MISHEARD = (
    "alt", "hault", "hold", "aboard", "a bort", "a board", "at board", "and board", "breeze", "stand steel",
    "stand steal", "stand feel", "might stop", "emergency style", "emergency staff", "emergency stuff",
    "emergency drop", "emergency stopped", "emergency top", "emergency hall", "emergency hole", "emergency holes",
    "emergency home", "emergency out", "emergency alt", "emergency ald", "emergency all", "emergency old",
    "emergency hold", "emergency haul", "emergency aisle",
)  # fmt: skip
"""What Whisper tiny makes of a lone "halt", "abort", "freeze", "stand still", "wait, stop", "emergency stop" and
"emergency halt" in noise. They stop only if nothing but fillers is around them: "hold" does, "hold this" does not."""

TAILS = (
    "right there", "right here", "right now", "right away", "there", "here", "it", "that", "this", "everything",
    "all", "now", "immediately", "at once", "this second", "right this second", "this instant", "moving", "driving",
    "rolling", "going", "to move", "to drive", "the moving", "the drive", "where you are", "exactly where you are",
    "dead", "in your tracks", "what you are doing", "what youre doing", "whatever you are doing",
    "whatever youre doing", "another inch", "an inch", "a muscle", "any further", "the robot", "that robot",
    "this robot", "the machine", "the motors", "your motors", "the wheels", "yourself", "that thing", "this thing",
    "the thing", "the damn thing", "all movement", "all motion", "operation", "all operations", "my foot", "my hand",
    "motion", "turning", "pushing", "spinning", "reversing", "backing up", "going forward", "altogether",
    "on the spot", "on a dime", "where you stand", "short",
    "right", "right out", "right north", "right not", "right enough", "writing out", "riding off", "lighting out",
)  # fmt: skip
"""What may follow a stop phrase and belongs to it; the last are "right now" as Whisper tiny hears it."""

FILLERS = (
    "please", "hey", "hi", "ok", "okay", "no", "nope", "oh", "ah", "aah", "ow", "ouch", "uh", "um", "er", "erm", "hmm",
    "well", "now", "just", "so", "right", "quick", "quickly", "thanks", "yo", "ey", "sorry", "yes", "yeah", "wait",
    "everybody", "everyone", "somebody", "someone", "anybody", "help", "danger", "emergency", "shit", "jesus", "st",
    "s", "must", "you", "kindly", "pls", "whoa",
)  # fmt: skip
LEADS = (
    "can you", "could you", "will you", "would you", "can you just", "you need to", "you have to", "you must",
    "you should", "you better", "you gotta", "you got to", "youve got to", "i need you to", "i want you to",
    "i told you to", "im telling you to", "i order you to", "i command you to", "im begging you", "i said", "i say",
    "we need to", "make it", "will somebody", "can somebody", "can anybody", "would somebody", "oh my god", "oh god",
    "oh shit", "thank you", "thats enough", "for gods sake", "for the love of god", "damn it", "god damn it",
    "watch out", "look out", "careful", "be careful", "hold on", "press the", "hit the", "push the", "activate",
    "initiate", "execute", "please to", "do a", "no go", "youre hurting me", "youd better", "i must ask you to",
    "trigger the", "for heavens sake", "for goodness sake",
)  # fmt: skip
WARNINGS = (
    "there is", "there are", "theres", "you", "youre", "youll", "your", "youve", "watch out", "look out", "careful",
    "be careful", "mind", "its", "hes", "shes", "someone", "someones", "somebody", "somebodys", "people", "thats",
    "danger", "dangerous", "dont", "what are you", "what the", "he", "she", "im", "i", "we", "were", "they", "theyre",
    "wrong", "no", "fire", "help", "and", "before you hit", "before you hurt", "before you run", "before you kill",
)  # fmt: skip
"""How that begins which is said in alarm behind a stop phrase."""


def is_stop(text: str, names: Sequence[str] = ("robot",)) -> bool:
    """Return whether the transcript tells the robot (called by any of `names`) to stop at once."""
    if len(text) > MAX_LENGTH:
        return False
    clauses = [_words(clause) for clause in re.split(r"[.!?,;:\n…–—]+|\s-+\s", _plain(text))]
    whole = [word for clause in clauses for word in clause]
    called = [" ".join(_words(_plain(name))) for name in names]
    fillers = _phrases([*FILLERS, *LEADS, *called])
    strong, weak, misheard = _phrases(STRONG), _phrases(WEAK), _phrases(MISHEARD)
    return (
        any(_only(clause, strong, fillers) for clause in clauses)
        or _only(whole, strong + weak, fillers)
        or _only(whole, misheard, fillers, tails=[])
        or _twice(whole, strong)
        or _alarmed(whole, strong, fillers)
    )


Phrases = list[tuple[str, ...]]


def _phrases(texts: Sequence[str]) -> Phrases:
    return [tuple(text.split()) for text in texts if text]


def _plain(text: str) -> str:
    """Lower case, without apostrophes, drawn-out letters shortened ("stooop")."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"([a-z])\1{2,}", r"\1", re.sub("['’‘]", "", text))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _match(words: Sequence[str], at: int, phrases: Phrases) -> int:
    """Return the length of the longest phrase that stands at `at`, or 0."""
    return max((len(p) for p in phrases if tuple(words[at : at + len(p)]) == p), default=0)


def _only(words: Sequence[str], stops: Phrases, fillers: Phrases, tails: Phrases | None = None) -> bool:
    """Return whether the words are stop phrases and fillers, at least one of them a stop phrase."""
    tails = _phrases(TAILS) if tails is None else tails
    at, found = 0, False
    while at < len(words):
        if stop := _match(words, at, stops):
            found = True
            at += stop
            at += _match(words, at, tails)
        elif filler := _match(words, at, fillers):
            at += filler
        elif tail := found and _match(words, at, tails):  # "stop, uh, here"
            at += tail
        else:
            return False
    return found


def _twice(words: Sequence[str], stops: Phrases) -> bool:
    """Return whether a stop phrase is said twice running at the beginning or the end."""
    return any(p + p in (tuple(words[: 2 * len(p)]), tuple(words[-2 * len(p) :])) for p in stops)


def _alarmed(words: Sequence[str], stops: Phrases, fillers: Phrases) -> bool:
    """Return whether the words are fillers, a stop phrase, and then the beginning of a warning."""
    at = 0
    while skip := _match(words, at, fillers):
        at += skip
    stop = _match(words, at, stops)
    if not stop:
        return False
    at += stop
    warnings = _phrases(WARNINGS)
    return bool(_match(words, at, warnings) or _match(words, at + _match(words, at, _phrases(TAILS)), warnings))
