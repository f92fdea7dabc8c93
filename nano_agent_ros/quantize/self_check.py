"""The self-check of an artifact: a few tokens, and the logits of the float network on the dequantized weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.reference import reference_logits

from .artifact import CONFIG, WAY_OUT, Artifact, ArtifactTensor, check_sha256, read_manifest
from .tensor_file import TensorFileError, layout_header, read_header, read_tensor

SELF_CHECK = "self_check.safetensors"
TOKENS = 16
_SEED = 20


@dataclass(frozen=True)
class SelfCheck:
    """`tokens` int64 [16], and float32 `logits` [2, vocab]: after tokens[:15], and after all of them."""

    tokens: np.ndarray
    logits: np.ndarray


def write_self_check(folder: Path, tensors: Iterable[ArtifactTensor]) -> None:
    """Compute the self-check of the weights that lie in the folder and put it beside them; one layer in memory."""
    config = NemotronHConfig.from_json(folder / CONFIG)
    artifact = Artifact(folder, config, "", tuple(tensors), {})

    def load(name: str) -> np.ndarray:
        if name.startswith(("lm_head.", "backbone.embeddings.")):
            return artifact.matrix(name)  # type: ignore[return-value]  # is read by rows
        return artifact.tensor(name)

    tokens = np.random.default_rng(_SEED).integers(0, config.vocab_size, TOKENS)
    logits = reference_logits(config, load, tokens[None], last=2)[0]
    stored = {"tokens": tokens.astype("<i8"), "logits": logits.astype("<f4")}
    start, _ = layout_header({"tokens": ("I64", tokens.shape), "logits": ("F32", logits.shape)}, 8)
    (folder / SELF_CHECK).write_bytes(start + b"".join(values.tobytes() for values in stored.values()))


def read_self_check(folder: Path) -> SelfCheck:
    """Read the self-check of an artifact folder; raises EngineError if it is missing or damaged."""
    path = folder / SELF_CHECK
    entry = read_manifest(folder).get("files", {}).get(SELF_CHECK)
    if entry is None or not path.is_file():
        raise EngineError(f"{path} is missing: without it no engine can show that it computes this model; {WAY_OUT}")
    check_sha256(path, entry)
    try:
        header = read_header(path)
        check = SelfCheck(read_tensor(path, header["tokens"]), read_tensor(path, header["logits"]))
    except (TensorFileError, KeyError) as e:
        raise EngineError(f"{path} is damaged ({e}); {WAY_OUT}") from e
    if check.tokens.shape != (TOKENS,) or check.logits.ndim != 2 or len(check.logits) != 2:
        raise EngineError(f"{path} is damaged: it holds {check.tokens.shape} and {check.logits.shape}; {WAY_OUT}")
    return check
