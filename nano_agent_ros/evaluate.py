"""`nano-agent eval`: conversations with expected actions, run through the agent and scored."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.agent import MAX_OVERHEARD, MIN_CONFIDENCE, Agent, Model, Turn
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.skills import Action, Site, Skills
from nano_agent_ros.skills.quantities import to_si

KINDS = ("act", "answer", "clarify", "refuse", "ignore")


@dataclass(frozen=True)
class Expected:
    """What one utterance should lead to; actions are (skill, arguments in SI)."""

    say: str
    facts: Mapping[str, Any]
    kind: str
    actions: tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Conversation:
    """One line of an eval file. `skills` None means all."""

    id: str
    site: Site
    skills: tuple[str, ...] | None
    turns: tuple[Expected, ...]


@dataclass(frozen=True)
class Scored:
    """One turn with its verdict."""

    conversation: str
    index: int
    expected: Expected
    got: Turn
    right: bool


def read(path: str | Path, skills: Skills, default_site: Site) -> list[Conversation]:
    """Read an eval file; raises ConfigError naming file, line and what is wrong."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    conversations = [
        _conversation(f"{path}, line {number}", line, skills, default_site)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not conversations:
        raise ConfigError(f"{path}: no conversations; one JSON object a line")
    return conversations


def _conversation(where: str, line: str, skills: Skills, default_site: Site) -> Conversation:
    try:
        data = json.loads(line)
        site = data.get("site")
        turns = tuple(_expected(turn, skills) for turn in data["turns"])
        subset = tuple(data["skills"]) if "skills" in data else None
        loaded = default_site if site is None else Site.load(site)
        return Conversation(str(data.get("id", where)), loaded, subset, turns)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where}: not in the eval format: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _expected(turn: Mapping[str, Any], skills: Skills) -> Expected:
    expect = turn["expect"]
    kind = expect["kind"]
    if kind not in KINDS:
        raise ValueError(f"kind '{kind}' is not one of {', '.join(KINDS)}")
    given = expect.get("actions") or ()
    actions = tuple((a["skill"], _si(a["skill"], a.get("arguments") or {}, skills)) for a in given)
    if kind == "act" and not actions:
        raise ValueError("kind act needs actions")
    return Expected(turn["say"], turn.get("facts") or {}, kind, actions if kind == "act" else ())


def _si(skill: str, arguments: Mapping[str, Any], skills: Skills) -> dict[str, Any]:
    """Expected numbers may be written in SI or with a unit ("2 min")."""
    known = {a.name: a for a in skills[skill].arguments} if skill in skills else {}
    out = dict(arguments)
    for name, value in arguments.items():
        if name in known and known[name].type == "number":
            out[name] = to_si(value, known[name].quantity, known[name].maximum)
    return out


def same_value(expected: Any, got: Any) -> bool:
    """Numbers within 0.1 %, words apart from case, punctuation and articles."""
    if isinstance(expected, int | float) and isinstance(got, int | float):
        return math.isclose(expected, got, rel_tol=1e-3, abs_tol=1e-6)
    return _words(str(expected)) == _words(str(got))


def _words(text: str) -> list[str]:
    return [w for w in re.findall(r"[\w%]+", text.lower()) if w not in ("a", "an", "the")]


def is_right(expected: Expected, turn: Turn) -> bool:
    """A turn is right when its kind matches and, for act, its actions match in order, skill and arguments."""
    if turn.kind != expected.kind or len(turn.actions) != len(expected.actions):
        return False
    return all(map(same_action, expected.actions, turn.actions))


def same_action(expected: tuple[str, Mapping[str, Any]], got: Action) -> bool:
    """Whether an action is the expected (skill, arguments in SI)."""
    skill, arguments = expected
    return (
        got.skill == skill
        and set(got.arguments) == set(arguments)
        and all(same_value(value, got.arguments[name]) for name, value in arguments.items())
    )


