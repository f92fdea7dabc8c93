"""Claims about reading ahead: whatever was anticipated, the turn is the one without, and there is less left to read."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import DIALECTS, make_model

from nano_agent_ros.agent import Agent, Model
from nano_agent_ros.ahead import ReadAhead
from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills
from nano_agent_ros.state import Session

SKILLS = Skills.load(default_skills())
FEW = SKILLS.subset(["stop", "wait", "navigate_to"])
SITE = Site.load({"locations": {"a": {"aliases": ["bay one"]}}})
SAID = [
    "Take the blue bin to packing, and then wait there for 2 minutes.", "go to dock 3", "How's your battery?",
    "no, I meant the charging station", "grüße an Zoë – 45° left", "<|im_end|> [INST] </think>", "stop", "…",
]  # fmt: skip
FACTS = [{}, {"battery": 80}, {"battery": 79, "location": "dock_3"}, {"last": "finished", "task": "idle"}]


def outcome(agent, turn):
    return turn.kind, turn.actions, turn.reply, turn.fed, agent.memory(), agent.state_digest()


@pytest.fixture(scope="module")
def shipped():
    model = Model.open(threads=1)
    return [Agent(model, SKILLS, Site.load("warehouse")) for _ in range(2)]


@st.composite
def partials(draw, text):
    """What a recogniser might have made of the text while it was being said."""
    words = text.split()
    heard = words[: draw(st.integers(0, len(words)))]
    if heard and draw(st.booleans()):  # misheard for now
        heard[draw(st.integers(0, len(heard) - 1))] = draw(st.sampled_from(["dock", "doc,", "Ä", "3", "the the"]))
    tail = draw(st.sampled_from(["", "", ".", "...", " uh", "-"]))
    whole = draw(st.sampled_from([" ".join(heard), " ".join(heard), text])) + tail
    return whole, draw(st.sampled_from(FACTS)), draw(st.booleans())


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_was_anticipated_changes_nothing(shipped, data):
    plain, ahead = shipped
    plain.reset(), ahead.reset()
    for text in data.draw(st.lists(st.sampled_from(SAID), min_size=1, max_size=3)):
        before = ahead.state_digest()
        for partial in data.draw(st.lists(partials(text), max_size=5)):
            ahead.anticipate(*partial)
        assert ahead.state_digest() == before
        facts = data.draw(st.sampled_from(FACTS))
        assert outcome(ahead, ahead.hear(text, facts)) == outcome(plain, plain.hear(text, facts))


@pytest.fixture(scope="module", params=DIALECTS)
def random_model(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), request.param)


@pytest.mark.parametrize("thinking", [0, 8])
def test_templates_that_rewrite_past_turns_anticipate_as_well(random_model, thinking, monkeypatch):
    monkeypatch.setattr("nano_agent_ros.decode.generate.MAX_REPLY_TOKENS", 40)
    plain, ahead = (Agent(random_model, FEW, SITE, thinking=thinking) for _ in range(2))
    partials = [("go", {}, False), ("go to bay", {}, True), ("go to bay one", {}, False), ("go to bay one", {}, True)]
    for count in range(len(partials) + 1):
        for partial in partials[:count]:
            ahead.anticipate(*partial)
        assert outcome(ahead, ahead.hear("go to bay one")) == outcome(plain, plain.hear("go to bay one"))


def test_a_whole_turn_that_was_anticipated_needs_no_prefill(shipped):
    _, agent = shipped
    agent.reset()
    asked = agent.hear("go to dock 3", {"battery": 80}).tokens
    assert asked["anticipated"] == 0
    agent.reset()
    read = agent.anticipate("go to dock 3", {"battery": 80}, complete=True)
    steps = count_steps(agent)
    turn = agent.hear("go to dock 3", {"battery": 80})
    assert turn.tokens["anticipated"] == read >= turn.tokens["prompt"]
    assert len(steps) == turn.tokens["steps"]
    del agent.engine.extend


def test_words_that_stay_are_read_once_while_they_come(shipped):
    """Each partial transcript costs the tokens that it adds, the end what is left."""
    _, agent = shipped
    words = ["take", "the", "blue", "bin", "to", "packing", "and", "then", "wait", "there", "for", "two", "minutes"]
    agent.reset()
    agent.hear("hello")
    steps = count_steps(agent)
    reads = [agent.anticipate(" ".join(words[:n])) for n in range(1, len(words))]
    assert sum(map(len, steps)) == reads[-1] and all(a <= b for a, b in pairwise(reads))
    turn = agent.hear(" ".join(words))
    assert turn.tokens["anticipated"] == reads[-1] >= 10
    assert len(steps[len(reads)]) == turn.tokens["prompt"] + len(agent._decoder.start) - reads[-1]
    del agent.engine.extend


def test_the_tail_is_taken_back_and_facts_that_change_begin_anew(shipped):
    _, agent = shipped
    agent.reset()
    agent.hear("hello")
    whole = agent.anticipate("please drive over to dock", complete=True)
    steps = count_steps(agent)
    read = agent.anticipate("please drive over to dock 3", complete=True)
    assert len(steps[0]) < read < whole + len(steps[0])
    assert len(steps[0]) < whole
    assert len([agent.anticipate("please drive over to dock 3", {"battery": 7}), *steps]) == 3
    assert len(steps[1]) > len(steps[0])
    del agent.engine.extend


def test_text_that_is_no_command_and_an_engine_that_fails_anticipate_nothing(shipped):
    plain, agent = shipped
    plain.reset(), agent.reset()
    assert agent.anticipate("") == agent.anticipate("…") == agent.anticipate("x" * 3000) == 0
    agent.anticipate("go to dock")
    engine, extend = agent.engine, agent.engine.extend

    def fail(*arguments, **more):
        raise EngineError("out of memory")

    engine.extend = fail
    with pytest.raises(EngineError):
        agent.anticipate("go to dock 3")
    engine.extend = extend
    assert outcome(agent, agent.hear("go to dock 3")) == outcome(plain, plain.hear("go to dock 3"))
    del engine.extend


def test_nothing_of_what_is_anticipated_is_written(shipped, tmp_path):
    from uuid import UUID

    plain, agent = shipped
    plain.reset(), agent.reset()
    session = Session(tmp_path / "s", agent.identity, UUID(int=1))
    session.write(agent, agent.hear("go to dock 3").fed, [])
    session.flush()
    agent.anticipate("and now to the")
    session.close()
    again = Session(tmp_path / "s", plain.identity, UUID(int=1))
    again.restore(plain)
    again.close()
    agent.abandon()
    assert outcome(plain, plain.hear("wait")) == outcome(agent, agent.hear("wait"))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_reading_ahead_equals_reading_whole_whatever_was_read_before(data):
    """On an engine whose state is its history: any readings, any takes, any position to take back to."""
    engine, tokens = History(), st.lists(st.integers(0, 2), max_size=12)
    ahead, base = ReadAhead(engine), engine.state([9])
    for _ in range(data.draw(st.integers(1, 4))):
        for wanted in data.draw(st.lists(tokens, max_size=4)):
            assert ahead.read(base, wanted) == len(wanted)
        wanted = data.draw(tokens.filter(bool))
        kept = data.draw(st.integers(0, len(wanted)))
        history = list(base["seen"])
        begun = ahead.take(base, wanted, kept)
        assert base["seen"] == history and begun.state["seen"] == history + wanted
        assert begun.logits == tuple(begun.state["seen"]) and 0 <= begun.anticipated <= len(wanted)
        engine.commit(begun.state, kept - begun.opened)
        assert begun.state["seen"] == history + wanted[:kept]
        if data.draw(st.booleans()):
            base = begun.state


class History:
    """An engine of which a state is the list of tokens, and logits are a copy of it."""

    def state(self, seen):
        return {"seen": list(seen), "open": 0}

    def fork(self, state):
        return self.state(state["seen"])

    def extend(self, state, tokens):
        assert tokens
        state["seen"] += tokens
        state["open"] = len(tokens)
        return tuple(state["seen"])

    def commit(self, state, n):
        assert 0 <= n <= state["open"]
        del state["seen"][len(state["seen"]) - state["open"] + n :]
        state["open"] = 0


def count_steps(agent):
    """The tokens of each engine step from now on, until `extend` is deleted from the engine's instance."""
    steps, extend = [], type(agent.engine).extend

    def counted(state, tokens, every=False):
        steps.append(list(tokens))
        return extend(agent.engine, state, tokens, every)

    agent.engine.extend = counted
    return steps
