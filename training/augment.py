"""Makes one phrasing sound like many: fillers, politeness, corrections, recognition errors, punctuation."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from training import sayings
from training.slots import Segment
from training.words import asides, heard, misheard, read, values

OPENERS = (
    "okay", "ok", "so", "well", "right", "alright", "alright then", "now", "uh", "um", "er", "okay so", "right then",
    "good", "great", "yeah", "now then", "fine", "oh", "and", "ah", "hm", "okay now", "next", "all right",
)  # fmt: skip
WAKES = (
    "hey robot", "robot", "hello robot", "hi robot", "okay robot", "hey", "listen robot", "hey nano", "nano",
    "hey there", "excuse me robot", "yo robot", "dear robot", "robo", "hi there", "ok nano",
    "hey buddy", "mister robot", "unit", "unit", "oi", "oi robot", "sir", "mate", "hey mate", "buddy", "pal", "hey you",
    "machine", "hey machine", "hello there", "good morning robot", "my friend", "attention robot", "bot", "hey bot",
    "robot please", "listen up", "you there", "dear machine", "attention", "robot robot", "ahoy", "oi you",
)  # fmt: skip
# Radio talk that is meant for it: it is called robot or unit, or by nothing at all; {do} is the command.
RADIO = (
    "{do}, over", "{do}, over", "robot, {do}, over", "robot, {do}, over", "unit, {do}, over", "unit, {do}",
    "robot, {do}, how copy", "robot, {do}, acknowledge", "{do}, acknowledge", "{do}, do you copy", "robot, {do}, copy",
    "robot, this is {base}, {do}, over", "robot, {base}, {do}, over", "{base} to robot, {do}", "{base} to unit, {do}",
    "robot from {base}, {do}, over", "break break, robot, {do}", "robot, come in, {do}, over", "all yours robot, {do}",
    "robot, new order, {do}, over", "I say again, {do}", "robot, say again, {do}, over", "robot, message follows, {do}",
    "robot, priority, {do}, over", "unit, do you read, {do}, over", "roger, now {do}, over", "copy, {do}",
    "{do}, confirm", "{do}, report when done", "{do}, over and out", "robot robot, {do}, over",
)  # fmt: skip
BASES = (
    "base", "control", "dispatch", "the office", "security", "reception", "the tower", "gatehouse", "kitchen", "stores",
    "maintenance", "the desk", "operations", "the lab", "logistics", "command", "the shop floor", "night desk",
)  # fmt: skip
POLITE_BEFORE = (
    "please", "please", "could you please", "can you", "could you", "would you", "would you please", "i need you to",
    "i want you to", "i'd like you to", "you can", "go ahead and", "just", "be so kind and", "kindly", "you need to",
)  # fmt: skip
POLITE_AFTER = (
    "please", "please", "thanks", "thank you", "when you get a chance", "when you can", "would you", "if you can",
    "if you don't mind", "right away", "now", "quickly", "as soon as possible", "for me", "will you", "cheers", "robot",
    "ok", "okay", "right now", "real quick", "thanks a lot", "when you have a moment", "asap", "would you please",
    "mate", "sir", "pal", "buddy", "my friend", "over", "love", "unit", "there's a good robot", "if you would",
)  # fmt: skip
FILLERS = ("uh", "um", "er", "you know", "like", "erm", "hmm", "let's see", "what's it called")
CONTRACTIONS = (
    ("i'm", "i am"), ("it's", "it is"), ("there's", "there is"), ("don't", "do not"), ("can't", "cannot"),
    ("let's", "let us"), ("you're", "you are"), ("i'd", "i would"), ("what's", "what is"), ("where's", "where is"),
    ("how's", "how is"), ("i've", "i have"), ("that's", "that is"), ("you've", "you have"), ("i'll", "i will"),
    ("going to", "gonna"), ("want to", "wanna"), ("have got to", "gotta"),
)  # fmt: skip
SPELLINGS = (("metre", "meter"), ("gray", "grey"), ("tyre", "tire"), ("okay", "ok"), ("centre", "center"))
IMPERATIVE = re.compile(
    r"(go|drive|head|move|take|bring|pick|grab|get|put|place|set|drop|load|unload|follow|guide|lead|show|attach|detach|"
    r"couple|uncouple|hook|unhook|push|shove|inspect|check|look|report|count|find|search|patrol|wait|turn|rotate|lift|"
    r"raise|lower|say|tell|announce|pause|resume|cancel|fetch|deliver|carry|hold|stay|return|charge|undock|leave|slow|"
    r"speed|log|record|collect|escort|tow|examine|locate|back|reverse|spin|swing|run|note|proceed|navigate)\b"
)

_OPENED = re.compile(r"(okay|ok|so|well|right|alright|uh|um|no|actually|wait|and|then)\b")
_HYPHENED = re.compile(
    r"\b(twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety) (?=(one|two|three|four|five|six|seven|eight|nine)\b)"
)
_QUESTION = re.compile(r"(can|could|would|will|where|what|how|who|which|is|are|do|does|did|have|when|why)\b", re.I)


@dataclass(frozen=True)
class Style:
    """How a person's words reach the robot: whisper (capitals, punctuation), typed or raw (bare words)."""

    name: str
    words: float  # how often numbers are words
    fillers: float
    noise: float
    heard: float  # how often something is written as Whisper really heard it once


