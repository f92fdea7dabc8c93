"""The graph's operations in NumPy: what TensorRT is told to compute, computed, to test the graph without a GPU."""

from __future__ import annotations

import numpy as np

from .ops import Tensor, Weights


class NumpyOps:
    """Implements `Ops`; `half` is the dtype of activations: "float16", or "float32" to see the mathematics alone."""

    def __init__(self, weights: Weights, half: str = "float16"):
        self._weights = weights
        self._half = np.dtype(half)
        self._matrices: dict[str, np.ndarray] = {}

    def constant(self, values: np.ndarray) -> Tensor:
        return np.asarray(values, dtype=np.float32)

    def parameter(self, name: str) -> Tensor | None:
        if not self._weights.has(name):
            return None
        values = self._weights.values(name)
        return values[None] if values.ndim == 1 else values

    def linear(self, x: Tensor, *stems: str) -> Tensor:
        products = [x.astype(np.float32) @ self._matrix(stem).T for stem in stems]
        return np.concatenate(products, axis=1).astype(self._half)

    def _matrix(self, stem: str) -> np.ndarray:
        """A matrix rounded to half, as it leaves TensorRT's dequantization, in float32."""
        if stem not in self._matrices:
            matrix = self._weights.quantized(f"{stem}.weight").dequantize().astype(self._half)
            self._matrices[stem] = matrix.astype(np.float32)
        return self._matrices[stem]

    def matmul(self, a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
        left = (a.swapaxes(-1, -2) if transpose_a else a).astype(np.float32)
        right = (b.swapaxes(-1, -2) if transpose_b else b).astype(np.float32)
        return (left @ right).astype(a.dtype)

    def half(self, x: Tensor) -> Tensor:
        return x.astype(self._half)

    def single(self, x: Tensor) -> Tensor:
        return x.astype(np.float32)

    def exp(self, x: Tensor) -> Tensor:
        return np.exp(x)

    def log(self, x: Tensor) -> Tensor:
        return np.log(x)

    def abs(self, x: Tensor) -> Tensor:
        return np.abs(x)

    def rsqrt(self, x: Tensor) -> Tensor:
        return np.float32(1) / np.sqrt(x)

    def reciprocal(self, x: Tensor) -> Tensor:
        return np.float32(1) / x

    def sigmoid(self, x: Tensor) -> Tensor:
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, np.float32(1)) / (np.float32(1) + e)

    def maximum(self, a: Tensor, b: Tensor | float) -> Tensor:
        return np.maximum(a, b)

    def minimum(self, a: Tensor, b: Tensor | float) -> Tensor:
        return np.minimum(a, b)

    def at_most(self, a: Tensor, b: Tensor | int) -> Tensor:
        return a <= b

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        return a & b

    def either(self, a: Tensor, b: Tensor) -> Tensor:
        return a | b

    def where(self, condition: Tensor, a: Tensor, b: float) -> Tensor:
        return np.where(condition, a, np.asarray(b, a.dtype))

    def sum(self, x: Tensor, axis: int) -> Tensor:
        return x.sum(axis, keepdims=True)

    def mean(self, x: Tensor, axis: int) -> Tensor:
        return x.mean(axis, keepdims=True)

    def max(self, x: Tensor, axis: int) -> Tensor:
        return x.max(axis, keepdims=True)

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        return x.reshape(shape)

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        return x.transpose(order)

    def concat(self, a: Tensor, b: Tensor) -> Tensor:
        return np.concatenate((a, b))

    def columns(self, x: Tensor, begin: int, end: int) -> Tensor:
        return x[:, begin:end]

    def rows_like(self, x: Tensor, begin: int, like: Tensor) -> Tensor:
        return x[begin : begin + len(like)]

    def last_rows(self, x: Tensor, count: int, like: Tensor) -> Tensor:
        return x[len(like) : len(like) + count]

    def take_rows(self, x: Tensor, index: Tensor) -> Tensor:
        return x[index]
