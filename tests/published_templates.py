"""Chat templates that render as the published ones do, and tokenizers with their control tokens, for tests.

Written for these tests: for the conversations that this package has (system message, user, calls, thoughts, results)
they render what the published templates render, to the character, and leave out the rest (broken thoughts, a final
message to continue); the list of tools is shorter. Held against which ones: docs/decoding.md.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

# Nemotron 3 Nano: thinking by the variable enable_thinking; thoughts before the last user message are dropped
NEMOTRON_3 = """
{%- set enable_thinking = enable_thinking if enable_thinking is defined else True %}
{%- set ns = namespace(last_user=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last_user = loop.index0 %}{% endif %}{% endfor %}
{{- '<|im_start|>system\\n' ~ messages[0].content }}
{%- if tools %}
    {{- '\\n\\n# Tools\\n\\nYou have access to the following functions:\\n\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n<function>\\n<name>' ~ tool.function.name ~ '</name>\\n</function>' }}{% endfor %}
    {{- '\\n</tools>\\n\\nUse this format:\\n\\n<tool_call>\\n<function=name>\\n</function>\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\\n' ~ message.content ~ '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = message.reasoning_content | default('', true) %}
        {%- set kept = thought and loop.index0 >= ns.last_user %}
        {%- set thought = '<think>\\n' ~ thought ~ '\\n</think>\\n' if kept else '<think></think>' %}
        {%- set content = thought ~ message.content %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.tool_calls %}
            {{- (content | trim) ~ '\\n' }}
            {%- for call in message.tool_calls %}
                {{- '<tool_call>\\n<function=' ~ call.function.name ~ '>\\n' }}
                {%- for name, value in call.function.arguments | items %}
                    {{- '<parameter=' ~ name ~ '>\\n' ~ (value | string) ~ '\\n</parameter>\\n' }}
                {%- endfor %}
                {{- '</function>\\n</tool_call>\\n' }}
            {%- endfor %}
        {%- else %}
            {{- content | trim }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.previtem.role != 'tool' %}{{- '<|im_start|>user\\n' }}{% endif %}
        {{- '<tool_response>\\n' ~ message.content ~ '\\n</tool_response>\\n' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' ~ ('<think>\\n' if enable_thinking else '<think></think>') }}
{%- endif %}
"""

# Nemotron Nano v2: thinking by /think and /no_think in a message; no mark of thinking stays in past turns
NANO_V2 = """
{%- set ns = namespace(thinking=true) %}
{%- for m in messages if m.role in ('user', 'system') %}
    {%- if '/think' in m.content %}{% set ns.thinking = true %}
    {%- elif '/no_think' in m.content %}{% set ns.thinking = false %}{% endif %}
{%- endfor %}
{%- set system = messages[0].content.replace('/think', '').replace('/no_think', '').strip() %}
{{- '<SPECIAL_10>System\\n' + system }}
{%- if tools %}
    {{- '\\n\\nYou can use the following tools to assist the user if required:\\n<AVAILABLE_TOOLS>[' }}
    {%- for tool in tools %}{{- tool.function | tojson }}{{- ', ' if not loop.last }}{% endfor %}
    {{- ']</AVAILABLE_TOOLS>\\n\\nUse this format:\\n<TOOLCALL>[{"name": "a", "arguments": "b"}]</TOOLCALL>\\n\\n' }}
    {{- 'Responses come in this format:\\n<TOOL_RESPONSE>[{"tool_response1"}]</TOOL_RESPONSE>' }}
{%- endif %}
{{- '\\n' }}
{%- for message in messages[1:] %}
    {%- if message.role == 'user' %}
        {{- '<SPECIAL_11>User\\n' + message.content.replace('/think', '').replace('/no_think', '').strip() + '\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.previtem.role != 'tool' %}{{- '<SPECIAL_11>User\\n<TOOL_RESPONSE>[' }}{% endif %}
        {{- message.content }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- ']</TOOL_RESPONSE>\\n' }}{% else %}{{- ', ' }}{% endif %}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content.split('</think>')[-1].strip() %}
        {{- '<SPECIAL_11>Assistant\\n' + content }}
        {%- if message.tool_calls %}
            {{- '\\n\\n' if content }}{{- '<TOOLCALL>[' }}
            {%- for call in message.tool_calls %}
                {{- '{"name": "' + call.function.name + '", "arguments": ' }}
                {{- call.function.arguments | tojson }}{{- '}' }}{{- ', ' if not loop.last }}
            {%- endfor %}
            {{- ']</TOOLCALL>' }}
        {%- endif %}
        {{- '\\n<SPECIAL_12>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<SPECIAL_11>Assistant\\n' + ('<think>\\n' if ns.thinking else '<think></think>') }}
{%- endif %}
"""

# Other templates of the same two dialects that are published or handed round
VARIANTS = {
    # Nemotron 3 Nano Omni: the variable, and words in messages that win over it
    "nemotron_3 switched by words": NEMOTRON_3.replace(
        "{%- set ns = ",
        """{%- set said = namespace(thinking=enable_thinking) %}
{%- for m in messages if m.role in ('user', 'system') %}
    {%- if '/think' in m.content %}{% set said.thinking = true %}
    {%- elif '/no_think' in m.content %}{% set said.thinking = false %}{% endif %}
{%- endfor %}
{%- set ns = """,
    )
    .replace("messages[0].content }}", "messages[0].content.replace('/think', '').replace('/no_think', '') }}")
    .replace("if enable_thinking else", "if said.thinking else"),
    # Nemotron Nano 9B v2 Japanese: the variable enable_thinking, no words
    "nano_v2 switched by a variable": NANO_V2.replace(
        "'<think>\\n' if ns.thinking else '<think></think>'",
        "'<think></think>' if enable_thinking is defined and not enable_thinking else '<think>\\n'",
    )
    .replace(".replace('/think', '').replace('/no_think', '')", "")
    .replace("'/think' in m.content", "false")
    .replace("'/no_think' in m.content", "false"),
    # the copy of the v2 template that comes with llama.cpp: an empty line after turns and results, and in a thought
    "nano_v2 with empty lines": NANO_V2.replace("<SPECIAL_12>\\n'", "<SPECIAL_12>\\n\\n'")
    .replace("]</TOOL_RESPONSE>\\n'", "]</TOOL_RESPONSE>\\n\\n'")
    .replace("{{- '\\n' }}", "{{- '\\n\\n' }}")
    .replace("'<think>\\n'", "'<think>\\n\\n'"),
}

CONTROL_3 = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<|im_start|>", "<|im_end|>", "<think>", "</think>",
             "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]  # fmt: skip
CONTROL_V2 = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"]
TAGS_V2 = ["<think>", "</think>", "<TOOLCALL>", "</TOOLCALL>", "<TOOL_RESPONSE>", "</TOOL_RESPONSE>"]

# Splits as the published tokenizers do: line breaks stick to the punctuation before them.
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

TEXT = [
    "Go to dock 3, please.\n<parameter=location>\ndock_3\n</parameter>\n</function>\n<function=navigate_to>\n",
    '[{"name": "navigate_to", "arguments": {"location": "dock_3"}}, {"name": "wait", "arguments": {}}]</TOOLCALL>\n',
    "battery: 62; carrying: pallet; location: dock_3\nUser\nAssistant\nSystem\n<think></think>\n<TOOLCALL>[",
    "You can use the following tools to assist the user if required: bring the blue bin, and wait 2 minutes!\n",
]


def checkpoint(folder: Path, kind: str) -> Path:
    """Write tokenizer, template and settings of a kind to folder.

    Kinds are nemotron_3, nano_v2, nano_v2 with tags as tokens, and VARIANTS.
    """
    three = kind.startswith("nemotron_3")
    control = CONTROL_3 if three else CONTROL_V2 + (TAGS_V2 if "tokens" in kind else [])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in control]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=special, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    eos = "<|im_end|>" if three else "<SPECIAL_12>"
    settings = {"eos_token": eos, "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False}
    template = VARIANTS.get(kind, NEMOTRON_3 if three else NANO_V2)
    if three:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    else:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    ends = ["</s>", "<|im_end|>"] if three else ["</s>", "<SPECIAL_11>", "<SPECIAL_12>"]
    ids = {"bos_token_id": tokenizer.token_to_id("<s>"), "eos_token_id": [tokenizer.token_to_id(end) for end in ends]}
    (folder / "generation_config.json").write_text(json.dumps(ids), encoding="utf-8")
    return folder
