"""Constrained greedy decoding: what the grammar forces is fed in one go, the rest is the model's most likely token.

With guesses, tokens that may come are fed along in the same step; those that the model would have chosen anyway are
kept, the rest is taken back by `commit`. The reply is the same, token for token, with or without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import llguidance
import llguidance.numpy
import numpy as np

from nano_agent_ros.decode.dialect import NEMOTRON_3, Dialect, call_ends
from nano_agent_ros.decode.think import Thinker, Thought
from nano_agent_ros.engine.base import Engine
from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.skills import Call

if TYPE_CHECKING:
    from nano_agent_ros.prompt import Tokenizer

MAX_REPLY_TOKENS = 400


class DecodeError(NanoAgentError):
    """A reply that did not come to its end."""


class Interrupted(Exception):
    """Called off between two engine steps. `tokens` are the reply's so far: chosen, or forced by those chosen."""

    def __init__(self, tokens: tuple[int, ...] = ()) -> None:
        """Of a reply that has just begun there are none."""
        super().__init__("interrupted")
        self.tokens = tokens


@dataclass(frozen=True)
class Reply:
    """A decoded reply: its calls (each with the probability of its chosen tokens), text, tokens with eos.

    `steps` counts engine calls, those of `thought` included; `guessed` of the tokens were right guesses. `ignored` is
    the probability (0 to 1) of the tokens with which the model would have ignored the words instead.
    """

    calls: tuple[Call, ...]
    text: str
    tokens: tuple[int, ...]
    steps: int
    guessed: int = 0
    thought: Thought | None = None
    ignored: float = 0.0


@dataclass(frozen=True)
class Step:
    """An engine step: tokens fed, how many of them were guesses and how many of these right, engine steps so saved,
    seconds in the engine and for drafting."""

    fed: int
    guesses: int
    right: int
    saved: int
    engine_s: float
    draft_s: float


class Guess(Protocol):
    """Proposes what may come next. A proposal costs little if wrong and can never change the reply."""

    def room(self) -> int:
        """How many tokens a step may hold, guesses included; 0 for no guesses in this step."""
        ...

    def propose(self, tokens: Sequence[int]) -> Iterable[int]:
        """Tokens that may follow the reply's tokens so far, the most likely first."""
        ...

    def observe(self, step: Step) -> None:
        """Told after every step."""
        ...


