"""Claims about replies: what the grammar lets through parses, grounds by type, and only such."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.decode import REPLY_KINDS, Decoder, DialectError, parse_reply, reply_grammar, write_reply
from nano_agent_ros.prompt import Tokenizer
from nano_agent_ros.resources import default_model, default_skills
from nano_agent_ros.skills import Call, Site, Skills

TOKENIZER = Tokenizer(default_model())
SKILLS = Skills.load(default_skills())
SITE = Site.load("warehouse")
EOS = TOKENIZER.added["<|im_end|>"]
DECODER = Decoder(TOKENIZER, reply_grammar(SKILLS, SITE, TOKENIZER.added), TOKENIZER.vocab_size, EOS)


class Dice:
    """An engine whose logits are random: the grammar alone decides what is possible."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.fed: list[int] = []

    def extend(self, state, tokens, every=False):
        self.fed += tokens
        return self.random.standard_normal(TOKENIZER.vocab_size, np.float32) * 4


class Script(Dice):
    """An engine that wants to say one text."""

    def __init__(self, text: str) -> None:
        super().__init__(0)
        self.wanted = [*TOKENIZER.encode(text), EOS]

    def logits(self):
        out = np.zeros(TOKENIZER.vocab_size, np.float32)
        if len(self.fed) < len(self.wanted):
            out[self.wanted[len(self.fed)]] = 9
        return out

    def extend(self, state, tokens, every=False):
        self.fed += tokens
        return self.logits()


@given(st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_every_reply_of_a_random_model_parses_and_holds_known_names(seed):
    engine = Dice(seed)
    try:
        reply = DECODER.decode(engine, None, engine.extend(None, list(DECODER.start)))
    except Exception as error:
        assert "did not end" in str(error)
        return
    assert engine.fed == list(reply.tokens) and reply.tokens[-1] == EOS
    assert parse_reply(reply.text) == [Call(c.name, c.arguments) for c in reply.calls]
    kinds = {c.name in REPLY_KINDS for c in reply.calls}
    assert kinds == {False} or len(reply.calls) == 1
    for call in reply.calls:
        if call.name in REPLY_KINDS:
            continue
        for argument in SKILLS[call.name].arguments:
            value = call.arguments.get(argument.name)
            assert value is not None or argument.optional
            if value is not None and argument.type in ("location", "object", "person", "place"):
                assert value in SITE.ids(argument.type)
            if value is not None and argument.type == "enum":
                assert value in argument.values


@pytest.mark.parametrize(
    "calls",
    [
        [Call("navigate_to", {"location": "dock_3"})],
        [Call("pick", {"object": "blue_bin", "quantity": "12"}), Call("wait", {"duration": "2 min"})],
        [Call("set_speed", {"speed": "0.5 m/s"}), Call("stop", {})],
        [Call("report_defect", {"defect_type": "crack", "location": "rack_7", "position": "bottom shelf"})],
        [Call("answer", {"text": "My battery is at 62 percent."})],
        [Call("ignore", {})],
    ],
)
def test_the_grammar_lets_every_meant_reply_through(calls):
    text = write_reply(calls)
    engine = Script(text)
    reply = DECODER.decode(engine, None, engine.extend(None, list(DECODER.start)))
    assert reply.text == text
    assert list(reply.tokens) == engine.wanted  # forced tokens are the canonical ones
    assert reply.steps < len(reply.tokens)  # and are fed in one go


def test_confidence_is_that_of_the_call_whose_tokens_were_chosen():
    engine = Script(write_reply([Call("navigate_to", {"location": "dock_3"}), Call("stop", {})]))
    reply = DECODER.decode(engine, None, engine.extend(None, list(DECODER.start)))
    assert all(0 < c.confidence <= 1 for c in reply.calls)


@pytest.mark.parametrize("text", ["", "go", "<tool_call>\n<function=x>\n</function>\n</tool_call> and", "<tool_call>"])
def test_text_outside_the_dialect_is_no_reply(text):
    with pytest.raises(DialectError):
        parse_reply(text)


@pytest.mark.parametrize(("towards", "low", "high"), [(0.0, 0.0, 0.05), (8.9, 0.45, 0.5), (18.0, 0.95, 1.0)])
def test_a_reply_tells_how_likely_the_words_would_have_been_ignored(towards, low, high):
    class Torn(Script):
        """It wants to drive, and with other strength to ignore."""

        def logits(self):
            out = super().logits()
            if len(self.fed) == len(DECODER.start):
                out[TOKENIZER.encode("ignore")[0]] = towards
            return out

    engine = Torn(write_reply([Call("navigate_to", {"location": "dock_3"})]))
    reply = DECODER.decode(engine, None, engine.extend(None, list(DECODER.start)))
    assert low <= reply.ignored <= high
    assert (reply.calls[0].name == "ignore") == (towards > 9.0)
