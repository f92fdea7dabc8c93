"""Text as a voice can read it: sentences of plain words, whatever the text was."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 400
"""Characters that are spoken of one text, by default: about half a minute."""

ABBREVIATIONS = ("dr", "mr", "mrs", "ms", "prof", "st", "approx", "e.g", "i.e", "vs")
"""A point behind them ends no sentence, unless it ends the text."""

UNITS = {
    "m/s": "metres per second",
    "km/h": "kilometres per hour",
    "mm": "millimetres",
    "cm": "centimetres",
    "km": "kilometres",
    "m": "metres",
    "kg": "kilograms",
    "g": "grams",
    "min": "minutes",
    "h": "hours",
    "s": "seconds",
    "deg": "degrees",
    "°C": "degrees Celsius",
    "°": "degrees",
    "rad": "radians",
    "V": "volts",
    "A": "amperes",
    "Hz": "hertz",
    "%": "percent",
}
SIGNS = {"&": " and ", "+": " plus ", "=": " equals ", "@": " at ", "|": ", ", "•": ", ", "×": " by ", "°": " degrees "}

_TERMINAL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TAG = re.compile(r"</?[A-Za-z!?][^<>]{0,500}>")
_UUID = re.compile(r"\b([0-9a-fA-F]{4})[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b")
_UNIT = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)\s?(" + "|".join(map(re.escape, UNITS)) + r")(?![\w/])")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+|\n+")
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+")


def sentences(text: str, max_length: int = MAX_LENGTH, language: str = "en") -> list[str]:
    """What a voice is to say, sentence by sentence; empty if there is nothing to be said.

    Each begins with a letter or a digit and holds letters, digits, spaces and . , ; : ! ? ' - only: no markup, no
    control characters, nothing that a synthesiser's command line or phoneme notation could take for its own. Ids are
    read as words ("dock_3": "dock 3"), numbers with their units (in English). A text longer than `max_length`
    characters ends with the last sentence that fits, or else within its first one, after a clause or a word.
    """
    plain = _plain(text, language.lower().startswith("en"))
    parts: list[str] = []
    length = 0
    for sentence in _split(plain):
        if length + len(sentence) > max_length:
            if not parts:
                parts.append(_shorten(sentence, max_length))
            break
        parts.append(sentence)
        length += len(sentence) + 1
    return [part for part in parts if any(c.isalnum() for c in part)]


def is_cut(text: str, max_length: int = MAX_LENGTH, language: str = "en") -> bool:
    """Whether `sentences` leaves out the end of the text."""
    plain = _plain(text, language.lower().startswith("en"))
    return sum(map(len, sentences(text, max_length, language))) < sum(map(len, _split(plain)))


def _plain(text: str, english: bool) -> str:
    text = unicodedata.normalize("NFC", text)
    text = _TAG.sub(" ", _TERMINAL.sub("", text))
    text = _UUID.sub(lambda match: " ".join(match[1]), text)
    text = re.sub(r"[’‘`´]", "'", text)
    text = re.sub(r"[–—]|(?<=\s)-+(?=\s)", ", ", text)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")  # such as a space without width
    if english:
        text = _UNIT.sub(_quantity, text)
        text = re.sub(r"(?<!\w)-(?=\d)", "minus ", text)
        text = "".join(SIGNS.get(c, c) for c in text)
    text = re.sub(r"(?<=[^\W_])_+(?=[^\W_])|(?<=[^\W\d_])(?=\d)", " ", text)
    text = "".join(c if _may_be_spoken(c) else " " for c in text)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    text = re.sub(r"([.,;:!?])[.,;:!?']*(?=[.,;:!?])", r"\1", text)
    return "\n".join(line.strip() for line in text.splitlines())


def _may_be_spoken(character: str) -> bool:
    return character in ".,;:!?'-\n " or unicodedata.category(character)[0] in "LMN"


def _quantity(match: re.Match[str]) -> str:
    number, unit = match[1], UNITS[match[2]]
    one = number in ("1", "-1") and unit not in ("hertz", "percent")
    if one:
        unit = {"metres per second": "metre per second", "kilometres per hour": "kilometre per hour"}.get(
            unit, unit.replace("degrees", "degree").removesuffix("s")
        )
    return f"{number} {unit}"


def _split(plain: str) -> list[str]:
    parts: list[str] = []
    for part in _SENTENCE_END.split(plain):
        part = re.sub(r"^[^\w]+", "", part).strip()
        before = parts[-1] if parts else ""
        if before.endswith(".") and before[:-1].rsplit(" ", 1)[-1].lower() in ABBREVIATIONS and part:
            parts[-1] = f"{before} {part}"
        elif any(c.isalnum() for c in part):
            parts.append(part)
    return parts


def _shorten(sentence: str, length: int) -> str:
    clauses, kept = _CLAUSE_END.split(sentence), ""
    for clause in clauses:
        longer = f"{kept} {clause}".strip()
        if len(longer) > length:
            break
        kept = longer
    if not kept:
        kept = sentence[: length + 1]
        kept = kept.rsplit(" ", 1)[0][:length] if " " in kept else kept[:length]
    return kept.rstrip(" ,;:-'")
