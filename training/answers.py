"""What people say after the robot asked which one, refused a name or refused a number: the command is then whole."""

from __future__ import annotations

import random
import re

from training.banks import held_out
from training.slots import Binding, Slot

# {x} is the name or value that was missing, {rest} the words or the letter that tell it from others ("blue" of
# "blue bin", "B" of "bay B"), {n} the number that does ("12" of "gate 12").
NAMED = (
    "{x}", "{x}", "the {x}", "{x} please", "I mean {x}", "{x} of course", "well, {x}", "I meant {x}",
    "that would be {x}",
    "{x}, sorry", "sorry, {x}", "oh, {x}", "{x} I'd say", "{x} will do", "let's say {x}", "make it {x}",
    "{x} this time", "I was thinking of {x}", "{x}, obviously", "uh, {x}", "it's {x}", "{x}, thanks", "try {x}",
    "I'm talking about {x}", "then {x}", "okay, {x} then", "{x}, I said", "{x}, robot", "the one I want is {x}",
    "{x} I said", "I said {x}", "{x}, over", "{x}. {x}.", "{x}, quick",
    "{x}, if you please", "oh sorry, {x}", "{x}, I think", "{x} if you don't mind", "{x}, the usual", "{x}, you know",
    "{x}, silly", "I need {x}", "we want {x}", "{x} is the one", "{x} is what I mean", "let me see, {x}", "erm, {x}",
    "{x}, where I left it", "{x}, the one at the end", "{x}, the one by the wall", "{x}, like last time",
    "{x}, no other", "go for {x}", "{x}, as always", "{x} today", "{x}, come on", "why, {x}", "{x}, my friend",
    "hang on, {x}", "I thought I said {x}", "it has to be {x}", "{x} would be right", "{x}, yes", "yes, {x}",
    "the answer is {x}", "for me {x}", "{x} this is", "must be {x}", "{x}, please and thank you", "take {x}",
)  # fmt: skip
TOLD_APART = (
    "the {rest} one",
    "the {rest} one",
    "{rest}",
    "the {rest} one please",
    "I mean the {rest} one",
    "{rest}, please",
    "the {rest} one, sorry",
    "well, the {rest} one",
    "take the {rest} one",
    "{rest}, obviously",
    "the {rest} one, of course",
    "{rest} one",
    "no, the {rest} one",
    "oh, the {rest} one",
    "it's the {rest} one",
    "{rest}",
    "{rest}, I said",
    "{rest} please",
    "um, {rest}",
    "the {rest}",
    "{rest} of course",
    "sorry, {rest}",
    "the {rest} one, over",
    "the {rest} one, you know",
    "which one, the {rest} one",
    "{rest}, robot",
    "{rest} it is",
)
LABELLED = (
    "{n}", "{n}", "{n}", "number {n}", "number {n}", "{n} please", "{n}, please", "number {n}, please", "sorry, {n}",
    "{n}, sorry", "I mean number {n}", "I mean {n}", "{n}, I said", "I said {n}", "it's number {n}", "{n}, over",
    "number {n}, over", "that would be {n}", "well, {n}", "oh, number {n}", "oh, {n}", "{n} of course", "make it {n}",
    "the one with number {n}", "um, {n}", "{n}, I think", "{n}, robot", "let's say {n}", "number {n} then", "{n} then",
    "{n}, obviously", "uh, number {n}", "{n}, thanks", "{n}. {n}.", "{n}, quick", "{n} is the one", "take {n}",
    "number {n} of course", "number {n} I said", "yes, {n}", "yes, number {n}", "no, {n}", "the {n}", "{n} will do",
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


def naming(rng: random.Random, split: str, slot: Slot, binding: Binding, head: str) -> str:
    """A phrasing that names one of those that `head` could mean; its slot is `slot`."""
    entity = binding.get(slot).entity
    name = entity.names[0] if entity else ""
    if entity and entity.family and rng.random() < 0.5 and (label := re.search(r"[^\W_]+$", name)):
        said = binding.say_number(label[0])
        if label[0].isdigit():
            return _of(rng, LABELLED, split).replace("{n}", said)
        return _of(rng, TOLD_APART, split).replace("{rest}", said)
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
