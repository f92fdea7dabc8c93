"""A checkpoint's chat template, rendered in a sandbox as `transformers` renders it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from nano_agent_ros.errors import ConfigError


class ChatTemplate:
    """Renders messages to the text that the model was trained on."""

    def __init__(self, source: str, variables: Mapping[str, str] | None = None) -> None:
        """Compile template text; `variables` are such as bos_token. Raises ConfigError if it does not compile."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = _raise
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(f"chat template: {error}") from None
        self.source = source
        self._variables = dict(variables or {})

    @staticmethod
    def load(folder: str | Path) -> ChatTemplate:
        """From chat_template.jinja of a model folder, else from its tokenizer_config.json."""
        folder = Path(folder)
        config = folder / "tokenizer_config.json"
        settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        variables = {k: v for k, v in settings.items() if k.endswith("_token") and isinstance(v, str)}
        path = folder / "chat_template.jinja"
        source = path.read_text(encoding="utf-8") if path.is_file() else settings.get("chat_template")
        if not isinstance(source, str):
            raise ConfigError(f"{folder}: no chat_template.jinja; copy it from the checkpoint")
        return ChatTemplate(source, variables)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        thinking: bool = False,
    ) -> str:
        """The conversation as text; raises ConfigError if the template refuses it.

        `thinking` is the variable enable_thinking, which templates with a thinking mode read (some read the system
        message instead: see PromptBuilder).
        """
        try:
            return self._template.render(
                messages=messages,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=thinking,
                **self._variables,
            )
        except jinja2.TemplateError as error:
            raise ConfigError(f"chat template: {error}") from None


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
