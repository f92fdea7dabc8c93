"""Slots of a phrasing: what each is bound to, how it is spoken, and what the plan, the facts and the reply hold."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from training import sayings
from training.banks import SLOT
from training.names import NUMBER_OF, ORDINALS, number_words, plain
from training.numbers import draw_quantity
from training.quantities import DEFAULT_LIMITS, Bound, Limits
from training.sites import Entity, RandomSite
from training.words import values

Slot = tuple[str, str]  # kind and number: ("location", "2")
_DETERMINERS = frozenset((
    "the", "a", "an", "my", "your", "our", "their", "his", "her", "this", "that", "these", "those", "some",
    "any", "another", "one", "each", "every", "no", "which", "what", "other", "same", "next", "last", "two",
    "three", "more", "of",
))  # fmt: skip

_SPELLED = re.compile(rf"\b(?:{'|'.join(sorted(NUMBER_OF, key=len, reverse=True))})$")


class CannotBind(Exception):
    """This site has nothing that the slot could name."""


@dataclass(frozen=True)
class Segment:
    """A piece of an utterance. `tag`: t text, n name, v number, c words that the reply copies as they are."""

    text: str
    tag: str = "t"
    slot: Slot | None = None


@cache
def template(text: str) -> tuple[str | Slot, ...]:
    """A phrasing as literal texts and slots."""
    out: list[str | Slot] = []
    end = 0
    for match in SLOT.finditer(text):
        if match.start() > end:
            out.append(text[end : match.start()])
        out.append((match[1], match[2]))
        end = match.end()
    if end < len(text):
        out.append(text[end:])
    return tuple(out)


def wants_countable(text: str) -> frozenset[str]:
    """Numbers of the object slots that must be things that are counted ("a {object}", "{count} {objects}")."""
    found = re.findall(r"\{objects(\d*)\}", text)
    found += re.findall(r"\b(?:a|an|another|one|each|every|single) \{object(\d*)\}", text)
    return frozenset(found)


class Binding:
    """The slots of one entry on one site; every slot is bound at its first use and stays."""

    def __init__(
        self,
        rng: random.Random,
        site: RandomSite,
        words: float,
        limits: Mapping[Slot, Limits] | None = None,
        used: set[str] | None = None,
        countable: frozenset[str] = frozenset(),
    ) -> None:
        """`words` is how often a number is spoken as a word; `used` are ids that other parts have named."""
        self.rng, self.site, self.words = rng, site, words
        self.limits = limits or {}
        self.used = used if used is not None else set()
        self.countable = countable
        self.bound: dict[Slot, Bound] = {}

    def get(self, slot: Slot) -> Bound:
        """What the slot is bound to; {objects} is bound as {object}. Raises CannotBind."""
        slot = ("object", slot[1]) if slot[0] == "objects" else slot
        if slot not in self.bound:
            self.bound[slot] = self._draw(slot)
        return self.bound[slot]

    def bind_entity(self, slot: Slot, entity: Entity) -> None:
        """Bind a slot to an id of the site before its first use."""
        self.used.add(entity.id)
        self.bound[slot] = Bound(entity.id, entity.names[0], entity=entity)

    def another(self, slot: Slot) -> str:
        """A wrong filling of the same kind, as it would be spoken before a correction; raises CannotBind."""
        other = self._draw(slot)
        return self._spoken(other, slot) if other.plan != self.get(slot).plan else ""

    def _draw(self, slot: Slot) -> Bound:
        kind, rng = slot[0], self.rng
        if kind in ("location", "object", "person", "cart", "vehicle"):
            choices = [e for e in self._entities(kind, slot[1]) if e.id not in self.used]
            if not choices:
                raise CannotBind(kind)
            entity = choices[int(rng.random() * len(choices))]
            self.used.add(entity.id)
            return Bound(entity.id, entity.names[0], entity=entity)
        if kind.startswith("unknown_"):
            name = self.say_number(self.site.unknown(rng, kind.removeprefix("unknown_")))
            return Bound("", name.lower(), (name,))
        if kind == "defect":
            value = rng.choice(list(values()["defects"]))
            return Bound(value, value)
        if kind == "message" and self.site.pool == "train" and rng.random() < 0.85:
            text = sayings.message(
                rng,
                tuple(e.names[0] for e in self.site.locations),
                tuple(e.names[0] for e in self.site.objects if not e.family),
            )
            return Bound(text, text, (text,))
        if kind in ("message", "position"):
            text = rng.choice(values()[f"{kind}s"])
            return Bound(text, text, (text,))
        if kind == "battery":
            value = str(rng.randint(5, 100))
            return Bound(value, value, (value,))
        bound = draw_quantity(rng, kind, self.limits.get(slot, DEFAULT_LIMITS[kind]))
        if bound is None:
            raise CannotBind(kind)
        return bound

    def _entities(self, kind: str, number: str) -> list[Entity]:
        if kind == "location":
            return self.site.open_locations
        if kind == "vehicle":
            return [e for e in self.site.open_locations if e.vehicle]
        if kind == "person":
            return list(self.site.people)
        if kind == "cart":
            return [e for e in self.site.objects if e.cart]
        return [e for e in self.site.objects if not e.mass or number not in self.countable]

    def say_number(self, name: str) -> str:
        """Digits of a name as words, or as they are; hyphens and number signs as nothing."""
        rng = self.rng
        if rng.random() < 0.9:
            name = " ".join(re.sub(r"[-#/]+", " ", name).split()) or name
        if not any(c.isdigit() for c in name):
            if not _SPELLED.search(name) or rng.random() < self.words:
                return name
            return _SPELLED.sub(lambda m: str(NUMBER_OF[m[0]]), name)
        spelled = rng.random() < self.words
        if (x := rng.random()) < 0.07:
            sign = " number " if spelled or x < 0.05 else rng.choice((" no. ", " no ", " #"))
            name = re.sub(r" (?=\d+$)", sign, name)
        if spelled:
            return re.sub(r"[A-Z]?\d+", lambda m: _spell(m[0], rng), name)
        return re.sub(r"\b([A-Z])(\d+)", r"\1 \2", name) if rng.random() < 0.3 else name

    def _ordinal(self, entity: Entity) -> str:
        """ "second dock" for dock 2, where docks are numbered from 1 without a gap; else empty."""
        label = entity.names[0].rpartition(" ")[2]
        if entity.family not in self.site.ordinal or not label.isdigit() or int(label) > len(ORDINALS):
            return ""
        return f"{ORDINALS[int(label) - 1]} {entity.family}"

    def _spoken(self, bound: Bound, slot: Slot) -> str:
        rng = self.rng
        if bound.entity:
            entity = bound.entity
            if slot[0] in ("location", "vehicle") and rng.random() < 0.06 and (ordinal := self._ordinal(entity)):
                return ordinal
            if slot[0] not in ("objects", "person") and rng.random() < 0.05 and entity.id in self.site.short:
                return self.site.short[entity.id]
            which = 0 if rng.random() < 0.55 else rng.randrange(len(entity.names))
            name = (entity.plurals if slot[0] == "objects" else entity.names)[which]
            if not name.isascii() and rng.random() < 0.7:
                name = plain(name)  # how speech recognition writes José
            return self.say_number(name)
        if slot[0] == "defect":
            return rng.choice(values()["defects"][bound.plan])
        if len(bound.forms) == 1:
            return bound.forms[0]
        return bound.forms[0] if rng.random() > self.words else rng.choice(bound.forms[1:])

    def utter(self, phrasing: str) -> list[Segment]:
        """One phrasing with its slots spoken, articles set right; raises CannotBind."""
        out: list[Segment] = []
        parts = template(phrasing)
        for i, part in enumerate(parts):
            if isinstance(part, str):
                out.append(Segment(part))
                continue
            bound = self.get(part)
            text = self._spoken(bound, part)
            following = parts[i + 1] if i + 1 < len(parts) else ""
            if part[0] == "count":
                text = _count_form(text, following if isinstance(following, str) else "")
            if bound.entity or not bound.plan or part[0] == "defect":
                text = self._article(out, text, part, bound)
            tag = "c" if part[0] in ("message", "position") or part[0].startswith("unknown") else "n"
            tag = "v" if part[0] in DEFAULT_LIMITS else tag
            out.append(Segment(text, tag, part))
        return out

    def _article(self, before: list[Segment], text: str, slot: Slot, bound: Bound) -> str:
        """Set or drop the article that stands before a name; may change the segment before."""
        rng, entity = self.rng, bound.entity
        last = before[-1].text if before else ""
        words = last.split()
        previous = words[-1].lower() if words and last.endswith(" ") else ""
        if previous in ("a", "an") and slot[0] != "objects":
            stem = last.rstrip()[: -len(previous)]
            if entity is not None and entity.mass:
                before[-1] = replace(before[-1], text=stem + rng.choice(("the ", "some ")))
            else:
                before[-1] = replace(before[-1], text=stem + ("an " if text[0].lower() in "aeio" else "a "))
            return text
        if slot[0] == "defect" and not previous and bound.plan in values()["mass_defects"] and rng.random() < 0.4:
            return rng.choice(values()["mass_defects"][bound.plan])
        if entity is None:
            return text
        if (kind := slot[0]) in ("location", "vehicle", "person"):
            if previous == "the" and not entity.article and not _ordinal_first(text) and rng.random() < 0.9:
                before[-1] = replace(before[-1], text=last.rstrip()[:-3])
            elif (
                (entity.article or _ordinal_first(text)) and previous not in _DETERMINERS and (last or kind != "person")
            ):
                return f"the {text}" if rng.random() < 0.8 else text
        elif kind in ("object", "cart") and previous == "the" and entity.family and rng.random() < 0.6:
            before[-1] = replace(before[-1], text=last.rstrip()[:-3])
        elif kind in ("object", "cart") and last.endswith(" ") and previous not in _DETERMINERS:
            bare = previous.isalpha() and rng.random() < 0.5
            return f"the {text}" if bare and (len(before) < 2 or before[-2].slot != ("count", "")) else text
        return text

    def plan_value(self, text: str) -> str:
        """A template of an argument as the plan writes it."""
        return SLOT.sub(lambda m: self.get((m[1], m[2])).plan, text)

    def name_text(self, text: str) -> str:
        """A template of a reply or fact with names; "the" goes before names that bear no article."""
        out = ""
        for part in template(text):
            if isinstance(part, str):
                out += part
                continue
            bound = self.get(part)
            name = bound.name
            if bound.entity:
                name = bound.entity.plurals[0] if part[0] == "objects" else name
                if not bound.entity.article and re.search(r"\b[Tt]he $", out):
                    out = out[:-4]
            elif bound.plan and bound.forms:
                name = bound.forms[0]
            out += name
        return out[:1].upper() + out[1:] if out[:1].islower() and text[:1].isupper() else out

    def fact_value(self, key: str, text: str) -> str | int:
        """A fact: ids for where it is and what it carries, names in free text, numbers as numbers.

        Empty for a place written out in the bank that this site does not have.
        """
        if key in ("location", "carrying"):
            if match := SLOT.fullmatch(text):
                return self.get((match[1], match[2])).plan
            return text if text == "nothing" else self.site.id_of(text)
        value = self.name_text(text)
        return int(value) if value.isdigit() else value


def _spell(code: str, rng: random.Random) -> str:
    if code[0].isalpha():
        return f"{code[0]} {_spell(code[1:], rng)}"
    n = int(code)
    if n < 100 and not code.startswith("0"):
        return number_words(n)
    # Longer numbers of rooms and parts are said digit by digit.
    return " ".join(number_words(int(d)) for d in code) if len(code) < 6 else code


def _ordinal_first(text: str) -> bool:
    return text.partition(" ")[0] in ORDINALS


def _count_form(text: str, following: str) -> str:
    if text.startswith(("a couple", "a pair", "half a", "a dozen")):
        if following.startswith(" of"):
            return text.removesuffix(" of")
        if not following.startswith(" ") or not following.strip() and len(following) > 1:
            return {"a couple of": "two", "a pair of": "two", "half a dozen": "six", "a dozen": "twelve"}[text]
    return text
