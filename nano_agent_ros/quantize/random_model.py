"""Models of random weights with the exact published shapes: for benchmarks and tests without the weights.

The random integers are drawn as they lie in the panels, so that 4 billion weights take seconds and no memory. They are
scaled like a trained initialisation: what goes into a linear layer with variance 1 comes out so, what is added to the
residual is divided by sqrt(layers), and dt_bias, A_log and D are those of Mamba-2 (Dao and Gu, 2024,
arXiv:2405.21060).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from tqdm import tqdm

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.resources import default_model

from .artifact import FLOAT16, FLOAT32, INT4, ArtifactTensor
from .convert import Request, interrupted
from .int4 import GROUP, PANEL_ROWS, QuantizeError
from .source import COMPANIONS, ConversionError
from .table import artifact_tensors
from .writer import ArtifactWriter

_FAMILY = {
    "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h",
    "vocab_size": 131072, "tie_word_embeddings": False,
    "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "attention_bias": False,
    "attention_dropout": 0.0, "hidden_dropout": 0.0, "sliding_window": None,
    "mamba_head_dim": 80, "n_groups": 8, "ssm_state_size": 128, "conv_kernel": 4, "expand": 2, "use_conv_bias": True,
    "mamba_proj_bias": False, "use_bias": False, "mamba_hidden_act": "silu", "use_mamba_kernels": True,
    "time_step_floor": 0.0001, "time_step_limit": [0.0, math.inf], "time_step_max": 0.1, "time_step_min": 0.001,
    "mlp_bias": False, "mlp_hidden_act": "relu2", "layer_norm_epsilon": 1e-05, "rms_norm_eps": 1e-05,
    "residual_in_fp32": False, "rescale_prenorm_residual": True, "initializer_range": 0.02,
    "use_cache": True, "num_logits_to_keep": 1, "torch_dtype": "bfloat16",
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,  # of the tokenizer that comes along
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    # Shapes of nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16 (3,973,556,832 parameters)
    "nemotron-3-nano-4b": _FAMILY | {
        "hybrid_override_pattern": "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-", "num_hidden_layers": 42,
        "hidden_size": 3136, "intermediate_size": 12544, "mamba_num_heads": 96, "chunk_size": 256,
        "max_position_embeddings": 262144,
    },
    # Shapes of nvidia/NVIDIA-Nemotron-Nano-9B-v2 (8,888,227,328 parameters)
    "nemotron-nano-9b-v2": _FAMILY | {
        "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-", "num_hidden_layers": 56,
        "hidden_size": 4480, "intermediate_size": 15680, "mamba_num_heads": 128, "chunk_size": 128,
        "max_position_embeddings": 131072,
    },
}  # fmt: skip
_VALUES_AT_ONCE = 1 << 23


def write_random_model(
    preset: str | Mapping[str, Any],
    out: str | Path,
    request: Request | None = None,
    seed: int = 0,
    progress: bool = True,
) -> str:
    """Write an artifact with random weights; return its model digest.

    `preset` is a name in PRESETS, or the content of a config.json. Of `request` only the bits count. Tokenizer and
    template are those of the model that ships, whose ids are the first of the vocabulary. Raises ConversionError, or
    EngineError if `out` holds something else.
    """
    request = request or Request()
    if isinstance(preset, str) and preset not in PRESETS:
        raise ConversionError(f"there is no random model {preset!r}; known are {', '.join(PRESETS)}")
    if (request.method, request.group_size, request.calibration) != ("rtn", GROUP, None):
        raise ConversionError("random weights take no method, group size or calibration; leave these options out")
    if seed < 0:
        raise ConversionError(f"seed {seed} is negative; give 0 or more")
    raw = PRESETS[preset] if isinstance(preset, str) else dict(preset)
    try:
        config = NemotronHConfig.from_dict(raw)
        tensors = artifact_tensors(config, request.bits_of)
    except (ConfigError, QuantizeError) as e:
        raise ConversionError(f"random model: {e}") from e
    config_json = (json.dumps(raw, indent=2, sort_keys=True) + "\n").encode()
    described = request.describe() | {"method": "random", "seed": seed}
    plan = {"request": described, "source": {"config": config_json.decode()}}
    try:
        with (
            ArtifactWriter(Path(out), tensors, config_json, plan) as writer,
            tqdm(total=sum(t.rows * t.cols for t in tensors), unit="w", unit_scale=True, disable=not progress) as bar,
        ):
            for t in writer.tensors.values():
                bar.set_postfix_str(t.name, refresh=False)
                if t.name not in writer.done:
                    _write_tensor(writer, t, config, np.random.SFC64([seed, zlib.crc32(t.name.encode())]))
                    writer.finished(t.name)
                bar.update(t.rows * t.cols)
            bar.set_postfix_str("self-check and digests")
            companions = [default_model() / name for name in COMPANIONS if name != "README.md"]
            digest = writer.complete(described, [path for path in companions if path.exists()])
            writer.publish()
    except OSError as e:
        raise interrupted(Path(out), e) from e
    return digest


def parameters(config: NemotronHConfig) -> int:
    """Number of weights of a network (a tied head counts once)."""
    total = sum(t.rows * t.cols for t in artifact_tensors(config))
    return total - (config.vocab_size * config.hidden_size if config.tie_word_embeddings else 0)


def _write_tensor(writer: ArtifactWriter, t: ArtifactTensor, config: NemotronHConfig, bits: np.random.SFC64) -> None:
    at_once = max(1, _VALUES_AT_ONCE // t.cols // PANEL_ROWS) * PANEL_ROWS
    for begin in range(0, t.rows, at_once):
        rows = min(at_once, t.rows - begin)
        if t.kind == FLOAT32:
            writer.write(t.name, _vector(t, config, rows, np.random.Generator(bits)), begin)
        elif t.kind == FLOAT16:
            writer.write(t.name, np.random.Generator(bits).standard_normal((rows, t.cols), "f4").astype("<f2"), begin)
        else:
            writer.write(t.name, _panels(t, config, rows, bits), begin)


def _vector(t: ArtifactTensor, config: NemotronHConfig, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of what is no matrix, float32 [rows, cols]."""
    shape = (rows, t.cols)
    if t.name.endswith("norm.weight") or t.name.endswith(("norm_f.weight", ".D")):
        return np.ones(shape, dtype="<f4")
    if t.name.endswith("A_log"):
        return np.log(rng.uniform(1, 16, shape)).astype("<f4")
    if t.name.endswith("dt_bias"):  # softplus(dt_bias) lies between time_step_min and time_step_max
        dt = np.exp(rng.uniform(math.log(config.time_step_min), math.log(config.time_step_max), shape))
        dt = np.maximum(dt, config.time_step_floor)
        return (dt + np.log(-np.expm1(-dt))).astype("<f4")
    if "conv1d" in t.name:
        return rng.uniform(-1, 1, shape).astype("<f4") / np.float32(math.sqrt(config.conv_kernel))
    return (rng.standard_normal(shape) * config.initializer_range).astype("<f4")


