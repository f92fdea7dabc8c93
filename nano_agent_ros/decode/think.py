"""The thought before a reply: free text up to its closing mark, and no longer than its budget. It is never acted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llguidance
import llguidance.numpy
import numpy as np

from nano_agent_ros.engine.base import Engine

if TYPE_CHECKING:
    from nano_agent_ros.prompt import Tokenizer

CLOSE = "</think>"


@dataclass(frozen=True)
class Thought:
    """A thought: text without marks, tokens with the closing mark, whether the budget cut it, engine steps."""

    text: str
    tokens: int
    cut: bool
    steps: int


class Thinker:
    """Decodes thoughts, greedily. Control tokens other than the closing mark cannot come up in one."""

    def __init__(self, tokenizer: Tokenizer, vocab: llguidance.LLTokenizer, vocab_size: int, budget: int) -> None:
        """`budget` is in tokens; the closing mark is not counted."""
        self._tokenizer, self._budget = tokenizer, budget
        close = "start: TEXT </think>" if CLOSE in tokenizer.added else f'start: text\ntext[suffix="{CLOSE}"]: TEXT'
        grammar = llguidance.LLMatcher.grammar_from_lark(f"{close}\nTEXT: /(?s:.*)/\n")
        self._start = llguidance.LLMatcher(vocab, grammar)
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocab_size)

    def think(
        self, engine: Engine, state: Any, logits: np.ndarray, before_step: Callable[[], None] | None = None
    ) -> tuple[Thought, np.ndarray]:
        """Decode a thought from the logits of the prompt's last token; return it and the logits after its mark.

        What `before_step` raises ends it.
        """
        matcher = self._start.deep_copy()
        tokens: list[int] = []
        steps = 0
        while True:
            step = self._next(matcher, logits) if len(tokens) < self._budget else []
            cut = not step
            step = step or self._tokenizer.encode("\n" + CLOSE)
            if before_step:
                before_step()
            logits = engine.extend(state, step)
            tokens += step
            steps += 1
            if cut or matcher.is_stopped():
                break
        text = self._tokenizer.decode(tokens).removesuffix(CLOSE).strip()
        return Thought(text, len(tokens), cut, steps), logits

    def _next(self, matcher: llguidance.LLMatcher, logits: np.ndarray) -> list[int]:
        llguidance.numpy.fill_next_token_bitmask(matcher, self._mask, 0)
        allowed = np.flatnonzero(np.unpackbits(self._mask[0].view(np.uint8), bitorder="little")[: logits.size])
        if not allowed.size:
            return []
        token = int(allowed[int(np.argmax(logits[allowed]))])
        return [token] if matcher.consume_token(token) else []
