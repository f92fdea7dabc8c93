"""Claims about turns that are cut: within one engine step, at any of them, and as if they had never been."""

from __future__ import annotations

import pytest
from random_models import DIALECTS, make_model

from nano_agent_ros.agent import CALLED_OFF, Agent, Model
from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Call, Site, Skills

SKILLS = Skills.load(default_skills())
FEW = SKILLS.subset(["stop", "wait", "navigate_to"])
PLACE = Site.load({"locations": {"a": {"aliases": ["bay one"]}}})
LONG = "pick up the blue bin, take it to packing and wait there for 2 minutes"


class Cut:
    """Counts an agent's engine steps (`extend`) and says, as `cancelled`, that the turn is called off in step `at`."""

    def __init__(self, agent, at=None):
        self.steps, self.at, self.agent = 0, at, agent
        extend = type(agent.engine).extend

        def counted(state, tokens, every=False):
            self.steps += 1
            return extend(agent.engine, state, tokens, every)

        agent.engine.extend = counted

    def __call__(self):
        return self.at is not None and self.steps >= self.at

    def hear(self, text, facts=None):
        """The turn, with the engine as it was afterwards."""
        try:
            return self.agent.hear(text, facts, self)
        finally:
            del self.agent.engine.extend


def told(agent):
    return agent.memory(), agent.state_digest()


def outcome(agent, turn):
    return turn.turn, turn.kind, turn.actions, turn.reply, turn.fed, *told(agent)


@pytest.fixture(scope="module")
def shipped():
    return Model.open(threads=1)


@pytest.mark.parametrize("text", [LONG, "how is your battery", "go to the battery room", "did you see the game"])
def test_a_turn_that_is_cut_at_any_step_leaves_no_trace(shipped, text):
    agent = Agent(shipped, SKILLS, Site.load("warehouse"), guess=0)
    agent.hear("go to dock 3", {"battery": 80})
    start, memory, before = agent.engine.fork(agent.state), agent.memory(), told(agent)
    whole = Cut(agent)
    expected = outcome(agent, whole.hear(text, {"battery": 79}))
    for at in range(whole.steps + 1):
        agent.recall(agent.engine.fork(start), memory)
        cut = Cut(agent, at)
        turn = cut.hear(text, {"battery": 79})
        assert (turn.kind, turn.actions, turn.reply, turn.fed) == ("cut", (), "", ())
        assert cut.steps == at, "no engine step after the one in which it was called off"
        assert told(agent) == before
        assert outcome(agent, agent.hear(text, {"battery": 79})) == expected


@pytest.fixture(scope="module", params=DIALECTS)
def random_model(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), request.param)


@pytest.mark.parametrize("thinking", [0, 12])
@pytest.mark.parametrize("keep", [False, True])
def test_thoughts_and_replies_of_either_dialect_can_be_cut(random_model, thinking, keep, monkeypatch):
    monkeypatch.setattr("nano_agent_ros.decode.generate.MAX_REPLY_TOKENS", 40)
    agent = Agent(random_model, FEW, PLACE, thinking=thinking, keep_cut_turns=keep)
    agent.hear("stop")
    start, memory, before = agent.engine.fork(agent.state), agent.memory(), told(agent)
    whole = Cut(agent)
    whole.hear("go to bay one")
    for at in range(whole.steps + 1):
        agent.recall(agent.engine.fork(start), memory)
        cut = Cut(agent, at)
        assert cut.hear("go to bay one").kind == "cut"
        if keep:
            assert agent.turns == 2
        else:
            assert cut.steps == at and told(agent) == before


