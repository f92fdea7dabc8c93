"""The robot does not hear itself: its own words are taken out of what was heard while it spoke.

A transcript that overlaps in time with the robot's own speech is aligned with the words that were said at that time,
tolerant of words that were misheard. What is left is a person's. Source of the alignment: Smith and Waterman,
"Identification of common molecular subsequences", 1981.

Where a word could be either's, it is taken for the robot's, since it acts on what it hears: a person repeats
themselves. A stop is the exception and taken for a person's, unless it is heard within the robot's own sentence, with
other words of it around ("I have to stop here"), or that sentence is nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rapidfuzz.fuzz import ratio

from nano_agent_ros.speech.alike import alike, sound_of, words_of

ALIKE, STOP_ALIKE = 0.65, 0.8
"""Words that are so alike are one; a stop is so only if it is more."""

SOUNDS_LIKE, SOUNDS_LIKE_ALL = 0.4, 0.55
"""Misheard words next to some that are known to be the robot's, and a whole transcript, sound so much like its own. Of
transcripts of the robot alone 9 % sound less so, of people's commands 4 % more (docs/audio.md)."""

IN_PLACE = 0.8
"""Words stand in the place of own ones that were not heard if these have so much of their letters."""

LONG = 4
"""Letters of a word that counts twice as much as a shorter one."""

EARLY_S, STRAY_S = 0.3, 0.2
"""How much earlier than the robot a person speaks who is no part of its echo, and how much longer after the tail."""

MEMORY_S = 60.0


@dataclass(frozen=True)
class Sentence:
    """A sentence of the robot's own, by time.time() in seconds; `ended` is expected until it is known."""

    text: str
    began: float
    duration_s: float
    ended: float

    def words(self, since: float, until: float) -> list[str]:
        """Those of its words that are said within a time, by the share of the letters before each."""
        words = [word for word, _, _ in words_of(self.text)]
        total, at, found = sum(len(word) + 1 for word in words) or 1, 0, []
        for word in words:
            begins = self.began + self.duration_s * at / total
            at += len(word) + 1
            ends = self.began + self.duration_s * at / total
            if ends >= since and begins <= min(until, self.ended):
                found.append(word)
        return found


@dataclass(frozen=True)
class Sifted:
    """What was heard, without the robot's own words.

    text: a person's words, pieces that were apart as sentences; "" if there are none. own: the robot was heard.
    closed: own words follow the last of the person's, so that nothing is to come that belongs to these.
    """

    text: str
    own: bool
    closed: bool = False


class OwnVoice:
    """What the robot said lately. Any thread may use it."""

    def __init__(self, tail_s: float = 0.5) -> None:
        """`tail_s`: how much later a sound may be heard than it was made, by buffers and the room."""
        self.tail_s = tail_s
        self._lock = threading.Lock()
        self._said: tuple[Sentence, ...] = ()

    def begins(self, text: str, at: float, duration_s: float) -> None:
        """A sentence begins; the one before it is over."""
        with self._lock:
            kept = [s for s in self._ended(at) if s.ended > at - MEMORY_S]
            self._said = (*kept, Sentence(text, at, duration_s, at + duration_s))

    def silent(self, at: float) -> None:
        """The robot is silent."""
        with self._lock:
            self._said = tuple(self._ended(at))

    def _ended(self, at: float) -> list[Sentence]:
        return [replace(s, ended=max(s.began, min(s.ended, at))) for s in self._said]

    def during(self, began: float, ended: float) -> list[Sentence]:
        """What may have been heard within a time."""
        return [s for s in self._said if s.began <= ended and s.ended + self.tail_s >= began]

    def sift(self, text: str, began: float, ended: float, is_stop: Callable[[str], bool]) -> Sifted:
        """Take the robot's own words out of a transcript of what was heard from `began` to `ended`."""
        said = self.during(began, ended)
        if not said:
            return Sifted(text, False)
        own = [word for s in said for word in s.words(began - self.tail_s, ended)]
        stops_itself = any(is_stop(s.text) for s in said)
        early = said[0].began - began > EARLY_S
        late = ended - said[-1].ended > self.tail_s + STRAY_S
        return sift(text, own, (lambda run: False) if stops_itself else is_stop, early, late)


