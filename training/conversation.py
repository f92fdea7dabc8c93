"""One conversation, drawn turn by turn, so that each means the same in it as it would alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nano_agent_ros.skills.quantities import to_si
from training import followups
from training.augment import draw_style, speak
from training.banks import SLOT
from training.compose import HERE, PRONOUN, Composer, Said, Single, missing_skill, needs_missing_skill
from training.sites import draw
from training.slots import Binding, CannotBind
from training.world import World, fact_order

if TYPE_CHECKING:
    from training.generate import Generator

KIND_WEIGHTS = {"act": 0.54, "answer": 0.105, "clarify": 0.085, "refuse": 0.09, "ignore": 0.195}
# An answer that tells what is not known fits only where that fact was not told before.
UNTOLD = {
    "battery": "battery", "charge": "battery", "where i am": "location", "my location": "location",
    "carrying": "carrying", "last action": "last", "speed": "speed", "doing": "task", "my task": "task",
}  # fmt: skip


class Conversation:
    """A conversation of a generator's split, sites and mix, by seed and index."""

    def __init__(self, generator: Generator, seed: int, index: int, per_site: int) -> None:
        self.g, self.bank = generator, generator.bank
        key = f"{generator.split}:{generator.sites}:{seed}"
        self.id = f"{generator.split}-{seed}-{index}"
        here = random.Random(f"{key}:site:{index // per_site}")
        self.site = draw(here, generator.sites)
        self.listed = self._draw_skills(here)
        self.available = frozenset(self.listed)
        self.rng = rng = random.Random(f"{key}:{index}")
        self.style = draw_style(rng) if generator.misheard else replace(draw_style(rng), noise=0.0)
        self.composer = Composer(self.bank, self.site, rng, self.style)
        self.world = World(rng, self.site)
        self.turns: list[dict[str, Any]] = []

    def _draw_skills(self, rng: random.Random) -> list[str]:
        """All skills or a subset, in the order of the file or any."""
        names = list(self.g.names)
        if self.g.mix.any_skills:
            return rng.sample(names, rng.choice((len(names), rng.randint(12, len(names)))))
        if rng.random() < 0.25:
            kept = set(rng.sample(names, rng.randint(6, 26))) | {"stop"}
            names = [n for n in names if n in kept]
        if rng.random() < (0.12 if len(names) == len(self.g.names) else 0.55):
            rng.shuffle(names)
        return names

    def build(self) -> dict[str, Any]:
        target = self.rng.choice(self.g.mix.turns)
        kinds, weights = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
        only = self.g.mix.only
        while len(self.turns) < target:
            kind = "ignore" if only == "ignore" else "act" if only else self.rng.choices(kinds, weights)[0]
            self._some(kind, max(target - len(self.turns) + 2, 4 if only else 0))
        out: dict[str, Any] = {"id": self.id, "site": self.site.data, "turns": self.turns}
        if self.listed != self.g.names:
            out["skills"] = self.listed
        return out

    def _some(self, kind: str, room: int) -> None:
        """Add a turn of a kind, or a dialogue; nothing if this site has no names for what was drawn 20 times."""
        for _ in range(20):
            try:
                only = self.g.mix.only == "dialogues"
                if kind == "act" and self.bank.dialogues and self.rng.random() < (0.6 if only else 0.15):
                    self._dialogue(room)
                elif kind == "act" and room > 2 and (only or self.rng.random() < 0.22):
                    if self.rng.random() < 0.3:
                        self._chain(room)
                    else:
                        self._followed()
                else:
                    said = self._said(kind)
                    facts = self._facts(said)
                    if said.kind in ("act", "clarify") and not said.facts:
                        self._understand(said, facts)
                    self._add(said, facts)
                    after = said.after
                    likely = 0.8 if said.kind == "clarify" else 0.45
                    if after and self.rng.random() < likely and not missing_skill(after.calls, self.available):
                        self._add(after, {})
                return
            except CannotBind:
                continue

    def _said(self, kind: str) -> Said:
        rng, x = self.rng, self.rng.random()
        if kind == "act":
            return self._act(x)
        if kind == "refuse" and x < 0.55:
            made = rng.choices(
                (self.composer.unknown, self.composer.no_go, self.composer.beyond_limits, self._missing), (6, 3, 2, 3)
            )[0]()
            return made
        if kind == "clarify" and x < 0.5:
            return self.composer.ambiguous()
        if kind == "ignore" and x < 0.3:
            return self.composer.overheard()
        pool = self.bank.by_kind[kind]
        if not pool:
            raise CannotBind(kind)
        single = rng.choice(pool)
        again = 0.85 if self.g.mix.only else 0.3
        if kind == "ignore" and "{" not in single.phrasing and rng.random() < again:
            single = rng.choice(pool)  # talk that names things of the site is the harder
        if self._claims_untold(single):
            raise CannotBind("fact that is known")
        if kind in ("answer", "clarify") and needs_missing_skill(single.turn.plan.text, self.available):
            raise CannotBind("skill")
        binding = self.composer.binding(single.entry, [single.phrasing])
        return self._with_memory(single, binding)

    def _act(self, x: float) -> Said:
        rng = self.rng
        if x < 0.17 and self.bank.parts:
            said = self.composer.composed()
        elif x < 0.25:
            said = self.composer.chained()
        elif x < 0.3:
            said = self.composer.coordinated()
        elif x < 0.41 and self.bank.multi:
            said = self.composer.single(rng.choice(self.bank.multi))
        else:
            name = rng.choices(self.g.act_names, self.g.act_weights)[0]
            if name not in self.available:
                raise CannotBind(name)
            pool = self.bank.by_skill[name]
            single = rng.choice(pool)
            if rng.random() < 0.3:  # what is optional is the harder part
                single = max(single, rng.choice(pool), key=lambda one: len(one.turn.plan.calls[0][1]))
            if rng.random() < 0.03 and not single.turn.facts:
                said = self.composer.twice(single)
            else:
                binding = self.composer.binding(single.entry, [single.phrasing])
                said = self._with_memory(single, binding)
        if missing_skill(said.calls, self.available):
            raise CannotBind("skill")
        return said

    def _missing(self) -> Said:
        """A command for a skill that the robot of this conversation lacks."""
        names = [n for n in self.g.act_names if n not in self.available]
        if not names:
            raise CannotBind("missing skill")
        single = self.rng.choice(self.bank.by_skill[self.rng.choice(names)])
        said = self.composer.single(single)
        return Said(said.segments, "refuse", [], missing_skill(said.calls, self.available), said.facts, said.phrasings)

    def _with_memory(self, single: Single, binding: Binding) -> Said:
        """An entry whose facts agree with the world; now and then they are left to what was told before."""
        facts = dict(single.turn.facts)
        plain = {k: SLOT.fullmatch(v) for k, v in facts.items()}
        recalled = bool(facts) and all(m and k in self.world.told for k, m in plain.items())
        recalled = recalled and single.turn.plan.kind == "answer" and self.rng.random() < 0.3
        for key, match in plain.items():
            if not match or (match[1] == "object" and match[2] in binding.countable):
                recalled = recalled and bool(match) and key != "carrying"
                continue
            value = (self.world.told if recalled else self.world.state).get(key)
            slot = (match[1], match[2])
            if key == "battery" and value is not None:
                text = str(value)
                binding.bound[slot] = type(binding.get(slot))(text, text, (text,))
            elif key in ("location", "carrying") and (recalled or self.rng.random() < 0.6):
                group = self.site.open_locations if key == "location" else self.site.objects
                entity = next((e for e in group if e.id == value), None)
                if entity and slot[0] in ("location", "object"):
                    binding.bind_entity(slot, entity)
                elif recalled:
                    recalled = False
        said = self.composer.turn(single.turn, single.phrasing, binding)
        if recalled:
            said.facts = {}
        return said

    def _claims_untold(self, single: Single) -> bool:
        text = single.turn.plan.text.lower()
        if single.turn.plan.kind != "answer" or "don't know" not in text:
            return False
        return any(word in text and (key in self.world.seen) for word, key in UNTOLD.items())

    def _dialogue(self, room: int) -> None:
        entry, options = self.rng.choice(self.bank.dialogues)
        if len(entry.turns) > room:
            raise CannotBind("room")
        phrasings = [self.rng.choice(o) for o in options]
        binding = self.composer.binding(entry, phrasings)
        said = [self.composer.turn(turn, p, binding) for turn, p in zip(entry.turns, phrasings, strict=True)]
        have = self.available
        lacking = any(missing_skill(s.calls, have) or needs_missing_skill(s.text, have) for s in said)
        if lacking or any(self._claims_untold(Single(entry, t, "")) for t in entry.turns):
            raise CannotBind("skill")
        for i, one in enumerate(said):
            self._add(one, self._facts(one) if i == 0 else self._ordered(one.facts))

    def _followed(self) -> None:
        """A command, and a turn that puts it right, asks for the same again or is one of its kind with names anew."""
        rng = self.rng
        name = rng.choices(self.g.act_names, self.g.act_weights)[0]
        single = rng.choice(self.bank.by_skill[name])
        if name not in self.available or single.turn.facts:
            raise CannotBind(name)
        binding = self.composer.binding(single.entry, [single.phrasing])
        said = self.composer.turn(single.turn, single.phrasing, binding)
        facts = self._facts(said)
        self._understand(said, facts)
        x = rng.random()
        if x < 0.22:
            after = followups.afresh(self.composer, rng.choice(self.bank.by_skill[name]))
        elif x < 0.4:
            after = followups.restated(self.composer, single, binding)
        else:
            after = followups.follow_up(rng, self.g.split, single, binding, said)
        self._add(said, facts)
        self._add(after, {})

    def _chain(self, room: int) -> None:
        """One thing taken and carried on with, a turn for each step."""
        turns = followups.chain_of_turns(self.composer)
        if len(turns) > room or missing_skill([c for said, _ in turns for c in said.calls], self.available):
            raise CannotBind("room")
        for i, (said, facts) in enumerate(turns):
            self._add(said, self._facts(said) if i == 0 else self._ordered(facts))

    def _facts(self, said: Said) -> dict[str, str | int]:
        """The facts that a turn states: its own, else now and then what has changed."""
        unknowing = said.kind == "answer" and "don't know" in said.text
        if said.facts or unknowing or self.rng.random() > 0.27:
            return self._ordered(said.facts)
        return self.world.changed()

    def _ordered(self, facts: dict[str, str | int]) -> dict[str, str | int]:
        return {k: facts[k] for k in sorted(facts, key=fact_order)}

    def _understand(self, said: Said, facts: dict[str, str | int]) -> None:
        """Make a turn that was written without context mean the same in this conversation.

        "Put it down" puts down what the model knows is carried. Raises CannotBind where a pronoun would stand for
        something that was named before, although the entry takes it to stand for nothing.
        """
        holds = str(facts["carrying"]) if "carrying" in facts else self.world.holds
        text = " ".join(said.phrasings)
        pronoun, named = bool(PRONOUN.search(text)), self.world.named < 2 or holds not in (None, "nothing")
        if said.kind == "clarify":
            if pronoun and named:
                raise CannotBind("pronoun that has a meaning here")
            return
        taken = any(name in ("pick", "attach") for name, _ in said.calls)  # then "it" is what this turn takes
        for i, (name, arguments) in enumerate(said.calls):
            known = [a.name for a in self.g.skills[name].arguments]
            if name == "place" and "object" not in arguments:
                if holds == "nothing":
                    raise CannotBind("carried object")
                if holds:
                    said.calls[i] = (name, {k: v for k, v in {"object": holds, **arguments}.items() if k in known})
            elif name == "navigate_to" and pronoun and holds == "nothing" and not taken:
                raise CannotBind("carried object")
            elif name != "pick" and "object" in known and "object" not in arguments and pronoun and named:
                raise CannotBind("pronoun that has a meaning here")
            unplaced = name != "place" and "location" in known and "location" not in arguments
            if unplaced and HERE.search(text) and ("location" in self.world.told or "location" in facts):
                raise CannotBind("place that is known")
            if name == "attach":
                holds = None
            if name in ("pick", "place", "bring", "load", "unload"):
                holds = arguments["object"] if name == "pick" else "nothing" if name == "place" else None

    def _add(self, said: Said, facts: dict[str, str | int]) -> None:
        """Append one turn with its facts."""
        self.world.tell(facts)
        entities = any(s.tag == "n" and s.slot and s.slot[0] != "defect" for s in said.segments)
        self.world.named = 0 if entities and said.kind != "ignore" else self.world.named + 1
        if said.kind == "act":
            self.world.after(said.calls)
        turn: dict[str, Any] = {"say": speak(said.segments, self.rng, self.style, said.kind)}
        if facts:
            turn["facts"] = facts
        expect: dict[str, Any] = {"kind": said.kind, "actions": []}
        if said.kind == "act":
            expect["actions"] = [{"skill": n, "arguments": self._si(n, a)} for n, a in said.calls]
            turn["reply"] = [{"name": n, "arguments": a} for n, a in said.calls]
        else:
            if said.text:
                expect["text"] = said.text
            turn["reply"] = [{"name": said.kind, "arguments": {"text": said.text} if said.text else {}}]
        turn["expect"] = expect
        turn["phrasings"] = list(said.phrasings)
        self.turns.append(turn)

    def _si(self, skill: str, arguments: dict[str, str]) -> dict[str, str | int | float]:
        known = {a.name: a for a in self.g.skills[skill].arguments}
        out: dict[str, str | int | float] = {}
        for name, text in arguments.items():
            argument = known[name]
            if argument.type == "integer":
                out[name] = int(text)
            elif argument.type == "number":
                out[name] = to_si(text, argument.quantity, argument.maximum)
            else:
                out[name] = text
        return out
