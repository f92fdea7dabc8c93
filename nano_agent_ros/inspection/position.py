"""Where on a thing: words for a place in a picture, and the places that people's words can mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

Place = tuple[float, float]

_ACROSS = {"left": 0.0, "right": 1.0}
_DOWN = {
    **dict.fromkeys(("top", "upper", "uppermost", "highest", "above"), 0.0),
    **dict.fromkeys(("bottom", "lower", "lowest", "below", "underneath"), 1.0),
}
_MIDDLE = ("middle", "centre", "center", "central")


def in_words(place: Place) -> str:
    """`upper left`, `lower right`, `centre`, …: the third of the picture in which (x, y), fractions of it, lies."""
    across = "left" if place[0] < 1 / 3 else "right" if place[0] > 2 / 3 else ""
    down = "upper" if place[1] < 1 / 3 else "lower" if place[1] > 2 / 3 else ""
    if down and across:
        return f"{down} {across}"
    return {"upper": "upper middle", "lower": "lower middle"}.get(down) or (f"middle {across}" if across else "centre")


def spoken(words: str) -> tuple[float | None, float | None]:
    """(across, down) that words such as "bottom left" speak of: 0, 0.5 or 1 each, None if they do not."""
    said = re.findall(r"[a-z]+", words.lower())
    across = next((_ACROSS[w] for w in said if w in _ACROSS), None)
    down = next((_DOWN[w] for w in said if w in _DOWN), None)
    if across is None and down is None and any(w in _MIDDLE for w in said):
        return 0.5, 0.5
    return across, down


def contradicts(words: str, place: Place) -> bool:
    """Whether the words speak of the other side than `place`; middle and no word at all contradict nothing."""
    pairs: Sequence[tuple[float | None, float]] = tuple(zip(spoken(words), place, strict=True))
    return any(said is not None and abs(said - there) > 0.6 for said, there in pairs)
