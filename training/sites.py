"""Random sites: locations, objects and people whose names must be read from the prompt, not remembered."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from nano_agent_ros.resources import site_path
from training import invented, trades
from training.names import canonical, number_words, slug
from training.words import Family, Word, alike, plural, pools, sharing, surnames
from training.words import choose as choose_word

NUMBERED = (
    "tote", "bin", "pallet", "order", "part", "kit", "batch", "lot", "sample", "crate", "box", "cart", "trolley",
    "tray", "job", "container", "drum", "cage", "trailer", "case",
)  # fmt: skip
_VEHICLES = frozenset((
    "trailer", "truck", "container", "conveyor", "belt", "chute", "dock", "ramp", "berth", "van", "wagon", "line",
    "quay", "wharf", "jetty", "pier",
))  # fmt: skip
_SMALL = frozenset(("of", "and", "the", "in", "out"))
_INVENTED = {"places": 0.15, "objects": 0.15, "carts": 0.1, "names": 0.25}  # share of names that no list holds
_COMPOSED = {"places": 0.45, "objects": 0.4, "carts": 0.4, "roles": 0.5}  # share of names put together from two
_SHIPPED_SHARE = 0.06  # of the sites that training draws are the one that ships


@dataclass(frozen=True)
class Entity:
    """One id of a site. `names` are its aliases, the first is said by the robot; `plurals` go with them."""

    id: str
    names: tuple[str, ...]
    plurals: tuple[str, ...] = ()
    article: bool = False
    mass: bool = False
    cart: bool = False
    vehicle: bool = False
    no_go: bool = False
    family: str = ""


@dataclass
class RandomSite:
    """A site as YAML gives it (`data`) and what the generator needs to speak about it."""

    data: dict[str, Any]
    pool: str
    locations: tuple[Entity, ...]
    objects: tuple[Entity, ...]
    people: tuple[Entity, ...]
    families: tuple[Family, ...]
    taken: frozenset[str]
    heads: dict[str, list[Entity]] = field(default_factory=dict)
    ordinal: frozenset[str] = frozenset()  # families numbered 1, 2, 3 …: "the second dock" is dock 2
    short: dict[str, str] = field(default_factory=dict)  # id: the last word of its name, where nothing else has it

    @property
    def open_locations(self) -> list[Entity]:
        """Locations that are not in a no-go zone."""
        return [e for e in self.locations if not e.no_go]

    def id_of(self, name: str) -> str:
        """The id that a name has here; empty if none has it."""
        entities = (*self.locations, *self.objects, *self.people)
        return next((e.id for e in entities if any(canonical(n) == canonical(name) for n in e.names)), "")

    def name_of(self, ident: str) -> str:
        """The name by which the robot calls an id, as the site file writes it."""
        groups = (self.data[g] for g in ("locations", "objects", "people"))
        return next((str(g[ident]["aliases"][0]) for g in groups if ident in g), ident)

    def unknown(self, rng: random.Random, kind: str) -> str:
        """A plausible name of a location, object or person that this site does not have."""
        while True:
            name = getattr(self, f"_unknown_{kind}")(rng)
            words = canonical(name)
            if words not in self.taken and not any(words == canonical(head) for head in self.heads):
                return name

    def _unknown_location(self, rng: random.Random) -> str:
        if self.families and rng.random() < 0.55:
            return _label(rng, rng.choice(self.families).name, 30)
        if rng.random() < 0.35:
            family = choose(rng, self.pool, "families")
            return _label(rng, family.name, family.largest)
        return rng.choice(choose(rng, self.pool, "places").names[:2])

    def _unknown_object(self, rng: random.Random) -> str:
        return rng.choice(choose(rng, self.pool, "objects").names[:2])

    def _unknown_person(self, rng: random.Random) -> str:
        if rng.random() < 0.8:
            return choose(rng, self.pool, "names")
        return choose(rng, self.pool, "roles").names[0]


def choose(rng: random.Random, pool: str, kind: str) -> Any:
    """A word of a kind; for training some are made up on the spot."""
    if pool == "train" and rng.random() < _COMPOSED.get(kind, 0.0):
        return _TRADES[kind](rng)
    word = choose_word(rng, pool, kind)
    if pool != "train" or rng.random() >= _INVENTED.get(kind, 0.0):
        return word
    return invented.name(rng) if kind == "names" else invented.renamed(rng, word, pools()[0].objects)


_TRADES: dict[str, Callable[[random.Random], Word]] = {
    "places": trades.place, "objects": trades.thing, "carts": trades.cart, "roles": trades.role,
}  # fmt: skip


class _Names:
    """Names and ids that are taken on the site being drawn."""

    def __init__(self) -> None:
        self.names: set[str] = {"me", "speaker", "it", "this", "that"}
        self.ids: set[str] = {"speaker"}

    def free(self, names: Sequence[str]) -> bool:
        return all(canonical(n) not in self.names for n in names)

    def take(self, names: Sequence[str]) -> None:
        self.names.update(canonical(n) for n in names)

    def take_id(self, wanted: str) -> str:
        unique, n = wanted, 2
        while unique in self.ids or (unique != wanted and canonical(unique.replace("_", " ")) in self.names):
            unique, n = f"{wanted}_{n}", n + 1
        self.ids.add(unique)
        return unique


def draw(rng: random.Random, pool: str = "train") -> RandomSite:
    """One random site; `pool` "heldout" names every other thing by a word that training never uses."""
    if pool == "train" and rng.random() < _SHIPPED_SHARE:
        return shipped("warehouse")
    taken = _Names()
    families: list[Family] = []
    drawn = _draw_locations(rng, pool, taken, families)
    coded = rng.random() < 0.2
    locations = _with_ids(rng, drawn, taken, coded, ("loc", "wp", "st", "node", "l", "p", "spot", "area", "poi"))
    if len(locations) > 5 and rng.random() < 0.3:
        closed = set(rng.sample(range(len(locations)), rng.choice((1, 1, 2))))
        locations = [_close(e) if i in closed else e for i, e in enumerate(locations)]
    objects = _with_ids(
        rng, _draw_objects(rng, pool, taken), taken, coded and rng.random() < 0.5, ("obj", "item", "sku", "o", "thing")
    )
    people = _with_ids(
        rng, _draw_people(rng, pool, taken), taken, coded and rng.random() < 0.5, ("person", "emp", "u", "staff")
    )
    data = _yaml(rng, locations, objects, people)
    return _site(data, pool, locations, objects, people, families, taken.names)


@cache
def shipped(name: str) -> RandomSite:
    """A site that ships, as the generator sees it."""
    data = yaml.safe_load(site_path(name).read_text(encoding="utf-8"))
    groups: dict[str, list[Entity]] = {}
    for group in ("locations", "objects", "people"):
        groups[group] = []
        for ident, body in data[group].items():
            names = tuple(re.sub(r"^the ", "", str(n)) for n in body["aliases"])
            numbered = bool(re.search(r"\d", names[0]))
            known = group == "objects" and any(w in names[0] for w in ("cart", "jack"))
            zone = data.get("zones", {}).get(body.get("zone", ""), {})
            groups[group].append(
                Entity(
                    ident,
                    names,
                    tuple(plural(n) for n in names),
                    article=not numbered and names[0] == names[0].lower(),
                    mass=names[0] == "shrink wrap",
                    cart=known,
                    vehicle=ident.startswith("dock_"),
                    no_go=zone.get("policy") == "no_go",
                    family=names[0].rpartition(" ")[0] if numbered else "",
                )
            )
    families = [Family(f, (), f == "dock", 24) for f in ("dock", "aisle", "rack")]
    return _site(data, "train", groups["locations"], groups["objects"], groups["people"], families)


def _site(
    data: dict[str, Any],
    pool: str,
    locations: Sequence[Entity],
    objects: Sequence[Entity],
    people: Sequence[Entity],
    families: Sequence[Family],
    other_names: Iterable[str] = (),
) -> RandomSite:
    everything = (*locations, *objects, *people)
    taken = {canonical(n) for e in everything for n in (*e.names, e.id.replace("_", " "))} | {"me", "it"}
    taken |= {canonical(p) for e in objects for p in e.plurals}
    listed = frozenset(taken)
    taken.update(other_names)
    heads: dict[str, list[Entity]] = {}
    for entity in (*locations, *objects):
        head = entity.family or (entity.names[0].split()[-1] if len(entity.names[0].split()) > 1 else "")
        if head and " of " not in entity.names[0] and not entity.no_go:
            heads.setdefault(head, []).append(entity)
    groups = {e.id: ("l" if e in locations else "o") for es in heads.values() for e in es}
    heads = {
        h: es
        for h, es in heads.items()
        if len(es) > 1 and canonical(h) not in listed and len({groups[e.id] for e in es}) == 1 and not h[-1].isdigit()
    }
    numbers: dict[str, list[str]] = {}
    for entity in everything:
        numbers.setdefault(entity.family, []).append(entity.names[0].rpartition(" ")[2])
    ordinal = {f for f, labels in numbers.items() if f and set(labels) == {str(i + 1) for i in range(len(labels))}}
    return RandomSite(
        data, pool, tuple(locations), tuple(objects), tuple(people), tuple(families), frozenset(taken), heads,
        frozenset(ordinal), _short([*locations, *objects], everything),
    )  # fmt: skip


def _short(named: Sequence[Entity], everything: Sequence[Entity]) -> dict[str, str]:
    """Last words that stand in the names of one thing only: "the mill" is the flour mill where there is no other."""
    users: dict[str, set[str]] = {}
    for e in everything:
        for word in {w for n in (*e.names, *e.plurals, e.id.replace("_", " ")) for w in canonical(n).split()}:
            users.setdefault(word, set()).add(e.id)
    out: dict[str, str] = {}
    for e in named:
        last = e.names[0].split()[-1]
        plain_words = not any(c.isdigit() for c in e.names[0]) and not e.family and " of " not in e.names[0]
        if plain_words and " " in e.names[0] and len(last) > 3 and users.get(canonical(last)) == {e.id}:
            out[e.id] = last
    return out


def _label(rng: random.Random, family: str, largest: int) -> str:
    style = rng.random()
    if style < 0.85:
        return f"{family} {rng.randint(1, largest)}"
    return f"{family} {rng.choice('ABCDEFGH')}"


def _draw_locations(rng: random.Random, pool: str, taken: _Names, families: list[Family]) -> list[Entity]:
    target = rng.randint(20, 40) if rng.random() < 0.04 else min(26, max(3, int(rng.gammavariate(2.7, 3.4))))
    out: list[Entity] = []
    n_families = rng.choice((0, 0, 1, 1, 1, 2, 2, 3, 4))
    most = target if rng.random() < 0.4 else max(1, target // 2)  # numbered places; the others have names
    spelled = rng.random() < 0.05  # a site file that says "dock four" and never "dock 4"
    word: Word
    while len(out) < most and len(families) < n_families:
        family = choose(rng, pool, "families")
        if not families and not family.vehicle and rng.random() < 0.75:
            continue
        if family in families or not taken.free([family.name, *family.also]):
            continue
        families.append(family)
        largest = min(family.largest, 99)
        for label in _labels(rng, min(rng.choice((2, 2, 3, 3, 4, 4, 5, 6, 8)), largest, most - len(out)), largest):
            name = f"{family.name} {label}"
            others = [f"{w} {label}" for w in family.also]
            if label.isdigit():
                others.append(f"{family.name} {number_words(int(label))}")
                others += [f"{w} {number_words(int(label))}" for w in family.also]
            names = _aliases(rng, name, others)
            if spelled and label.isdigit():
                names = (f"{family.name} {number_words(int(label))}",)
            if taken.free(names):
                taken.take(names)
                out.append(Entity("", names, vehicle=family.vehicle, family=family.name))
    neighbour = ""
    while len(out) < target:
        if not neighbour:
            word = choose(rng, pool, "places")
        elif pool == "train" and rng.random() < 0.6:
            word = trades.place(rng, neighbour)
        else:
            word = rng.choice(sharing(neighbour, pool))
        neighbour = rng.choice(word.names[0].split()) if rng.random() < 0.3 else ""
        names = _aliases(rng, word.names[0], word.names[1:])
        if rng.random() < 0.15:
            names = (*names[1:], names[0])
        if taken.free(word.names):
            taken.take(word.names)
            out.append(Entity("", names, article=word.article, vehicle=names[0].split()[-1] in _VEHICLES))
    if rng.random() < 0.06:
        out += _coded_places(rng, taken)
    if rng.random() < 0.5:
        rng.shuffle(out)
    return out


def _coded_places(rng: random.Random, taken: _Names) -> list[Entity]:
    """Places that have only a code for a name: A12, K3, 204."""
    letters = rng.choice(("A", "B", "K", "AB", "ST", "XYZ", ""))
    out = []
    for _ in range(rng.choice((1, 2, 3, 4, 6))):
        code = f"{rng.choice(letters)}{rng.randint(1, 60)}" if letters else f"{rng.randint(101, 420)}"
        if taken.free([code]):
            taken.take([code])
            out.append(Entity("", (code,)))
    return out


def _labels(rng: random.Random, n: int, largest: int) -> list[str]:
    style = rng.random()
    if style < 0.55:
        start = rng.choice((1, 1, 1, 1, rng.randint(1, max(1, largest - n + 1))))
        return [str(i) for i in range(start, start + n)]
    if style < 0.8:
        return [str(i) for i in rng.sample(range(1, largest + 1), n)]
    if style < 0.9:
        return list("ABCDEFGHJK"[:n])
    letters = rng.choice(("A", "B", "C", "AB", "ABC"))
    grid = [f"{letter}{i}" for letter in letters for i in range(1, 10)]
    return rng.sample(grid, min(n, len(grid)))


def _aliases(rng: random.Random, name: str, others: Sequence[str]) -> tuple[str, ...]:
    k = rng.choice((0, 1, 1, 2))
    return (name, *rng.sample(list(others), min(k, len(others))))


def _draw_objects(rng: random.Random, pool: str, taken: _Names) -> list[Entity]:
    x = rng.random()
    target = 0 if x < 0.02 else rng.randint(14, 30) if x < 0.05 else min(16, max(1, int(rng.gammavariate(2.6, 2.5))))
    out: list[Entity] = _numbered_objects(rng, taken) if target > 2 and rng.random() < 0.13 else []
    head = ""
    tries = 0
    while len(out) < target and tries < 400:
        tries += 1
        if not out and rng.random() < 0.55:
            word: Word = choose(rng, pool, "carts")
        elif head and pool == "train" and rng.random() < 0.4:
            word = trades.thing(rng, head)
        elif head and (near := alike(head, pool)) and rng.random() < 0.6:
            word = rng.choice(near)
        else:
            word = choose(rng, pool, "objects")
        if not taken.free((*word.names, *word.plurals)):
            continue
        taken.take((*word.names, *word.plurals))
        k = rng.choice((1, 1, 2)) if len(word.names) > 1 else 1
        # Every other draw looks for a neighbour of the last one: blue bin beside red bin.
        head = word.names[0].split()[-1] if rng.random() < 0.5 else ""
        out.append(Entity("", word.names[:k], word.plurals[:k], article=True, mass=word.mass, cart=word.cart))
    rng.shuffle(out)
    return out


def _numbered_objects(rng: random.Random, taken: _Names) -> list[Entity]:
    """Things told apart by a number: tote 12, tote 17; order 4711."""
    name = rng.choice(NUMBERED)
    largest = rng.choice((9, 20, 99, 99, 9999)) if name in ("order", "part", "lot", "job", "batch") else 30
    out = []
    for number in rng.sample(range(1, largest + 1), rng.choice((2, 2, 3, 4))):
        names = (f"{name} {number}",)
        if taken.free(names):
            taken.take(names)
            cart = name in ("cart", "trolley", "trailer", "wagon")
            out.append(Entity("", names, names, mass=True, cart=cart, family=name))
    return out


def _draw_people(rng: random.Random, pool: str, taken: _Names) -> list[Entity]:
    out: list[Entity] = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, rng.randint(0, 10)))):
        if rng.random() < 0.75:
            names: tuple[str, ...] = (choose(rng, pool, "names"),)
            article = False
            x = rng.random()
            if x < 0.12:
                names = (f"{names[0]} {rng.choice(surnames())}", names[0])
            elif x < 0.27 and pool == "train":
                names = trades.titled(rng, names[0])
        else:
            role = choose(rng, pool, "roles")
            names, article = role.names[: rng.choice((1, 2))], True
        if taken.free(names):
            taken.take(names)
            out.append(Entity("", names, article=article))
    return out


def _with_ids(
    rng: random.Random, drawn: Sequence[Entity], taken: _Names, coded: bool, prefixes: Sequence[str]
) -> list[Entity]:
    prefix = rng.choice(prefixes)
    join = rng.choice(("_", "_", ""))
    style = rng.choice(("count", "count", "random", "slug", "letter"))
    numbers = rng.sample(range(1, 400 if style == "random" else 60), len(drawn)) if style == "random" else None
    start = rng.choice((1, 1, 10, 100))
    out = []
    for i, entity in enumerate(drawn):
        if not coded:
            ident = slug(entity.names[0])
        elif style == "slug":
            ident = f"{prefix}_{slug(entity.names[-1])}"
        elif style == "letter" and len(drawn) <= 24:
            ident = f"{prefix}_{chr(ord('a') + i)}"
        else:
            ident = f"{prefix}{join}{numbers[i] if numbers else start + i}"
        out.append(_renamed(entity, taken.take_id(ident)))
    return out


def _renamed(e: Entity, ident: str) -> Entity:
    return Entity(ident, e.names, e.plurals, e.article, e.mass, e.cart, e.vehicle, e.no_go, e.family)


def _close(e: Entity) -> Entity:
    return Entity(e.id, e.names, e.plurals, e.article, e.mass, e.cart, e.vehicle, True, e.family)


def _yaml(
    rng: random.Random, locations: Sequence[Entity], objects: Sequence[Entity], people: Sequence[Entity]
) -> dict[str, Any]:
    """The mapping that a site file would hold. Closed places lie together at x >= 100 m, inside one polygon."""
    data: dict[str, Any] = {"site": "random", "frame_id": "map", "locations": {}}
    articles = rng.random() < 0.25
    look = _look(rng)
    for i, e in enumerate(locations):
        x, y = 4.0 * (i % 6) + (100.0 if e.no_go else 0.0), 4.0 * (i // 6)
        first, *rest = map(look, e.names)
        names = [first, *(f"the {n}" if articles and e.article else n for n in rest)]
        data["locations"][e.id] = {"aliases": names, "pose": [x, y, rng.choice((0.0, 1.57, -1.57, 3.14))]}
        if e.no_go:
            data["locations"][e.id]["zone"] = "closed"
    data["objects"] = {e.id: {"aliases": [look(n) for n in e.names]} for e in objects}
    data["people"] = {e.id: {"aliases": list(e.names)} for e in people}
    if any(e.no_go for e in locations):
        polygon = [[90.0, -10.0], [200.0, -10.0], [200.0, 40.0], [90.0, 40.0]]
        data["zones"] = {"closed": {"policy": "no_go", "polygon": polygon}}
    return data


def _look(rng: random.Random) -> Callable[[str], str]:
    """How the writer of a site file spells names; people say them all the same."""
    x = rng.random()
    if x < 0.72:
        return str
    if x < 0.82:
        return lambda name: " ".join(w if w in _SMALL else w[:1].upper() + w[1:] for w in name.split())
    if x < 0.87:
        return lambda name: name[:1].upper() + name[1:]
    if x < 0.895:
        return str.upper
    if x < 0.97:
        return lambda name: re.sub(r" (?=[A-Z]?\d+$|[A-Z]$)", "-", name)
    return lambda name: re.sub(r" (?=\d+$)", " #", name)
