"""Constrained greedy decoding: what the grammar forces is fed in one go, the rest is the model's most likely token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np

from nano_agent_ros.decode.dialect import parse_reply
from nano_agent_ros.engine.base import Engine
from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.prompt import Tokenizer
from nano_agent_ros.skills import Call

MAX_REPLY_TOKENS = 400


class DecodeError(NanoAgentError):
    """A reply that did not come to its end."""


@dataclass(frozen=True)
class Reply:
    """A decoded reply: its calls (each with the probability of its chosen tokens), tokens with eos, engine steps."""

    calls: tuple[Call, ...]
    text: str
    tokens: tuple[int, ...]
    steps: int


class Decoder:
    """Decodes replies of one grammar. Compile once, use for every turn."""

    def __init__(self, tokenizer: Tokenizer, grammar: str, vocab_size: int, eos_id: int) -> None:
        """`vocab_size` is that of the logits. Raises ConfigError for a grammar that does not compile."""
        self._tokenizer, self._eos_id = tokenizer, eos_id
        self._vocab = llguidance.LLTokenizer(tokenizer.json, n_vocab=vocab_size, eos_token=eos_id)
        self._grammar = llguidance.LLMatcher.grammar_from_lark(grammar)
        matcher = llguidance.LLMatcher(self._vocab, self._grammar)
        if matcher.is_error():
            raise ConfigError(f"reply grammar: {matcher.get_error()}")
        self._start = matcher
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocab_size)

    def decode(self, engine: Engine, state: Any, logits: np.ndarray) -> Reply:
        """Decode one reply from the float32 logits [vocab] of the prompt's last token.

        The state then holds the reply, eos included.

        Raises DecodeError if it does not end within the limit.
        """
        matcher = self._start.deep_copy()
        tokens: list[int] = []
        chosen: list[tuple[int, float]] = []  # (position, probability) of tokens that were not forced
        steps = 0
        while True:
            step = list(matcher.compute_ff_tokens())
            if not step:
                token, probability = self._choose(matcher, logits)
                chosen.append((len(tokens), probability))
                step = [token]
            if not matcher.consume_tokens(step):
                raise DecodeError(f"the grammar refused its own tokens: {matcher.get_error()}")
            if step[-1] != self._eos_id and matcher.is_accepting() and matcher.is_stopped():
                step.append(self._eos_id)
            tokens += step
            logits = engine.extend(state, step)
            steps += 1
            if tokens[-1] == self._eos_id:
                break
            if len(tokens) > MAX_REPLY_TOKENS:
                raise DecodeError(f"the reply did not end within {MAX_REPLY_TOKENS} tokens")
        text = self._tokenizer.decode(tokens[:-1])
        return Reply(self._calls(text, tokens, chosen), text, tuple(tokens), steps)

    def _choose(self, matcher: llguidance.LLMatcher, logits: np.ndarray) -> tuple[int, float]:
        """The most likely token that the grammar allows, and its probability among those allowed."""
        llguidance.numpy.fill_next_token_bitmask(matcher, self._mask, 0)
        allowed = np.flatnonzero(np.unpackbits(self._mask[0].view(np.uint8), bitorder="little")[: logits.size])
        if not allowed.size:
            raise DecodeError(f"the grammar allows no token: {matcher.get_error()}")
        scores = logits[allowed].astype(np.float64)
        best = int(np.argmax(scores))
        return int(allowed[best]), float(1.0 / np.exp(scores - scores[best]).sum())

    def _calls(self, text: str, tokens: list[int], chosen: list[tuple[int, float]]) -> tuple[Call, ...]:
        calls = parse_reply(text)
        ends = np.cumsum([len(self._tokenizer.decode([t])) for t in tokens])
        probabilities = [1.0] * len(calls)
        blocks = np.cumsum([len(block) + len("</tool_call>") for block in text.split("</tool_call>")[:-1]])
        for position, probability in chosen:
            index = min(int(np.searchsorted(blocks, ends[position])), len(calls) - 1)
            probabilities[index] *= probability
        return tuple(Call(c.name, c.arguments, p) for c, p in zip(calls, probabilities, strict=True))