def test_a_cut_turn_that_is_kept_is_as_the_template_shows_it(shipped):
    """The state equals one prefill of the template's rendering: the words, and the calls complete at the cut."""
    agent = Agent(shipped, SKILLS, Site.load("warehouse"), guess=0, keep_cut_turns=True)
    builder, engine, dialect = agent._builder, agent.engine, agent._dialect

    def said(turn):
        return dialect.parse(agent._decoder.text(turn.fed[-turn.tokens["reply"] :]))

    first = said(agent.hear("hello"))
    start, memory = engine.fork(agent.state), agent.memory()
    whole = Cut(agent)
    calls = said(whole.hear(LONG, {"battery": 60}))
    assert len(calls) > 1
    kept = []
    for at in range(whole.steps + 1):
        agent.recall(engine.fork(start), memory)
        turn = Cut(agent, at).hear(LONG, {"battery": 60})
        assert (turn.kind, turn.actions, turn.reply, turn.turn) == ("cut", (), "", 1)
        assert agent.memory() == {"facts": {"battery": 60}, "spoken": [*memory["spoken"], LONG, ""], "turns": 2}
        kept.append(said(turn))
        users = [builder.content("hello"), builder.content(LONG, {"battery": 60}), "go"]
        replies = [dialect.message(first), dialect.message(kept[-1]), None]
        messages = [m for u, r in zip(users, replies, strict=True) for m in ({"role": "user", "content": u}, r) if m]
        rendered = shipped.tokenizer.encode(builder.conversation(messages, generation=True))
        following = builder.turn("go")
        assert rendered[-len(following) :] == following
        state = engine.new_state()
        engine.extend(state, rendered[: -len(following)])
        assert agent.state_digest() == engine.snapshot(state).digest
    assert kept[0] == [Call("refuse", {"text": CALLED_OFF})] and kept[-1] == calls
    grown = [said for said in kept if said[0].name != "refuse"]
    assert [said == calls[: len(said)] for said in grown] == [True] * len(grown)
    assert {len(said) for said in grown} == set(range(1, len(calls) + 1))


def test_the_turn_after_a_cut_one_is_numbered_as_if_it_had_not_been(shipped):
    one, other = (Agent(shipped, SKILLS, Site.load("warehouse")) for _ in range(2))
    for agent in (one, other):
        agent.hear("go to dock 3")
    assert Cut(one, 2).hear("no, go to dock 4").kind == "cut"
    assert outcome(one, one.hear("wait")) == outcome(other, other.hear("wait"))


def test_a_turn_can_be_taken_back_until_it_is_settled(shipped):
    agent = Agent(shipped, SKILLS, Site.load("warehouse"))
    assert not agent.take_back()
    agent.hear("go to dock 3", {"battery": 80})
    agent.settle()
    before = told(agent)
    assert not agent.take_back()
    turn = agent.hear("now go to aisle 2", {"battery": 70})
    expected = outcome(agent, turn)
    assert agent.take_back() and not agent.take_back()
    assert told(agent) == before
    assert outcome(agent, agent.hear("now go to aisle 2", {"battery": 70})) == expected


def test_a_cut_turn_that_was_anticipated_leaves_no_trace(shipped):
    agent = Agent(shipped, SKILLS, Site.load("warehouse"), guess=0)
    agent.hear("go to dock 3")
    before = told(agent)
    agent.anticipate("now go to aisle 2", complete=True)
    assert Cut(agent, 1).hear("now go to aisle 2").kind == "cut"
    assert told(agent) == before
    assert agent.hear("now go to aisle 2").tokens["anticipated"] == 0


def test_an_engine_that_fails_in_a_cut_turn_that_is_to_be_kept_leaves_the_conversation_as_it_was(shipped):
    agent = Agent(shipped, SKILLS, Site.load("warehouse"), keep_cut_turns=True)
    agent.hear("go to dock 3")
    before = told(agent)

    def fail(*arguments, **more):
        raise EngineError("out of memory")

    agent.engine.extend = fail
    try:
        with pytest.raises(EngineError):
            agent.hear("wait", cancelled=lambda: True)
    finally:
        del agent.engine.extend
    assert told(agent) == before