def _panels(t: ArtifactTensor, config: NemotronHConfig, rows: int, bits: np.random.SFC64) -> np.ndarray:
    """Panels of a matrix: every byte of values is a random byte put through a table; scales differ by up to 20 %."""
    _, (_, groups, block_bytes) = t.stored_shape
    panels = -(-rows // PANEL_ROWS)
    values_bytes = block_bytes - 2 * PANEL_ROWS
    table, deviation = (_INT4_BYTES, _INT4_DEVIATION) if t.kind == INT4 else (_INT8_BYTES, _INT8_DEVIATION)
    packed = np.empty((panels, groups, block_bytes), dtype=np.uint8)
    random = bits.random_raw(-(-panels * groups * values_bytes // 8)).tobytes()[: panels * groups * values_bytes]
    packed[:, :, :values_bytes] = np.frombuffer(random.translate(table), np.uint8).reshape(panels, groups, values_bytes)
    jitter = np.random.Generator(bits).uniform(0.8, 1.2, (panels, groups, PANEL_ROWS))
    scales = (jitter * (_deviation_of(t, config) / deviation)).astype("<f2")
    packed[:, :, values_bytes:] = scales.view(np.uint8)
    filled = rows - (panels - 1) * PANEL_ROWS
    if filled < PANEL_ROWS:
        _clear_rows(packed[-1], filled, t.kind)
    return packed


def _deviation_of(t: ArtifactTensor, config: NemotronHConfig) -> float:
    """Standard deviation of a matrix's weights."""
    added = t.name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight"))
    return 1 / math.sqrt(t.cols * (len(config.layers) if added else 1))


def _clear_rows(panel: np.ndarray, filled: int, kind: str) -> None:
    """Make the rows of a panel [groups, bytes] beyond the matrix what packing makes them: weight 0, scale 0."""
    values_bytes = panel.shape[1] - 2 * PANEL_ROWS
    quads = panel[:, :values_bytes].reshape(len(panel), -1, PANEL_ROWS, 4)
    quads[:, :, filled:] = 0x88 if kind == INT4 else 0x80
    panel[:, :values_bytes] = quads.reshape(len(panel), values_bytes)
    panel[:, values_bytes + 2 * filled :] = 0


# A nibble takes each of these with probability 1/16: mean 0, near a normal distribution, both ends of the range in use.
_NIBBLES = (-8, -5, -4, -3, -2, -1, -1, 0, 0, 1, 1, 2, 3, 4, 6, 7)
_INT4_BYTES = bytes((_NIBBLES[byte & 15] + 8) | (_NIBBLES[byte >> 4] + 8) << 4 for byte in range(256))
_INT4_DEVIATION = math.sqrt(sum(q * q for q in _NIBBLES) / 16)
_STEPS = tuple(max(-127, min(127, round(44 * NormalDist().inv_cdf((byte + 0.5) / 256)))) for byte in range(256))
_INT8_BYTES = bytes(q + 128 for q in _STEPS)
_INT8_DEVIATION = math.sqrt(sum(q * q for q in _STEPS) / 256)
