"""The tensors that go in and out of the two engines: names, shapes, dtypes. Builder, run time and tests read them here.

`step` advances the state by T tokens; `replay` advances ssm and conv of the Mamba layers alone, from what a step
recorded. T, or for `rows` and `logits` the number of rows asked for, stands as -1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nano_agent_ros.model.config import ATTENTION, MAMBA, NemotronHConfig

from .ops import FLOAT, HALF, INT
from .ring import Ring

HIDDEN, POSITIONS, RING, ROWS, LOGITS = "hidden", "positions", "ring_positions", "rows", "logits"


@dataclass(frozen=True)
class Binding:
    """One input or output; dtype "float32", "int32", "float16", or "half" for that of the activations."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def nbytes(self, count: int) -> int:
        """Size in bytes with `count` in the place of -1."""
        return math.prod(count if n == -1 else n for n in self.shape) * (4 if self.dtype in (FLOAT, INT) else 2)


@dataclass(frozen=True)
class Bindings:
    """All tensors of a model's engines.

    `state`: ssm and conv of the Mamba layers; there are two of each, a step reads the one and writes the other.
    `ring`: keys and values; a step reads them, and its own are copied in behind it. `recorded`: what a step writes for
    `replay`. `fresh`: its own keys and values.
    """

    config: NemotronHConfig
    ring_size: Ring
    state: tuple[Binding, ...]
    ring: tuple[Binding, ...]
    recorded: tuple[Binding, ...]
    fresh: tuple[Binding, ...]

    @classmethod
    def of(cls, config: NemotronHConfig, ring: Ring) -> Bindings:
        """The tensors of a model with that attention window and largest step."""
        per_group = config.mamba_num_heads // config.n_groups
        ssm = (config.n_groups, per_group, config.ssm_state_size, config.mamba_head_dim)
        conv = (config.conv_kernel - 1, config.conv_dim)
        kv = (config.num_key_value_heads, config.head_dim)
        state, cached, recorded, fresh = [], [], [], []
        for i, kind in enumerate(config.layers):
            if kind == MAMBA:
                state += [Binding(f"layers.{i}.ssm", ssm, FLOAT), Binding(f"layers.{i}.conv", conv, HALF)]
                recorded.append(Binding(f"layers.{i}.recorded", (-1, config.conv_dim + config.mamba_num_heads), HALF))
            elif kind == ATTENTION:
                for name in ("keys", "values"):
                    cached.append(Binding(f"layers.{i}.{name}", (kv[0], ring.slots, kv[1]), HALF))
                    fresh.append(Binding(f"layers.{i}.{name}.fresh", (kv[0], -1, kv[1]), HALF))
        return cls(config, ring, tuple(state), tuple(cached), tuple(recorded), tuple(fresh))

    def step_inputs(self) -> tuple[Binding, ...]:
        """Inputs of `step`. The rows of the embedding table come from the host, in float16."""
        return (
            Binding(HIDDEN, (-1, self.config.hidden_size), "float16"),
            Binding(POSITIONS, (-1,), INT),
            Binding(RING, (self.ring_size.slots,), INT),
            Binding(ROWS, (-1,), INT),
            *self.state,
            *self.ring,
        )

    def step_outputs(self) -> tuple[Binding, ...]:
        """Outputs of `step`."""
        logits = Binding(LOGITS, (-1, self.config.vocab_size), FLOAT)
        return (logits, *self.next_state(), *self.recorded, *self.fresh)

    def replay_inputs(self) -> tuple[Binding, ...]:
        """Inputs of `replay`."""
        return (Binding(POSITIONS, (-1,), INT), *self.state, *self.recorded)

    def next_state(self) -> tuple[Binding, ...]:
        """Where a step and a replay write the state."""
        return tuple(Binding(following(b.name), b.shape, b.dtype) for b in self.state)


def following(name: str) -> str:
    """Name of the output that is a state tensor after the step."""
    return f"{name}.next"
