"""Small random checkpoints and their artifacts, for the tests of what runs them."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from nano_agent_ros.model.checkpoint import save_checkpoint
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.network import NemotronH
from nano_agent_ros.quantize.artifact import Artifact
from nano_agent_ros.quantize.convert import convert

BASE = {
    "vocab_size": 200, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4,
    "chunk_size": 16,
}  # fmt: skip

# Every kind of layer first and last, every division of heads into groups, vocabularies that fill no panel, dimensions
# that fill no vector, tied and untied heads, with and without biases, a limited time step.
CONFIGS = {
    "all kinds": {"hybrid_override_pattern": "M-M*M-"},
    "one group, tied": {"hybrid_override_pattern": "MM*-", "n_groups": 1, "tie_word_embeddings": True},
    "odd sizes": {
        "hybrid_override_pattern": "*-M", "vocab_size": 133, "num_attention_heads": 8, "num_key_value_heads": 1,
        "head_dim": 24, "ssm_state_size": 20, "mamba_num_heads": 8, "mamba_head_dim": 24, "n_groups": 8,
        "conv_kernel": 3,
    },
    "biases": {
        "hybrid_override_pattern": "M*-M", "use_bias": True, "attention_bias": True, "mlp_bias": True,
        "num_key_value_heads": 4, "ssm_state_size": 128, "mamba_head_dim": 8, "mamba_num_heads": 16, "n_groups": 4,
        "time_step_limit": [0.01, 0.2],
    },
    "no conv bias": {
        "hybrid_override_pattern": "MMM", "use_conv_bias": False, "ssm_state_size": 64, "hidden_size": 192,
    },
}  # fmt: skip


def random_network(overrides: dict, seed: int = 0) -> NemotronH:
    """A network with no parameter left at a value that hides a mistake."""
    config = NemotronHConfig.from_dict(BASE | overrides)
    network = NemotronH(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("A_log"):
                parameter.uniform_(-2.0, math.log(16.0), generator=generator)
            elif name.endswith("dt_bias"):
                parameter.uniform_(-6.0, 1.0, generator=generator)
            elif name.endswith(("mixer.D", "norm.weight", "norm_f.weight")):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif "conv1d" in name or name.endswith(".bias"):
                parameter.normal_(0.0, 0.4, generator=generator)
            else:
                parameter.normal_(0.0, 1.0 / math.sqrt(parameter.shape[-1]), generator=generator)
    return network.eval()


def make_artifact(folder: Path, overrides: dict, seed: int = 0) -> Path:
    """Write a checkpoint to folder/checkpoint and its artifact to folder/artifact; return the latter."""
    save_checkpoint(random_network(overrides, seed), folder / "checkpoint")
    convert(folder / "checkpoint", folder / "artifact", progress=False)
    return folder / "artifact"


def dequantized_network(artifact: Artifact) -> NemotronH:
    """The PyTorch network with the very weights that the artifact stands for (a tied head becomes its own matrix)."""
    config = NemotronHConfig.from_dict(artifact.config.to_dict() | {"tie_word_embeddings": False})
    network = NemotronH(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            stored = name if name.startswith("lm_head") else "backbone." + name
            parameter.copy_(torch.from_numpy(artifact.tensor(stored)).reshape(parameter.shape))
    return network.eval()


def round_keys_and_values(network) -> None:
    """Have the PyTorch network round keys and values to float16, as the native engine's cache does."""
    for name, module in network.named_modules():
        if name.endswith(("k_proj", "v_proj")):
            module.register_forward_hook(lambda _, __, out: out.half().float())


@torch.no_grad()
def randomise(network) -> None:
    """Leave no parameter at a value that hides a mistake."""
    for name, parameter in network.named_parameters():
        if name.endswith("A_log"):
            parameter.uniform_(-2.0, math.log(16.0))
        elif name.endswith("dt_bias"):
            parameter.uniform_(-6.0, 1.0)
        elif name.endswith(("mixer.D", "norm.weight", "norm_f.weight")):
            parameter.uniform_(0.5, 1.5)
        elif "conv1d" in name or name.endswith(".bias"):
            parameter.normal_(0.0, 0.4)
        else:
            parameter.normal_(0.0, 1.0 / math.sqrt(parameter.shape[-1]))
