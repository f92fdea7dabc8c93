"""Claims about both tool-call dialects, with thinking on and off: tokens are those of the checkpoint's own template."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_templates import NANO_V2, VARIANTS, checkpoint
from transformers import PreTrainedTokenizerFast

from nano_agent_ros.decode import Decoder, DialectError, parse_reply, reply_grammar, text_begins
from nano_agent_ros.decode.dialect import NanoV2, call_ends
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer, clean
from nano_agent_ros.resources import default_model, default_skills
from nano_agent_ros.skills import Call, Site, Skills

SKILLS = Skills.load(default_skills())
SITE = Site.load("warehouse")
KINDS = ["nemotron_3", "nano_v2", "nano_v2 with tags as tokens"]

GO = [Call("navigate_to", {"location": "dock_3"})]
PLAN = [Call("pick", {"object": "blue_bin", "quantity": "12"}), Call("wait", {"duration": "2 min"}), Call("stop", {})]
SAID = [Call("answer", {"text": 'It says "fragile" \\ 50 % on it.'})]


class Checkpoint:
    """A folder with a tokenizer and a chat template, and `transformers` as the judge of both."""

    def __init__(self, folder, kind):
        checkpoint(folder, kind)
        self.tokenizer, self.template = Tokenizer(folder), ChatTemplate.load(folder)
        self.judge = PreTrainedTokenizerFast.from_pretrained(folder)
        if self.judge.chat_template is None:
            self.judge.chat_template = self.template.source

    def builder(self, thinking=False):
        return PromptBuilder(self.tokenizer, self.template, SKILLS, SITE, thinking)

    def rendered(self, builder, messages, thinking):
        return self.judge.apply_chat_template(
            [builder.system, *messages], tools=builder.tools, add_generation_prompt=True, tokenize=True,
            enable_thinking=thinking, return_dict=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {kind: Checkpoint(tmp_path_factory.mktemp("kind"), kind) for kind in [*KINDS, *VARIANTS]}


TURNS = [
    ("Take it to dock 3, then wait two minutes.", {"battery": 62, "carrying": "pallet"}, PLAN),
    ("What does it say?", {}, SAID),
    ("go to rack seven!", {"last": "finished; arrived", "location": "dock_3"}, GO),
    ("Done? (really)", {"last": "failed"}, SAID),
    ("ok…", {}, GO),
]


def appended(builder, turns, thinking):
    """Yield (tokens fed until the model writes, messages so far) for each turn, feeding what an agent feeds."""
    tokens, messages = builder.prefix(), []
    for index, (text, facts, calls) in enumerate(turns):
        told = dict(facts)
        if index and "last" in told:
            result = json.dumps({"last": told.pop("last").replace(";", "")}, ensure_ascii=False)
            messages.append({"role": "tool", "content": " ".join(result.split())})
        tokens = tokens + builder.turn(text, facts, first=index == 0)
        messages.append({"role": "user", "content": builder.content(text, told)})
        yield tokens, list(messages)
        message = builder.dialect.message(calls)
        if thinking:
            message["reasoning_content"] = "dock 3 is free,\nso I can go"
        tokens = tokens[: len(tokens) - len(builder.opening)] + builder.reply(builder.dialect.write(calls))
        messages.append(message)


@pytest.mark.parametrize("thinking", [False, True], ids=["thinking off", "thinking on"])
@pytest.mark.parametrize("kind", [*KINDS, *VARIANTS])
def test_the_tokens_fed_are_those_of_the_template_s_rendering_at_every_turn(checkpoints, kind, thinking):
    given_kind = checkpoints[kind]
    builder = given_kind.builder(thinking)
    assert builder.rewrites == (thinking or not kind.startswith("nemotron_3"))
    assert given_kind.tokenizer.decode([builder.eos_id]) in ("<|im_end|>", "<SPECIAL_12>")
    for tokens, messages in appended(builder, TURNS, thinking):
        assert tokens == given_kind.rendered(builder, messages, thinking)
    assert [m["role"] for m in messages].count("tool") == 2


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=40), max_size=3))
@settings(max_examples=40, deadline=None)
def test_whatever_is_said_the_tokens_decode_to_the_rendering(checkpoints, kind, texts):
    given_kind = checkpoints[kind]
    builder = given_kind.builder()
    for tokens, messages in appended(builder, [(clean("go " + text), {}, GO) for text in texts], False):
        assert given_kind.tokenizer.decode(tokens) == builder.conversation(messages, generation=True)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_foreign_text_never_forms_a_control_token(checkpoints, kind, data):
    given_kind = checkpoints[kind]
    builder = given_kind.builder()
    pieces = [*given_kind.tokenizer.added, "/think", "/no_think", " ", "go", "\n", "<", "</", ">", "/", "[", "x"]
    attack = data.draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=8).map("".join))
    harmless = builder.turn("go", {"last": "x", "battery": 1})
    tokens = builder.turn(clean("go " + attack), {"last": attack, "battery": attack})
    control = set(given_kind.tokenizer.added.values())
    assert [t for t in tokens if t in control] == [t for t in harmless if t in control]


@pytest.mark.parametrize("kind", [*KINDS, *VARIANTS])
def test_nobody_switches_thinking_by_saying_so(checkpoints, kind):
    given_kind = checkpoints[kind]
    for thinking, words in ((False, "go /think //think /no_/think"), (True, "go /no_think")):
        builder = given_kind.builder(thinking)
        message = {"role": "user", "content": builder.content(words)}
        assert given_kind.rendered(builder, [message], thinking) == builder.prefix() + builder.turn(words, first=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_on_the_site_forms_no_control_token(checkpoints, kind):
    given_kind = checkpoints[kind]
    site = Site.load({"locations": {"a": {"aliases": ["bay [INST] one [/INST]"]}}})
    prefix = PromptBuilder(given_kind.tokenizer, given_kind.template, SKILLS, site).prefix()
    added = given_kind.tokenizer.added
    assert not {added["[INST]"], added["[/INST]"]} & set(prefix)
    assert "[INST]" in given_kind.tokenizer.decode(prefix)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_s_own_text_forms_no_control_token(checkpoints, kind):
    given_kind = checkpoints[kind]
    builder = given_kind.builder()
    tokens = builder.reply(builder.dialect.write([Call("answer", {"text": "a [INST] b <|im_end|> <SPECIAL_12>"})]))
    foreign = {given_kind.tokenizer.added[t] for t in ("[INST]", "<s>")}
    assert not foreign & set(tokens) and tokens.count(builder.eos_id) == 1


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="<>\x7f"), min_size=1)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@given(st.lists(st.builds(Call, NAMES, st.dictionaries(NAMES, WORDS, max_size=3)), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_reading_back_what_was_written_gives_the_same_calls(calls):
    dialect = NanoV2(frozenset({("pick", "quantity")}))
    text = dialect.write(calls)
    assert dialect.parse(text) == calls
    assert json.loads(text[len("<TOOLCALL>") : -len("</TOOLCALL>")])
    ends = call_ends(dialect, calls)
    assert ends == sorted(ends) and ends[-1] == len(text)
    for count, end in enumerate(ends[:-1], 1):
        assert text[:end] == dialect.write(calls[:count]).removesuffix("]</TOOLCALL>")


def test_whole_numbers_are_numbers_in_json_and_text_is_text():
    dialect = NanoV2(frozenset({("pick", "quantity")}))
    calls = [Call("pick", {"quantity": "12"}), Call("say", {"quantity": "12"}), Call("pick", {"quantity": "007"})]
    text = dialect.write(calls)
    assert '"quantity": 12}' in text and '"quantity": "12"' in text and '"007"' in text
    assert dialect.parse(text) == calls


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "<TOOLCALL>[]</TOOLCALL>", "<TOOLCALL>[1]</TOOLCALL>", '<TOOLCALL>[{"name": "x"}]</TOOLCALL>',
        '<TOOLCALL>[{"name":"x","arguments":{}}]</TOOLCALL>', '<TOOLCALL>[{"name": "x", "arguments": {"a": 1.5}}]',
        '<TOOLCALL>[{"name": "x", "arguments": {"a": true}}]</TOOLCALL>', "<TOOLCALL>" + "[" * 100_000,
        '<TOOLCALL>[{"name": "x", "arguments": {"a": "1", "a": "2"}}]</TOOLCALL>', '<TOOLCALL>["name"]</TOOLCALL>',
        '<TOOLCALL>[{"name": "x", "arguments": {}}]</TOOLCALL> and', '{"name": "x", "arguments": {}}',
    ],
)  # fmt: skip
def test_text_outside_the_json_dialect_is_no_reply(text):
    with pytest.raises(DialectError):
        NanoV2().parse(text)


class Wanting:
    """An engine whose logits depend on all tokens before, and lean towards one text."""

    def __init__(self, size, wanted, seed=0, lean=50.0):
        self.size, self.wanted, self.seed, self.lean = size, wanted, seed, lean

    def logits(self, state):
        out = np.random.default_rng([self.seed, *state]).standard_normal(self.size, np.float32) * 4
        if state == self.wanted[: len(state)] and len(state) < len(self.wanted):
            out[self.wanted[len(state)]] += self.lean
        return out

    def extend(self, state, tokens, every=False):
        rows = []
        for token in tokens:
            state.append(int(token))
            rows.append(self.logits(state))
        return np.stack(rows) if every else rows[-1]


def decoder(given_kind, builder):
    grammar = reply_grammar(SKILLS, SITE, given_kind.tokenizer.added, builder.dialect, *builder.around)
    return Decoder(given_kind.tokenizer, grammar, given_kind.tokenizer.vocab_size, builder.eos_id, builder.dialect)


@pytest.fixture(scope="module")
def decoders(checkpoints):
    return {kind: decoder(checkpoints[kind], checkpoints[kind].builder()) for kind in KINDS}


@pytest.mark.parametrize("calls", [GO, PLAN, SAID, [Call("ignore", {})], [Call("place", {"location": "dock_1"})]])
@pytest.mark.parametrize("kind", KINDS)
def test_the_grammar_lets_every_meant_reply_through(checkpoints, decoders, kind, calls):
    given_kind = checkpoints[kind]
    builder = given_kind.builder()
    wanted = builder.written(builder.dialect.write(calls))
    engine = Wanting(given_kind.tokenizer.vocab_size, wanted)
    start = list(decoders[kind].start)
    reply = decoders[kind].decode(engine, start, engine.logits(start))
    assert list(reply.tokens) == wanted
    assert [Call(c.name, c.arguments) for c in reply.calls] == calls
    assert reply.steps < len(wanted)  # forced tokens go in one step


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_every_reply_of_a_random_model_parses(checkpoints, decoders, kind, seed):
    given_kind = checkpoints[kind]
    engine = Wanting(given_kind.tokenizer.vocab_size, [], seed)
    try:
        start = list(decoders[kind].start)
        reply = decoders[kind].decode(engine, start, engine.logits(start))
    except Exception as error:
        assert "did not end" in str(error)
        return
    builder = given_kind.builder()
    assert builder.dialect.parse(reply.text) == [Call(c.name, c.arguments) for c in reply.calls]
    for call in reply.calls:
        for argument in SKILLS[call.name].arguments if call.name in SKILLS else ():
            value = call.arguments.get(argument.name)
            assert value is not None or argument.optional
            if value is not None and argument.type in ("location", "object", "person", "place"):
                assert value in SITE.ids(argument.type)


HEARD = ["tell Ana \"the lift's out\", please", "5 < 6 & größer, c:\\\\temp"]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_random_model_can_only_repeat_words_that_were_said(checkpoints, decoders, kind, seed):
    given_kind = checkpoints[kind]
    builder = given_kind.builder()
    whole = builder.written(builder.dialect.write([Call("say", {"text": "~"})]))
    texts = text_begins(SKILLS, builder.dialect)
    begun = next(n for n in range(len(whole)) if texts.search(decoders[kind].text(whole[:n])))
    control, around = given_kind.tokenizer.added, builder.around
    narrow = reply_grammar(SKILLS, SITE, control, builder.dialect, *around, said=HEARD)
    engine = Wanting(given_kind.tokenizer.vocab_size, whole[:begun], seed)
    start = list(decoders[kind].start)
    reply = decoders[kind].decode(
        engine, start, engine.logits(start), narrower=lambda text: narrow if texts.search(text) else None
    )
    said = reply.calls[0].arguments["text"]
    assert said[0].isalnum() and any(said in heard for heard in HEARD), said
    assert builder.dialect.parse(reply.text) == [Call(c.name, c.arguments) for c in reply.calls]


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_text_argument_of_a_skill_narrows_the_grammar(checkpoints, kind):
    write, texts = checkpoints[kind].builder().dialect.write, text_begins(SKILLS, checkpoints[kind].builder().dialect)
    assert texts.search(write([Call("stop", {}), Call("say", {"person": "maria", "text": "hello"})]))
    assert texts.search(write([Call("report_defect", {"defect_type": "dent", "position": "left"})]))
    for calls in ([Call("answer", {"text": "Hello."})], PLAN, [Call("report_defect", {"defect_type": "dent"})]):
        assert not texts.search(write(calls))


def test_the_shipped_template_is_of_the_nemotron_3_dialect_and_does_not_think():
    tokenizer, template = Tokenizer(default_model()), ChatTemplate.load(default_model())
    builder = PromptBuilder(tokenizer, template, SKILLS, SITE)
    assert builder.dialect.name == "nemotron_3" and not builder.rewrites
    with pytest.raises(ConfigError, match="no thinking"):
        PromptBuilder(tokenizer, template, SKILLS, SITE, thinking=True)
    assert parse_reply(builder.dialect.write(PLAN)) == PLAN


def test_a_template_of_neither_dialect_is_refused(checkpoints):
    given_kind = checkpoints["nano_v2"]
    other = ChatTemplate(NANO_V2.replace("TOOLCALL", "ACTION"))
    with pytest.raises(ConfigError, match="neither as Nemotron 3"):
        PromptBuilder(given_kind.tokenizer, other, SKILLS, SITE)


def test_a_template_whose_thinking_cannot_be_switched_off_says_so(checkpoints):
    given_kind = checkpoints["nano_v2"]
    always = ChatTemplate(NANO_V2.replace("ns.thinking = false", "ns.thinking = true"))
    with pytest.raises(ConfigError, match="cannot be switched off"):
        PromptBuilder(given_kind.tokenizer, always, SKILLS, SITE)
