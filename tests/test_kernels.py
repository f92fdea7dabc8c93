"""The kernels of the native engine: every set equals a plain NumPy computation in float64."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.engine.native_library import load_library
from nano_agent_ros.quantize.int4 import dequantize_rows, pack_panels, quantize_rows

library = load_library()
EVERY = ("portable", "avx2", "avxvnni", "avx512", "neon")
SETS = [s for s in EVERY if library.nano_kernel_relu_squared(s.encode(), None, 0) == 0]
each_set = pytest.mark.parametrize("kernels", SETS)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=30, deadline=None)


def call(name: str, kernels: str, *arguments) -> None:
    """Call nano_kernel_`name`: arrays go as pointers, integers as int64, numbers as float."""
    converted = []
    for a in arguments:
        if a is None:
            converted.append(None)
        elif isinstance(a, np.ndarray):
            assert a.flags.c_contiguous
            converted.append(a.ctypes.data_as(ctypes.c_void_p))
        else:
            converted.append(ctypes.c_int64(a) if isinstance(a, int) else ctypes.c_float(a))
    assert getattr(library, f"nano_kernel_{name}")(kernels.encode(), *converted) == 0


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x.astype(np.float64)))


def quantized_activations(x: np.ndarray) -> np.ndarray:
    """What INT8 with one scale per group of 64 makes of x [tokens, cols], float64."""
    groups = x.reshape(len(x), -1, 64)
    peak = np.abs(groups).max(axis=2, keepdims=True)
    inverse = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 0)
    return (np.rint(groups * inverse).astype(np.float64) * (peak / np.float32(127))).reshape(x.shape)


def matrix(seed: int, rows: int, cols: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Random weights in panels, and the float64 matrix [rows, cols] that they stand for."""
    if bits == 4:
        q, scales = quantize_rows(normal(seed, rows, cols))
        return pack_panels(q, scales), dequantize_rows(q, scales).astype(np.float64)
    rng = np.random.default_rng(seed)
    q = rng.integers(-127, 128, (-(-rows // 16) * 16, cols), dtype=np.int16)
    scales = rng.uniform(0, 0.02, (len(q), cols // 64)).astype(np.float16)
    q[rows:], scales[rows:] = 0, 0
    # [panel, n, group, j, k] to [panel, group, j, n, k], as docs/artifact.md says
    levels = (q + 128).astype(np.uint8).reshape(-1, 16, cols // 64, 16, 4).transpose(0, 2, 3, 1, 4)
    by_group = np.ascontiguousarray(scales.reshape(-1, 16, cols // 64).transpose(0, 2, 1)).view(np.uint8)
    packed = np.concatenate([levels.reshape(*levels.shape[:2], 1024), by_group], axis=2)
    wide = q.astype(np.float64) * np.repeat(scales.astype(np.float64), 64, axis=1)
    return np.ascontiguousarray(packed), wide[:rows]


def linear(
    kernels: str, packed: np.ndarray, bits: int, bias: np.ndarray | None, rows: int, x: np.ndarray
) -> np.ndarray:
    y = np.full((len(x), rows), np.nan, dtype=np.float32)
    call("linear", kernels, packed, bits, bias, rows, x.shape[1], x, len(x), y)
    return y


@each_set
@few
@given(
    seed=seeds, bits=st.sampled_from([4, 8]), rows=st.integers(1, 70), groups=st.integers(1, 20),
    tokens=st.integers(1, 40), biased=st.booleans(),
)  # fmt: skip
def test_a_linear_layer_is_the_product_of_the_quantized_operands(kernels, seed, bits, rows, groups, tokens, biased):
    packed, wide = matrix(seed, rows, 64 * groups, bits)
    x = normal(seed + 1, tokens, 64 * groups, scale=3.0)
    bias = normal(seed + 2, rows) if biased else None
    expected = quantized_activations(x) @ wide.T + (bias if biased else 0)
    # Against the length of the operands: a sum of thousands of products may cancel.
    error = np.abs(linear(kernels, packed, bits, bias, rows, x) - expected)
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(wide, axis=1) + np.abs(expected)
    assert (error <= 3e-6 * lengths + 1e-6).all()


@few
@given(
    seed=seeds, bits=st.sampled_from([4, 8]), rows=st.integers(1, 40), groups=st.integers(1, 4),
    tokens=st.integers(1, 5),
)  # fmt: skip
def test_the_float_set_leaves_activations_as_they_are(seed, bits, rows, groups, tokens):
    packed, wide = matrix(seed, rows, 64 * groups, bits)
    x, bias = normal(seed + 1, tokens, 64 * groups), normal(seed + 2, rows)
    expected = x.astype(np.float64) @ wide.T + bias
    np.testing.assert_allclose(linear("float", packed, bits, bias, rows, x), expected, atol=2e-4, rtol=1e-5)


@each_set
@few
@given(seed=seeds, bits=st.sampled_from([4, 8]), groups=st.integers(1, 20), tokens=st.integers(2, 40))
def test_a_token_is_computed_alike_alone_and_among_others(kernels, seed, bits, groups, tokens):
    packed, _ = matrix(seed, 40, 64 * groups, bits)
    x = normal(seed + 1, tokens, 64 * groups)
    alone = np.concatenate([linear(kernels, packed, bits, None, 40, row[None]) for row in x])
    assert np.array_equal(linear(kernels, packed, bits, None, 40, x), alone)


@each_set
@few
@given(seed=seeds, groups=st.integers(1, 5), magnitude=st.sampled_from([1e-30, 1e-3, 1.0, 1e20]))
def test_activations_are_rounded_to_even_by_group(kernels, seed, groups, magnitude):
    x = normal(seed, 64 * groups, scale=magnitude)
    x[:64] = 0.0
    values, scales = np.empty(64 * groups, np.int8), np.empty(groups, np.float32)
    offsets = np.empty(groups, np.int32)
    call("quantize", kernels, x, len(x), values, scales, offsets)
    expected = quantized_activations(x[None])[0]
    got = values.reshape(-1, 64) * scales[:, None].astype(np.float64)
    np.testing.assert_allclose(got.ravel(), expected, rtol=1e-6)
    assert np.array_equal(offsets, -8 * values.reshape(-1, 64).sum(axis=1, dtype=np.int32))


@each_set
def test_activations_that_are_no_numbers_do_no_harm(kernels):
    x = normal(0, 128)
    x[3], x[70], x[71] = np.nan, np.inf, -np.inf
    values, scales, offsets = np.empty(128, np.int8), np.empty(2, np.float32), np.empty(2, np.int32)
    call("quantize", kernels, x, 128, values, scales, offsets)
    assert not np.isfinite(scales[1])
    assert values.min() >= -127


@each_set
@few
@given(seed=seeds, n=st.integers(1, 300))
def test_rms_norm(kernels, seed, n):
    x, weight, y = normal(seed, n, scale=5.0), normal(seed + 1, n), np.empty(n, np.float32)
    call("rms_norm", kernels, x, weight, n, 1e-5, y)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, wide / np.sqrt((wide**2).mean() + 1e-5) * weight, rtol=2e-5, atol=1e-6)


@each_set
@few
@given(seed=seeds, group=st.integers(1, 100), groups=st.integers(1, 4))
def test_the_gate_comes_before_the_grouped_norm(kernels, seed, group, groups):
    n = group * groups
    y, gate, weight = normal(seed, n), normal(seed + 1, n, scale=4.0), normal(seed + 2, n)
    out = np.empty(n, np.float32)
    call("gated_norm", kernels, y, gate, weight, n, group, 1e-5, out)
    gated = (y * silu(gate)).reshape(groups, group)
    expected = (gated / np.sqrt((gated**2).mean(axis=1, keepdims=True) + 1e-5)).ravel() * weight
    np.testing.assert_allclose(out, expected, rtol=3e-5, atol=1e-5)


@each_set
@few
@given(
    seed=seeds, kernel=st.integers(2, 5), channels=st.integers(1, 90), tokens=st.integers(1, 9), biased=st.booleans()
)  # fmt: skip
def test_the_convolution_is_causal_and_depthwise(kernels, seed, kernel, channels, tokens, biased):
    x, weight = normal(seed, kernel - 1 + tokens, channels), normal(seed + 1, kernel, channels)
    bias = normal(seed + 2, channels) if biased else None
    out = np.empty((tokens, channels), np.float32)
    call("conv_silu", kernels, x, weight, bias, kernel, channels, tokens, out)
    sums = np.stack([(x[t : t + kernel].astype(np.float64) * weight).sum(axis=0) for t in range(tokens)])
    np.testing.assert_allclose(out, silu(sums + (bias if biased else 0)), rtol=2e-5, atol=2e-6)


@each_set
@few
@given(
    seed=seeds, tokens=st.integers(1, 12), per_group=st.integers(1, 3), groups=st.integers(1, 3),
    head_dim=st.integers(1, 9), state=st.sampled_from([5, 16, 32, 64, 128, 48]),
)  # fmt: skip
def test_the_scan_is_the_recurrence(kernels, seed, tokens, per_group, groups, head_dim, state):
    heads = per_group * groups
    xbc = normal(seed, tokens, heads * head_dim + 2 * groups * state)
    rng = np.random.default_rng(seed)
    dt, decay = (rng.uniform(0, 1, (tokens, heads)).astype(np.float32) for _ in range(2))
    skip, before = normal(seed + 1, heads), normal(seed + 2, heads, head_dim, state)

    s, expected = before.astype(np.float64), np.empty((tokens, heads, head_dim))
    for t in range(tokens):
        x = xbc[t, : heads * head_dim].reshape(heads, head_dim)
        b, c = xbc[t, heads * head_dim :].reshape(2, groups, state).repeat(per_group, axis=1)
        s = s * decay[t, :, None, None] + (dt[t, :, None] * x)[:, :, None] * b[:, None]
        expected[t] = np.einsum("hpn,hn->hp", s, c) + skip[:, None] * x
    after, y = before.copy(), np.empty_like(expected, dtype=np.float32)
    call("scan", kernels, xbc, dt, decay, skip, tokens, heads, head_dim, state, groups, after, y)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(after, s, rtol=1e-4, atol=1e-5)

    in_steps, y_in_steps = before.copy(), np.empty_like(y)
    for t in range(tokens):
        call("scan", kernels, xbc[t], dt[t], decay[t], skip, 1, heads, head_dim, state, groups, in_steps, y_in_steps[t])
    assert np.array_equal(in_steps, after)
    assert np.array_equal(y_in_steps, y)

    replayed = before.copy()
    call("scan", kernels, xbc, dt, decay, skip, tokens, heads, head_dim, state, groups, replayed, None)
    assert np.array_equal(replayed, after)


@each_set
@few
@given(
    seed=seeds, count=st.integers(1, 300), rows=st.integers(1, 14),
    head_dim=st.sampled_from([16, 32, 48, 64, 80, 96, 128]) | st.integers(1, 300), peaked=st.booleans(),
)  # fmt: skip
def test_attention_is_the_softmax_average_of_the_values_seen(kernels, seed, count, rows, head_dim, peaked):
    query = normal(seed, rows, head_dim, scale=20.0 if peaked else 1.0)
    keys, values = (normal(seed + i, count, head_dim).astype(np.float16) for i in (1, 2))
    rng = np.random.default_rng(seed)
    begins = rng.integers(0, count, rows)
    ends = rng.integers(begins + 1, count + 1)
    scale = float(head_dim) ** -0.5

    def attend(rows: slice, apart: int) -> np.ndarray:
        some, out = np.ascontiguousarray(query[rows]), np.empty_like(query[rows])
        limits = np.ascontiguousarray(begins[rows]), np.ascontiguousarray(ends[rows])
        call("attend", kernels, some, *limits, len(some), keys, values, count, head_dim, scale, apart, out)
        return out

    out = attend(slice(None), 0)
    for r in range(rows):
        scores = keys[begins[r] : ends[r]].astype(np.float64) @ query[r] * scale
        weights = np.exp(scores - scores.max())
        expected = weights @ values[begins[r] : ends[r]] / weights.sum()
        np.testing.assert_allclose(out[r], expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(attend(slice(None), 1), out)
    assert np.array_equal(np.concatenate([attend(slice(r, r + 1), 0) for r in range(rows)]), out)


@each_set
@few
@given(x=st.lists(st.floats(width=32) | st.floats(-(2**-14), 2**-14, width=32), min_size=1, max_size=50))
def test_half_precision_is_rounded_to_even_and_stays_finite(kernels, x):
    x = np.array(x, np.float32)
    out = np.empty(len(x), np.uint16)
    call("to_half", kernels, x, len(x), out)
    bounded = np.copysign(np.minimum(np.nan_to_num(np.abs(x), nan=np.inf), 65504), x).astype(np.float32)
    assert np.array_equal(out, bounded.astype(np.float16).view(np.uint16))


@each_set
@few
@given(seed=seeds, n=st.integers(1, 100))
def test_squared_relu(kernels, seed, n):
    x = normal(seed, n)
    expected = np.maximum(x, 0) ** 2
    call("relu_squared", kernels, x, n)
    assert np.array_equal(x, expected)


def test_an_unknown_kernel_set_is_refused():
    assert library.nano_kernel_relu_squared(b"sse9", None, 0) == -1
