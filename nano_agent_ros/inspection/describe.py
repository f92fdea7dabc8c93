"""The one sentence of a report: by template, or worded by the language model under a grammar that admits only facts."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from typing import Protocol

from nano_agent_ros.agent import Model
from nano_agent_ros.decode import Decoder, Dialect, plain
from nano_agent_ros.decode.dialect import control_in
from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.inspection.position import in_words
from nano_agent_ros.inspection.report import Report
from nano_agent_ros.prompt import PromptBuilder
from nano_agent_ros.skills import Call, Site, Skills
from nano_agent_ros.state import PrefixCache

_log = logging.getLogger(__name__)

THINGS = {
    "crack": "a crack",
    "dent": "a dent",
    "scratch": "a scratch",
    "leak": "a leak",
    "spill": "a spill",
    "rust": "rust",
    "bent": "something bent",
    "broken": "something broken",
    "missing": "something missing",
    "loose": "something loose",
    "worn": "wear",
    "dirty": "dirt",
    "torn": "a tear",
    "blocked": "something in the way",
    "misaligned": "something out of place",
    "other": "something unusual",
}
_HERE = "§"  # stands where the sentence goes while the frame of a call is taken apart


class Describer(Protocol):
    """Writes the description of a report."""

    def __call__(self, report: Report) -> str:
        """A sentence, and what a person said if one did."""
        ...


class Template:
    """Plain sentences, always the same for the same facts."""

    def __init__(self, site: Site) -> None:
        """Names come from `site`."""
        self._site = site

    def __call__(self, report: Report) -> str:
        """See Describer."""
        if report.place is None:
            return report.words
        thing = thing_of(report.defect_type)
        where = f" at {self._site.name_of(report.location_id)}" if report.location_id else ""
        sentence = f"{thing[0].upper()}{thing[1:]}{where}, {in_words(report.place)}{_size(report)}."
        return with_words(sentence, report)


class ByModel:
    """The language model chooses the wording; what may be said is decided by a grammar made of the report's facts.

    So a small model cannot say what is not so. Should decoding fail, the sentence of `Template` is taken and that is
    logged.
    """

    def __init__(self, model: Model, skills: Skills, site: Site, cache: PrefixCache | None = None) -> None:
        """Prefill a prompt of its own: one skill, the site. Raises ConfigError if the skills lack report_defect."""
        self._model, self._site, self._template = model, site, Template(site)
        self._builder = PromptBuilder(model.tokenizer, model.template, skills.subset(["report_defect"]), site)
        self._start = (cache or PrefixCache.none()).state(model.engine, self._builder.prefix())

    def __call__(self, report: Report) -> str:
        """See Describer."""
        if report.place is None:
            return report.words
        try:
            return with_words(self._written(report), report)
        except NanoAgentError as error:
            _log.warning("the model did not describe report %s, a template did: %s", report.report_id, error)
            return self._template(report)

    def _written(self, report: Report) -> str:
        engine, tokenizer, builder = self._model.engine, self._model.tokenizer, self._builder
        name = self._site.name_of(report.location_id) if report.location_id else ""
        grammar = sentence_grammar(report, name, tokenizer.added, builder.dialect, builder.around)
        decoder = Decoder(tokenizer, grammar, engine.vocab_size, builder.eos_id, builder.dialect)
        facts = {"defect": report.defect_type, "location": name, "position": in_words(report.place or (0.5, 0.5))}
        prompt = builder.turn("describe the defect in one sentence", facts, first=True)
        state = engine.fork(self._start)
        reply = decoder.decode(engine, state, engine.extend(state, [*prompt, *decoder.start]))
        return reply.calls[0].arguments["text"]


def sentence_grammar(
    report: Report, name: str, control: Collection[str], dialect: Dialect, around: tuple[str | None, str] = ("", "")
) -> str:
    """Lark grammar of an answer that states type, place, position and size of a report, in any of some dozen wordings.

    `name` is the location's (may be empty), `control` are the tokenizer's control tokens, `around` is what the chat
    template puts before and after the call.
    """
    frame = dialect.write([Call("answer", {"text": _HERE})])
    before, after = frame.split(_HERE)
    thing, position = thing_of(report.defect_type), in_words(report.place or (0.5, 0.5))
    openings = ["There is {}", "I see {}", "The camera shows {}", "I found {}"]
    words = plain(name, 60).replace('"', " ").replace("\\", " ")
    places = [f" {word} {words}" for word in ("at", "on")] if words else []
    positions = [f", {position}", f", in the {position} of the picture", f", {position} in the picture"]
    sizes = [_size(report), _size(report).replace(", about", ", roughly")] if _size(report) else []
    parts = [[opening.format(thing) for opening in openings], places, positions, sizes, ["."]]
    body = " ".join(f"({' | '.join(json.dumps(p, ensure_ascii=False) for p in part)})" for part in parts if part)
    head, tail = (around[0] or "") + before, after + around[1]
    return f"start: {_literal(head, control)} {body} {_literal(tail, control)}\n"


def thing_of(defect_type: str) -> str:
    """A type of defect as a noun: `scratch` is "a scratch"."""
    return THINGS.get(defect_type, defect_type.replace("_", " "))


def with_words(sentence: str, report: Report) -> str:
    """The sentence, followed by what a person said."""
    return f"{sentence} A person reported: {report.words}" if report.words else sentence


def _size(report: Report) -> str:
    if not report.percent:
        return ""
    return f", about {report.percent:.1f} percent of it" if report.percent >= 0.1 else ", very small"


def _literal(text: str, control: Collection[str]) -> str:
    parts: Sequence[str] = control_in(text, control)
    return " ".join(p if p in control else json.dumps(p, ensure_ascii=False) for p in parts)
