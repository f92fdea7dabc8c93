"""A model folder, opened: what conversations share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.decode.confidence import Confidence
from nano_agent_ros.engine.base import Engine
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.prompt import ChatTemplate, Tokenizer
from nano_agent_ros.resources import default_model


@dataclass(frozen=True)
class Model:
    """What a model folder holds, opened: weights in an engine, tokenizer, chat template. Shared by conversations."""

    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate
    confidence: Confidence = Confidence()

    @staticmethod
    def open(
        folder: str | Path | None = None,
        engine: str = "native",
        threads: int | None = None,
        pin: str | None = None,
        huge_pages: bool | None = None,
    ) -> Model:
        """Open a model folder (default: the one that ships); raises EngineError or ConfigError.

        `threads`, `pin` and `huge_pages` are options of the engine; None leaves them to it.
        """
        path = Path(folder) if folder else default_model()
        given = {"threads": threads, "pin": pin, "huge_pages": huge_pages}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        opened = open_engine(path, engine, **options)
        return Model(opened, Tokenizer(path), ChatTemplate.load(path), Confidence.load(path))
