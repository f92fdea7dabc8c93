"""The handful of operations that the graph is written in, so that TensorRT and NumPy evaluate the same graph.

The graph (network.py and the mixers) is a function of tensors that knows neither. `layers.TensorRTOps` records it as
TensorRT layers; `numpy_ops.NumpyOps` computes it at once, which is how its mathematics is tested without a GPU.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from nano_agent_ros.quantize.grid import Quantized

Tensor = Any  # what an Ops hands out: has + - * between tensors of one rank and dtype, and with Python numbers

FLOAT, HALF, INT = "float32", "half", "int32"  # half: float16 or bfloat16, by the engine's precision


class Weights(Protocol):
    """Where the graph finds its constants, by their published names."""

    def has(self, name: str) -> bool:
        """Whether there is such a tensor (biases may be absent)."""
        ...

    def quantized(self, name: str) -> Quantized:
        """The integers and scales of a linear layer's matrix [outputs, inputs]."""
        ...

    def values(self, name: str) -> np.ndarray:
        """A tensor of floats, float32: a vector, or [rows, cols]."""
        ...


class Ops(Protocol):
    """Broadcasting is NumPy's between tensors of one rank; T is the one dimension not known when the graph is made."""

    def constant(self, values: np.ndarray) -> Tensor:
        """A float32 constant."""
        ...

    def linear(self, x: Tensor, *stems: str) -> Tensor:
        """x [T, inputs] half times the matrices `stem`.weight [outputs, inputs], without bias: [T, outputs] half.

        The outputs of several stems stand side by side: one product instead of one each.
        """
        ...

    def parameter(self, name: str) -> Tensor | None:
        """A vector [n] of the model as a float32 constant [1, n], a matrix as it is; None if the model has none."""
        ...

    def half(self, x: Tensor) -> Tensor:
        """Cast to half."""
        ...

    def single(self, x: Tensor) -> Tensor:
        """Cast to float32."""
        ...

    def matmul(self, a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
        """Product over the last two dimensions, in the operands' dtype with float32 sums."""
        ...

    def exp(self, x: Tensor) -> Tensor:
        """e to the x."""
        ...

    def log(self, x: Tensor) -> Tensor:
        """Natural logarithm."""
        ...

    def abs(self, x: Tensor) -> Tensor:
        """Magnitude."""
        ...

    def rsqrt(self, x: Tensor) -> Tensor:
        """1 / sqrt(x)."""
        ...

    def reciprocal(self, x: Tensor) -> Tensor:
        """1 / x."""
        ...

    def sigmoid(self, x: Tensor) -> Tensor:
        """1 / (1 + e to the -x)."""
        ...

    def maximum(self, a: Tensor, b: Tensor | float) -> Tensor:
        """The larger of each pair."""
        ...

    def minimum(self, a: Tensor, b: Tensor | float) -> Tensor:
        """The smaller of each pair."""
        ...

    def at_most(self, a: Tensor, b: Tensor | int) -> Tensor:
        """a <= b for int32, a truth value each."""
        ...

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        """a and b."""
        ...

    def either(self, a: Tensor, b: Tensor) -> Tensor:
        """a or b."""
        ...

    def where(self, condition: Tensor, a: Tensor, b: float) -> Tensor:
        """a where the condition holds, else the number b."""
        ...

    def sum(self, x: Tensor, axis: int) -> Tensor:
        """Sum over one axis, which stays with size 1."""
        ...

    def mean(self, x: Tensor, axis: int) -> Tensor:
        """Mean over one axis, which stays with size 1."""
        ...

    def max(self, x: Tensor, axis: int) -> Tensor:
        """Largest along one axis, which stays with size 1."""
        ...

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """The same values in another shape; -1 for the one dimension that holds T."""
        ...

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        """Dimensions in another order."""
        ...

    def concat(self, a: Tensor, b: Tensor) -> Tensor:
        """b behind a along the first dimension."""
        ...

    def columns(self, x: Tensor, begin: int, end: int) -> Tensor:
        """x [T, n] to [T, end - begin]."""
        ...

    def rows_like(self, x: Tensor, begin: int, like: Tensor) -> Tensor:
        """As many rows of x [n, m] as `like` has, from row `begin` on."""
        ...

    def last_rows(self, x: Tensor, count: int, like: Tensor) -> Tensor:
        """The last `count` rows of x [T + count, m], where T is the number of rows of `like`."""
        ...

    def take_rows(self, x: Tensor, index: Tensor) -> Tensor:
        """The rows of x [T, m] that `index`, int32 [R], names: [R, m]."""
        ...
