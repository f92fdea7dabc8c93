"""Claims about thinking models, on random networks: a thought is free, limited, never acted on, and not kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_templates import checkpoint
from small_artifact import make_artifact

from nano_agent_ros.agent import Agent, Model
from nano_agent_ros.decode import Decoder, reply_grammar
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, Site, Skills

SKILLS = Skills.load(default_skills()).subset(["stop", "wait", "navigate_to"])
SITE = Site.load({"locations": {"a": {"aliases": ["bay one"]}}})
KINDS = ["nemotron_3", "nano_v2", "nano_v2 with tags as tokens"]
TEXTS = ["go to bay one", "what can you do?", "stop"]
STOP, GO = [Call("stop", {})], [Call("navigate_to", {"location": "a"})]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    words = checkpoint(folder / "words", request.param)
    tokenizer = Tokenizer(words)
    artifact = make_artifact(folder, {"hybrid_override_pattern": "M*M-", "vocab_size": tokenizer.vocab_size})
    return Model(open_engine(artifact, "native", threads=1), tokenizer, ChatTemplate.load(words))


def decoder(model, budget):
    builder = PromptBuilder(model.tokenizer, model.template, SKILLS, SITE, thinking=True)
    grammar = reply_grammar(SKILLS, SITE, model.tokenizer.added, builder.dialect, *builder.around)
    size = model.tokenizer.vocab_size
    return builder, Decoder(model.tokenizer, grammar, size, builder.eos_id, builder.dialect, thinking=budget)


class Wanting:
    """An engine that wants to say one text, whatever it is fed: its state is the list of tokens."""

    def __init__(self, wanted, size):
        self.wanted, self.size = wanted, size

    def logits(self, state):
        out = np.random.default_rng([7, *state]).standard_normal(self.size, np.float32)
        if len(state) < len(self.wanted):
            out[self.wanted[len(state)]] += 50
        return out

    def extend(self, state, tokens, every=False):
        state += tokens
        return self.logits(state)


def test_a_call_in_a_thought_is_no_action(model):
    builder, decode = decoder(model, 200)
    dreamed = f"I could {builder.dialect.write(GO)} or not.\n"
    close = model.tokenizer.encode("</think>")
    wanted = [*model.tokenizer.encode_foreign(dreamed), *close, *builder.written(builder.dialect.write(STOP))]
    engine, state = Wanting(wanted, model.tokenizer.vocab_size), []
    reply = decode.decode(engine, state, engine.logits(state))
    assert [Call(c.name, c.arguments) for c in reply.calls] == STOP
    assert reply.thought.text == dreamed.strip() and not reply.thought.cut
    assert state == wanted
    assert model.tokenizer.decode(reply.tokens) == model.tokenizer.decode(wanted[-len(reply.tokens) :])


@given(seed=st.integers(0, 2**32 - 1), budget=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_a_thought_ends_within_its_budget_and_holds_no_control_token(model, seed, budget):
    _, decode = decoders.setdefault((id(model), budget), decoder(model, budget))
    wanted = [int(t) for t in np.random.default_rng(seed).integers(0, model.tokenizer.vocab_size, 60)]
    engine, state = Wanting(wanted, model.tokenizer.vocab_size), []
    thought, _ = decode._thinker.think(engine, state, engine.logits(state))
    close = len(model.tokenizer.encode("\n</think>"))
    assert thought.tokens == len(state) <= budget + close
    assert thought.steps <= budget + 1
    control = set(model.tokenizer.added.values()) - set(model.tokenizer.encode("</think>"))
    assert not control & set(state)
    assert model.tokenizer.decode(state).endswith("</think>")


decoders: dict = {}


@pytest.mark.parametrize("budget", [1, 25])
def test_a_conversation_with_thoughts_holds_none_of_them(model, budget):
    """What is kept equals one prefill of the template's rendering of the conversation, thoughts dropped."""
    agent = Agent(model, SKILLS, SITE, thinking=budget)
    builder, engine = agent._builder, model.engine
    replies, messages = _record_replies(builder), []
    for text in TEXTS:
        turn = agent.hear(text)
        assert 0 < turn.tokens["thought"] < turn.tokens["steps"] + 20 or turn.kind == "refuse"  # it may not end
        calls = builder.dialect.parse(replies[-1])
        messages += [{"role": "user", "content": builder.content(text)}, builder.dialect.message(calls)]
    messages.append({"role": "user", "content": "go"})
    rendered = model.tokenizer.encode(builder.conversation(messages, generation=True))
    following = builder.turn("go")
    assert rendered[-len(following) :] == following
    state = engine.new_state()
    engine.extend(state, rendered[: -len(following)])
    assert agent.context_tokens == engine.length(state)
    one, other = engine.extend(agent.state, following), engine.extend(state, following)
    assert np.abs(one - other).max() < 0.02 * np.abs(other).max()


@pytest.mark.parametrize("thinking", [0, 25])
def test_a_turn_that_fails_leaves_the_conversation_as_it_was(model, thinking):
    class Broken(Exception):
        pass

    agent = Agent(model, SKILLS, SITE, thinking=thinking)
    agent.hear("stop")
    before = agent.state_digest()

    def fail(text):
        raise Broken

    agent._builder.reply = fail
    with pytest.raises(Broken):
        agent.hear("go to bay one")
    assert agent.state_digest() == before


def _record_replies(builder):
    replies, encode = [], builder.reply
    builder.reply = lambda text: replies.append(text) or encode(text)
    return replies