STYLES = (
    Style("whisper", 0.3, 0.10, 0.02, 0.10),
    Style("typed", 0.25, 0.04, 0.01, 0.01),
    Style("raw", 0.9, 0.12, 0.02, 0.05),
)


def draw_style(rng: random.Random) -> Style:
    """The style of one conversation."""
    x = rng.random()
    return STYLES[0] if x < 0.45 else STYLES[1] if x < 0.75 else STYLES[2]


def speak(segments: Sequence[Segment], rng: random.Random, style: Style, kind: str) -> str:
    """The utterance as one line of text."""
    parts = list(segments)
    # Names addressed to a colleague are what makes talk not meant for the robot: nothing is put before it.
    addressed = kind != "ignore"
    text = "".join(s.text for s in parts)
    first = text.lower()
    if addressed and kind in ("act", "refuse", "clarify") and "please" not in first and len(text) < 90:
        if IMPERATIVE.match(first) and rng.random() < 0.14:
            parts.insert(0, Segment(f"{rng.choice(POLITE_BEFORE)} "))
        elif not text.endswith("?") and not _holds_message(parts) and rng.random() < 0.13:
            comma = ", " if rng.random() < 0.5 else " "
            parts.append(Segment(f"{comma}{_wide('afters', POLITE_AFTER, rng)}"))
    if kind == "act" and len(text) > 8 and rng.random() < 0.07:
        parts = _with_aside(parts, rng)
    if kind in ("act", "refuse") and rng.random() < 0.035:
        parts = _with_clause(parts, rng)
    if kind in ("act", "refuse") and IMPERATIVE.match(first) and rng.random() < 0.04:
        parts = _by_radio(parts, rng)
        first = "".join(s.text for s in parts).lower()
    if rng.random() < style.fillers:
        parts = _fill(parts, rng)
    if rng.random() < 0.16 and not _OPENED.match(first):
        parts.insert(0, Segment(f"{_wide('openers', OPENERS, rng)}{_pause(rng)}"))
    if addressed and "robot" not in first and rng.random() < 0.1:
        parts.insert(0, Segment(f"{_wide('wakes', WAKES, rng)}{_pause(rng)}"))
    if rng.random() < 0.12:
        parts = [replace(s, text=_vary(s.text, rng)) if s.tag in "tv" else s for s in parts]
    if rng.random() < style.noise * 6:
        parts = [replace(s, text=_mishear(s.text, rng, s.tag)) if s.tag != "c" else s for s in parts]
    if style.noise and rng.random() < style.heard:
        parts = mishear_as_once(parts, rng)
    return _write("".join(s.text for s in parts), rng, style)


def _wide(name: str, common: Sequence[str], rng: random.Random) -> str:
    """One that is common, or one of the many of words/openers.yaml."""
    return rng.choice(common) if rng.random() < 0.5 else str(rng.choice(read("openers")[name]))


def _pause(rng: random.Random) -> str:
    """What is written where a speaker pauses a little."""
    return rng.choices((", ", " ", ". ", "! "), (40, 40, 14, 6))[0]


def mishear_as_once(parts: list[Segment], rng: random.Random) -> list[Segment]:
    """One run of words, if any is in the table of training/words/heard.yaml, as a speech recognizer heard it."""
    table = heard()
    found: list[tuple[int, int, int, tuple[str, ...]]] = []
    for i, part in enumerate(parts):
        if part.tag not in "tn":
            continue
        words = [w.strip(",.;?!").lower() for w in part.text.split(" ")]
        for start in range(len(words)):
            for end in range(start + 1, min(start + 3, len(words)) + 1):
                as_heard = table.get(" ".join(words[start:end]))
                if as_heard and words[start]:
                    found.append((i, start, end, as_heard))
    if not found:
        return parts
    i, start, end, as_heard = rng.choice(found)
    pieces = parts[i].text.split(" ")
    pieces[start:end] = [rng.choice(as_heard)]
    return [*parts[:i], replace(parts[i], text=" ".join(pieces)), *parts[i + 1 :]]


