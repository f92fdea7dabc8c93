"""Runs a recorded conversation again and tells what comes out otherwise."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.agent import Agent, Turn
from nano_agent_ros.recording.mcap_files import LogError, Recording

TURN_TOPIC = "/turn"
Call = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RecordedTurn:
    """A turn as the log has it; see TurnRecord.msg. `actions` are (skill, arguments), `timings` seconds by stage."""

    session: str
    turn: int
    kept: bool
    text: str
    facts: Mapping[str, str | int | float]
    kind: str
    actions: tuple[Call, ...]
    reply: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    configuration: str
    grammar: str
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """A turn and how it went when it was run again.

    `differences` names what is not as recorded: kind, actions, reply, prompt, tokens; empty if all is. `note` says why
    a turn could not be run, or not in the state that it had.
    """

    recorded: RecordedTurn
    replayed: Turn | None
    differences: tuple[str, ...]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        old, new = self.recorded, self.replayed
        sides = {"recorded": _side(old.kind, old.actions, old.reply, old.timings)}
        if new is not None:
            sides["replayed"] = _side(new.kind, calls_of(new), new.reply, new.timings)
        where = {"session": old.session, "turn": old.turn, "kept": old.kept, "text": old.text}
        return {**where, **sides, "differences": list(self.differences), "note": self.note}


def turns_of(recordings: Iterable[Recording]) -> tuple[RecordedTurn, ...]:
    """The turns of logs that belong together, in order; raises LogError if there is none."""
    found = [
        _recorded(entry.content)
        for recording in recordings
        for entry in recording.entries
        if entry.topic.endswith(TURN_TOPIC)
    ]
    if not found:
        raise LogError("the log holds no turn; was the agent up while it was recorded?")
    return tuple(found)


def replay(turns: Sequence[RecordedTurn], agent: Agent) -> Iterator[Compared]:
    """Tell an agent what was said, with the facts that were told, and compare turn by turn.

    Sessions begin anew. What was called off is run too and taken back, so that the rest meets the state that it had.
    Tokens are compared only if engine, model, skills and site are those of the log.
    """
    session = None
    gap = ""
    states: list[tuple[Any, dict[str, Any]]] = []  # before each turn
    for turn in turns:
        if turn.session != session:
            agent.reset()
            session, gap, states = turn.session, "", []
        if turn.kind == "cut" and not turn.kept:
            yield Compared(turn, None, (), "called off while the model thought: not run")
            continue
        if turn.turn < len(states):
            agent.recall(*states[turn.turn])
            del states[turn.turn :]
        elif turn.turn > agent.turns:
            gap = f"the log lacks turns {agent.turns} to {turn.turn - 1}"
        before = (agent.engine.fork(agent.state), agent.memory())
        if not gap:
            states.append(before)
        if turn.kind == "cut":
            _take_over(turn, agent)
            yield Compared(turn, None, (), "called off while the model thought: taken over as it was")
            continue
        replayed = agent.hear(turn.text, turn.facts)
        yield Compared(turn, replayed, _differences(turn, replayed, turn.configuration == agent.identity), gap)
        if not turn.kept:
            agent.recall(*before)
            states = states[: turn.turn]


def calls_of(turn: Turn) -> tuple[Call, ...]:
    """The actions of a turn as (skill, arguments)."""
    return tuple((a.skill, dict(a.arguments)) for a in turn.actions)


def digest(tokens: Sequence[int]) -> str:
    """SHA-256 of tokens, each as 8 bytes little-endian; hexadecimal."""
    return hashlib.sha256(np.asarray(tokens, dtype="<i8").tobytes()).hexdigest()


def attached(recording: Recording, name: str, folder: Path) -> Path | None:
    """A file that was recorded with the log (site.yaml, skills.yaml), written to `folder`; None if it is not there."""
    content = recording.attachments.get(name)
    if content is None:
        return None
    path = folder / name
    path.write_bytes(content)
    return path


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for attached files."""
    return tempfile.TemporaryDirectory(prefix="nano_agent_replay_")


