"""Claims about guesses: replies and confidences are those without guesses, however good or bad the guesses are."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.agent import Agent, Model
from nano_agent_ros.decode import NEMOTRON_3, Decoder, DialectError, Guesser, reply_grammar
from nano_agent_ros.decode.generate import DecodeError, Interrupted, Step
from nano_agent_ros.decode.pace import PAUSE, TRIAL, Pace
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer
from nano_agent_ros.resources import default_model, default_skills
from nano_agent_ros.skills import Call, Site, Skills

TOKENIZER = Tokenizer(default_model())
SKILLS, SITE = Skills.load(default_skills()), Site.load("warehouse")
BUILDER = PromptBuilder(TOKENIZER, ChatTemplate.load(default_model()), SKILLS, SITE)
EOS = BUILDER.eos_id
HELDOUT = Path(__file__).resolve().parent.parent / "eval" / "heldout.jsonl"
PLAN = [Call("pick", {"object": "blue_bin", "quantity": "12"}), Call("navigate_to", {"location": "dock_3"})]


class Tokens:
    """An engine whose state is the list of tokens fed; logits are random, fixed by them, and lean towards a text."""

    def __init__(self, seed, wanted=(), lean=0.0):
        self.seed, self.wanted, self.lean = seed, list(wanted), lean
        self.steps = []

    def logits(self, state):
        out = np.random.default_rng([self.seed, *state]).standard_normal(TOKENIZER.vocab_size, np.float32) * 3
        if len(state) < len(self.wanted):
            out[self.wanted[len(state)]] += self.lean
        return out

    def extend(self, state, tokens, every=False):
        assert tokens
        self.open = len(tokens)
        self.steps.append(list(tokens))
        rows = []
        for token in tokens:
            state.append(int(token))
            rows.append(self.logits(state))
        return np.stack(rows) if every else rows[-1]

    def commit(self, state, n):
        assert 0 <= n <= self.open
        del state[len(state) - self.open + n :]
        self.open = 0


class Proposals:
    """Guesses from a function of the tokens so far."""

    def __init__(self, propose, room):
        self.propose, self._room, self.seen = propose, room, []

    def room(self):
        return self._room

    def observe(self, step):
        self.seen.append(step)


def decode(decoder, engine, guess=None):
    """The reply, or the error; and what the state holds afterwards."""
    state = list(decoder.start)
    try:
        reply = decoder.decode(engine, state, engine.logits(state), guess)
    except (DecodeError, DialectError) as error:
        return type(error), None
    return (reply.calls, reply.text, reply.tokens, [c.confidence for c in reply.calls]), state


FULL = Decoder(TOKENIZER, reply_grammar(SKILLS, SITE, TOKENIZER.added), TOKENIZER.vocab_size, EOS)
WANTED = BUILDER.written(NEMOTRON_3.write(PLAN))


@given(
    seed=st.integers(0, 2**32 - 1),
    lean=st.sampled_from([0.0, 6.0, 50.0]),
    room=st.integers(1, 40),
    kind=st.sampled_from(["noise", "right", "nearly right", "end", "same"]),
)
@settings(max_examples=120, deadline=None)
def test_guesses_change_neither_reply_nor_confidence_nor_state(seed, lean, room, kind):
    random = np.random.default_rng(seed)

    def propose(tokens):
        right = WANTED[len(tokens)] if len(tokens) < len(WANTED) else EOS
        if kind == "end":
            return [EOS]
        if kind == "same":
            return [tokens[-1]] * 3
        if kind == "right" or (kind == "nearly right" and random.random() < 0.8):
            return [right, EOS]
        return [int(t) for t in random.integers(-0, TOKENIZER.vocab_size, 40)]

    plain, plain_state = decode(FULL, Tokens(seed, WANTED, lean))
    guess = Proposals(propose, room)
    guessed, guessed_state = decode(FULL, Tokens(seed, WANTED, lean), guess)
    assert guessed == plain
    assert guessed_state == plain_state
    assert all(step.right <= step.guesses and step.saved <= step.right for step in guess.seen)
    assert all(step.fed <= max(room, step.fed - step.guesses) for step in guess.seen)


def test_right_guesses_save_steps():
    slow, fast = Tokens(1, WANTED, 50.0), Tokens(1, WANTED, 50.0)
    assert decode(FULL, slow)[0] == decode(FULL, fast, Proposals(lambda t: [WANTED[len(t)]], 10))[0]
    assert len(fast.steps) < len(slow.steps) < len(WANTED)
    assert len(fast.steps) <= -(-len(WANTED) // 10) + 1


def test_one_engine_step_decodes_a_reply_that_is_guessed_whole():
    engine = Tokens(1, WANTED, 50.0)
    decode(FULL, engine, Proposals(lambda t: [WANTED[len(t)]], 100))
    assert len(engine.steps) == 1


@pytest.fixture(scope="module")
def grammars():
    """Decoders of grammars with few and with many choices."""
    sites = [{"locations": {"a": {}}}, {"locations": {f"l_{i}": {} for i in range(30)}, "objects": {"l": {}}}]
    chosen = [SKILLS.subset(["stop"]), SKILLS.subset(["navigate_to", "pick", "bring", "report_defect"])]
    return [
        Decoder(TOKENIZER, reply_grammar(skills, Site.load(site), TOKENIZER.added), TOKENIZER.vocab_size, EOS)
        for skills in chosen
        for site in sites
    ]


@given(which=st.integers(0, 3), seed=st.integers(0, 2**32 - 1), room=st.integers(2, 20), prompt=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_guesser_s_own_guesses_change_nothing_in_any_grammar(grammars, which, seed, room, prompt):
    guesser = Guesser(NEMOTRON_3, SKILLS, SITE, BUILDER.written, TOKENIZER.decode, room)
    plain = decode(grammars[which], Tokens(seed))
    for _ in range(2):  # the second time it has learned from the first
        guesser.begin(prompt, TOKENIZER.encode_foreign(prompt))
        assert decode(grammars[which], Tokens(seed), guesser) == plain
        if plain[1]:
            guesser.learn(plain[0][0], plain[0][2])


def test_decoding_can_be_called_off_between_any_two_engine_steps():
    whole = Tokens(1, WANTED, 50.0)
    decode(FULL, whole)
    for steps in range(len(whole.steps)):
        engine, asked = Tokens(1, WANTED, 50.0), iter([False] * steps + [True])
        with pytest.raises(Interrupted) as cut:
            state = list(FULL.start)
            FULL.decode(engine, state, engine.logits(state), cancelled=lambda asked=asked: next(asked))
        assert engine.steps == whole.steps[:steps]
        assert list(cut.value.tokens) == state + whole.steps[steps] == WANTED[: len(cut.value.tokens)]


def conversations(count):
    with HELDOUT.open(encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(count), lines, strict=False)]


def test_the_shipped_model_replies_the_same_with_guesses_without_and_when_they_pay():
    model = Model.open(threads=1)
    saved = 0
    for conversation in conversations(6):
        site, skills = Site.load(conversation["site"]), SKILLS.subset(conversation.get("skills", list(SKILLS.skills)))
        agents = [Agent(model, skills, site, guess=guess) for guess in (0, 10, None)]
        for turn in conversation["turns"]:
            plain, guessed, paying = (agent.hear(turn["say"], turn.get("facts")) for agent in agents)
            for other in (guessed, paying):
                assert (other.kind, other.actions, other.reply) == (plain.kind, plain.actions, plain.reply)
                assert [a.confidence for a in other.actions] == [a.confidence for a in plain.actions]
                assert other.tokens["steps"] <= plain.tokens["steps"]
            saved += plain.tokens["steps"] - guessed.tokens["steps"]
        assert len({agent.state_digest() for agent in agents}) == 1
    assert saved > 0


def test_a_location_that_was_said_is_guessed():
    guesser = Guesser(NEMOTRON_3, SKILLS, SITE, BUILDER.written, TOKENIZER.decode, 10)
    guesser.begin("take it from dock one to rack seven", BUILDER.turn("take it from dock one to rack seven"))
    wanted = BUILDER.written(NEMOTRON_3.write([Call("navigate_to", {"location": "dock_1"})]))
    head = TOKENIZER.encode("<tool_call>\n<function=navigate_to>\n<parameter=location>\n")
    for size in range(len(head), len(head) + 3):
        assert next(guesser.propose(wanted[:size])) == wanted[size]


def test_guessing_stops_where_it_does_not_pay_and_tries_again_later():
    pace = Pace()
    for _ in range(TRIAL):
        assert pace.pays()
        pace.observe(Step(8, 6, 0, 0, 8e-3, 1e-3))
    assert not any(pace.pays() for _ in range(PAUSE))
    assert pace.pays()


def test_guessing_goes_on_where_a_step_costs_the_same_for_one_token_and_for_ten():
    pace = Pace()
    for fed in (1, 10, 2, 9, 1, 10, 3, 10) * 4:
        assert pace.pays()
        pace.observe(Step(fed, fed - 1, (fed - 1) // 3, fed // 4, 70e-3, 1e-3))
    assert pace.gain_s() > 0
