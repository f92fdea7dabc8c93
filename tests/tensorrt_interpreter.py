"""Computes a TensorRT network definition in NumPy, layer by layer as TensorRT documents each: what was really built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ELEMENTWISE = {
    "SUM": np.add, "SUB": np.subtract, "PROD": np.multiply, "MAX": np.maximum, "MIN": np.minimum,
    "GREATER": np.greater, "AND": np.logical_and, "OR": np.logical_or,
}  # fmt: skip
UNARY = {
    "EXP": np.exp, "LOG": np.log, "ABS": np.abs, "SQRT": np.sqrt, "RECIP": np.reciprocal, "NOT": np.logical_not,
}  # fmt: skip
REDUCE = {"SUM": np.sum, "AVG": np.mean, "MAX": np.max}
DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}


def evaluate(trt: Any, network: Any, constants: list[np.ndarray], inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The outputs of a network by name; `constants` are the values of its constant layers, in order, INT4 packed."""
    values: dict[str, np.ndarray] = {}
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        values[tensor.name] = inputs[tensor.name]
        check(tensor, values[tensor.name])
    remaining = iter(constants)
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = layer.type.name
        layer.__class__ = getattr(trt, {"ELEMENTWISE": "IElementWiseLayer", "CONSTANT": "IConstantLayer"}.get(
            kind, "I" + kind.title().replace("_", "") + "Layer"))  # fmt: skip
        tensor = layer.get_output(0)
        if kind == "CONSTANT":
            values[tensor.name] = constant(tensor, next(remaining))
        else:
            given = [layer.get_input(k) for k in range(layer.num_inputs)]
            values[tensor.name] = EVALUATE[kind](layer, *(None if t is None else values[t.name] for t in given))
        check(tensor, values[tensor.name])
    assert next(remaining, None) is None
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    return {name: values[name] for name in outputs}


def check(tensor: Any, value: np.ndarray) -> None:
    """Hold a value against the dtype and shape that TensorRT has inferred."""
    assert len(tensor.shape) == value.ndim, tensor.name
    assert all(n in (-1, m) for n, m in zip(tensor.shape, value.shape, strict=True)), tensor.name
    if tensor.dtype.name in DTYPES:
        assert value.dtype == DTYPES[tensor.dtype.name], tensor.name


def constant(tensor: Any, stored: np.ndarray) -> np.ndarray:
    if tensor.dtype.name == "INT4":
        nibbles = np.stack([stored & 15, stored >> 4], axis=-1).reshape(tuple(tensor.shape)).astype(np.int8)
        return (nibbles ^ 8) - 8
    return stored


def shuffle(layer: Any, x: np.ndarray) -> np.ndarray:
    order = tuple(layer.first_transpose)[: x.ndim]
    x = x.transpose(order)
    if layer.reshape_dims is None:
        return x
    assert 0 not in tuple(layer.reshape_dims)  # it would mean: as it was
    return x.reshape(tuple(layer.reshape_dims))


def slice_(layer: Any, x: np.ndarray, start: np.ndarray | None = None, size: np.ndarray | None = None) -> np.ndarray:
    begin = np.array(tuple(layer.start) if start is None else start)
    count = np.array(tuple(layer.shape) if size is None else size)
    assert tuple(layer.stride) == (1, 1) and (begin >= 0).all() and (begin + count <= x.shape).all()
    return x[tuple(slice(b, b + n) for b, n in zip(begin, count, strict=True))]


def matrix_multiply(layer: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    assert a.dtype == b.dtype and a.ndim == b.ndim
    a, b = (x.swapaxes(-1, -2) if op.name == "TRANSPOSE" else x for x, op in ((a, layer.op0), (b, layer.op1)))
    return (a.astype(np.float32) @ b.astype(np.float32)).astype(a.dtype)


def elementwise(layer: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    assert a.dtype == b.dtype and a.ndim == b.ndim
    return ELEMENTWISE[layer.op.name](a, b)


def reduce(layer: Any, x: np.ndarray) -> np.ndarray:
    axes = tuple(axis for axis in range(x.ndim) if layer.axes >> axis & 1)
    return REDUCE[layer.op.name](x, axis=axes, keepdims=layer.keep_dims)


def dequantize(layer: Any, q: np.ndarray, scale: np.ndarray) -> np.ndarray:
    assert (scale > 0).all() and q.shape[1:] == scale.shape[1:]
    return (q * np.repeat(scale.astype(np.float32), q.shape[0] // scale.shape[0], axis=0)).astype(np.float16)


def sigmoid(layer: Any, x: np.ndarray) -> np.ndarray:
    return np.float32(1) / (np.float32(1) + np.exp(-x))


EVALUATE = {
    "SHUFFLE": shuffle, "SLICE": slice_, "MATRIX_MULTIPLY": matrix_multiply, "ELEMENTWISE": elementwise,
    "REDUCE": reduce, "DEQUANTIZE": dequantize, "ACTIVATION": sigmoid,
    "UNARY": lambda layer, x: UNARY[layer.op.name](x),
    "CAST": lambda layer, x: x.astype(DTYPES[layer.to_type.name]),
    "SELECT": lambda layer, condition, a, b: np.where(condition, a, b),
    "SHAPE": lambda layer, x: np.array(x.shape, dtype=np.int64),
    "CONCATENATION": lambda layer, *parts: np.concatenate(parts, axis=layer.axis),
    "GATHER": lambda layer, x, index: np.take(x, index, axis=layer.axis),
}  # fmt: skip
