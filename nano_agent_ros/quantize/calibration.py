"""The calibration text of GPTQ and AWQ: read as the model will see it, carried through the network layer by layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.reference import FINAL_NORM, LAST_LINEAR, Load, rms_norm, run_inner, run_last

from .methods import LayerResult, LayerWeights

MOST_TOKENS = 32768  # what is beyond is not read: 4 billion weights would not calibrate within 6 GB
PIECE_TOKENS = 512  # of plain text
_ROWS_AT_ONCE = 4096


def calibration_tokens(path: Path, checkpoint: Path, vocab_size: int) -> list[np.ndarray]:
    """Read a calibration file with the tokenizer of the folder `checkpoint`; return sequences of ids, int64 [T] each.

    A file of JSON lines holds conversations in the format of `nano-agent eval`; each becomes the prompt, turns and
    replies that the model would see, with the skills that ship. Any other file is plain text, cut into pieces of
    PIECE_TOKENS. The first MOST_TOKENS tokens are taken. Raises ConfigError, naming file and line.
    """
    from nano_agent_ros.prompt import Tokenizer

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"calibration file {path}: cannot be read: {e}") from None
    if not text.strip():
        raise ConfigError(f"calibration file {path} is empty; give conversations or text as the model will see it")
    tokenizer = Tokenizer(checkpoint)
    if text.lstrip().startswith("{"):
        found: Iterable[list[int]] = _conversations(path, text, checkpoint, tokenizer)
    else:
        ids = tokenizer.encode(text[: 16 * MOST_TOKENS])
        found = (ids[i : i + PIECE_TOKENS] for i in range(0, len(ids), PIECE_TOKENS))
    sequences, left = [], MOST_TOKENS
    for sequence in found:
        sequences.append(np.array(sequence[:left], dtype=np.int64))
        left -= len(sequences[-1])
        if not left:
            break
    if max(int(s.max()) for s in sequences) >= vocab_size:
        raise ConfigError(f"{checkpoint}: its tokenizer has ids beyond the {vocab_size} of its config.json")
    return sequences


def _conversations(path: Path, text: str, checkpoint: Path, tokenizer: Any) -> Iterator[list[int]]:
    """Tokens of each conversation: system prompt, then turn by turn what is heard and said."""
    from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, PromptError, clean
    from nano_agent_ros.resources import default_skills
    from nano_agent_ros.skills import Site, Skills

    template, every = ChatTemplate.load(checkpoint), Skills.load(default_skills())
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            skills = every.subset(data["skills"]) if "skills" in data else every
            builder = PromptBuilder(tokenizer, template, skills, Site.load(data.get("site", "warehouse")))
            tokens = builder.prefix()
            told: dict[str, Any] = {}
            for i, turn in enumerate(data["turns"]):
                facts = {k: v for k, v in (turn.get("facts") or {}).items() if told.get(k) != v}
                told |= facts
                tokens += builder.turn(clean(turn["say"]), facts, first=i == 0) + builder.reply(_reply(turn))
        except (ConfigError, PromptError) as e:
            raise ConfigError(f"calibration file {path}, line {number}: {e}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ConfigError(f"calibration file {path}, line {number}: not in the eval format: {e!r}") from None
        yield tokens


def _reply(turn: Mapping[str, Any]) -> str:
    """The reply that a turn holds, else the one that its expectation asks for."""
    from nano_agent_ros.decode import write_reply
    from nano_agent_ros.skills import Call

    if "reply" in turn:
        calls = [(c["name"], c["arguments"]) for c in turn["reply"]]
    elif turn["expect"]["kind"] == "act":
        calls = [(a["skill"], a.get("arguments") or {}) for a in turn["expect"]["actions"]]
    else:
        expect = turn["expect"]
        calls = [(expect["kind"], {"text": expect["text"]} if expect.get("text") else {})]
    return write_reply([Call(name, {k: str(v) for k, v in arguments.items()}) for name, arguments in calls])


@dataclass(frozen=True)
class Moments:
    """What a method must know of the inputs x [tokens, in] of a linear layer, float32.

    `gram` [in, in]: mean of x x^T, so that the mean squared error of a changed matrix is the trace of
    change @ gram @ change^T. `magnitude` [in]: mean of |x|.
    """

    gram: np.ndarray
    magnitude: np.ndarray

    @staticmethod
    def of(pieces: Iterable[np.ndarray]) -> Moments:
        """Gather over pieces [..., in]."""
        count, gram, magnitude = 0, np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
        product: np.ndarray | None = None
        for x in _longer(pieces, _ROWS_AT_ONCE):
            product = np.matmul(x.T, x, out=product)
            if count:
                gram += product
                magnitude += np.abs(x).sum(axis=0)
            else:
                gram, magnitude, product = product, np.abs(x).sum(axis=0), None
            count += len(x)
        gram *= np.float32(1 / count)
        return Moments(gram, magnitude / np.float32(count))

    @cached_property
    def scale(self) -> float:
        """Mean of the diagonal of gram: the mean squared input."""
        return float(np.mean(np.diagonal(self.gram), dtype=np.float64))


def _longer(pieces: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Put pieces [..., in] together to matrices of at least so many rows: each product costs a pass over [in, in]."""
    waiting: list[np.ndarray] = []
    for piece in pieces:
        waiting.append(piece.reshape(-1, piece.shape[-1]))
        if sum(len(p) for p in waiting) >= rows:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


