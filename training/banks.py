"""The phrase banks: loads training/phrases/*.yaml, checks every entry against skills.yaml and splits by phrasing."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Argument, Skills
from nano_agent_ros.skills.quantities import to_si

PHRASES = Path(__file__).parent / "phrases"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times as fast, where PyYAML has it
KINDS = ("act", "answer", "clarify", "refuse", "ignore")
SLOT = re.compile(r"\{([a-z_]+?)([0-9]*)\}")
SLOTS = (
    "location", "object", "person", "objects", "cart", "vehicle", "count", "duration", "distance", "speed",
    "angle", "defect", "position", "message", "battery", "unknown_location", "unknown_object", "unknown_person",
)  # fmt: skip
HELD_OUT_OF = 8  # one phrasing in eight is held out
_CALL = re.compile(r"([a-z_]+)\((.*)\)")
_FITS = {
    "location": {"location", "vehicle"},
    "object": {"object", "cart"},
    "person": {"person"},
    "place": {"location", "vehicle", "person"},
    "integer": {"count"},
    "enum": {"defect"},
    "text": {"message", "position"},
}


@dataclass(frozen=True)
class Plan:
    """What a turn leads to: `calls` of (skill, ((argument, template), …)) for act, else `text` (empty for ignore)."""

    kind: str
    calls: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    text: str = ""


@dataclass(frozen=True)
class TurnEntry:
    """One turn: its phrasings, the facts it states (key, template) and its plan."""

    say: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    plan: Plan


@dataclass(frozen=True)
class Entry:
    """One entry of a bank; `where` names file and entry. Slots are bound once over all turns."""

    where: str
    turns: tuple[TurnEntry, ...]


def normalise(phrasing: str) -> str:
    """The text whose hash decides the split: lower case, single spaces, no punctuation but the braces of slots."""
    return " ".join(re.sub(r"[^\w{}' ]+", " ", phrasing.lower()).split())


def key(phrasing: str) -> str:
    """Stable key of a phrasing (hexadecimal SHA-1 of its normalised text)."""
    return hashlib.sha1(normalise(phrasing).encode()).hexdigest()


@cache
def held_out(phrasing: str) -> bool:
    """Whether a phrasing is never trained on; the same for ever, whatever else the banks hold."""
    return int(key(phrasing), 16) % HELD_OUT_OF == 0


def slots(text: str) -> list[tuple[str, str]]:
    """The slots of a template as (kind, number), such as ("location", "2")."""
    return [(m[1], m[2]) for m in SLOT.finditer(text)]


class Problem(ValueError):
    """One thing that is wrong with an entry."""


def load(folder: Path = PHRASES, skills: Skills | None = None) -> tuple[list[Entry], list[str]]:
    """Every good entry of every bank, and a message for each that is not: file, entry, what is wrong, the way out."""
    skills = skills or Skills.load(default_skills())
    entries: list[Entry] = []
    problems: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" line {mark.line + 1}" if mark else ""
            problems.append(f"{path.name}{line}: not valid YAML ({getattr(error, 'problem', error)}); quote the text")
            continue
        if not isinstance(data, list):
            problems.append(f"{path.name}: a bank is a list of entries; begin each with '- say:'")
            continue
        for number, body in enumerate(data, 1):
            where = f"{path.name}#{number}"
            try:
                entries.append(_entry(where, body, skills))
            except Problem as problem:
                hint = str(body.get("say", body.get("turns", "")))[:60] if isinstance(body, Mapping) else str(body)[:60]
                problems.append(f"{where} ({hint}…): {problem}")
    return entries, problems


def load_checked(folder: Path = PHRASES, skills: Skills | None = None) -> list[Entry]:
    """As `load`, but raises ConfigError listing every problem."""
    entries, problems = load(folder, skills)
    if problems:
        raise ConfigError("phrase banks:\n" + "\n".join(problems))
    if not entries:
        raise ConfigError(f"phrase banks: {folder} holds no entries; write *.yaml as docs/contracts.md says")
    return entries


def _entry(where: str, body: Any, skills: Skills) -> Entry:
    if not isinstance(body, Mapping):
        raise Problem("an entry is a mapping with 'say' and 'plan', or with 'turns'")
    if "turns" in body:
        if set(body) != {"turns"} or not isinstance(body["turns"], list) or not body["turns"]:
            raise Problem("'turns' is a list of turns and stands alone in its entry")
        raw = body["turns"]
    else:
        raw = [body]
    turns: list[TurnEntry] = []
    told: set[tuple[str, str]] = set()
    for turn in raw:
        parsed = _turn(turn, skills)
        here = {_named(s) for value in parsed.facts for s in slots(value[1])}
        for phrasing in parsed.say:
            known = told | here | {_named(s) for s in slots(phrasing)}
            for slot in {_named(s) for s in _plan_slots(parsed.plan)} - known:
                raise Problem(f"'{phrasing}' does not say {{{slot[0]}{slot[1]}}}, which its plan needs; add it")
        told |= here | set.intersection(*({_named(s) for s in slots(p)} for p in parsed.say))
        turns.append(parsed)
    return Entry(where, tuple(turns))


def _named(slot: tuple[str, str]) -> tuple[str, str]:
    """Slots that name the same thing: {objects} is the plural of {object}."""
    return ("object", slot[1]) if slot[0] == "objects" else slot


def _plan_slots(plan: Plan) -> Iterator[tuple[str, str]]:
    yield from slots(plan.text)
    for _, arguments in plan.calls:
        for _, template in arguments:
            yield from slots(template)


def _turn(body: Any, skills: Skills) -> TurnEntry:
    if not isinstance(body, Mapping) or not {"say", "plan"} <= set(body) <= {"say", "plan", "facts"}:
        raise Problem("a turn has 'say', 'plan' and maybe 'facts', nothing else")
    say = [body["say"]] if isinstance(body["say"], str) else body["say"]
    if not isinstance(say, list) or not say or not all(isinstance(s, str) and s.strip() for s in say):
        raise Problem("'say' is a list of phrasings; quote those that YAML takes for something else (yes, no, 3, a: b)")
    facts = body.get("facts") or {}
    if not isinstance(facts, Mapping):
        raise Problem("'facts' maps keys to values, such as {battery: \"{battery}\"}")
    rendered = tuple((str(k), str(v).strip()) for k, v in facts.items())
    plan = _plan(body["plan"], skills)
    for text in (*say, *(v for _, v in rendered), plan.text):
        _check_slots(text)
    return TurnEntry(tuple(" ".join(s.split()) for s in say), rendered, plan)


def _check_slots(text: str) -> None:
    for kind, _ in slots(text):
        if kind not in SLOTS:
            raise Problem(f"'{text}': unknown slot {{{kind}}}; known: {', '.join(SLOTS)}")
    if "{" in SLOT.sub("", text) or "}" in SLOT.sub("", text):
        raise Problem(f"'{text}': a brace that is no slot")


def _plan(raw: Any, skills: Skills) -> Plan:
    if isinstance(raw, Mapping) and len(raw) == 1:
        raw = ": ".join(str(x) for x in next(iter(raw.items())))
    if not isinstance(raw, str) or not raw.strip():
        raise Problem("'plan' is text: skill(argument=value); …, or 'answer: …', 'clarify: …', 'refuse: …', ignore")
    raw = raw.strip()
    head, colon, text = raw.partition(":")
    if raw in ("ignore", "ignore()"):
        return Plan("ignore")
    if colon and head in ("answer", "clarify", "refuse"):
        if not text.strip() or len(text) > 150:
            raise Problem(f"the {head} is empty or longer than 150 characters")
        return Plan(head, text=text.strip())
    return Plan("act", tuple(_call(part.strip(), skills) for part in raw.split(";") if part.strip()))


def _call(text: str, skills: Skills) -> tuple[str, tuple[tuple[str, str], ...]]:
    match = _CALL.fullmatch(text)
    if not match:
        raise Problem(f"plan '{text}' is neither skill(argument=value) nor one of answer:, clarify:, refuse:, ignore")
    if match[1] not in skills:
        raise Problem(f"unknown skill '{match[1]}'; see config/skills.yaml")
    skill = skills[match[1]]
    known = {a.name: a for a in skill.arguments}
    given: dict[str, str] = {}
    for part in filter(None, re.split(r",\s*(?=[a-z_]+\s*=)", match[2].strip())):
        name, equals, value = (x.strip() for x in part.partition("="))
        if not equals or name not in known or name in given:
            raise Problem(f"'{part}' is not an argument of {skill.name}; it takes {', '.join(known) or 'none'}")
        _check_value(known[name], value, skill.name)
        given[name] = value
    for argument in skill.arguments:
        if not argument.optional and argument.name not in given:
            raise Problem(f"{skill.name} needs {argument.name}")
    if skill.one_of and not set(skill.one_of) & set(given):
        raise Problem(f"{skill.name} needs one of {', '.join(skill.one_of)}")
    return skill.name, tuple((a.name, given[a.name]) for a in skill.arguments if a.name in given)


def _check_value(argument: Argument, value: str, skill: str) -> None:
    where = f"{skill}({argument.name}={value})"
    _check_slots(value)
    slot = SLOT.fullmatch(value)
    if slot:
        fits = {argument.quantity} if argument.type == "number" else _FITS[argument.type]
        if argument.type == "enum" and argument.name != "defect_type":
            fits = set()
        if slot[1] not in fits:
            takes = ", ".join(f"{{{f}}}" for f in sorted(fits)) or "a literal"
            raise Problem(f"{where}: this argument takes {takes}")
        return
    if slots(value) and argument.type != "text":
        raise Problem(f"{where}: a value is a slot or a literal, not a mixture")
    if argument.type in ("location", "object", "person", "place"):
        if not (value == "speaker" and argument.type in ("person", "place")):
            raise Problem(f"{where}: names come from the site; use a slot, or speaker for a person")
    elif argument.type == "enum":
        if value not in argument.values:
            raise Problem(f"{where}: not one of {', '.join(argument.values)}")
    elif argument.type == "text":
        if not value or len(value) > argument.max_length:
            raise Problem(f"{where}: 1 to {argument.max_length} characters")
    else:
        try:
            number = float(int(value)) if argument.type == "integer" else _si(value, argument)
        except ValueError as error:
            raise Problem(f"{where}: {error}") from None
        if not argument.minimum <= number <= argument.maximum + 1e-9:
            raise Problem(f"{where}: outside {argument.minimum:g} to {argument.maximum:g}")


def _si(value: str, argument: Argument) -> float:
    if not re.fullmatch(r"[0-9.]+ [a-z/%]+", value):
        raise ValueError("write a number, a space and a unit, such as '2 min', '0.5 m', '50 %' or '90 deg'")
    return to_si(value, argument.quantity, argument.maximum)


def phrasings(entries: Iterable[Entry]) -> Iterator[tuple[Entry, TurnEntry, str]]:
    """Every phrasing with its turn and entry."""
    for entry in entries:
        for turn in entry.turns:
            for text in turn.say:
                yield entry, turn, text


def conflicts(entries: Iterable[Entry]) -> list[str]:
    """Phrasings that two entries of one turn, both without facts, read differently."""
    meanings: dict[str, dict[Plan, str]] = {}
    for entry, turn, text in phrasings(entries):
        if len(entry.turns) == 1 and not turn.facts:
            meanings.setdefault(normalise(text), {})[turn.plan] = entry.where
    return [f"'{text}': {' and '.join(found.values())}" for text, found in meanings.items() if len(found) > 1]


def main() -> int:
    """Print how many phrasings there are, by kind, skill and file; the exit status is 1 if an entry is wrong."""
    argparse.ArgumentParser(prog="python -m training.banks", description=main.__doc__).parse_args()
    entries, problems = load()
    counts: dict[str, Counter[str]] = {"kind": Counter(), "skill": Counter(), "file": Counter()}
    held: dict[str, Counter[str]] = {"kind": Counter(), "skill": Counter(), "file": Counter()}
    seen: Counter[str] = Counter()
    for entry, turn, text in phrasings(entries):
        skills = {name for name, _ in turn.plan.calls}
        groups = {"kind": {turn.plan.kind}, "skill": skills, "file": {entry.where.split("#")[0]}}
        for group, names in groups.items():
            counts[group].update(names)
            if held_out(text):
                held[group].update(names)
        seen[key(text)] += 1
    for group in counts:
        print(f"\n{group:24} phrasings held out")
        for name, count in counts[group].most_common():
            print(f"{name:24} {count:9} {held[group][name]:8}")
    missing = [name for name in Skills.load(default_skills()).skills if name not in counts["skill"]]
    print(f"\n{len(seen)} distinct phrasings in {len(entries)} entries; {sum(n > 1 for n in seen.values())} said twice")
    if missing:
        print(f"skills without a phrasing: {', '.join(missing)}")
    for conflict in conflicts(entries):
        print(f"TWO MEANINGS {conflict}", file=sys.stderr)
    for problem in problems:
        print(f"WRONG {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
