"""Whom an utterance is said to: a robot that is called by its name, in contrast to one that is only spoken of.

A name is a call at the beginning of a sentence ("unit two, go to dock 3"; "hey unit two go to dock 3"), at its end
("go to dock 3, unit two") and between commas; it is none where it is the subject ("unit two is blocked"), or what a
verb or a preposition goes with ("follow unit three", "tell unit three that ...", "go to where unit two is").

An utterance may call several, one after the other: "unit two, go to dock 3, and unit three, go to dock 1". Words before
the first call belong to it, words behind a call to the same robot until another is called. What is certain only by its
comma is decided by the words around it where Whisper wrote none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nano_agent_ros.speech.names import Mention, Names
from nano_agent_ros.speech.words import COMMA, SENTENCE, Token, longest, phrase, tokens

HAIL = "robot"
"""What stands in the place of a name for the model: a site's own names of robots are strange to it, and an order that
begins with a stranger's name is somebody else's."""

_OPENERS = (
    "hey", "hi", "hello", "hallo", "okay", "ok", "oh", "um", "uh", "er", "ah", "well", "so", "now", "right", "alright",
    "all right", "listen", "listen up", "please", "yo", "ey", "oi", "attention", "excuse me", "good morning",
    "good afternoon", "good evening", "base to", "control to", "dispatch to", "calling", "come in", "and", "then",
    "and then", "but", "no", "yes", "yeah", "no no", "thanks", "thank you", "sorry", "dear", "good", "great", "wait",
    "go ahead", "mister",
)  # fmt: skip
"""What may stand between the beginning of a sentence and a name that is called there."""
_HAILS = ("hey", "hi", "hello", "hallo", "yo", "ey", "oi", "dear", "mister", "listen", "excuse me", "calling")
"""Behind these a name is always called: "hey robot, which way", "hi unit two is it done"."""

_TAILS = (
    "please", "thanks", "thank you", "over", "now", "okay", "ok", "right now", "will you", "would you", "quickly",
    "right away", "come in", "do you copy", "cheers",
)  # fmt: skip
"""What may stand between a name that is called and the end of the sentence."""

_SUBJECT = (
    "is", "isn't", "was", "wasn't", "are", "aren't", "were", "has", "hasn't", "had", "needs", "wants", "said", "says",
    "did", "didn't", "does", "doesn't", "will", "won't", "can't", "cannot", "can", "could", "should", "would", "must",
    "might", "may", "seems", "looks", "keeps", "went", "got", "goes", "broke", "stopped", "stands", "stood", "just",
    "never", "always", "also", "already", "still", "came", "comes", "took", "takes", "lost", "dropped", "hit", "which",
    "who", "whose", "that", "and", "or", "have", "do", "blocks", "blocked", "moved", "moves", "left", "made", "makes",
    "there", "here", "at", "in", "on", "behind", "from", "with", "of", "near", "carries", "drives", "drove", "being",
)  # fmt: skip
"""What follows a name that is spoken of; "can you" and the like is said to it."""

_YOU = ("you", "your", "you're", "me", "us", "we", "i")

_OBJECT = (
    "to", "with", "from", "behind", "at", "near", "for", "by", "of", "in", "on", "into", "onto", "around", "past",
    "beside", "between", "before", "after", "against", "under", "toward", "towards", "like", "than", "about", "without",
    "the", "this", "that", "a", "an", "another", "other", "any", "some", "my", "your", "our", "his", "her", "its",
    "their", "old", "new", "same", "each", "every", "big", "small", "first", "second", "last", "next", "cleaning",
    "tell", "ask", "follow", "find", "help", "push", "pull", "tow", "see", "meet", "pass", "guide", "call", "carry",
    "bring", "take", "get", "fetch", "watch", "check", "inspect", "visit", "join", "charge", "load", "unload", "attach",
    "detach", "lead", "escort", "show", "give", "send", "warn", "wake", "inform", "notify", "stop", "block", "free",
    "is", "isn't", "are", "was", "wasn't", "were", "be", "been", "where", "where's", "who", "who's", "what", "what's",
    "which", "named", "called", "and", "or", "not", "as", "if", "when", "while", "until", "because", "has", "have",
    "had", "had", "let", "make", "did", "does", "do", "can", "could", "will", "would", "one", "no", "there's", "it's",
)  # fmt: skip
"""What stands before a name that is spoken of."""

_ORDERS = (
    "go", "drive", "head", "move", "take", "bring", "pick", "grab", "get", "put", "place", "set", "drop", "load",
    "unload", "follow", "guide", "lead", "show", "attach", "detach", "couple", "uncouple", "hook", "unhook", "push",
    "shove", "inspect", "check", "look", "report", "count", "find", "search", "patrol", "wait", "turn", "rotate",
    "lift", "raise", "lower", "say", "tell", "announce", "pause", "resume", "cancel", "fetch", "deliver", "carry",
    "hold", "stay", "return", "charge", "undock", "dock", "leave", "slow", "speed", "log", "record", "collect",
    "escort", "tow", "examine", "locate", "back", "reverse", "spin", "run", "note", "proceed", "navigate", "come",
    "continue", "stop", "halt", "please", "you", "can", "could", "would", "will", "start", "stand", "help", "give",
    "don't", "do", "keep", "pull", "scan", "clear", "make", "send",
)  # fmt: skip
"""How that begins which is said to somebody."""

_ASKED = ("where", "how", "what", "what's", "where's", "how's", "why", "when")


@dataclass(frozen=True)
class Call:
    """Whom an utterance is said to, as far as names tell.

    own: the robot is called, alone or with others; others: another one is. `words` is what is said to the robot (all
    if nobody is called, "" if only others are), with HAIL in the place of its name. alone: nothing but its name.
    """

    own: bool
    others: bool
    words: str
    alone: bool = False

    @property
    def elsewhere(self) -> bool:
        """Only others are called."""
        return self.others and not self.own


@dataclass(frozen=True)
class _Part:
    """Tokens [first, last) that are said to the same; `calls` name them. Nobody is called if there are none."""

    first: int
    last: int
    calls: tuple[Mention, ...] = ()

    @property
    def own(self) -> bool:
        return any(call.own for call in self.calls)

    @property
    def others(self) -> bool:
        return any(call.others for call in self.calls)


def call(text: str, names: Names) -> Call:
    """Whom the utterance is said to."""
    words = tokens(text)
    mentions = names.mentions(words)
    if not mentions:
        return Call(False, False, text)
    parts = _joined([part for sentence in _sentences(words) for part in _parts(words, sentence, mentions)])
    own, others = any(part.own for part in parts), any(part.others for part in parts)
    if not own:
        return Call(False, others, "" if others else text)
    mine = [part for part in parts if part.own]
    said = " ".join(_written(text, words, part, whole=len(parts) == 1) for part in mine)
    return Call(own, others, said, all(_empty(words, part) for part in mine))


def named_as_hail(text: str, names: Names, everyone: bool) -> str:
    """The text with HAIL in the place of each name: of the robot's own, or (`everyone`) of all robots'."""
    for mention in reversed(names.mentions(words := tokens(text))):
        if mention.own or everyone:
            text = text[: words[mention.first].start] + HAIL + text[words[mention.last - 1].end :]
    return text


def _sentences(words: Sequence[Token]) -> list[tuple[int, int]]:
    starts = [i for i, token in enumerate(words) if token.gap == SENTENCE]
    return list(zip(starts, [*starts[1:], len(words)], strict=True))


def _parts(words: Sequence[Token], sentence: tuple[int, int], mentions: Sequence[Mention]) -> list[_Part]:
    """The parts of a sentence; the first may be without a call."""
    begin, end = sentence
    parts = [_Part(begin, end)]
    for mention in mentions:
        if not begin <= mention.first < end:
            continue
        called, starts = _called(words, mention, begin, end, bool(parts[-1].calls))
        if called is None:
            continue
        before = parts[-1]
        if before.calls and starts:
            parts[-1] = _Part(before.first, _without_and(words, mention.first), before.calls)
            parts.append(_Part(mention.first, end, (called,)))
        elif not before.calls or (called.own, called.others) == (before.own, before.others):
            parts[-1] = _Part(before.first, end, (*before.calls, called))
    return parts


def _called(
    words: Sequence[Token], mention: Mention, begin: int, end: int, called_before: bool
) -> tuple[Mention | None, bool]:
    """What of a mention is a call (None: nothing), and whether what follows is said to whom it calls."""
    first, last = mention.first, mention.last
    ends = _skip(_TAILS, words, last, end) == end
    pause = last < end and words[last].gap == COMMA
    lead = first if first == begin else _skip(_OPENERS, words, begin, first)
    if lead == first:
        hailed = any(longest(_HAILS, words[:first], at) == first for at in range(begin, first))
        if ends or pause or hailed or not _is_subject(words, last):
            return mention, True
        # "unit two, unit three is blocked": the last is spoken of.
        return mention.head, True
    if words[first].gap == COMMA:
        if ends:
            return mention, False
        if pause:
            return mention, called_before
        orders = words[last].word in _ORDERS and not _is_subject(words, last)
        return (mention if orders else None), True
    if words[first - 1].word in ("and", "then") and called_before and last < end:
        if pause or (words[last].word in _ORDERS and not _is_subject(words, last)):
            return mention, True
        return None, False
    if ends and words[first - 1].word not in _OBJECT and first - lead >= 2 and words[lead].word in (*_ORDERS, *_ASKED):
        return mention, False
    # "follow unit two, unit three": the last may be called.
    return (mention.tail if ends or pause else None), False


def _is_subject(words: Sequence[Token], at: int) -> bool:
    """Whether the words from here on are about the robot named before them."""
    if words[at].word not in _SUBJECT:
        return False
    said_to = at + 1 < len(words) and not words[at + 1].gap and words[at + 1].word in _YOU
    return not (said_to and words[at].word not in ("and", "or", "that", "which", "who"))


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """Parts without a call go to the one before them, and those before the first call to it."""
    joined: list[_Part] = []
    for part in parts:
        if joined and (not part.calls or not joined[-1].calls or _same(joined[-1], part)):
            part = _Part(joined[-1].first, part.last, (*joined.pop().calls, *part.calls))
        joined.append(part)
    return joined


def _same(one: _Part, other: _Part) -> bool:
    return (one.own, one.others) == (other.own, other.others)


def _skip(phrases: Sequence[str], words: Sequence[Token], at: int, end: int) -> int:
    """Where the phrases that follow one another from a token on end, `end` at the latest."""
    while at < end and (then := longest(phrases, words[:end], at)):
        at = then
    return at


def _without_and(words: Sequence[Token], end: int) -> int:
    while end > 0 and words[end - 1].word in ("and", "then"):
        end -= 1
    return end


def _written(text: str, words: Sequence[Token], part: _Part, whole: bool) -> str:
    """A part as the model gets it; one that is `whole` keeps its spaces and punctuation."""
    start, end = words[part.first].start, words[part.last].start if part.last < len(words) else len(text)
    if whole:
        start, end = 0, len(text)
    elif part.last < len(words):
        end = words[part.last - 1].end + _sentence_mark(text[words[part.last - 1].end : end])
    said, at = [], start
    for mention in part.calls:
        name = text[words[mention.first].start : words[mention.last - 1].end]
        said.append(text[at : words[mention.first].start])
        hail = HAIL.capitalize() if name[0].isupper() else HAIL
        said.append(name if name.casefold() == HAIL else hail)
        at = words[mention.last - 1].end
    return "".join([*said, text[at:end]])


def _sentence_mark(between: str) -> int:
    """How many characters of what stands between two words belong to the first: its full stop."""
    return next((i + 1 for i, character in enumerate(between) if character in ".!?;…"), 0)


def _empty(words: Sequence[Token], part: _Part) -> bool:
    """Whether a part holds nothing but names that are called and what is said around them."""
    at = part.first
    for mention in part.calls:
        if _skip((*_OPENERS, *_TAILS), words, at, mention.first) != mention.first:
            return False
        at = mention.last
    return _skip((*_OPENERS, *_TAILS), words, at, part.last) == part.last and not phrase("stop", words, at)
