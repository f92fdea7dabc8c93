"""A checkpoint's tokenizer.json, with two doors: one for the template's text, one for text from outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from nano_agent_ros.errors import ConfigError


class Tokenizer:
    """Encodes trusted text with its control tokens, and foreign text so that it can never form one."""

    def __init__(self, folder: str | Path) -> None:
        """Read tokenizer.json (and the eos ids of generation_config.json, tokenizer_config.json, config.json)."""
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ConfigError(f"{folder}: no tokenizer.json; this is not a model folder")
        try:
            self.json = path.read_text(encoding="utf-8")
            spec = json.loads(self.json)
            self._trusted = tokenizers.Tokenizer.from_str(self.json)
            plain = {**spec, "added_tokens": [], "post_processor": None}
            self._foreign = tokenizers.Tokenizer.from_str(json.dumps(plain))
            self.added = {str(t["content"]): int(t["id"]) for t in spec.get("added_tokens", [])}
        except Exception as error:  # the library raises bare Exception for malformed files
            raise ConfigError(f"{path}: not a readable tokenizer: {error}") from None
        self.vocab_size = self._trusted.get_vocab_size()
        self.eos_ids = _eos_ids(folder, self.added)
        if not self.eos_ids:
            raise ConfigError(f"{folder}: neither generation_config.json nor tokenizer_config.json names an eos token")

    def encode(self, text: str) -> list[int]:
        """Tokens of trusted text: control tokens are recognised. No BOS is added."""
        return list(self._trusted.encode(text, add_special_tokens=False).ids)

    def encode_foreign(self, text: str) -> list[int]:
        """Tokens of text from people, labels or topics: `<|im_end|>` in it is just characters."""
        control = set(self.added.values())
        return [t for t in self._foreign.encode(text, add_special_tokens=False).ids if t not in control]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, control tokens included."""
        return str(self._trusted.decode(list(ids), skip_special_tokens=False))


def _eos_ids(folder: Path, added: dict[str, int]) -> frozenset[int]:
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = _read(folder / name).get("eos_token_id")
        ids |= {int(v) for v in (value if isinstance(value, list) else [value]) if v is not None}
    token = _read(folder / "tokenizer_config.json").get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if token in added:
        ids.add(added[token])
    return frozenset(ids)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    return data if isinstance(data, dict) else {}
