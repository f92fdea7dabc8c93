"""Commands that are not the robot's: said to a colleague by name, or about somebody; all of them are ignored."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from training.augment import IMPERATIVE
from training.names import number_words
from training.slots import CannotBind, Segment

# Form, weight, and whether the command in it must be an imperative.
Forms = tuple[tuple[str, float, bool], ...]
TRAIN: Forms = (
    ("{who}, {do}", 8, False), ("hey {who}, {do}", 4, False), ("{who} can you {do}", 4, True),
    ("{who}, could you {do}", 4, True), ("{who} please {do}", 2, True), ("{do}, {who}", 3, True),
    ("can you {do}, {who}", 3, True), ("oi {who}, {do}", 1, False), ("{who} mate, {do}", 1, True),
    ("{who}, would you mind, {do}", 1, True), ("{who}, I need you to {do}", 2, True),
    ("{who}, you have to {do}", 1, True), ("I asked {who} to {do}", 2, True), ("{who} asked me to {do}", 2, True),
    ("yesterday I had to {do}", 1.5, True), ("{who} had to {do} this morning", 2, True),
    ("I was told to {do}", 1.5, True), ("they wanted me to {do}", 1.5, True), ("we used to {do} by hand", 1, True),
    ("why did {who} {do}", 1, True), ("{who} is supposed to {do} later", 2, True), ("no {who}, don't {do}", 1, True),
    ("{who}, when you're back {do}", 2, True), ("did you hear, {who} had to {do}", 1, True),
    ("{who} forgot to {do} again", 2, True), ("thanks {who}, now {do}", 1, True),
    ("good job {who}, next {do}", 1, True), ("{who} says he never had to {do}", 1, True),
    ("{who} over, {do}, over", 1, True), ("control to {who}, {do}", 2, True), ("{who}, {who}, {do}", 1, True),
    ("the old robot could {do} too", 1, True), ("imagine it could {do}", 0.7, True), ("alexa, {do}", 1, True),
    ("{who}, {do}, over", 1.5, False), ("{who}, {who}, this is control, {do}, over", 0.7, True),
    ("{who}! {do}!", 2, True), ("{who} {do}", 2, True), ("{who}, are you free, {do}", 1, True),
    ("{who}, once you're done, {do}", 1, True), ("{who}, first {do}", 1, True), ("right {who}, {do}", 1, True),
    ("sorry {who}, could you {do}", 1, True), ("{who}, will you {do} or shall I", 1, True),
    ("{who} mate {do}", 1, False), ("{who} {do} will you", 1, True), ("{who} {do} when you get a sec", 1, True),
    ("oh {who}, {do}", 1, False), ("{who} love, {do}", 0.7, True), ("{who}! {do}, please!", 1, True),
    ("{who} {do} and be quick about it", 1, True),
    ("{who} here, I'm going to {do}, over", 0.7, True), ("{who}, you {do}, and I'll do the rest", 1, True),
    ("{who} you lazy so and so, {do}", 0.5, True), ("tell you what {who}, {do}", 1, True),
    ("listen {who}, {do}", 1, False),
    ("morning {who}, could you {do}", 1, True), ("{who}, when you've had your tea, {do}", 0.7, True),
    ("{who} wants to {do}", 1, True), ("shall we {do}, {who}", 1, True), ("let {who} {do}", 1, True),
    ("hey siri, {do}", 0.7, True), ("the trainee has to learn how to {do}", 1, True),
)  # fmt: skip
HELD_OUT: Forms = (
    ("{who}, {do}", 6, False), ("morning {who}, {do}", 2, False), ("{who}, be a star and {do}", 2, True),
    ("{do} for me {who}", 2, True), ("{who} never wants to {do}", 2, True),
    ("I told {who} yesterday to {do}", 2, True), ("my boss made me {do}", 2, True),
    ("base to {who}, {do}, do you copy", 2, True), ("{who}, do me a favour, {do}", 2, True),
)  # fmt: skip
# Others that are called on the radio; the robot is robot or unit, without a number.
CALLED = ("forklift", "truck", "crane", "tugger", "van", "driver", "picker", "loader", "ambulance", "tractor", "team")


def callsign(rng: random.Random) -> str:
    """Somebody on the radio: "forklift two"."""
    return f"{rng.choice(CALLED)} {number_words(rng.randint(1, 12))}"


_TO_ROBOT = re.compile(r"\b(?:robot|nano|your (?:battery|forks?|charger|load|mast|speed))\b", re.I)


def said(rng: random.Random, command: Sequence[Segment], name: str, split: str) -> list[Segment]:
    """The command as somebody else's, who is called `name` where the form calls him.

    Raises CannotBind where it can only be the robot's or would be no sentence.
    """
    forms = TRAIN if split == "train" else HELD_OUT
    form, _, imperative = rng.choices(forms, [weight for _, weight, _ in forms])[0]
    text = "".join(s.text for s in command)
    if _TO_ROBOT.search(text) or (imperative and not IMPERATIVE.match(text.lower())):
        raise CannotBind("command that can be told to others")
    out: list[Segment] = []
    for piece in re.split(r"(\{do\}|\{who\})", form):
        if piece == "{do}":
            out += command
        elif piece:
            out.append(Segment(name, "n") if piece == "{who}" else Segment(piece))
    return out