def _holds_message(parts: Sequence[Segment]) -> bool:
    return any(s.slot is not None and s.slot[0] == "message" for s in parts)


def _with_aside(parts: list[Segment], rng: random.Random) -> list[Segment]:
    """Something said before or after that changes nothing, so that a command need not be the whole sentence."""
    where = rng.choice(("before", "after"))
    aside = rng.choice(asides()[where])
    if rng.random() < 0.65:
        aside = sayings.lead_in(rng) if where == "before" else sayings.reason(rng)
    if where == "after" and _holds_message(parts):
        return parts  # it would be part of the message
    join = rng.choice((", ", ", ", ". ", " "))
    return [Segment(aside + join), *parts] if where == "before" else [*parts, Segment(join + aside)]


def _with_clause(parts: list[Segment], rng: random.Random) -> list[Segment]:
    """Something said about a place or a thing right after its name: "go to the lab, the one behind the stairs"."""
    named = [i for i, s in enumerate(parts) if s.tag == "n" and s.slot and s.slot[0] in ("location", "object", "cart")]
    if not named or any(s.tag == "c" for s in parts):
        return parts
    i = rng.choice(named)
    if i + 1 < len(parts) and not parts[i + 1].text.startswith((" ", ",", ".")):
        return parts
    end = rng.choice((", ", " ")) if i + 1 < len(parts) and parts[i + 1].text.startswith(" ") else ""
    said = Segment(f"{rng.choice((', ', ' '))}{sayings.clause(rng)}{end}")
    return [*parts[: i + 1], said, *parts[i + 1 :]]


def _by_radio(parts: list[Segment], rng: random.Random) -> list[Segment]:
    """The command in a radio message that is meant for the robot."""
    before, _, after = _wide("radio", RADIO, rng).replace("{base}", rng.choice(BASES)).partition("{do}")
    if after and _holds_message(parts):
        return parts  # it would be part of the message
    return [s for s in (Segment(before), *parts, Segment(after)) if s.text]


def _fill(parts: list[Segment], rng: random.Random) -> list[Segment]:
    i = rng.randrange(len(parts))
    segment = parts[i]
    if segment.tag != "t" or " " not in segment.text.strip() or rng.random() < 0.3:
        if segment.slot and segment.tag == "n":
            return [*parts[:i], Segment(f"{rng.choice(FILLERS)} "), *parts[i:]]
        return parts
    words = segment.text.split(" ")
    spots = [j for j in range(1, len(words)) if words[j - 1]]
    j = rng.choice(spots)
    words.insert(j, words[j - 1].strip(",") if rng.random() < 0.3 else rng.choice(FILLERS))
    return [*parts[:i], replace(segment, text=" ".join(words)), *parts[i + 1 :]]


def _vary(text: str, rng: random.Random) -> str:
    for a, b in (*CONTRACTIONS, *SPELLINGS):
        for old, new in ((a, b), (b, a)):
            if old in text and rng.random() < 0.5:
                text = re.sub(rf"\b{re.escape(old)}(?=s?\b)", new, text)
                break
    return text


def _mishear(text: str, rng: random.Random, tag: str) -> str:
    """Recognition errors: words heard as others, short words dropped, a word said twice."""
    noise, alike = values()["noise"], misheard()
    out = []
    for word in re.split(r"(\s+)", text):
        heard = alike.get(word.lower())
        if heard and rng.random() < (0.5 if word.lower() in noise else 0.3):
            word = rng.choice(heard)
        elif tag == "t" and word.lower() in ("the", "a", "to", "of", "at", "up") and rng.random() < 0.25:
            word = ""
        elif tag == "t" and word.isalpha() and rng.random() < 0.03:
            word = f"{word} {word}"
        out.append(word)
    return re.sub(r"  +", " ", "".join(out))


def _write(text: str, rng: random.Random, style: Style) -> str:
    text = " ".join(text.split()).replace(" ,", ",").replace(",,", ",")
    text = re.sub(r"^[,;. ]+", "", text)
    if style.name == "raw":
        text = re.sub(r"[,;:!?]|\.(?!\d)", "", text).lower()
        return " ".join(text.split())
    if style.name == "typed":
        if rng.random() < 0.5:
            text = re.sub(r",(?!\d)", "", text)
        if rng.random() < 0.75:
            text = text.rstrip("?.!")
        if rng.random() < 0.8:
            text = text.lower()
        return text
    if not text.endswith(("?", "!", ".")):
        question = _QUESTION.match(text)
        text += "?" if question and rng.random() < 0.8 else "!" if rng.random() < 0.04 else "."
    text = re.sub(r"\bi\b", "I", text)
    if rng.random() < 0.3:
        text = _HYPHENED.sub(r"\1-", text)
    return text[:1].upper() + text[1:]