class Decoder:
    """Decodes replies of one grammar. Compile once, use for every turn; not thread-safe.

    `start` are the tokens with which every reply begins: they are fed along with the prompt, in one step.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        grammar: str,
        vocab_size: int,
        eos_id: int,
        dialect: Dialect = NEMOTRON_3,
        thinking: int = 0,
    ) -> None:
        """`vocab_size` is that of the logits. `thinking` is the most tokens that a thought may have, 0 for none: a
        reply then begins with a thought. Raises ConfigError for a grammar that does not compile."""
        self._tokenizer, self._eos_id, self._dialect = tokenizer, eos_id, dialect
        self._vocab = llguidance.LLTokenizer(tokenizer.json, n_vocab=vocab_size, eos_token=eos_id)
        matcher = self._matcher(grammar)
        if matcher.is_error():
            raise ConfigError(f"reply grammar: {matcher.get_error()}")
        self.start: tuple[int, ...] = ()
        if not thinking:
            self.start = tuple(self._force(matcher))
        self._start = matcher
        self._ignore = dialect.write([Call("ignore", {})])
        self._thinker = Thinker(tokenizer, self._vocab, vocab_size, thinking) if thinking else None
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocab_size)

    def decode(
        self,
        engine: Engine,
        state: Any,
        logits: np.ndarray,
        guess: Guess | None = None,
        cancelled: Callable[[], bool] | None = None,
        narrower: Callable[[str], str | None] | None = None,
    ) -> Reply:
        """Decode one reply from the float32 logits [vocab] of the last token of prompt and `start`.

        The state then holds the reply, eos included (and the thought before it). `cancelled` is asked before every
        engine step, those of a thought included. `narrower` is told the text of the reply as it grows, until it returns
        a grammar; that holds for the whole reply, so it must agree with the first up to there.

        Raises Interrupted once it says yes, and DecodeError if the reply does not end within the limit.
        """
        run = _Run(self._start.deep_copy(), list(self.start), narrower)

        def before_step() -> None:
            if cancelled and cancelled():
                raise Interrupted(tuple(run.tokens))

        thought = None
        if self._thinker:
            thought, logits = self._thinker.think(engine, state, logits, before_step)
        while True:
            step = self._decided(run, logits)
            begun = time.perf_counter()
            draft = self._draft(run, guess, len(step)) if guess and not run.ended else []
            drafted = time.perf_counter()
            before_step()
            rows = engine.extend(state, step + [token for token, _ in draft], every=bool(draft))
            done = time.perf_counter()
            run.steps += 1
            right = saved = 0
            if draft:
                right, saved = self._verify(run, rows[len(step) - 1 :], draft)
                if right < len(draft):
                    engine.commit(state, len(step) + right)
            logits = rows[len(step) - 1 + right] if draft else rows
            if guess:
                fed = len(step) + len(draft)
                guess.observe(Step(fed, len(draft), right, saved, done - drafted, drafted - begun))
            if run.ended:
                break
        whole = self._tokenizer.decode(run.tokens[:-1])
        text = whole.strip("\n")
        calls = self._calls(text, len(whole) - len(whole.lstrip("\n")), run)
        steps = run.steps + (thought.steps if thought else 0)
        return Reply(calls, text, tuple(run.tokens), steps, run.guessed, thought, run.ignored)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a reply's tokens so far, as its dialect reads it."""
        return self._tokenizer.decode([t for t in tokens if t != self._eos_id]).strip("\n")

    def _decided(self, run: _Run, logits: np.ndarray) -> list[int]:
        """The tokens of the next step that need no guess: what is forced; else the one chosen and what it forces."""
        step = self._force(run.matcher)
        if not step:
            token, probability = self._choose(run, logits)
            run.chosen.append((len(run.tokens), probability))
            self._consume(run.matcher, [token])
            step = [token] if token == self._eos_id else [token, *self._force(run.matcher)]
        self._take(run, step)
        return step

    def _force(self, matcher: llguidance.LLMatcher) -> list[int]:
        """Consume and return all that must come next."""
        tokens: list[int] = []
        while (not tokens or tokens[-1] != self._eos_id) and (step := self._forced(matcher)):
            self._consume(matcher, step)
            tokens += step
        return tokens

    def _draft(self, run: _Run, guess: Guess, decided: int) -> list[tuple[int, bool]]:
        """Guesses after the tokens decided, each with whether the grammar forces it after those before it."""
        room = guess.room() - decided
        if room <= 0:
            return []
        matcher, tokens = run.matcher.deep_copy(), list(run.tokens)
        draft: list[tuple[int, bool]] = []
        while len(draft) < room and (not draft or draft[-1][0] != self._eos_id):
            step = self._forced(matcher)
            if len(draft) + len(step) > room:
                break  # forced tokens stay together: cut, they might be split into other tokens
            forced = bool(step)
            if not step:
                step = [t for t in guess.propose(tokens) if matcher.validate_tokens([t]) == 1][:1]
            if not step:
                break
            self._consume(matcher, step)
            draft += [(token, forced) for token in step]
            tokens += step
        return draft

    def _verify(self, run: _Run, rows: np.ndarray, draft: list[tuple[int, bool]]) -> tuple[int, int]:
        """Take the guesses that the model chooses itself; return how many tokens, and how many were not forced."""
        right = saved = 0
        for (token, forced), logits in zip(draft, rows, strict=False):
            if not forced:
                choice, probability = self._choose(run, logits)
                if choice != token:
                    break
                run.chosen.append((len(run.tokens), probability))
                saved += 1
            if token != self._eos_id:
                self._consume(run.matcher, [token])
            self._take(run, [token])
            right += 1
        run.guessed += right
        return right, saved

    def _forced(self, matcher: llguidance.LLMatcher) -> list[int]:
        """What must come next, eos included where nothing else can."""
        tokens = list(matcher.compute_ff_tokens())
        if not tokens and matcher.is_accepting() and matcher.is_stopped():
            return [self._eos_id]
        return tokens

    def _consume(self, matcher: llguidance.LLMatcher, tokens: list[int]) -> None:
        if tokens and tokens[-1] == self._eos_id:
            tokens = tokens[:-1]
        if tokens and not matcher.consume_tokens(tokens):
            raise DecodeError(f"the grammar refused its own tokens: {matcher.get_error()}")

    def _matcher(self, grammar: str) -> llguidance.LLMatcher:
        return llguidance.LLMatcher(self._vocab, llguidance.LLMatcher.grammar_from_lark(grammar))

    def _take(self, run: _Run, tokens: list[int]) -> None:
        run.tokens += tokens
        if run.narrower and (grammar := run.narrower(self.text(run.tokens))):
            run.matcher, run.narrower = self._matcher(grammar), None
            self._consume(run.matcher, run.tokens)
        run.ended = run.tokens[-1] == self._eos_id
        if len(run.tokens) > MAX_REPLY_TOKENS:
            raise DecodeError(f"the reply did not end within {MAX_REPLY_TOKENS} tokens")

    def _choose(self, run: _Run, logits: np.ndarray) -> tuple[int, float]:
        """The most likely token that the grammar allows, and its probability among those allowed."""
        llguidance.numpy.fill_next_token_bitmask(run.matcher, self._mask, 0)
        allowed = np.flatnonzero(np.unpackbits(self._mask[0].view(np.uint8), bitorder="little")[: logits.size])
        if not allowed.size:
            raise DecodeError(f"the grammar allows no token: {run.matcher.get_error()}")
        scores = logits[allowed].astype(np.float64)
        best = int(np.argmax(scores))
        odds = np.exp(scores - scores[best])
        if run.ignorable:
            self._note_ignored(run, allowed, odds / odds.sum())
        return int(allowed[best]), float(1.0 / odds.sum())

    def _note_ignored(self, run: _Run, allowed: np.ndarray, probabilities: np.ndarray) -> None:
        """Take account of the next token's part in how likely the words would have been ignored."""
        text = self.text(run.tokens)
        run.ignorable = self._ignore.startswith(text)
        if run.ignorable:
            rest = self._ignore[len(text) :]
            pieces = [self._tokenizer.decode([int(token)]) for token in allowed]
            if not text:  # there may be line breaks before a reply
                pieces = [piece.lstrip("\n") for piece in pieces]
            run.ignored *= float(probabilities[[rest.startswith(piece) for piece in pieces]].sum())

    def _calls(self, text: str, offset: int, run: _Run) -> tuple[Call, ...]:
        """The calls with their probabilities; the text begins `offset` characters into that of the tokens."""
        calls = self._dialect.parse(text)
        ends = np.cumsum([len(self._tokenizer.decode([t])) for t in run.tokens]) - offset
        probabilities = [1.0] * len(calls)
        blocks = call_ends(self._dialect, calls)
        for position, probability in run.chosen:
            index = min(int(np.searchsorted(blocks, ends[position])), len(calls) - 1)
            probabilities[index] *= probability
        return tuple(Call(c.name, c.arguments, p) for c, p in zip(calls, probabilities, strict=True))


@dataclass
class _Run:
    """A reply in the making."""

    matcher: llguidance.LLMatcher
    tokens: list[int] = field(default_factory=list)
    narrower: Callable[[str], str | None] | None = None
    chosen: list[tuple[int, float]] = field(default_factory=list)  # (position, probability) of tokens not forced
    steps: int = 0
    guessed: int = 0
    ended: bool = False
    ignored: float = 1.0  # probability of the tokens with which the words would be ignored
    ignorable: bool = True  # whether the reply so far is how that begins
