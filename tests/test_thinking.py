"""Claims about thinking models, on a random network: a thought is free, limited, never acted on, and not kept."""

import pytest
from published_templates import checkpoint
from small_artifact import make_artifact

from nano_agent_ros.agent import Agent, Model
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.prompt import ChatTemplate, Tokenizer
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills

SKILLS = Skills.load(default_skills()).subset(["stop", "wait"])
SITE = Site.load({"locations": {"a": {"aliases": ["bay one"]}}})
KINDS = ["nemotron_3", "nano_v2", "nano_v2 with tags as tokens"]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    checkpoint(folder / "words", request.param)
    tokenizer = Tokenizer(folder / "words")
    artifact = make_artifact(folder, {"hybrid_override_pattern": "M*M-", "vocab_size": tokenizer.vocab_size})
    return Model(open_engine(artifact, "native", threads=1), tokenizer, ChatTemplate.load(folder / "words"))


class Recorder:
    """Passes an engine through and records what each state was fed that it still holds."""

    def __init__(self, engine):
        self._engine, self.fed = engine, {}

    def __getattr__(self, name):
        return getattr(self._engine, name)


def conversation(agent, texts, facts=()):
    return [agent.hear(text, dict(facts)) for text in texts]


def expected_tokens(agent, turns, texts, model):
    """One prefill of what the template shows of the conversation so far."""
    builder = agent._builder
    tokens, calls = builder.prefix(), []
    for index, (turn, text) in enumerate(zip(turns, texts, strict=True)):
        prompt = builder.turn(text, first=index == 0)
        tokens += prompt[: len(prompt) - len(builder.opening)]
        calls.append(turn)
    return tokens


TEXTS = ["go to bay one", "what can you do?", "stop"]


@pytest.mark.parametrize("budget", [1, 5, 40])
def test_a_thought_is_no_longer_than_its_budget_and_leaves_no_trace(model, budget):
    agent = Agent(model, SKILLS, SITE, thinking=budget, guess=0)
    turns = conversation(agent, TEXTS)
    close = len(model.tokenizer.encode("\n</think>"))
    for turn in turns:
        assert 0 < turn.tokens["thought"] <= budget + close
        assert turn.tokens["steps"] >= 1
    silent = sum(t.tokens["prompt"] - len(agent._builder.opening) + t.tokens["reply"] for t in turns)
    assert agent.context_tokens == len(agent._builder.prefix()) + silent


def test_with_thinking_the_state_is_that_of_one_prefill_of_the_rendering(model):
    """What is kept of a conversation equals one prefill of the template's rendering of it, thoughts dropped."""
    agent = Agent(model, SKILLS, SITE, thinking=12)
    said = []
    reply = agent._builder.reply
    agent._builder.reply = lambda text: said.append(text) or reply(text)
    conversation(agent, TEXTS)
    builder, engine = agent._builder, model.engine
    messages = []
    for text, answer in zip(TEXTS, said, strict=True):
        messages += [{"role": "user", "content": text}, builder.dialect.message(builder.dialect.parse(answer))]
    messages.append({"role": "user", "content": "go"})
    whole = builder.conversation(messages, generation=True)
    tokens = model.tokenizer.encode(whole)
    tail = len(builder.turn("go"))
    state = engine.new_state()
    engine.extend(state, tokens[:-tail])
    assert agent.context_tokens == engine.length(state)
    assert _close(agent, engine, state, builder.turn("go"))


def _close(agent, engine, state, tokens):
    import numpy as np

    mine = engine.restore(engine.snapshot(agent._state))
    one, other = engine.extend(mine, tokens), engine.extend(state, tokens)
    return np.abs(one - other).max() < 0.02 * np.abs(other).max()
