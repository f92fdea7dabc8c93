"""Turns made from the phrase banks: single and composed commands, and those to be refused or asked about."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nano_agent_ros.skills import Skills
from training import answers, chains, coordinate, joins, overheard, repairs
from training.augment import Style
from training.banks import SLOT, Entry, Plan, TurnEntry, held_out, slots
from training.sites import RandomSite
from training.slots import Binding, CannotBind, Limits, Segment, Slot, wants_countable
from training.words import choose

Call = tuple[str, dict[str, str]]

# What the robot says that it can't do, when a skill is not among those it has.
ABILITIES = {
    "navigate_to": "drive to places", "pick": "pick things up", "place": "put things down", "bring": "bring things",
    "load": "load things", "unload": "unload things", "follow": "follow people", "guide": "guide people",
    "dock": "go and charge", "undock": "leave the charger", "attach": "couple carts", "detach": "uncouple carts",
    "push": "push things", "inspect": "inspect things", "report_defect": "record defects", "count": "count things",
    "find": "search for things", "patrol": "patrol", "wait": "wait", "set_speed": "change my speed",
    "move": "drive straight by hand", "turn": "turn on the spot", "lift": "raise my forks", "lower": "lower my forks",
    "say": "speak to people", "pause": "pause", "resume": "resume a task", "cancel": "cancel a task", "stop": "stop",
}  # fmt: skip
# How often a skill is drawn, for 1.0 of the others: by how often people ask for it and how many ways they have to.
SKILL_WEIGHTS = {
    "bring": 10.0, "navigate_to": 4.5, "report_defect": 4.0, "inspect": 2.2, "find": 2.2, "say": 2.2, "pick": 2.0,
    "place": 2.0, "guide": 2.5, "count": 2.0, "load": 1.4, "unload": 1.4, "patrol": 1.2, "follow": 1.2, "dock": 1.2,
    "set_speed": 1.5,
}  # fmt: skip
_NOT_COMPOSED = frozenset(("stop", "pause", "resume", "cancel", "report_defect"))
_OPENING = re.compile(
    r"(then|and|now|no|not|actually|after|also|next|or|so|but|instead|okay|ok|yes|yeah|there|i|i'd|i'm|we|it's|that|that's|"
    r"finally|first|could|can|would|will|how|what|where|is|are|do you|any|who|which|robot|hey|right|back|same|again)\b",
    re.I,
)

PRONOUN = re.compile(r"\b(it|its|it's|that|this|them|those|these|one|ones|him|her|they|there|some|same)\b", re.I)
_LETS_GO = re.compile(r"\b(let go|let .* go|release|let loose)\b", re.I)
HERE = re.compile(r"\b(here|there)\b", re.I)


@dataclass
class Said:
    """A turn before it becomes text: what is said, the facts with it and the reply it must get."""

    segments: list[Segment]
    kind: str
    calls: list[Call] = field(default_factory=list)
    text: str = ""
    facts: dict[str, str | int] = field(default_factory=dict)
    phrasings: tuple[str, ...] = ()
    after: Said | None = None  # what may be said next to make the command whole


@dataclass(frozen=True)
class Single:
    """One phrasing of an entry of one turn."""

    entry: Entry
    turn: TurnEntry
    phrasing: str


def weights_of(skills: Iterable[str]) -> list[float]:
    """How often each skill is drawn, relative to the others."""
    return [SKILL_WEIGHTS.get(skill, 1.0) for skill in skills]


def named_slots(single: Single, kind: str) -> list[Slot]:
    """Slots of a kind that are both said and needed by the plan."""
    needed = {s for _, arguments in single.turn.plan.calls for _, template in arguments for s in slots(template)}
    return [s for s in slots(single.phrasing) if s[0] == kind and s in needed]


def limits_of(turns: Iterable[TurnEntry], skills: Skills) -> dict[Slot, Limits]:
    """SI limits of the numeric slots of an entry: the narrowest of the arguments that they fill."""
    found: dict[Slot, Limits] = {}
    for turn in turns:
        for name, arguments in turn.plan.calls:
            known = {a.name: a for a in skills[name].arguments}
            for key, template in arguments:
                argument, match = known[key], SLOT.fullmatch(template)
                if match and argument.type in ("integer", "number"):
                    slot = (match[1], match[2])
                    low, high = found.get(slot, (0.0, float("inf")))
                    found[slot] = (max(low, argument.minimum), min(high, argument.maximum))
    return found


def calls_of(plan: Plan, binding: Binding) -> list[Call]:
    """The calls of a plan with ids and values for its slots."""
    return [(name, {k: binding.plan_value(v) for k, v in arguments}) for name, arguments in plan.calls]


class Library:
    """The phrasings of one split, in the groups that the generator draws from."""

    def __init__(self, entries: Sequence[Entry], split: str, skills: Skills) -> None:
        """`split` is train or heldout; raises ValueError for another."""
        if split not in ("train", "heldout"):
            raise ValueError(f"split '{split}' is neither train nor heldout")
        self.split, self.skills = split, skills
        self.by_kind: dict[str, list[Single]] = {k: [] for k in ("answer", "clarify", "refuse", "ignore")}
        self.by_skill: dict[str, list[Single]] = {}
        self.multi: list[Single] = []
        self.parts: list[Single] = []
        self.parts_of: dict[str, list[Single]] = {}
        self.chain_starts: dict[str, list[Single]] = {skill: [] for skill in chains.STARTS}
        self.coordinable: dict[str, list[tuple[Single, list[tuple[int, int]]]]] = {}
        self.with_slot: dict[str, list[Single]] = {"location": [], "object": [], "person": []}
        self.numeric: list[Single] = []
        self.by_entry: dict[str, list[Single]] = {}
        self.dialogues: list[tuple[Entry, tuple[tuple[str, ...], ...]]] = []
        self.limits: dict[str, Mapping[Slot, Limits]] = {}
        for entry in entries:
            self.limits[entry.where] = limits_of(entry.turns, skills)
            if len(entry.turns) > 1:
                self._add_dialogue(entry)
                continue
            turn = entry.turns[0]
            for phrasing in turn.say:
                if held_out(phrasing) == (split == "heldout"):
                    self._add(Single(entry, turn, phrasing))

    def _add_dialogue(self, entry: Entry) -> None:
        options = []
        any_held = False
        for turn in entry.turns:
            kept = [p for p in turn.say if held_out(p)]
            rest = [p for p in turn.say if not held_out(p)]
            any_held |= bool(kept)
            options.append(tuple(rest if self.split == "train" else kept or rest))
        if all(options) and (self.split == "train" or any_held):
            self.dialogues.append((entry, tuple(options)))

    def _add(self, single: Single) -> None:
        plan = single.turn.plan
        if plan.kind != "act":
            self.by_kind[plan.kind].append(single)
            return
        if len(plan.calls) > 1:
            self.multi.append(single)
        else:
            self.by_skill.setdefault(plan.calls[0][0], []).append(single)
        if single.turn.facts:
            return
        inside = slots(single.phrasing)
        self.by_entry.setdefault(single.entry.where, []).append(single)
        kinds = {k for k, _ in inside}
        one_call = len(plan.calls) == 1
        words = len(single.phrasing.split())
        plain = not _OPENING.match(single.phrasing) and not re.search(r"[?:;.]|,.*,", single.phrasing)
        if one_call and plain and plan.calls[0][0] not in _NOT_COMPOSED and 2 <= words <= 9:
            self.parts.append(single)
            skill, arguments = plan.calls[0]
            self.parts_of.setdefault(skill, []).append(single)
            starts = skill in self.chain_starts and "object" in dict(arguments)
            if starts and chains.fits(single.phrasing) and not PRONOUN.search(single.phrasing):
                self.chain_starts[skill].append(single)
        if one_call and words <= 14 and not PRONOUN.search(single.phrasing):
            skill, arguments = plan.calls[0]
            if spans := coordinate.spans(skill, arguments, single.phrasing):
                self.coordinable.setdefault(skill, []).append((single, spans))
        for kind in self.with_slot:
            if named_slots(single, kind) and "objects" not in kinds and len(plan.calls) <= 2:
                self.with_slot[kind].append(single)
        if one_call and kinds & {"duration", "distance", "speed", "angle"}:
            self.numeric.append(single)


def _goes_after(first: Single, then: Single) -> bool:
    """Whether the second can be said after the first and mean what it means alone."""
    if PRONOUN.search(then.phrasing) and not _carries_on(first, then):
        return False
    (before, _), (skill, arguments) = first.turn.plan.calls[0], then.turn.plan.calls[0]
    # "Go to X and bring me Y" is one call, from X.
    return not (before == "navigate_to" and skill == "bring" and "from" not in dict(arguments))


def _names_place(single: Single) -> bool:
    return any(kind in ("location", "vehicle") for kind, _ in slots(single.phrasing))


def _carries_on(first: Single, then: Single) -> bool:
    """Whether "it" of the second part is what the first picked up ("pick up the box and take it to dock 3")."""
    picks = first.turn.plan.calls[0][0] == "pick"
    return picks and then.turn.plan.calls[0][0] == "navigate_to" and not HERE.search(then.phrasing)


class Composer:
    """Draws single turns on one site in one style of speech."""

    def __init__(self, library: Library, site: RandomSite, rng: random.Random, style: Style) -> None:
        self.bank, self.site, self.rng, self.style = library, site, rng, style

    def binding(self, entry: Entry, phrasings: Sequence[str], used: set[str] | None = None) -> Binding:
        """A fresh binding for the phrasings chosen of an entry."""
        countable = frozenset().union(*(wants_countable(p) for p in phrasings))
        return Binding(self.rng, self.site, self.style.words, self.bank.limits[entry.where], used, countable)

    def single(self, single: Single, binding: Binding | None = None) -> Said:
        """One phrasing as it is; raises CannotBind."""
        binding = binding or self.binding(single.entry, [single.phrasing])
        return self.turn(single.turn, single.phrasing, binding)

    def turn(self, turn: TurnEntry, phrasing: str, binding: Binding) -> Said:
        """One turn of an entry with the entry's binding; raises CannotBind."""
        facts = {k: value for k, v in turn.facts if (value := binding.fact_value(k, v)) != ""}
        segments = self._quoted(binding.utter(phrasing), turn.plan)
        puts_down = any(name == "place" for name, _ in turn.plan.calls) and _LETS_GO.search(phrasing)
        if puts_down and any(b.entity and b.entity.cart for b in binding.bound.values()):
            raise CannotBind("thing that is put down")  # to let go of a cart is to uncouple it
        takes_off = any(name == "pick" for name, _ in turn.plan.calls) and " off {location" in phrasing
        if takes_off and any(b.entity and b.entity.vehicle for b in binding.bound.values()):
            raise CannotBind("place that is no vehicle")  # to take things off a truck is to unload it
        if turn.plan.kind == "act" and self.rng.random() < 0.08:
            segments = repairs.repair(segments, binding, self.rng)
        calls, text = calls_of(turn.plan, binding), binding.name_text(turn.plan.text)
        return Said(segments, turn.plan.kind, calls, text, facts, (phrasing,))

    def _quoted(self, segments: list[Segment], plan: Plan) -> list[Segment]:
        """The segments with what the plan copies word for word set apart, so that it is said as it is copied."""
        for name, arguments in plan.calls:
            texts = {a.name for a in self.bank.skills[name].arguments if a.type == "text"}
            for key, value in arguments:
                if key in texts and not slots(value):
                    segments = [piece for s in segments for piece in _set_apart(s, value)]
        return segments

    def twice(self, single: Single) -> Said:
        """One command in the words of two phrasings of its entry; raises CannotBind."""
        needed = {s for _, arguments in single.turn.plan.calls for _, value in arguments for s in slots(value)}
        skills = {name for name, _ in single.turn.plan.calls}
        others = [o for o in self.bank.by_entry.get(single.entry.where, ()) if o.phrasing != single.phrasing]
        same = [o for o in others if set(slots(o.phrasing)) >= needed and len(o.phrasing) < 60]
        if not same or skills & repairs.SAID_TWICE_MOVES_TWICE or len(single.phrasing) > 60:
            raise CannotBind("command that can be said twice")
        other = self.rng.choice(same)
        binding = self.binding(single.entry, [single.phrasing, other.phrasing])
        first, again = self.single(single, binding), self.single(other, binding)
        segments = repairs.twice(first.segments, again.segments, self.rng)
        return Said(segments, "act", first.calls, phrasings=(single.phrasing, other.phrasing))

    def composed(self) -> Said:
        """Two to five commands in one breath; raises CannotBind."""
        n = self.rng.choices((2, 3, 4, 5), (40, 32, 18, 10))[0]
        for _ in range(3):
            try:
                return self._composed(n)
            except CannotBind:
                continue
        return self._composed(2)

    def _composed(self, n: int) -> Said:
        rng = self.rng
        chosen: list[Single] = []
        skills = tuple(self.bank.parts_of)
        weights = weights_of(skills)
        while len(chosen) < n:
            part = rng.choice(self.bank.parts_of[rng.choices(skills, weights)[0]])
            if part not in chosen and (not chosen or _goes_after(chosen[-1], part)):
                chosen.append(part)
        used: set[str] | None = None if n > 2 and rng.random() < 0.3 else set()  # None: a name may come back
        said = [self.single(part, self.binding(part.entry, [part.phrasing], used)) for part in chosen]
        heldout = self.bank.split == "heldout"
        segments = None
        if n == 2 and rng.random() < 0.2 and not any(PRONOUN.search(part.phrasing) for part in chosen):
            segments = joins.in_reverse(rng, said[0].segments, said[1].segments)
        if segments is None:
            segments = joins.in_order(rng, [s.segments for s in said], [s.calls[-1][0] for s in said], heldout)
        calls = [c for s in said for c in s.calls]
        return Said(segments, "act", calls, phrasings=tuple(p.phrasing for p in chosen))

    def chained(self) -> Said:
        """One thing taken and carried on with in several steps; raises CannotBind."""
        rng = self.rng
        pattern = chains.draw_pattern(rng, self.bank.split)
        skill = next((step for step in pattern if step in chains.STARTS), "pick")
        parts = [p for p in self.bank.chain_starts[skill] if "visit" not in pattern or not _names_place(p)]
        if not parts:
            raise CannotBind("command to begin with")
        start = rng.choice(parts)
        binding = self.binding(start.entry, [start.phrasing])
        call = calls_of(start.turn.plan, binding)[0]
        made = chains.utter(rng, self.bank.split, pattern, start.phrasing, call, binding, call[1]["object"])
        return Said(made[0], "act", made[1], phrasings=made[2])

    def coordinated(self) -> Said:
        """One verb with two or three things, a call for each; raises CannotBind."""
        rng, skills = self.rng, tuple(self.bank.coordinable)
        if not skills:
            raise CannotBind("command that can name several things")
        skill = rng.choices(skills, weights_of(skills))[0]
        single, spans = rng.choice(self.bank.coordinable[skill])
        known = {argument.name: argument for argument in self.bank.skills[skill].arguments}
        span, phrasing, limits = rng.choice(spans), single.phrasing, dict(self.bank.limits[single.entry.where])
        plans = [single.turn.plan.calls[0][1]]
        more = ""
        for number in ("8", "9")[: rng.choices((1, 2), (75, 25))[0]]:
            part, arguments = coordinate.again(rng, skill, plans[0], phrasing, span, number)
            more += rng.choice(coordinate.AND) + part
            plans.append(arguments)
            for slot in slots(part):
                if slot[0] == "count":
                    limits[slot] = (known["quantity"].minimum, known["quantity"].maximum)
        phrasing = phrasing[: span[1]] + more + phrasing[span[1] :]
        binding = self.binding(single.entry, [phrasing])
        binding.limits = limits
        segments = binding.utter(phrasing)
        calls = [(skill, {k: binding.plan_value(dict(plan)[k]) for k in known if k in dict(plan)}) for plan in plans]
        if any(call in calls[:i] for i, call in enumerate(calls)):
            raise CannotBind("several defects")
        return Said(segments, "act", calls, phrasings=(single.phrasing,))

    def overheard(self) -> Said:
        """What would be a command, said to somebody else or about somebody: ignored; raises CannotBind."""
        rng = self.rng
        part = rng.choice(self.bank.parts)
        binding = self.binding(part.entry, [part.phrasing])
        command = binding.utter(part.phrasing)
        known = [p for p in self.site.people if not p.article and p.id not in binding.used]
        stranger = not known or rng.random() < 0.3
        name = choose(rng, self.site.pool, "names") if stranger else rng.choice(rng.choice(known).names)
        if self.bank.split == "train" and rng.random() < 0.1:
            name = overheard.callsign(rng)
        return Said(overheard.said(rng, command, name, self.bank.split), "ignore", phrasings=(part.phrasing,))

    def unknown(self) -> Said:
        """A command that names something the site does not have: refused; raises CannotBind."""
        kind = self.rng.choices(("location", "object", "person"), (5, 4, 2))[0]
        single = self._with_slot(kind)
        slot = self.rng.choice(named_slots(single, kind))
        binding = self.binding(single.entry, [single.phrasing])
        stranger = binding.get((f"unknown_{kind}", "9"))
        binding.bound[slot] = stranger
        segments = [Segment(s.text, "c") if s.slot == slot else s for s in binding.utter(single.phrasing)]
        article = "the " if kind == "object" else ""
        text = f"I don't know {article}{stranger.name}."
        after = self._put_right(single, binding, slot) if slot[1] not in binding.countable else None
        return Said(segments, "refuse", text=text, phrasings=(single.phrasing,), after=after)

    def no_go(self) -> Said:
        """A command that leads into a no-go zone: refused; raises CannotBind."""
        closed = [e for e in self.site.locations if e.no_go]
        if not closed:
            raise CannotBind("no-go zone")
        single = self._with_slot("location")
        slot = self.rng.choice(named_slots(single, "location"))
        binding = self.binding(single.entry, [single.phrasing])
        entity = self.rng.choice(closed)
        binding.bind_entity(slot, entity)
        segments = binding.utter(single.phrasing)
        name = entity.names[0]
        text = f"{name[0].upper()}{name[1:]} is a no-go zone."
        after = self._put_right(single, binding, slot) if slot[1] not in binding.countable else None
        return Said(segments, "refuse", text=text, phrasings=(single.phrasing,), after=after)

    def beyond_limits(self) -> Said:
        """A command with a number that the skill does not allow: refused; raises CannotBind."""
        if not self.bank.numeric:
            raise CannotBind("number")
        single = self.rng.choice(self.bank.numeric)
        limits = self.bank.limits[single.entry.where]
        narrowed = {s: lim for s, lim in limits.items() if s[0] != "count" and s in slots(single.phrasing)}
        if not narrowed:
            raise CannotBind("number")
        binding = self.binding(single.entry, [single.phrasing])
        binding.limits = dict(limits) | {s: (high * 1.01, 1e9) for s, (_, high) in narrowed.items()}
        slot = next(iter(narrowed))
        segments = binding.utter(single.phrasing)
        value = binding.get(slot).forms[0]
        said = next((s.text for s in segments if s.slot == slot), value)
        binding.limits = limits
        after = self._put_right(single, binding, slot)
        return Said(segments, "refuse", text=f"{said} is beyond my limits.", phrasings=(single.phrasing,), after=after)

    def ambiguous(self) -> Said:
        """A command with a name that could mean several ("the bin" of a red and a blue one): asked about."""
        heads = [h for h in self.site.heads if h not in ("dock", "home", "floor", "level")]
        if not heads:
            raise CannotBind("name that could mean two")
        numbered = [h for h in heads if self.site.heads[h][0].family]
        head = self.rng.choice(numbered if numbered and self.rng.random() < 0.5 else heads)
        kind = "location" if self.site.heads[head][0] in self.site.locations else "object"
        single = self._with_slot(kind)
        slot = self.rng.choice(named_slots(single, kind))
        binding = self.binding(single.entry, [single.phrasing])
        entity = self.site.heads[head][0]
        binding.bind_entity(slot, entity)
        out: list[Segment] = []
        for segment in binding.utter(single.phrasing):
            if segment.slot == slot:
                last = out[-1].text.rstrip().lower().split() if out and out[-1].text.strip() else []
                bare = bool(last) and last[-1] in ("the", "that", "this", "my", "our", "your")
                if last and last[-1] in ("a", "an", "another", "one"):
                    raise CannotBind("any one will do")
                segment = Segment(head if bare else f"the {head}", "c")
            out.append(segment)
        text = f"Which {head} do you mean?"
        after = self._told(single, binding, slot, head)
        return Said(out, "clarify", text=text, phrasings=(single.phrasing,), after=after)

    def _told(self, single: Single, binding: Binding, slot: Slot, head: str) -> Said | None:
        """The answer that says which one of them was meant; with it the command is whole."""
        used = {b.plan for b in binding.bound.values()}
        open_ones = [e for e in self.site.heads[head] if e.id not in used]
        if not open_ones or PRONOUN.search(single.phrasing) or single.turn.facts:
            return None
        binding.bind_entity(slot, self.rng.choice(open_ones))
        phrasing = answers.naming(self.rng, self.bank.split, slot, binding, head)
        return Said(binding.utter(phrasing), "act", calls_of(single.turn.plan, binding), phrasings=(single.phrasing,))

    def _put_right(self, single: Single, binding: Binding, slot: Slot) -> Said | None:
        """Another name or number instead of the one that is refused; with it, or said anew, the command is whole."""
        if PRONOUN.search(single.phrasing) or single.turn.facts:
            return None
        del binding.bound[slot]
        try:
            segments, x = binding.utter(answers.instead(self.rng, self.bank.split, slot)), self.rng.random()
            if x < 0.2:
                segments = [*segments, Segment(self.rng.choice(repairs.AHEAD)), *binding.utter(single.phrasing)]
            elif x < 0.4:
                segments = [Segment(self.rng.choice(answers.ANEW)), *binding.utter(single.phrasing)]
            return Said(segments, "act", calls_of(single.turn.plan, binding), phrasings=(single.phrasing,))
        except CannotBind:
            return None

    def _with_slot(self, kind: str) -> Single:
        pool = self.bank.with_slot[kind]
        if not pool:
            raise CannotBind(kind)
        return self.rng.choice(pool)