class Activations:
    """The residual stream of every calibration sequence, float32 [1, T, hidden] each, before the layer to come."""

    def __init__(self, config: NemotronHConfig, tokens: Sequence[np.ndarray]):
        self.config = config
        self._tokens = tokens
        self._hidden: list[np.ndarray] = []

    def begin(self, embeddings: Callable[[np.ndarray], np.ndarray]) -> None:
        """Look up the tokens: `embeddings` turns ids [...] into float32 [..., hidden]."""
        self._hidden = [np.asarray(embeddings(tokens[None]), dtype=np.float32) for tokens in self._tokens]

    def normed(self, weight: np.ndarray) -> Iterator[np.ndarray]:
        """Inputs of the layer to come: each sequence, normed with that weight."""
        return (rms_norm(hidden, weight, self.config.layer_norm_epsilon) for hidden in self._hidden)

    def inner(self, index: int, weight: np.ndarray, load: Load) -> list[np.ndarray]:
        """Inputs of the last linear layer of layer `index`, whose pre-norm has that weight, for each sequence."""
        return [run_inner(self.config, index, normed, load) for normed in self.normed(weight)]

    def advance(self, index: int, inner: list[np.ndarray], load: Load) -> None:
        """Add what the last linear layer of layer `index` makes of its inputs; `inner` is emptied on the way."""
        for i, hidden in enumerate(self._hidden):
            hidden += run_last(self.config, index, inner[i], load)
            inner[i] = inner[i][:, :0]

    def resume(self, weights: LayerWeights, result: LayerResult) -> None:
        """Go over a layer that is quantized already."""
        if is_head(self.config, weights.index):
            return
        load = loader(weights, result)
        norm = load(norm_name(self.config, weights.index))
        self.advance(weights.index, self.inner(weights.index, norm, load), load)


def loader(weights: LayerWeights, result: LayerResult) -> Load:
    """A layer's tensors as they will run: quantized matrices as far as there are any, changed vectors."""
    quantized = {name: matrix.dequantize() for name, matrix in result.matrices.items()}
    return {**weights.vectors, **result.vectors, **quantized}.__getitem__


def is_head(config: NemotronHConfig, index: int) -> bool:
    """Whether that index is the final norm and lm_head."""
    return index == len(config.layers)


def norm_name(config: NemotronHConfig, index: int) -> str:
    """The norm before layer `index`."""
    return FINAL_NORM if is_head(config, index) else f"backbone.layers.{index}.norm.weight"


def last_name(config: NemotronHConfig, index: int) -> str:
    """The last matrix of layer `index`; the others take the layer's normed input."""
    return f"backbone.layers.{index}.mixer.{LAST_LINEAR[config.layers[index]]}.weight"
