"""The configuration of a Nemotron-H network, read from a published config.json. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.errors import ConfigError

MAMBA, ATTENTION, MLP = "mamba", "attention", "mlp"
_LAYER_NAMES = {
    "M": MAMBA, "mamba": MAMBA, "mamba2": MAMBA, "linear_attention": MAMBA,
    "*": ATTENTION, "attention": ATTENTION, "full_attention": ATTENTION,
    "-": MLP, "mlp": MLP,
}  # fmt: skip
_LAYER_SIGNS = {MAMBA: "M", ATTENTION: "*", MLP: "-"}
_MIXTURE_OF_EXPERTS = ("E", "moe")
_OLDER_NAMES = {
    "attention_head_dim": "head_dim", "norm_eps": "layer_norm_epsilon", "rms_norm_eps": "layer_norm_epsilon",
    "mamba_n_groups": "n_groups", "mamba_d_conv": "conv_kernel", "mamba_dt_limit": "time_step_limit",
    "mamba_conv_bias": "use_conv_bias", "mamba_chunk_size": "chunk_size",
}  # fmt: skip


@dataclass(frozen=True)
class NemotronHConfig:
    """What the network needs of a `nemotron_h` config.json; the names are the published ones.

    `layers` holds "mamba", "attention" or "mlp" for each layer, from `hybrid_override_pattern` (M * -) or
    `layers_block_type` (a list of names, both generations of names). The defaults are those of `transformers`.
    """

    layers: tuple[str, ...]
    vocab_size: int = 131072
    hidden_size: int = 4096
    intermediate_size: int = 21504
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int = 128
    mamba_num_heads: int = 128
    mamba_head_dim: int = 64
    ssm_state_size: int = 128
    n_groups: int = 8
    conv_kernel: int = 4
    chunk_size: int = 128
    layer_norm_epsilon: float = 1e-5
    time_step_limit: tuple[float, float] = (0.0, math.inf)
    time_step_min: float = 0.001
    time_step_max: float = 0.1
    time_step_floor: float = 1e-4
    use_bias: bool = False
    use_conv_bias: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    residual_in_fp32: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise ConfigError("the network has no layers; give hybrid_override_pattern or layers_block_type")
        for count, divisor in (
            ("mamba_num_heads", "n_groups"),
            ("num_attention_heads", "num_key_value_heads"),
        ):
            if getattr(self, divisor) < 1 or getattr(self, count) % getattr(self, divisor):
                raise ConfigError(
                    f"{count} ({getattr(self, count)}) is not a multiple of {divisor} ({getattr(self, divisor)})"
                )
        if self.conv_kernel < 2:
            raise ConfigError(f"conv_kernel is {self.conv_kernel}; at least 2 is supported")

    @classmethod
    def from_json(cls, path: str | Path) -> NemotronHConfig:
        """Read a config.json (or a folder that holds one).

        Raises ConfigError, naming file and key, if it is missing, no JSON, or describes an unsupported network.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise ConfigError(f"cannot read {path}: {e.strerror}; a model folder holds a config.json") from e
        except ValueError as e:
            raise ConfigError(f"{path} is not valid JSON: {e}") from e
        try:
            return cls.from_dict(raw)
        except ConfigError as e:
            raise ConfigError(f"{path}: {e}") from None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> NemotronHConfig:
        """Read the content of a config.json; keys that the network does not need are passed over."""
        if not isinstance(raw, Mapping):
            raise ConfigError(f"expected a JSON object, found {type(raw).__name__}")
        if raw.get("model_type", "nemotron_h") != "nemotron_h":
            raise ConfigError(f"model_type is {raw['model_type']!r}; only 'nemotron_h' networks are supported")
        for key, supported in (("mlp_hidden_act", "relu2"), ("mamba_hidden_act", "silu")):
            if raw.get(key, supported) != supported:
                raise ConfigError(f"{key} is {raw[key]!r}; only {supported!r} is supported")

        known = {f.name: f for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {"layers": _layers(raw)}
        renamed = {_OLDER_NAMES[k]: v for k, v in raw.items() if k in _OLDER_NAMES}
        for key, value in {**renamed, **{k: v for k, v in raw.items() if k not in _OLDER_NAMES}}.items():
            if key in known and key != "layers" and value is not None:
                values[key] = _parsed(key, value, str(known[key].type))
        if raw.get("num_key_value_heads", 0) is None:
            values["num_key_value_heads"] = values.get("num_attention_heads", cls.num_attention_heads)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a config.json that `transformers` and `from_dict` both read."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "layers"}
        if isinstance(self.eos_token_id, tuple):
            values["eos_token_id"] = list(self.eos_token_id)
        return values | {
            "architectures": ["NemotronHForCausalLM"],
            "model_type": "nemotron_h",
            "hybrid_override_pattern": self.hybrid_override_pattern,
            "num_hidden_layers": len(self.layers),
            "time_step_limit": list(self.time_step_limit),
            "mlp_hidden_act": "relu2",
            "mamba_hidden_act": "silu",
            "torch_dtype": "float32",
        }

    def to_json(self) -> str:
        """Return the text of a config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @property
    def hybrid_override_pattern(self) -> str:
        """One sign per layer: M Mamba-2, * attention, - MLP."""
        return "".join(_LAYER_SIGNS[layer] for layer in self.layers)

    @property
    def d_inner(self) -> int:
        """Width of a Mamba-2 layer: heads x head dimension."""
        return self.mamba_num_heads * self.mamba_head_dim

    @property
    def conv_dim(self) -> int:
        """Channels of the causal convolution: x, then B and C of every group."""
        return self.d_inner + 2 * self.n_groups * self.ssm_state_size

    @property
    def in_proj_dim(self) -> int:
        """Outputs of a Mamba-2 layer's in_proj: gate (d_inner), conv input (conv_dim), dt (heads), in this order."""
        return self.d_inner + self.conv_dim + self.mamba_num_heads

    @property
    def group_dim(self) -> int:
        """Width over which the gated RMSNorm of a Mamba-2 layer is taken."""
        return self.d_inner // self.n_groups

    @property
    def q_dim(self) -> int:
        """Outputs of an attention layer's q_proj."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Outputs of an attention layer's k_proj and of its v_proj."""
        return self.num_key_value_heads * self.head_dim


def _layers(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Layer kinds from `layers_block_type` (or `layer_types`), else from `hybrid_override_pattern`."""
    for key in ("layers_block_type", "layer_types", "hybrid_override_pattern"):
        if raw.get(key):
            break
    else:
        raise ConfigError("neither hybrid_override_pattern nor layers_block_type is given")
    for i, name in enumerate(raw[key]):
        if name in _MIXTURE_OF_EXPERTS:
            raise ConfigError(
                f"{key}: layer {i} ({name!r}) is a mixture of experts, which is not supported; "
                "use a dense checkpoint such as Nemotron 3 Nano 4B"
            )
        if name not in _LAYER_NAMES:
            raise ConfigError(f"{key}: layer {i} is {name!r}; known are M * - and {sorted(set(_LAYER_NAMES))}")
    return tuple(_LAYER_NAMES[name] for name in raw[key])


def _parsed(key: str, value: Any, declared: str) -> Any:
    """Check one value against the declared type; numbers may be JSON ints or floats."""
    try:
        if key == "time_step_limit":
            low, high = (_number(v) for v in value)
            return (low, high)
        if key == "eos_token_id":
            return tuple(int(v) for v in value) if isinstance(value, list | tuple) else int(value)
        if declared == "bool":
            if not isinstance(value, bool):
                raise TypeError
            return value
        if declared == "float":
            return _number(value)
        if isinstance(value, bool) or int(value) != value or (declared == "int" and value < 1):
            raise TypeError
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{key} is {value!r}; expected {declared}") from None


def _number(value: Any) -> float:
    """A JSON number, "inf", or the way in which `transformers` writes infinity."""
    if isinstance(value, Mapping) and set(value) == {"__float__"}:
        value = value["__float__"]
    return float(value)