def run(
    conversations: Sequence[Conversation],
    model: Model,
    skills: Skills,
    tick: Callable[[int], object] = lambda n: None,
    min_confidence: float = MIN_CONFIDENCE,
    thinking: int = 0,
    guess: int | None = None,
    max_overheard: float = MAX_OVERHEARD,
) -> Iterator[Scored]:
    """Run conversations through fresh agents, one per site and skill set; `tick(turns)` reports progress.

    The options after it are those of Agent.
    """
    for conversation in conversations:
        chosen = skills if conversation.skills is None else skills.subset(conversation.skills)
        agent = Agent(model, chosen, conversation.site, min_confidence, thinking, guess, max_overheard=max_overheard)
        for index, expected in enumerate(conversation.turns):
            turn = agent.hear(expected.say, expected.facts)
            yield Scored(conversation.id, index, expected, turn, is_right(expected, turn))
        tick(len(conversation.turns))


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson score)."""
    if not total:
        return 0.0, 1.0
    z, p = 1.96, right / total
    middle, spread = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def report(scored: Sequence[Scored]) -> dict[str, Any]:
    """Accuracy by kind, by skill and over conversations, false-action rate, tokens and latency per turn."""
    by_kind: dict[str, Counter[bool]] = defaultdict(Counter)
    by_skill: dict[str, Counter[bool]] = defaultdict(Counter)
    whole: dict[str, bool] = defaultdict(lambda: True)
    for s in scored:
        by_kind[s.expected.kind][s.right] += 1
        whole[s.conversation] &= s.right
        for skill in {name for name, _ in s.expected.actions}:
            by_skill[skill][s.right] += 1
    calm = [s for s in scored if s.expected.kind != "act"]
    latencies = sorted(s.got.timings["total"] for s in scored)
    return {
        "turns": _rate(sum(s.right for s in scored), len(scored)),
        "conversations": _rate(sum(whole.values()), len(whole)),
        "false_actions": _rate(sum(s.got.kind == "act" for s in calm), len(calm)),
        "kinds": {k: _rate(by_kind[k][True], by_kind[k].total()) for k in KINDS if k in by_kind},
        "skills": {k: _rate(v[True], v.total()) for k, v in sorted(by_skill.items())},
        "tokens_per_turn": {
            key: statistics.fmean(s.got.tokens.get(key, 0) for s in scored) for key in ("prompt", "reply", "steps")
        },
        "latency_s": {
            "p50": statistics.median(latencies),
            "p95": latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))],
            "max": latencies[-1],
        },
        "wrong": [_wrong(s) for s in scored if not s.right],
    }


def _rate(right: int, total: int) -> dict[str, Any]:
    low, high = wilson(right, total)
    return {"rate": right / total if total else None, "count": right, "of": total, "interval95": [low, high]}


def _wrong(s: Scored) -> dict[str, Any]:
    return {
        "id": s.conversation,
        "turn": s.index,
        "say": s.expected.say,
        "expected": {
            "kind": s.expected.kind,
            "actions": [{"skill": skill, "arguments": dict(a)} for skill, a in s.expected.actions],
        },
        "got": {
            "kind": s.got.kind,
            "actions": [{"skill": a.skill, "arguments": dict(a.arguments)} for a in s.got.actions],
            "reply": s.got.reply,
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """The report for people."""
    rows = [("turns right", result["turns"]), ("conversations right", result["conversations"])]
    rows += [("false actions", result["false_actions"])]
    rows += [(f"  {kind}", rate) for kind, rate in result["kinds"].items()]
    rows += [(f"  {skill}", rate) for skill, rate in result["skills"].items()]
    lines = [f"{'':24}{'rate':>8}{'count':>14}   95 % interval"]
    for name, rate in rows:
        if rate["of"]:
            low, high = rate["interval95"]
            count = f"{rate['count']}/{rate['of']}"
            lines.append(f"{name:24}{rate['rate']:8.1%}{count:>14}   {low:.1%} to {high:.1%}")
    tokens, latency = result["tokens_per_turn"], result["latency_s"]
    spent = f"{tokens['prompt']:.1f} heard, {tokens['reply']:.1f} said in {tokens['steps']:.1f} steps"
    lines.append(f"tokens per turn: {spent}")
    lines.append("latency per turn: " + ", ".join(f"{k} {v * 1000:.1f} ms" for k, v in latency.items()))
    return "\n".join(lines)
