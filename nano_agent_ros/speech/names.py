"""Names of robots in a transcript, as Whisper may have written them: "unit two", "Unit 2", "unit-to", "fork lift 3"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from nano_agent_ros.speech.words import COMMA, SENTENCE, Token, longest, number, number_as, tokens

CLOSE_FROM = 6
"""Letters that a name needs for one of them to be heard wrong; the first never is."""

_GROUPS = ("robots", "units", "machines", "vehicles", "bots")
_GREETED = ("hey", "hi", "hello", "okay", "ok", "listen", "attention", "so", "now")
_ALL = ("everybody", "everyone", "all of you", "both of you")
_EACH = ("all", "all the", "all of the", "all you", "all of you", "both", "both the", "you", "every", "each")
_EXCEPT = ("except", "except for", "but", "but not", "apart from", "other than")
_AND = ("and", "or", "plus")

Parts = tuple[str | int, ...]


@dataclass(frozen=True)
class Named:
    """Robots that the tokens up to `last` name; `stem` is the word of a numbered name ("unit")."""

    last: int
    own: bool
    others: bool
    stem: str = ""


@dataclass(frozen=True)
class Mention:
    """Robots that are named by the tokens [first, last): one, or a list of them.

    `tail` is the last of a list without "and" ("unit two, unit three"), whose first robots may be called by it and
    the last only spoken of; None if there is no such.
    """

    first: int
    last: int
    own: bool
    others: bool
    tail: Mention | None = None
    head: Mention | None = None


class Names:
    """Who may be named: `own` names of the robot, and `others`, those of the other robots.

    A name is words and numbers; "unit two" and "Unit 2" are the same. A number that belongs to nobody known ("unit
    nine") is another robot's, and so is a name that could be either's. Raises ValueError for a name without a letter
    and for one that is the robot's own and another's.
    """

    def __init__(self, own: Sequence[str], others: Sequence[str] = ()) -> None:
        """Know the names; empty ones are passed over."""
        self._own = [_parts(name) for name in own if name.strip()]
        self._others = [_parts(name) for name in others if name.strip()]
        both = [name for name in own if name.strip() and _parts(name) in self._others]
        if both:
            raise ValueError(f"name '{both[0]}' is the robot's own and another robot's; give each its own")
        known = (*self._own, *self._others)
        self._stems = {str(parts[0]) for parts in known if len(parts) == 2 and isinstance(parts[1], int)}
        self._plurals = {f"{stem}s" for stem in self._stems}

    def mentions(self, words: Sequence[Token]) -> list[Mention]:
        """Where robots are named, lists of them as one, from left to right."""
        found, at = list[Mention](), 0
        while at < len(words):
            mention = self._mention(words, at)
            if mention is not None:
                found.append(mention)
            at = mention.last if mention else at + 1
        return found

    def _mention(self, words: Sequence[Token], at: int) -> Mention | None:
        """The robots named from a token on: "unit one, unit two and unit four", "units one and two", "all robots"."""
        everyone = self._everyone(words, at)
        if everyone is not None:
            return self._all_but(words, at, everyone)
        named = self._plural(words, at) or self._one(words, at)
        if named is None:
            return None
        whole = Mention(at, named.last, named.own, named.others)
        while whole.last < len(words):
            joined = words[whole.last].word in _AND and words[whole.last].gap < SENTENCE
            then = whole.last + joined
            if then >= len(words) or words[then].gap == SENTENCE or not (joined or words[then].gap == COMMA):
                break
            more = self._one(words, then)
            if more is None and joined and named.stem:
                more = self._number(named.stem, words, then)
            if more is None:
                break
            own, others = whole.own or more.own, whole.others or more.others
            tail = None if joined else Mention(then, more.last, more.own, more.others)
            head = None if joined else Mention(at, then, whole.own, whole.others)
            whole = Mention(at, more.last, own, others, tail, head)
        return whole

    def _all_but(self, words: Sequence[Token], at: int, everyone: Named) -> Mention:
        """Everybody, or all but some: "all units except unit three"."""
        end = longest(_EXCEPT, words, everyone.last)
        if end and end < len(words) and not words[end].gap and self._everyone(words, end) is None:
            but = self._mention(words, end)
            if but is not None:
                return Mention(at, but.last, everyone.own and not but.own, everyone.others)
        return Mention(at, everyone.last, everyone.own, everyone.others)

    def _everyone(self, words: Sequence[Token], at: int) -> Named | None:
        """A name for all robots, or for all of a kind: "everybody", "all units", "forklifts, ..."."""
        found = [Named(last, True, True) for last in (longest(_ALL, words, at),) if last]
        found = [one for one in found if not longest(["else"], words, one.last)]
        for lead in ("", *_EACH):
            noun = longest([lead], words, at) if lead else at
            if (lead and not noun) or noun >= len(words) or (lead and words[noun].gap):
                continue
            # Without "all" things are called so too: "load the machines".
            if not lead and not words[at].gap and words[at - 1].word not in _GREETED:
                continue
            word = words[noun].word + ("s" if lead in ("every", "each") else "")
            if not lead and word in _GROUPS[2:]:
                continue
            counted = noun + 1 < len(words) and not words[noun + 1].gap and number(words, noun + 1) is not None
            if counted:
                continue
            if word in _GROUPS:
                found.append(Named(noun + 1, True, True))
            elif word in self._plurals:
                own, others = (any(parts[0] == word[:-1] for parts in names) for names in (self._own, self._others))
                found.append(Named(noun + 1, own, others))
        return max(found, key=lambda one: one.last, default=None)

    def _plural(self, words: Sequence[Token], at: int) -> Named | None:
        """Numbered names that share their word: "units one, two and four", "units 1 to 4"."""
        stem = next((s for s in self._stems if words[at].word == f"{s}s"), None)
        if stem is None:
            return None
        numbers: list[int] = []
        last = then = at + 1
        while then < len(words) and words[then].gap < SENTENCE:
            read = number(words, then)
            if read is None:
                break
            last, first = read
            final = first
            if last < len(words) and words[last].word in ("to", "through") and not words[last].gap:
                until = number(words, last + 1)
                if until is not None and first < until[1] <= first + 100:
                    last, final = until
            numbers += range(first, final + 1)
            then = last
            if then < len(words) and words[then].word in _AND:
                then += 1
            elif then < len(words) and words[then].gap != COMMA:
                break
        if not numbers:
            return None
        mine = [(stem, n) in self._own for n in numbers]
        return Named(last, any(mine), not all(mine))

    def _number(self, stem: str, words: Sequence[Token], at: int) -> Named | None:
        """A number that goes on a list: the "two" of "unit one and two"."""
        read = number(words, at)
        if read is None:
            return None
        own = (stem, read[1]) in self._own
        return Named(read[0], own, not own, stem)

    def _one(self, words: Sequence[Token], at: int) -> Named | None:
        """One name. The longest counts, of these the one that is written best."""
        found: list[tuple[int, int, bool, str]] = []  # end, letters heard wrong, whether it is the robot's own, stem
        for own, names in ((True, self._own), (False, self._others)):
            for parts in names:
                stem = str(parts[0]) if len(parts) == 2 and isinstance(parts[1], int) else ""
                found += [(end, wrong, own, stem) for end, wrong in _ends(parts, words, at)]
        known = max((end for end, *_ in found), default=0)
        for stem in self._stems:
            for middle, wrong in _letters(stem, words, at):
                read = number(words, middle) if middle < len(words) and not words[middle].gap else None
                if read is not None and read[0] > known:
                    found.append((read[0], wrong, False, stem))
        if not found:
            return None
        last = max(end for end, *_ in found)
        least = min(wrong for end, wrong, *_ in found if end == last)
        best = [(own, stem) for end, wrong, own, stem in found if (end, wrong) == (last, least)]
        mine = all(own for own, _ in best)
        return Named(last, mine, not mine, best[0][1])


def _parts(name: str) -> Parts:
    """A name as runs of letters and numbers: ("unit", 2)."""
    words, parts, at = tokens(name), list[str | int](), 0
    while at < len(words):
        read = number(words, at)
        if read is not None:
            at = read[0]
            parts.append(read[1])
            continue
        before = parts.pop() if parts and isinstance(parts[-1], str) else ""
        parts.append(f"{before}{words[at].word}")
        at += 1
    if not any(isinstance(part, str) for part in parts):
        raise ValueError(f"name '{name}': a robot's name needs a word, such as 'unit {name.strip()}'")
    return tuple(parts)


def _ends(parts: Parts, words: Sequence[Token], at: int, begun: bool = False) -> Iterator[tuple[int, int]]:
    """Where a name that begins at a token may end, and how many of its letters were heard wrong."""
    if not parts:
        yield at, 0
        return
    if at >= len(words) or (begun and words[at].gap):
        return
    first, rest = parts[0], parts[1:]
    if isinstance(first, str):
        heard = _letters(first, words, at)
    else:
        heard = ((end, 0) for end in number_as(first, words, at, alike=begun))
    for end, wrong in heard:
        for last, more in _ends(rest, words, end, True):
            yield last, wrong + more


def _letters(wanted: str, words: Sequence[Token], at: int) -> Iterator[tuple[int, int]]:
    """Up to three words that together are (nearly) the wanted one."""
    joined = ""
    for end in range(at, min(at + 3, len(words))):
        if end > at and words[end].gap:
            return
        joined += words[end].word
        if joined == wanted:
            yield end + 1, 0
        elif _close(joined, wanted):
            yield end + 1, 1


def _close(heard: str, wanted: str) -> bool:
    """Whether one letter was heard wrong; a plural is no slip of the ear."""
    if len(wanted) < CLOSE_FROM or heard[0] != wanted[0] or heard == f"{wanted}s":
        return False
    return OSA.distance(heard, wanted, score_cutoff=1) == 1
