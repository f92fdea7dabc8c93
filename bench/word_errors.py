"""Word error rates: what was said against what was heard, whole and by the words that matter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SAME = {"meters": "metres", "meter": "metre", "centimeters": "centimetres", "okay": "ok", "percent": "%", "½": "half"}
RESAMPLES = 1000


@dataclass(frozen=True)
class Sentence:
    """What is said: `parts` are those around a hesitation (one without), `commands` and `names` the key words."""

    text: str
    parts: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    names: tuple[tuple[str, ...], ...]


def read_sentences(path: Path) -> list[Sentence]:
    """Read a file of sentences, one a line: {command words}, [names], | for a hesitation, # for a comment."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [_sentence(line) for line in lines if line and not line.startswith("#")]


def _sentence(line: str) -> Sentence:
    plain = re.sub(r"[{}\[\]]", "", line)
    commands = tuple(tuple(words_of(key)) for key in re.findall(r"\{(.*?)\}", line))
    names = tuple(tuple(words_of(key)) for key in re.findall(r"\[(.*?)\]", line))
    parts = tuple(part.strip() for part in plain.split("|"))
    return Sentence(" ".join(parts), parts, commands, names)


def words_of(text: str) -> list[str]:
    """Lower case without punctuation; numbers to 99 in digits, units and spellings in one form."""
    text = re.sub("['’]", "", text.casefold()).replace("%", " % ")
    words: list[str] = []
    for word in re.findall(r"\d+|[^\W\d_]+|[%½]", re.sub(r"(\d)[.,](?=\d)", r"\1", text)):
        word = SAME.get(word, word)
        if word in SMALL and 0 < SMALL.index(word) < 10 and words and words[-1] in [str(10 * n) for n in range(2, 10)]:
            words[-1] = str(int(words[-1]) + SMALL.index(word))
            continue
        if word in SMALL:
            word = str(SMALL.index(word))
        elif word in TENS:
            word = str(10 * (TENS.index(word) + 2))
        words.append(word)
    return words


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """The least number of words to substitute, delete and insert."""
    row = list(range(len(heard) + 1))
    for i, expected in enumerate(said, 1):
        above, row = row, [i]
        for j, word in enumerate(heard, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (expected != word)))
    return row[-1]


def missed(keys: Sequence[Sequence[str]], heard: Sequence[str]) -> int:
    """How many of the key phrases are not in what was heard, word for word."""
    line = f" {' '.join(heard)} "
    return sum(f" {' '.join(key)} " not in line for key in keys)


@dataclass(frozen=True)
class Score:
    """Errors and what there was to get right, of one utterance: words, command words, names."""

    words: tuple[int, int]
    commands: tuple[int, int]
    names: tuple[int, int]


def score(said: Sentence, heard: str) -> Score:
    """Compare a transcript with its sentence."""
    reference, words = words_of(said.text), words_of(heard)
    return Score(
        (word_errors(reference, words), len(reference)),
        (missed(said.commands, words), len(said.commands)),
        (missed(said.names, words), len(said.names)),
    )


@dataclass(frozen=True)
class Rate:
    """Errors per thing to get right, in percent, with a 95 % interval over utterances."""

    value: float
    low: float
    high: float
    utterances: int


def rate(counts: Sequence[tuple[int, int]], seed: int = 0) -> Rate:
    """Sum (errors, total) over utterances; the interval is the percentile bootstrap's, utterances drawn anew."""
    table = np.asarray(counts, np.float64).reshape(-1, 2)
    drawn = np.random.default_rng(seed).integers(len(table), size=(RESAMPLES, len(table)))
    sums = table[drawn].sum(axis=1)
    rates = 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)
    errors, total = table.sum(axis=0)
    low, high = np.percentile(rates, [2.5, 97.5])
    return Rate(100 * errors / max(total, 1), float(low), float(high), len(table))