def table(compared: Sequence[Compared], width: int = 110) -> str:
    """The comparison for people: a line a turn, and below it both sides of what differs."""
    room = max(20, width - 50)
    lines = [f"{'turn':>4}  {'said':<{room}} {'recorded s':>10} {'replayed s':>10}  verdict"]
    for one in compared:
        old, new = one.recorded, one.replayed
        said = old.text if len(old.text) <= room else old.text[: room - 1] + "…"
        verdict = "not run" if new is None else "differs: " + ", ".join(one.differences) if one.differences else "same"
        seconds = "-" if new is None else f"{new.timings['total']:.3f}"
        was = f"{old.timings['total']:.3f}" if "total" in old.timings else "-"
        mark = "" if old.kept else " (called off)"
        lines.append(f"{old.turn:>4}  {said:<{room}} {was:>10} {seconds:>10}  {verdict}{mark}")
        if one.note:
            lines.append(f"      {one.note}")
        if one.differences and new is not None:
            lines.append(f"      recorded: {_words(old.kind, old.actions, old.reply)}")
            lines.append(f"      replayed: {_words(new.kind, calls_of(new), new.reply)}")
    differ = sum(bool(one.differences) for one in compared)
    ran = sum(one.replayed is not None for one in compared)
    lines.append(f"{len(compared)} turns, {ran} run again, {differ} differ")
    return "\n".join(lines)


def _take_over(turn: RecordedTurn, agent: Agent) -> None:
    """Bring the agent to where a turn left it, which cannot be run again: when it was cut was chance."""
    memory = agent.memory()
    facts = {**memory["facts"], **turn.facts}
    memory |= {"facts": facts, "spoken": [*memory["spoken"], turn.text, turn.reply], "turns": turn.turn + 1}
    state = agent.engine.fork(agent.state)
    if turn.configuration == agent.identity:  # for another model these are no words
        agent.engine.extend(state, turn.tokens)
    agent.recall(state, memory)


def _recorded(content: Mapping[str, Any]) -> RecordedTurn:
    try:
        actions = tuple((a["skill"], _values(a["arguments"])) for a in content["actions"])
        return RecordedTurn(
            content["session_id"],
            int(content["turn"]),
            bool(content["kept"]),
            content["text"],
            _values(content["facts"]),
            content["kind"],
            actions,
            content["reply"],
            tuple(content["tokens"]),
            int(content["prompt_tokens"]),
            content["configuration_digest"],
            content["grammar_digest"],
            _values(content["timings"]),
        )
    except (KeyError, TypeError) as error:
        raise LogError(f"a turn of the log cannot be read: {type(error).__name__} {error}") from None


def _values(parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {p["name"]: p["value"] for p in parameters}


def _differences(old: RecordedTurn, new: Turn, same_configuration: bool) -> tuple[str, ...]:
    prompt = len(new.fed) - new.tokens.get("reply", 0) if new.fed else 0
    unlike = {
        "kind": old.kind != new.kind,
        "actions": _rounded(old.actions) != _rounded(calls_of(new)),
        "reply": old.reply != new.reply,
        "prompt": same_configuration and old.tokens[: old.prompt_tokens] != new.fed[:prompt],
        "tokens": same_configuration and old.tokens[old.prompt_tokens :] != new.fed[prompt:],
    }
    return tuple(name for name, differs in unlike.items() if differs)


def _rounded(calls: Sequence[Call]) -> list[Any]:
    """Numbers to nine digits: a message may have carried them in another type."""
    return [(s, {k: f"{v:.9g}" if isinstance(v, int | float) else v for k, v in a.items()}) for s, a in calls]


def _words(kind: str, calls: Sequence[Call], reply: str) -> str:
    acts = "; ".join(f"{skill}({', '.join(f'{k}={v}' for k, v in values.items())})" for skill, values in calls)
    return " ".join(filter(None, (kind, acts, json.dumps(reply, ensure_ascii=False) if reply else "")))


def _side(kind: str, calls: Sequence[Call], reply: str, timings: Mapping[str, float]) -> dict[str, Any]:
    actions = [{"skill": skill, "arguments": dict(arguments)} for skill, arguments in calls]
    return {"kind": kind, "actions": actions, "reply": reply, "timings_s": {k: round(v, 6) for k, v in timings.items()}}