def sift(
    text: str, own: Sequence[str], is_stop: Callable[[str], bool], early: bool = False, late: bool = False
) -> Sifted:
    """Take `own` words, in the order in which they were said, out of `text`.

    is_stop: tells whether words are a stop that no own sentence is. early, late: somebody was heard clearly before, or
    after, the robot; else a single word at that end is a misheard one.
    """
    heard = words_of(text)
    if not heard or not own:
        return Sifted(text, False)
    # A stop that the robot does not say is nothing misheard: it is like no word.
    words = ["#" if _is_strange_stop(word, own, is_stop) else word for word, _, _ in heard]
    _, start, end = heard[-1]
    if words[-1] == "#":
        # "I am going to ... stop": Whisper makes one sentence of two voices.
        rest = sift(text[:start], own, is_stop, early) if start else Sifted("", True)
        return Sifted(_joined([*filter(None, [rest.text]), text[start : _with_punctuation(text, end)]]), True)
    pairs = _own_pairs(words, own, is_stop)
    sounds_own = not (early or late) and _sounds_like_all(words, own)
    if not pairs:
        sounds_own = sounds_own or (len(words) == 1 and not (early or late))
        return Sifted("", True) if sounds_own and not is_stop(text) else Sifted(text, False)
    runs = []
    ends = [(-1, -1), *pairs, (len(words), len(own))]
    for (h0, o0), (h1, o1) in pairwise(ends):
        run, between = words[h0 + 1 : h1], list(own[o0 + 1 : o1])
        if not run:
            continue
        span = _Run(heard[h0 + 1][1], heard[h1 - 1][2], h1 == len(words))
        edge = (early and h0 < 0) or (late and h1 == len(words))
        stray = len(run) == 1 and not edge
        in_place = sounds_own and sum(map(len, between)) >= IN_PLACE * sum(map(len, run))
        own_words = in_place or stray or _misheard(run, between, h0 < 0, span.last)
        if is_stop(text[span.start : span.end]):
            runs.append(span)
            continue
        if not own_words:
            runs.append(span)
        for number, (_, start, end) in enumerate(heard[h0 + 1 : h1], h0 + 1):
            if words[number] == "#" and (own_words or number + 1 == h1):
                if not own_words:
                    runs[-1] = replace(span, end=start)
                runs.append(_Run(start, end, False))
    pieces = [text[run.start : _with_punctuation(text, run.end)].strip() for run in runs if run.end > run.start]
    return Sifted(_joined(pieces), True, closed=bool(runs) and not runs[-1].last)


def _is_strange_stop(word: str, own: Sequence[str], is_stop: Callable[[str], bool]) -> bool:
    return is_stop(word) and not any(alike(word, each) >= STOP_ALIKE for each in own)


@dataclass(frozen=True)
class _Run:
    start: int
    end: int
    last: bool


Pair = tuple[int, int]


def _own_pairs(heard: Sequence[str], own: Sequence[str], is_stop: Callable[[str], bool]) -> list[Pair]:
    """Which heard word is which own one, in order; only where enough are that it is no chance."""
    found: list[Pair] = []
    todo = [(0, len(heard), 0, len(own))]
    letters = sum(map(len, own))
    while todo:
        h0, h1, o0, o1 = todo.pop()
        local = _best_local(heard[h0:h1], own[o0:o1])
        pairs = [(h0 + h, o0 + o) for h, o in local]
        if not pairs:
            continue
        (hf, of), (hl, ol) = pairs[0], pairs[-1]
        matched = sum(len(own[o]) for _, o in pairs)
        enough = (len(pairs) > 1 and (matched >= 8 or matched >= 0.5 * letters)) or len(pairs) == len(heard)
        if not enough or is_stop(" ".join(heard[h0 + h] for h, _ in local)):
            continue
        found += pairs
        todo += [(h0, hf, o0, of), (hl + 1, h1, ol + 1, o1)]
    return sorted(found)


def _best_local(heard: Sequence[str], own: Sequence[str]) -> list[Pair]:
    """The pairs of the best local alignment."""
    rows, columns = len(heard) + 1, len(own) + 1
    score = [[0.0] * columns for _ in range(rows)]
    step = [[""] * columns for _ in range(rows)]
    best, at = 0.0, (0, 0)
    for i in range(1, rows):
        for j in range(1, columns):
            likeness = alike(heard[i - 1], own[j - 1])
            weight = 2.0 if len(own[j - 1]) >= LONG else 1.0
            match = score[i - 1][j - 1] + (weight * likeness if likeness >= ALIKE else -1.0)
            options = ((0.0, ""), (match, "both"), (score[i - 1][j] - 1.0, "heard"), (score[i][j - 1] - 0.5, "own"))
            score[i][j], step[i][j] = max(options, key=lambda option: option[0])
            if score[i][j] > best:
                best, at = score[i][j], (i, j)
    i, j = at
    pairs = []
    while step[i][j]:
        if step[i][j] == "both":
            i, j = i - 1, j - 1
            if alike(heard[i], own[j]) >= ALIKE:
                pairs.append((i, j))
        elif step[i][j] == "heard":
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _misheard(run: Sequence[str], own: Sequence[str], first: bool, last: bool) -> bool:
    """Whether words between two pairs (or before the first, behind the last) are what own words were heard as."""
    if not own:
        return False
    if first:
        own = own[-len(run) - 1 :]
    elif last:
        own = own[: len(run) + 1]
    return ratio(_sound(run), _sound(own)) / 100 >= SOUNDS_LIKE


def _sounds_like_all(heard: Sequence[str], own: Sequence[str]) -> bool:
    one, other = _sound(heard), _sound(own)
    return len(one) <= 1.5 * len(other) and ratio(one, other) / 100 >= SOUNDS_LIKE_ALL


def _sound(words: Sequence[str]) -> str:
    return "".join(map(sound_of, words))


def _with_punctuation(text: str, end: int) -> int:
    while end < len(text) and not text[end].isalnum() and not text[end].isspace():
        end += 1
    return end


def _joined(pieces: Sequence[str]) -> str:
    """As sentences, so that what was apart is read apart."""
    *before, last = pieces or [""]
    return " ".join([*(piece if piece[-1:] in ".!?" else piece.rstrip(",;:-") + "." for piece in before), last])
