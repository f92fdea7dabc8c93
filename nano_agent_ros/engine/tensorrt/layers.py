"""The graph's operations as TensorRT layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.quantize.grid import Quantized

from .ops import Tensor, Weights
from .versions import TensorRT


class Node:
    """A tensor of the network with arithmetic; the other operand is a Node of the same rank and dtype, or a number."""

    __slots__ = ("ops", "tensor")

    def __init__(self, ops: TensorRTOps, tensor: Any):
        self.ops, self.tensor = ops, tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def __add__(self, other: Node | float) -> Node:
        return self.ops.elementwise(self, other, "SUM")

    def __sub__(self, other: Node | float) -> Node:
        return self.ops.elementwise(self, other, "SUB")

    def __mul__(self, other: Node | float) -> Node:
        return self.ops.elementwise(self, other, "PROD")


class TensorRTOps:
    """Implements `Ops` on a network definition; `half` is "float16" or "bfloat16". Keep it until the engine is built:
    the network refers to the weights that it holds."""

    def __init__(self, trt: TensorRT, network: Any, weights: Weights, half: str):
        self._trt, self._m, self._network, self._weights = trt, trt.module, network, weights
        self._half = self._m.DataType.HALF if half == "float16" else self._m.DataType.BF16
        self._held: list[np.ndarray] = []
        self._name = ""

    def input(self, name: str, dtype: str, shape: tuple[int, ...]) -> Node:
        """Declare an input; -1 in the shape is T."""
        return Node(self, self._network.add_input(name, self.dtype(dtype), shape))

    def output(self, name: str, node: Node) -> None:
        """Declare an output."""
        node.tensor.name = name
        self._network.mark_output(node.tensor)

    def dtype(self, name: str) -> Any:
        """TensorRT's dtype of a binding's."""
        types = self._m.DataType
        return {"float32": types.FLOAT, "int32": types.INT32, "float16": types.HALF, "half": self._half}[name]

    def constant(self, values: np.ndarray) -> Tensor:
        return self._constant(np.asarray(values, dtype=np.float32))

    def parameter(self, name: str) -> Tensor | None:
        if not self._weights.has(name):
            return None
        values = self._weights.values(name)
        return self.constant(values[None] if values.ndim == 1 else values)

    def linear(self, x: Tensor, *stems: str) -> Tensor:
        parts = [self._weights.quantized(f"{stem}.weight") for stem in stems]
        if any(part.bits == 8 for part in parts) and not self._trt.int8_groups:
            raise EngineError(
                f"{stems[0]}.weight has 8 bits in groups of inputs, which {self._trt.name} cannot dequantize; "
                "convert the checkpoint with 4 bits throughout"
            )
        q, scales = (np.ascontiguousarray(np.concatenate(each).T) for each in _pairs(parts))
        weights = self._dequantized(q, scales, max(part.bits for part in parts), stems[0])
        none = self._m.MatrixOperation.NONE
        product = self._network.add_matrix_multiply(x.tensor, none, weights.tensor, none)
        product.name = stems[0]
        return self._node(product)

    def _dequantized(self, q: np.ndarray, scales: np.ndarray, bits: int, stem: str) -> Node:
        """The matrix [inputs, outputs] half that q stands for; it stays integers in the engine.

        `scales` float16 [inputs / 64, outputs]: with as many dimensions as q they are of blocks along the inputs.
        """
        types = self._m.DataType
        scales = np.where(scales > 0, scales, np.float16(1))  # must be positive; the integers of such a group are 0
        integers = self._raw(pack_nibbles(q), types.INT4, q.shape) if bits == 4 else self._raw(q, types.INT8, q.shape)
        if self._half == types.HALF:
            scale = self._raw(scales, types.HALF, scales.shape)
        else:
            scale = self._raw(to_bfloat16(scales.astype(np.float32)), types.BF16, scales.shape)
        layer = self._network.add_dequantize(integers.tensor, scale.tensor, self._half)
        layer.name = f"{stem}.dequantize"
        return self._node(layer)

    def matmul(self, a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
        kinds = self._m.MatrixOperation
        return self._node(
            self._network.add_matrix_multiply(
                a.tensor, kinds.TRANSPOSE if transpose_a else kinds.NONE,
                b.tensor, kinds.TRANSPOSE if transpose_b else kinds.NONE,
            )
        )  # fmt: skip

    def half(self, x: Tensor) -> Tensor:
        return self._node(self._network.add_cast(x.tensor, self._half))

    def single(self, x: Tensor) -> Tensor:
        return self._node(self._network.add_cast(x.tensor, self._m.DataType.FLOAT))

    def exp(self, x: Tensor) -> Tensor:
        return self._unary(x, "EXP")

    def log(self, x: Tensor) -> Tensor:
        return self._unary(x, "LOG")

    def abs(self, x: Tensor) -> Tensor:
        return self._unary(x, "ABS")

    def rsqrt(self, x: Tensor) -> Tensor:
        return self._unary(self._unary(x, "SQRT"), "RECIP")

    def reciprocal(self, x: Tensor) -> Tensor:
        return self._unary(x, "RECIP")

    def sigmoid(self, x: Tensor) -> Tensor:
        return self._node(self._network.add_activation(x.tensor, self._m.ActivationType.SIGMOID))

    def maximum(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self.elementwise(a, b, "MAX")

    def minimum(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self.elementwise(a, b, "MIN")

    def at_most(self, a: Tensor, b: Tensor | int) -> Tensor:
        return self._unary(self.elementwise(a, b, "GREATER"), "NOT")

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        return self.elementwise(a, b, "AND")

    def either(self, a: Tensor, b: Tensor) -> Tensor:
        return self.elementwise(a, b, "OR")

    def where(self, condition: Tensor, a: Tensor, b: float) -> Tensor:
        other = self._number(b, a.tensor)
        return self._node(self._network.add_select(condition.tensor, a.tensor, other.tensor))

    def sum(self, x: Tensor, axis: int) -> Tensor:
        return self._reduce(x, axis, "SUM")

    def mean(self, x: Tensor, axis: int) -> Tensor:
        return self._reduce(x, axis, "AVG")

    def max(self, x: Tensor, axis: int) -> Tensor:
        return self._reduce(x, axis, "MAX")

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        layer = self._network.add_shuffle(x.tensor)
        layer.reshape_dims = shape
        return self._node(layer)

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        layer = self._network.add_shuffle(x.tensor)
        layer.first_transpose = order
        return self._node(layer)

    def concat(self, a: Tensor, b: Tensor) -> Tensor:
        layer = self._network.add_concatenation([a.tensor, b.tensor])
        layer.axis = 0
        return self._node(layer)

    def columns(self, x: Tensor, begin: int, end: int) -> Tensor:
        rows = x.shape[0]
        if rows >= 0:
            return self._node(self._network.add_slice(x.tensor, (0, begin), (rows, end - begin), (1, 1)))
        size = self._sized(x, (1, 0), (0, end - begin))
        layer = self._network.add_slice(x.tensor, (0, begin), (0, end - begin), (1, 1))
        layer.set_input(2, size.tensor)
        return self._node(layer)

    def rows_like(self, x: Tensor, begin: int, like: Tensor) -> Tensor:
        size = self._node(self._network.add_shape(like.tensor))
        layer = self._network.add_slice(x.tensor, (begin, 0), (0, 0), (1, 1))
        layer.set_input(2, size.tensor)
        return self._node(layer)

    def last_rows(self, x: Tensor, count: int, like: Tensor) -> Tensor:
        start = self._sized(like, (1, 0), (0, 0))
        layer = self._network.add_slice(x.tensor, (0, 0), (count, x.shape[1]), (1, 1))
        layer.set_input(1, start.tensor)
        return self._node(layer)

    def take_rows(self, x: Tensor, index: Tensor) -> Tensor:
        return self._node(self._network.add_gather(x.tensor, index.tensor, 0))

    def elementwise(self, a: Node, b: Node | float, operation: str) -> Node:
        """One of TensorRT's ElementWiseOperation."""
        other = b if isinstance(b, Node) else self._number(b, a.tensor)
        kind = getattr(self._m.ElementWiseOperation, operation)
        return self._node(self._network.add_elementwise(a.tensor, other.tensor, kind))

    def _sized(self, like: Tensor, factors: tuple[int, int], terms: tuple[int, int]) -> Node:
        """The shape of a matrix times factors plus terms, as a shape tensor."""
        size = self._node(self._network.add_shape(like.tensor))
        for values, kind in ((factors, "PROD"), (terms, "SUM")):
            number = self._constant(np.asarray(values, dtype=np.int64))
            size = self.elementwise(size, number, kind)
        return size

    def _number(self, value: float, like: Any) -> Node:
        """A constant of one element with the rank and dtype of a tensor."""
        types, shape = self._m.DataType, (1,) * len(like.shape)
        if like.dtype == types.INT32:
            return self._constant(np.full(shape, value, dtype=np.int32))
        if like.dtype == types.HALF:
            return self._constant(np.full(shape, value, dtype=np.float16))
        if like.dtype == types.BF16:
            return self._raw(to_bfloat16(np.full(shape, value, dtype=np.float32)), types.BF16, shape)
        return self._constant(np.full(shape, value, dtype=np.float32))

    def _constant(self, values: np.ndarray) -> Node:
        values = np.ascontiguousarray(values)
        self._held.append(values)
        return self._node(self._network.add_constant(values.shape, self._m.Weights(values)))

    def _raw(self, values: np.ndarray, dtype: Any, shape: tuple[int, ...]) -> Node:
        """A constant of a dtype that NumPy lacks."""
        values = np.ascontiguousarray(values)
        self._held.append(values)
        weights = self._m.Weights(dtype, values.ctypes.data, int(np.prod(shape)))
        return self._node(self._network.add_constant(shape, weights))

    def _unary(self, x: Node, operation: str) -> Node:
        return self._node(self._network.add_unary(x.tensor, getattr(self._m.UnaryOperation, operation)))

    def _reduce(self, x: Node, axis: int, operation: str) -> Node:
        kind = getattr(self._m.ReduceOperation, operation)
        return self._node(self._network.add_reduce(x.tensor, kind, 1 << axis, True))

    def _node(self, layer: Any) -> Node:
        if layer is None:
            raise EngineError(f"{self._trt.name} refused a layer of the network; its message stands above")
        return Node(self, layer.get_output(0))


def _pairs(parts: list[Quantized]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [part.q for part in parts], [part.scales for part in parts]


def pack_nibbles(q: np.ndarray) -> np.ndarray:
    """q int8 in -8..7, an even number of them, two to a byte in two's complement, the first in the low half."""
    pairs = q.reshape(-1, 2).view(np.uint8) & 15
    return pairs[:, 0] | pairs[:, 1] << 4


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 to the bits of the nearest bfloat16, ties to even: uint16."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
