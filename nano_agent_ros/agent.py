"""The agent: one conversation, from the words heard to checked actions. Plain Python, no ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from nano_agent_ros.ahead import ReadAhead, common
from nano_agent_ros.answers import truthful
from nano_agent_ros.decode import (
    REPLY_KINDS,
    REPLY_TEXT,
    Decoder,
    DialectError,
    Guesser,
    Interrupted,
    Reply,
    plain,
    reply_grammar,
    text_begins,
)
from nano_agent_ros.decode.generate import DecodeError
from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.model_folder import Model
from nano_agent_ros.prompt import PromptBuilder, PromptError, clean
from nano_agent_ros.resources import default_skills
from nano_agent_ros.safety import CALMING
from nano_agent_ros.skills import Action, Call, GroundingError, Site, Skills, checked
from nano_agent_ros.skills.handles import Handles
from nano_agent_ros.state import PrefixCache, identity
from nano_agent_ros.turn import Clock, Turn

__all__ = [
    "CALLED_OFF",
    "MAX_OVERHEARD",
    "MIN_CONFIDENCE",
    "OVERHEARD",
    "UNSURE",
    "Agent",
    "AgentError",
    "Model",
    "Turn",
]

AgentError = NanoAgentError
REMEMBERED = 16  # utterances and replies in which a name may have been spoken
MIN_CONFIDENCE = 0.5  # of an action with a risk: below it, it is more often wrong than right
MAX_OVERHEARD = 0.05  # probability that nobody spoke to the robot, of a plan that is carried out all the same
UNSURE = "I'm not sure I understood. Please say it another way."
OVERHEARD = "Did you mean me? Please say my name first."
CALLED_OFF = "That was called off."


class Agent:
    """One conversation with one robot. Not thread-safe: one caller at a time.

    A turn is made on a fork of the state and takes its place once it is complete. So a turn that fails or is called
    off leaves no trace.
    """

    def __init__(
        self,
        model: Model,
        skills: Skills,
        site: Site,
        min_confidence: float = MIN_CONFIDENCE,
        thinking: int = 0,
        guess: int | None = None,
        cache: PrefixCache | None = None,
        keep_cut_turns: bool = False,
        max_overheard: float = MAX_OVERHEARD,
    ) -> None:
        """Prefill the prompt of this configuration; raises ConfigError if the model's template cannot stream.

        A plan with an action that has a risk and of which the model is less sure than `min_confidence` (0 to 1: how
        often such an action is right, see decode/confidence.py) becomes a question; so does one where the model held
        it for likelier than `max_overheard` that the words were not for the robot. `thinking` is how many tokens the
        model may think before it replies, 0 for none; only some models can. `guess` is how many tokens an engine step
        may hold with guesses of what comes (0: none; None: as many as are seen to pay); the replies are the same.
        `cache` keeps the state after the prompt for the next start. With `keep_cut_turns` a turn that is called off
        stays in the conversation: the words, and the calls that were complete (docs/decoding.md).
        """
        self.skills, self.site = skills, site
        self.min_confidence, self._confidence = min_confidence, model.confidence
        self.max_overheard = max_overheard
        self.keep_cut_turns = keep_cut_turns
        self.engine = model.engine
        tokenizer = model.tokenizer
        self._handles = Handles.make(site)
        seen = self._handles.site
        builder = self._builder = PromptBuilder(tokenizer, model.template, skills, seen, thinking > 0)
        self._dialect = builder.dialect
        self._grammar = partial(reply_grammar, skills, seen, tokenizer.added, self._dialect, *builder.around)
        self._text_begins = text_begins(skills, self._dialect)
        grammar = self._grammar()
        self.grammar_digest = sha256(grammar.encode()).hexdigest()
        self._decoder = Decoder(tokenizer, grammar, model.engine.vocab_size, builder.eos_id, self._dialect, thinking)
        self._guesser = Guesser(self._dialect, skills, seen, builder.written, tokenizer.decode, guess)
        prefix = builder.prefix()
        self.identity = identity(self.engine, prefix)
        self._start = (cache or PrefixCache.none()).state(self.engine, prefix)
        self._ahead = ReadAhead(self.engine)
        self._before: tuple[Any, dict[str, Any]] | None = None  # state and memory before the last turn
        self.reset()

    @staticmethod
    def open(
        model: str | Path | None = None,
        engine: str = "native",
        skills: str | Path | None = None,
        site: str | Path = "warehouse",
        threads: int | None = None,
        min_confidence: float = MIN_CONFIDENCE,
        thinking: int = 0,
        guess: int | None = None,
        cache: PrefixCache | None = None,
        pin: str | None = None,
        huge_pages: bool | None = None,
        keep_cut_turns: bool = False,
        max_overheard: float = MAX_OVERHEARD,
    ) -> Agent:
        """Open everything from files; raises a NanoAgentError that names what is wrong."""
        loaded_skills, loaded_site = Skills.load(skills or default_skills()), Site.load(site)
        loaded = Model.open(model, engine, threads, pin, huge_pages)
        return Agent(
            loaded, loaded_skills, loaded_site, min_confidence, thinking, guess, cache, keep_cut_turns, max_overheard
        )

    def reset(self) -> None:
        """Forget the conversation: back to the state after the system prompt."""
        self.state: Any = self.engine.fork(self._start)
        self._facts: dict[str, str | int | float] = {}
        self._spoken: deque[str] = deque(maxlen=REMEMBERED)
        self.turns = 0
        self._ahead.drop()
        self.settle()

    def memory(self) -> dict[str, Any]:
        """What the conversation knows besides the state, in JSON types: `recall` takes it."""
        return {"facts": dict(self._facts), "spoken": list(self._spoken), "turns": self.turns}

    def recall(self, state: Any, memory: Mapping[str, Any]) -> None:
        """Go on from a state of this engine and the memory that belongs to it."""
        self.state = state
        self._facts = dict(memory["facts"])
        self._spoken = deque(memory["spoken"], maxlen=REMEMBERED)
        self.turns = memory["turns"]
        self._ahead.drop()
        self.settle()

    @property
    def context_tokens(self) -> int:
        """Tokens that the state has seen, the system prompt included."""
        return self.engine.length(self.state)

    @property
    def state_bytes(self) -> int:
        """Size of the recurrent state at its full window, in bytes."""
        return self.engine.spec.nbytes

    def state_digest(self) -> str:
        """SHA-256 of the state: equal digests are equal conversations."""
        return self.engine.snapshot(self.state).digest

    def anticipate(self, text: str, facts: Facts | None = None, complete: bool = False) -> int:
        """Read the beginning of the next turn while it is still being said; return how many tokens of it are read.

        `text` are words that are not expected to change, `complete` if no more are expected. Whatever `hear` is told
        in the end, the turn is the same; where it begins as anticipated, facts included, there is less to compute.
        The conversation does not change. Text that is no command is passed over. An engine that fails raises
        EngineError, and nothing is anticipated.
        """
        changed, first = self._handles.facts(self._changed(facts)), self.turns == 0
        try:
            words = clean(text)
            tokens = self._builder.turn(words, changed, first)
            if complete:
                tokens = [*tokens, *self._decoder.start]
            else:  # the last of them may be others once a word follows
                tokens = tokens[: common(tokens, self._builder.turn(words + " a", changed, first))]
        except PromptError:
            return 0
        try:
            return self._ahead.read(self.state, tokens)
        except Exception:
            self._ahead.drop()
            raise

    def abandon(self) -> None:
        """Forget what was anticipated, and let its memory go."""
        self._ahead.drop()

    def hear(self, text: str, facts: Facts | None = None, cancelled: Callable[[], bool] | None = None) -> Turn:
        """Take one utterance; `facts` (battery, location, carrying, task, last, …) are told to the model if changed.

        `cancelled` is asked before every step of the engine and once at the end. When it says yes the turn is cut: its
        kind is cut, and the conversation is the one in which it never happened (or, with `keep_cut_turns`, happened up
        to there). Never raises for what was said: text that is no command is refused and leaves the conversation as it
        was. An engine that fails raises EngineError, and the conversation is as before.
        """
        clock = Clock()
        self.settle()
        changed = self._changed(facts)
        try:
            words = clean(text)
            prompt = self._builder.turn(words, self._handles.facts(changed), first=self.turns == 0)
        except PromptError as error:
            return Turn(self.turns, text[:200], "refuse", (), str(error), clock.done(), {"prompt": 0, "reply": 0}, ())
        clock.lap("prompt")
        known = {**self._facts, **changed}
        try:
            turn, state = self._reply(words, known, prompt, cancelled or _never, clock)
        except Interrupted as cut:
            counts = {"prompt": len(prompt), "reply": 0}
            turn = Turn(self.turns, words, "cut", (), "", clock.done(), counts)
            if not self.keep_cut_turns:
                return turn
            turn, state = self._close(turn, prompt, cut.tokens)
        finally:
            self._ahead.drop()
        self._before = (self.state, self.memory())
        self.state = state
        self._facts |= changed
        self._spoken += [words, turn.reply]
        self.turns += 1
        return turn

    def take_back(self) -> bool:
        """Make the last turn one that never happened; False if there is none, or `settle` was called since."""
        if self._before is None:
            return False
        self.recall(*self._before)
        return True

    def settle(self) -> None:
        """Let the last turn stand: its memory of the state before it goes. The next turn does so as well."""
        self._before = None

    def _changed(self, facts: Facts | None) -> Facts:
        return {k: v for k, v in (facts or {}).items() if self._facts.get(k) != v}

    def _reply(
        self, words: str, known: Facts, prompt: list[int], cancelled: Callable[[], bool], clock: Clock
    ) -> tuple[Turn, Any]:
        """The turn, and the state after it; raises Interrupted, or what the engine raises."""
        _go_on(cancelled)
        earlier = " ".join([*self._spoken, *map(str, self._handles.facts(known).values())])
        wanted, kept = [*prompt, *self._decoder.start], self._lasting(prompt)
        begun = self._ahead.take(self.state, wanted, len(kept) if self._builder.rewrites else len(wanted))
        after = state = begun.state
        if self._builder.rewrites:  # think and reply on a fork; the state stays where the template shows a past reply
            state = self.engine.fork(after)
            self.engine.commit(after, len(kept) - begun.opened)
        clock.lap("prefill")
        actions: tuple[Action, ...] = ()
        counts = {"prompt": len(prompt), "anticipated": begun.anticipated, "steps": 0, "guessed": 0, "thought": 0}
        decoded: tuple[int, ...] = ()
        overheard = 0.0
        self._guesser.begin(words, prompt)
        try:
            narrower = self._verbatim(words)
            reply = self._decoder.decode(self.engine, state, begun.logits, self._guesser, cancelled, narrower)
            clock.lap("decode")
            counts |= {"steps": reply.steps, "guessed": reply.guessed}
            counts["thought"] = reply.thought.tokens if reply.thought else 0
            (kind, spoken), overheard = _kind(reply), reply.ignored
            if kind == "act":
                calls = [replace(call, confidence=self._confidence(call.confidence)) for call in reply.calls]
                seen = self._handles.site
                actions = tuple(checked(call, self.skills, seen, words, earlier) for call in calls)
                actions = tuple(self._handles.action(a, self.skills[a.skill]) for a in actions)
            said, decoded = reply.text, reply.tokens
            if kind == "answer" and (true := plain(truthful(spoken, known, self.site.name_of), REPLY_TEXT)) != spoken:
                spoken, said = true, self._dialect.write([Call("answer", {"text": true})])
            if question := self._doubt(actions, overheard):
                kind, spoken, actions = "clarify", question, ()
                said = self._dialect.write([Call("clarify", {"text": question})])
        except (DecodeError, DialectError, GroundingError) as error:
            kind, actions = "refuse", ()
            spoken = str(error) if isinstance(error, GroundingError) else "I didn't understand that."
            said = self._dialect.write([Call("refuse", {"text": plain(spoken, REPLY_TEXT)})])
        canonical = self._builder.reply(said)
        _go_on(cancelled, decoded)
        if self._builder.rewrites:
            self.engine.extend(after, canonical)
        elif canonical != list(decoded):  # the state must hold what the template renders, and what was really answered
            after = self.engine.fork(self.state)
            self.engine.extend(after, prompt + canonical)
        _go_on(cancelled, decoded)
        self._guesser.learn(self._dialect.parse(said), canonical)
        clock.lap("ground")
        counts["reply"] = len(canonical)
        fed = (*kept, *canonical)
        return Turn(self.turns, words, kind, actions, spoken, clock.done(), counts, fed, overheard), after

    def _doubt(self, actions: Sequence[Action], overheard: float) -> str:
        """What is asked instead of acting; empty if nothing speaks against the actions. Whatever halts is done."""
        if overheard > self.max_overheard and any(a.skill not in CALMING for a in actions):
            return OVERHEARD
        return UNSURE if any(a.confidence < self.min_confidence and a.risk != "none" for a in actions) else ""

    def _verbatim(self, words: str) -> Callable[[str], str | None] | None:
        """The robot passes on what it was told, word for word: the grammar for a reply that comes to a text argument.

        It costs some 20 ms to compile, so only such a reply has it.
        """
        if (begins := self._text_begins) is None:
            return None
        told = list(dict.fromkeys([words, *list(self._spoken)[::2]]))  # utterances and replies take turns in it
        return lambda text: self._grammar(said=told) if begins.search(text) else None

    def _lasting(self, prompt: list[int]) -> list[int]:
        """The tokens of a prompt that stay when its reply is past."""
        return prompt[: len(prompt) - len(self._builder.opening)] if self._builder.rewrites else prompt

    def _close(self, turn: Turn, prompt: list[int], tokens: Sequence[int]) -> tuple[Turn, Any]:
        """A turn that was cut after these tokens of its reply, closed: the calls that are complete, else a refusal."""
        text = self._decoder.text(tokens)
        try:
            calls = self._dialect.begun(text)
        except DialectError:
            calls = []
        calls = calls or [Call("refuse", {"text": CALLED_OFF})]
        canonical = self._builder.reply(self._dialect.write(calls))
        fed = [*self._lasting(prompt), *canonical]
        state = self.engine.fork(self.state)
        self.engine.extend(state, fed)
        return replace(turn, tokens={**turn.tokens, "reply": len(canonical)}, fed=tuple(fed)), state


Facts = Mapping[str, str | int | float]


def _never() -> bool:
    return False


def _go_on(cancelled: Callable[[], bool], tokens: tuple[int, ...] = ()) -> None:
    if cancelled():
        raise Interrupted(tokens)


def _kind(reply: Reply) -> tuple[str, str]:
    call = reply.calls[0]
    return (call.name, call.arguments.get("text", "")) if call.name in REPLY_KINDS else ("act", "")
