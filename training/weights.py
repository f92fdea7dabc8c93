"""How much each token of a training conversation counts: much where something is decided, little where it is forced."""

from __future__ import annotations

import numpy as np

from nano_agent_ros.prompt import Tokenizer

PREFIX, USER = 0.04, 0.2  # reading: names lead to ids, talk has its words
# training.shards tells what is read by its weight: no token of a reply may have that of USER.
FORCED, NAME_END, VALUE_END, DECISION, VALUE, SKILL = 0.05, 0.25, 0.5, 1.0, 2.0, 4.0


class ReplyWeights:
    """Weights of a reply's tokens: most for the skill, then how a value begins; little for the dialect's own tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """The dialect's pieces are single tokens of this tokenizer; raises ValueError if they are not."""

        def one(text: str) -> int:
            ids = tokenizer.encode(text)
            if len(ids) != 1:
                raise ValueError(f"{text!r} is {len(ids)} tokens; train the tokenizer with training.tokenizer")
            return ids[0]

        self._line, self._close, self._angle = one("\n"), one("</tool_call>"), one(">")
        self._function, self._parameter, self._end = one("<function="), one("<parameter="), one("</function>")
        self._forced = [one("<tool_call>"), self._close, self._function, one("</parameter>")]
        self._structure = [*self._forced, self._angle, self._end]

    def __call__(self, tokens: list[int]) -> np.ndarray:
        """Float32 [T] for the T tokens of one reply."""
        t = np.array(tokens)
        before, before2 = np.roll(t, 1), np.roll(t, 2)
        out = np.full(len(t), DECISION, np.float32)
        out[np.isin(t, self._forced)] = FORCED
        out[t == self._angle] = NAME_END
        line = t == self._line
        out[line] = FORCED
        out[line & ~np.isin(before, self._structure)] = VALUE_END
        out[line & (before == self._close)] = DECISION  # another call follows, or none
        out[before == self._function] = SKILL
        begins = (before == self._line) & (before2 == self._angle)
        out[begins & ~np.isin(t, [self._parameter, self._end])] = VALUE
        return out
