"""The seam between conversion and the methods that choose how a layer is rounded.

`rtn` (round to nearest) looks at one row at a time, and `convert` runs it by itself in blocks of rows. `gptq` and `awq`
look at what goes through a layer: they get the layers whole and in order, and carry the activations of a calibration
text from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.config import NemotronHConfig

from .grid import Quantized

METHODS = ("rtn", "gptq", "awq")


@dataclass(frozen=True)
class LayerWeights:
    """What the checkpoint holds of one layer, under the published names of its tensors.

    `index` counts the layers of the network; the head (final norm and lm_head) comes last as index len(config.layers).
    `matrices`: the linear layers, float32 [out, in]. `bits`: 4 or 8 for each of them. `vectors`: all else, float32, in
    the artifact's shapes (vectors [n], conv1d.weight [channels, kernel]).
    """

    index: int
    matrices: Mapping[str, np.ndarray]
    bits: Mapping[str, int]
    vectors: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LayerResult:
    """What the artifact will hold: every matrix of the layer quantized, and those vectors that a method changed."""

    matrices: Mapping[str, Quantized]
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)


class Method(Protocol):
    """Quantizes the layers of one network, in order; holds the activations of the calibration text in between."""

    def begin(self, embeddings: Callable[[np.ndarray], np.ndarray]) -> None:
        """Look up the calibration tokens: `embeddings` turns ids [...] into float32 [..., hidden], as stored."""
        ...

    def layer(self, weights: LayerWeights) -> LayerResult:
        """Quantize one layer and carry the activations over it. Raises QuantizeError."""
        ...

    def resume(self, weights: LayerWeights, result: LayerResult) -> None:
        """Carry the activations over a layer that a conversion quantized before it was cut off."""
        ...


def open_method(
    name: str, config: NemotronHConfig, group_size: int, calibration: Path | None, checkpoint: Path
) -> Method | None:
    """Return the method of that name, or None for rtn, which needs no layers.

    `calibration` is read with the tokenizer of the folder `checkpoint`. Raises ConfigError.
    """
    if name == "rtn":
        if calibration is not None:
            raise ConfigError("--calibration is of no use with --method rtn; leave it out, or choose gptq or awq")
        return None
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}; known are {', '.join(METHODS)}")
    if calibration is None:
        raise ConfigError(f"--method {name} needs --calibration FILE: a text like that which the model will see")
    from .calibration import calibration_tokens

    tokens = calibration_tokens(calibration, checkpoint, config.vocab_size)
    if name == "gptq":
        from .gptq import Gptq

        return Gptq(config, tokens, group_size)
    from .awq import Awq

    return Awq(config, tokens, group_size)
