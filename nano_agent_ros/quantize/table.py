"""Which tensors the artifact of a network holds, and in what kind."""

from __future__ import annotations

from collections.abc import Callable

from nano_agent_ros.model.config import ATTENTION, MAMBA, NemotronHConfig

from .artifact import FLOAT16, FLOAT32, INT4, INT8, ArtifactTensor
from .grid import check_group
from .int4 import GROUP, QuantizeError

EMBEDDINGS, FINAL_NORM, HEAD = "backbone.embeddings.weight", "backbone.norm_f.weight", "lm_head.weight"
ATTENTION_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def artifact_tensors(
    config: NemotronHConfig, bits_of: Callable[[str], int] = lambda _: 4, group_size: int = GROUP
) -> tuple[ArtifactTensor, ...]:
    """Every tensor that the artifact of a network holds, in file order, under its published name.

    `bits_of` tells 4 or 8 for the name of each matrix. Raises QuantizeError, naming the layer, if groups of
    `group_size` do not fill its inputs.
    """
    hidden = config.hidden_size
    tensors = [ArtifactTensor(EMBEDDINGS, FLOAT16, config.vocab_size, hidden)]

    def vector(name: str, rows: int, cols: int = 1) -> None:
        tensors.append(ArtifactTensor(name, FLOAT32, rows, cols))

    def linear(stem: str, rows: int, cols: int, bias: bool) -> None:
        try:
            check_group(cols, group_size)
        except QuantizeError as e:
            raise QuantizeError(f"{stem} has {e}") from None
        kind = INT4 if bits_of(f"{stem}.weight") == 4 else INT8
        tensors.append(ArtifactTensor(f"{stem}.weight", kind, rows, cols))
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
    vector(FINAL_NORM, hidden)
    linear(HEAD.removesuffix(".weight"), config.vocab_size, hidden, bias=False)
    return tuple(tensors)


def layer_of(name: str, config: NemotronHConfig) -> int:
    """Index of the layer that a tensor belongs to: -1 is the embedding table, len(config.layers) norm_f and lm_head."""
    if name == EMBEDDINGS:
        return -1
    if name in (FINAL_NORM, HEAD):
        return len(config.layers)
    return int(name.removeprefix("backbone.layers.").partition(".")[0])
