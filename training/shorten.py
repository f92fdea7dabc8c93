"""Short versions of conversations, to begin training with: few turns on a site of few names.

What a reply copies is then near, and copying is learned in a fraction of the time; the rest is stretching it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

TURNS = (1, 1, 2, 3)
DISTRACTORS = {"locations": (0, 1, 2), "objects": (0, 1, 2), "people": (0, 1)}
OTHER_SKILLS = (0, 2, 4)


def shorten(conversation: dict[str, Any], skills: list[str], rng: random.Random) -> dict[str, Any]:
    """The first one to three turns, with the names that they use, the skills that they need and a few others."""
    turns = conversation["turns"][: rng.choice(TURNS)]
    text = " ".join(f"{t['say']} {json.dumps(t['reply'])} {json.dumps(t.get('facts', {}))}" for t in turns).lower()
    site = dict(conversation["site"])
    for group, others in DISTRACTORS.items():
        members = site.get(group) or {}
        used = {k for k, v in members.items() if _named(k, v, text)}
        rest = [k for k in members if k not in used]
        rng.shuffle(rest)
        extra = rng.choice(others)
        if group == "locations" and not used:
            extra = max(extra, 1)
        used |= set(rest[:extra])
        site[group] = {k: v for k, v in members.items() if k in used}
    available = conversation.get("skills") or skills
    needed = {call["name"] for t in turns for call in t["reply"]} & set(available)
    rest = [name for name in available if name not in needed]
    rng.shuffle(rest)
    kept = needed | set(rest[: rng.choice(OTHER_SKILLS)]) | {"stop"}
    return {**conversation, "site": site, "turns": turns, "skills": [n for n in skills if n in kept]}


def _named(key: str, entry: dict[str, Any], text: str) -> bool:
    """Whether the text names an entry, or asks which of several with the same last word is meant."""
    names = [" ".join(re.sub(r"[-#]", " ", str(alias)).lower().split()) for alias in entry["aliases"]]
    asked = re.findall(r"which ([\w ]+?) do you mean", text)
    unclear = any(re.search(rf"\b{re.escape(head)}\b", name) for head in asked for name in names)
    return unclear or bool(re.search(rf"\b{key}\b", text)) or any(name in text for name in names)


def shortened(conversations: Iterator[dict[str, Any]], skills: list[str], seed: int = 1) -> Iterator[dict[str, Any]]:
    """`shorten` over a file, deterministic by seed."""
    rng = random.Random(seed)
    for conversation in conversations:
        yield shorten(conversation, skills, rng)
