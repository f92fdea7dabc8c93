"""What people say after the robot asked which one, refused a name or refused a number: the command is then whole."""

from __future__ import annotations

import random

from training.banks import held_out
from training.slots import Bound, Slot

# {x} is the name or value that was missing, {rest} the words that tell it from others ("blue" of "blue bin").
NAMED = (
    "{x}", "{x}", "the {x}", "{x} please", "I mean {x}", "{x} of course", "well, {x}", "I meant {x}",
    "that would be {x}",
    "{x}, sorry", "sorry, {x}", "oh, {x}", "{x} I'd say", "{x} will do", "let's say {x}", "make it {x}",
    "{x} this time", "I was thinking of {x}", "{x}, obviously", "uh, {x}", "it's {x}", "{x}, thanks", "try {x}",
    "I'm talking about {x}", "then {x}", "okay, {x} then", "{x}, I said", "{x}, robot", "the one I want is {x}",
)  # fmt: skip
TOLD_APART = (
    "the {rest} one", "the {rest} one", "{rest}", "the {rest} one please", "I mean the {rest} one", "{rest}, please",
    "the {rest} one, sorry", "well, the {rest} one", "take the {rest} one", "{rest}, obviously",
    "the {rest} one, of course",
    "{rest} one", "no, the {rest} one", "oh, the {rest} one", "it's the {rest} one",
)  # fmt: skip
OTHER = (
    "sorry, I meant {x}", "I meant {x}", "no, {x}", "{x} then", "okay, {x}", "then {x}", "I mean {x}", "make it {x}",
    "sorry, {x}", "{x}, I mean", "oh, {x} of course", "my mistake, {x}", "okay then {x}", "try {x}", "{x} instead",
    "fine, {x}", "well, {x} then", "oh right, {x}", "{x}, sorry", "let's say {x}", "I should have said {x}",
    "all right, {x}",
)  # fmt: skip
# Before the whole command again, with another name or number.
ANEW = (
    "then ", "okay, ", "all right, then ", "fine, ", "in that case ", "well then, ", "okay then, ", "right, then ",
    "hm, then ", "oh. ", "okay, so ", "ah, right. ", "good, then ", "sorry. ", "I see. ", "then please ", "",
)  # fmt: skip


def naming(rng: random.Random, split: str, slot: Slot, bound: Bound, head: str) -> str:
    """A phrasing that names one of those that `head` could mean; its slot is `slot`."""
    entity = bound.entity
    name = entity.names[0] if entity else ""
    rest = name.removesuffix(head).strip()
    if rest and name.endswith(f" {head}") and rest[-1].isalpha() and len(rest) > 2 and rng.random() < 0.4:
        return _of(rng, TOLD_APART, split).replace("{rest}", rest)
    return _of(rng, NAMED, split).replace("{x}", f"{{{slot[0]}{slot[1]}}}")


def instead(rng: random.Random, split: str, slot: Slot) -> str:
    """A phrasing that gives another name or number for one that was refused."""
    return _of(rng, OTHER, split).replace("{x}", f"{{{slot[0]}{slot[1]}}}")


def _of(rng: random.Random, forms: tuple[str, ...], split: str) -> str:
    known = [form for form in forms if held_out(form) == (split == "heldout")]
    return rng.choice(known or forms)