def _set_apart(segment: Segment, text: str) -> list[Segment]:
    """The segment in pieces, of which one is the text if it holds it."""
    at = segment.text.lower().find(text.lower()) if segment.tag == "t" else -1
    if at < 0:
        return [segment]
    end = at + len(text)
    pieces = (
        (segment.text[:at], "t", None),
        (segment.text[at:end], "c", ("message", "")),
        (segment.text[end:], "t", None),
    )
    return [Segment(*piece) for piece in pieces if piece[0]]


# What a question or an answer of the robot speaks about; it must have the skill.
_TOPICS = {
    "push": "push", "follow": "follow", "pick up": "pick", "put": "place", "bring": "bring", "go": "navigate_to",
    "load": "load", "unload": "unload", "count": "count", "find": "find", "look for": "find", "look at": "inspect",
    "inspect": "inspect", "defect": "report_defect", "say": "say", "tell": "say", "turn": "turn", "attach": "attach",
    "couple": "attach", "guide": "guide", "patrol": "patrol", "wait": "wait", "lift": "lift", "raise": "lift",
    "lower": "lower", "take": "navigate_to", "move": "move", "drive": "navigate_to", "speed": "set_speed",
    "fast": "set_speed", "show": "guide", "search": "find", "report": "report_defect", "detach": "detach",
}  # fmt: skip


def needs_missing_skill(text: str, available: frozenset[str]) -> bool:
    """Whether a reply speaks about something that the robot of this conversation can't do."""
    words = text.lower()
    if re.match(r"(yes, )?i can\b", words) and len(available) < len(ABILITIES):
        return True
    return any(re.search(rf"\b{topic}\b", words) and skill not in available for topic, skill in _TOPICS.items())


def missing_skill(calls: Sequence[Call], available: frozenset[str]) -> str:
    """The reply to a command for which a skill is missing; empty if none is."""
    for name, _ in calls:
        if name not in available:
            return f"I can't {ABILITIES.get(name, name.replace('_', ' '))}."
    return ""
