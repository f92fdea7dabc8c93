"""Make an artifact from a checkpoint in Hugging Face layout, one tensor at a time and without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.model.config import ATTENTION, MAMBA, NemotronHConfig

from .artifact import CONFIG, FLOAT16, FLOAT32, INT4, ArtifactTensor, write_artifact
from .int4 import GROUP, QuantizeError
from .tensor_file import TensorEntry, TensorFileError, read_header, read_tensor

_COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "README.md",  # the model card
)
_EMBEDDINGS, _HEAD = "backbone.embeddings.weight", "lm_head.weight"


class ConversionError(NanoAgentError):
    """A checkpoint that cannot become an artifact; names the file or tensor."""


def convert(checkpoint_dir: str | Path, out_dir: str | Path, progress: bool = True) -> str:
    """Quantize a checkpoint folder to an artifact folder; return the model digest.

    Reads config.json, model.safetensors or its shards, and takes tokenizer, chat template and generation config along.
    Needs memory for the largest tensor only. Raises ConversionError, or EngineError if `out_dir` holds something else.
    """
    checkpoint_dir = Path(checkpoint_dir)
    try:
        config = NemotronHConfig.from_json(checkpoint_dir)
        sources = _sources(checkpoint_dir)
    except (ConfigError, TensorFileError) as e:
        raise ConversionError(str(e)) from e
    tensors = artifact_tensors(config)
    for t in tensors:
        _check_source(t, sources, config, checkpoint_dir)

    bar = tqdm(total=sum(t.rows * t.cols for t in tensors), unit="w", unit_scale=True, disable=not progress)

    def load(t: ArtifactTensor) -> np.ndarray:
        bar.set_postfix_str(t.name, refresh=False)
        path, entry = sources[_source_name(t, config)]
        values = read_tensor(path, entry).astype(np.float32)
        if not np.isfinite(values).all():
            raise ConversionError(f"{path}: tensor {entry.name} holds NaN or infinity; the checkpoint is damaged")
        bar.update(t.rows * t.cols)
        return values

    with bar:
        try:
            companions = [checkpoint_dir / name for name in _COMPANIONS if (checkpoint_dir / name).exists()]
            return write_artifact(Path(out_dir), (checkpoint_dir / CONFIG).read_bytes(), tensors, load, companions)
        except QuantizeError as e:
            raise ConversionError(f"{checkpoint_dir}: {bar.postfix}: {e}") from e


def artifact_tensors(config: NemotronHConfig) -> tuple[ArtifactTensor, ...]:
    """Every tensor that the artifact of a network holds, in file order, under its published name."""
    hidden = config.hidden_size
    tensors = [ArtifactTensor(_EMBEDDINGS, FLOAT16, config.vocab_size, hidden)]

    def vector(name: str, rows: int, cols: int = 1) -> None:
        tensors.append(ArtifactTensor(name, FLOAT32, rows, cols))

    def linear(stem: str, rows: int, cols: int, bias: bool) -> None:
        if cols % GROUP:
            raise ConversionError(f"{stem} has {cols} inputs; INT4 needs a multiple of {GROUP} in every linear layer")
        tensors.append(ArtifactTensor(f"{stem}.weight", INT4, rows, cols))
        if bias:
            vector(f"{stem}.bias", rows)

    for i, layer in enumerate(config.layers):
        stem = f"backbone.layers.{i}"
        vector(f"{stem}.norm.weight", hidden)
        if layer == MAMBA:
            linear(f"{stem}.mixer.in_proj", config.in_proj_dim, hidden, config.use_bias)
            vector(f"{stem}.mixer.conv1d.weight", config.conv_dim, config.conv_kernel)
            if config.use_conv_bias:
                vector(f"{stem}.mixer.conv1d.bias", config.conv_dim)
            for name in ("dt_bias", "A_log", "D"):
                vector(f"{stem}.mixer.{name}", config.mamba_num_heads)
            vector(f"{stem}.mixer.norm.weight", config.d_inner)
            linear(f"{stem}.mixer.out_proj", hidden, config.d_inner, config.use_bias)
        elif layer == ATTENTION:
            linear(f"{stem}.mixer.q_proj", config.q_dim, hidden, config.attention_bias)
            linear(f"{stem}.mixer.k_proj", config.kv_dim, hidden, config.attention_bias)
            linear(f"{stem}.mixer.v_proj", config.kv_dim, hidden, config.attention_bias)
            linear(f"{stem}.mixer.o_proj", hidden, config.q_dim, config.attention_bias)
        else:
            linear(f"{stem}.mixer.up_proj", config.intermediate_size, hidden, config.mlp_bias)
            linear(f"{stem}.mixer.down_proj", hidden, config.intermediate_size, config.mlp_bias)
    vector("backbone.norm_f.weight", hidden)
    linear("lm_head", config.vocab_size, hidden, bias=False)
    return tuple(tensors)


def _source_name(t: ArtifactTensor, config: NemotronHConfig) -> str:
    return _EMBEDDINGS if t.name == _HEAD and config.tie_word_embeddings else t.name


def _sources(folder: Path) -> dict[str, tuple[Path, TensorEntry]]:
    """File and entry of every tensor of the checkpoint, by published name (`backbone.`; `model.` is read as well)."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        paths = [single]
    elif index.exists():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            paths = [folder / name for name in sorted(shards)]
        except (ValueError, KeyError, AttributeError, TypeError) as e:
            raise ConversionError(f"{index} is damaged ({e!r}); fetch it again") from e
    else:
        raise ConversionError(f"{folder} holds neither {single.name} nor {index.name}; is it a checkpoint folder?")
    found = {}
    for path in paths:
        for name, entry in read_header(path).items():
            own = "backbone." + name.removeprefix("model.") if name.startswith("model.") else name
            found[own.replace("backbone.embedding.", "backbone.embeddings.")] = (path, entry)
    return found


def _check_source(
    t: ArtifactTensor, sources: dict[str, tuple[Path, TensorEntry]], config: NemotronHConfig, folder: Path
) -> None:
    name = _source_name(t, config)
    if name not in sources:
        raise ConversionError(f"{folder} lacks tensor {name}, which its {CONFIG} asks for")
    shape = tuple(n for n in sources[name][1].shape if n != 1)
    wanted = tuple(n for n in (t.rows, t.cols) if n != 1)
    if shape != wanted:
        raise ConversionError(f"{folder}: tensor {name} has shape {shape}, {CONFIG} asks for {wanted}")
