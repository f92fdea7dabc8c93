"""The TensorRT engine without a GPU: its graph computed by NumPy, and built by TensorRT for RTX."""

from __future__ import annotations

import argparse
import platform

import numpy as np
import pytest
from host_gpu import Recorded, host_gpu, host_tensorrt
from hypothesis import given, settings
from hypothesis import strategies as st
from small_artifact import CONFIGS, make_artifact
from tensorrt_interpreter import evaluate

from nano_agent_ros.engine import build as build_command
from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.engine.tensorrt import build, cache, network, runtime, versions
from nano_agent_ros.engine.tensorrt.bindings import LOGITS, Bindings
from nano_agent_ros.engine.tensorrt.build import ArtifactWeights
from nano_agent_ros.engine.tensorrt.layers import TensorRTOps, pack_nibbles, to_bfloat16
from nano_agent_ros.engine.tensorrt.numpy_device import NumpyDevice
from nano_agent_ros.engine.tensorrt.numpy_ops import NumpyOps
from nano_agent_ros.engine.tensorrt.ring import EMPTY, Ring
from nano_agent_ros.engine.tensorrt.runtime import open_gpu
from nano_agent_ros.engine.tensorrt_engine import GraphEngine
from nano_agent_ros.engine.torch_engine import TorchEngine
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.quantize.artifact import INT4, read_artifact
from nano_agent_ros.quantize.grid import Quantized
from nano_agent_ros.resources import default_model

WINDOW, SINKS, CHUNK = 20, 3, 16

# TensorRT for RTX has wheels for this platform only; everywhere else the graph is tested, but not built.
builds = pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorRT for RTX has wheels for x86-64 only")


def random_tokens(seed: int, count: int, vocab: int = 133) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocab, count).tolist()


def graph_engine(folder, half="float32", window=WINDOW, sinks=SINKS, chunk=CHUNK) -> GraphEngine:
    artifact = read_artifact(folder)
    bindings = Bindings.of(artifact.config, Ring(window, sinks, chunk))
    return GraphEngine(artifact, bindings, NumpyDevice(ArtifactWeights(artifact), bindings, half), half)


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("model"), CONFIGS[request.param], 1)


@pytest.fixture(scope="module")
def engine(folder):
    return graph_engine(folder)


@pytest.fixture(scope="module")
def reference(folder):
    return TorchEngine(folder, window=WINDOW, sinks=SINKS)


# The graph's mathematics


def test_logits_are_those_of_the_reference_over_steps_of_every_size(engine, reference):
    ours, theirs = engine.new_state(), reference.new_state()
    for seed, count in enumerate((1, 15, 16, 17, 1, 1, 40, 2)):  # chunk borders; the ring of 36 goes round
        tokens = random_tokens(seed, count)
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            logits = engine.extend(ours, tokens, every=True)
        np.testing.assert_allclose(logits, reference.extend(theirs, tokens, every=True), atol=2e-4)
        assert np.array_equal(engine.extend(engine.fork(ours), [5]), engine.extend(engine.fork(ours), [5], True)[0])
    assert engine.length(ours) == reference.length(theirs) == 93


def test_float16_activations_cost_little(folder, reference):
    engine = graph_engine(folder, "float16")
    ours, theirs = engine.new_state(), reference.new_state()
    for seed, count in enumerate((30, 1, 1, 20)):
        tokens = random_tokens(seed, count)
        expected = reference.extend(theirs, tokens, every=True)
        logits = engine.extend(ours, tokens, every=True)
        assert np.abs(logits - expected).max() < 0.03 * expected.std()


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_schedule_of_calls_agrees_with_the_reference(engine, reference, data):
    pairs = [(engine.new_state(), reference.new_state())]
    for _ in range(data.draw(st.integers(1, 8), "calls")):
        i = data.draw(st.integers(0, len(pairs) - 1), "state")
        ours, theirs = pairs[i]
        call = data.draw(st.sampled_from(("extend", "extend", "commit", "fork", "restore")), "call")
        if call == "extend":
            count = data.draw(st.integers(1, 45), "tokens")
            tokens = random_tokens(data.draw(st.integers(0, 1000), "seed"), count)
            expected = reference.extend(theirs, tokens)
            np.testing.assert_allclose(engine.extend(ours, tokens), expected, atol=2e-4)
        elif call == "commit":
            n = data.draw(st.integers(0, len(ours.open)), "kept")
            engine.commit(ours, n)
            reference.commit(theirs, n)
        elif call == "fork":
            pairs.append((engine.fork(ours), reference.fork(theirs)))
        else:
            pairs[i] = (engine.restore(engine.snapshot(ours)), reference.restore(reference.snapshot(theirs)))
        assert engine.length(pairs[i][0]) == reference.length(pairs[i][1])
    for ours, theirs in pairs:
        np.testing.assert_allclose(engine.extend(ours, [7]), reference.extend(theirs, [7]), atol=2e-4)


def test_large_step_sizes_and_activations_do_not_overflow():
    """dt_bias of the published checkpoints reaches 33, and squares of activations leave float16 above 255."""
    config = NemotronHConfig.from_dict({**SMALL, "hybrid_override_pattern": "M-"})
    weights = RandomWeights(config, dt_bias=33.0, scale=1.0)
    bindings = Bindings.of(config, Ring(WINDOW, SINKS, CHUNK))
    device = NumpyDevice(weights, bindings, "float16")
    hidden = np.random.default_rng(0).normal(0, 40, (CHUNK, config.hidden_size)).astype(np.float16)
    at = np.arange(CHUNK, dtype=np.int32)
    with np.errstate(over="raise", invalid="raise", divide="raise", under="ignore"):
        logits = device.step(device.new_memory(), hidden, at, Ring(WINDOW, SINKS, CHUNK).positions(0), at)
    assert np.isfinite(logits).all()


def test_the_shipped_model_answers_as_the_reference_does_and_passes_its_self_check():
    from nano_agent_ros.engine.self_check import check_engine

    engine = graph_engine(default_model(), "float16", window=4096, sinks=64, chunk=128)
    reference = TorchEngine(default_model())
    tokens = random_tokens(1, 200, engine.vocab_size)
    logits = engine.extend(engine.new_state(), tokens, every=True)
    expected = reference.extend(reference.new_state(), tokens, every=True)
    assert np.mean(logits.argmax(1) == expected.argmax(1)) >= 0.98
    assert np.abs(logits - expected).max() < 0.03 * expected.std()
    assert max(check_engine(engine, default_model())) < 0.02


def test_a_damaged_snapshot_and_one_of_another_engine_are_refused(engine, reference):
    state = engine.new_state()
    engine.extend(state, random_tokens(3, 30))
    snapshot = engine.snapshot(state)
    assert engine.snapshot(engine.restore(snapshot)) == snapshot
    data = bytearray(snapshot.data)
    data[-1] ^= 1
    other = type(snapshot)
    for content in (bytes(data), snapshot.data[:-4], snapshot.data[:20], b""):
        with pytest.raises(EngineError, match="damaged"):
            engine.restore(other(snapshot.model_digest, snapshot.length, content))
    with pytest.raises(EngineError, match="another model"):
        engine.restore(other("0" * 64, snapshot.length, snapshot.data))


def test_wrong_calls_change_nothing(engine):
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    for tokens in ([], [-1], [engine.vocab_size]):
        with pytest.raises(ValueError):
            engine.extend(state, tokens)
    for n in (-1, 4):
        with pytest.raises(ValueError):
            engine.commit(state, n)
    engine.commit(state, 1)
    assert engine.length(state) == 1


# The ring


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(0, 5), st.integers(2, 9), st.integers(0, 60))
def test_the_ring_knows_where_every_token_lies_that_can_be_seen(window, sinks, chunk, count):
    ring = Ring(window, sinks, chunk)
    slots = np.full(ring.slots, EMPTY)
    for begin in range(0, count, chunk):
        end = min(begin + chunk, count)
        for offset, slot, run in ring.runs(begin, end):
            slots[slot : slot + run] = np.arange(begin + offset, begin + offset + run)
    assert np.array_equal(ring.positions(count), slots)
    for back in range(min(chunk, count) + 1):  # after the tail of a step was taken back
        claimed = ring.positions(count - back)
        for place in ring.kept(count - back):
            assert slots[ring.slot(place)] == claimed[ring.slot(place)] == place


# What TensorRT is given and what it stores


SMALL = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4,
}  # fmt: skip
SHAPES_OF_4B = {
    "vocab_size": 64, "hidden_size": 3136, "intermediate_size": 12544, "num_attention_heads": 40,
    "num_key_value_heads": 8, "head_dim": 128, "mamba_num_heads": 96, "mamba_head_dim": 80, "ssm_state_size": 128,
    "n_groups": 8, "conv_kernel": 4,
}  # fmt: skip


class RandomWeights:
    """Random constants of the right shapes, made when asked for."""

    def __init__(self, config: NemotronHConfig, bits: int = 4, dt_bias: float = 0.0, scale: float = 0.01):
        self.bits, self.dt_bias, self.scale = bits, dt_bias, scale
        self.rng = np.random.default_rng(0)
        c = config
        self.shapes = {
            "in_proj": (c.in_proj_dim, c.hidden_size), "out_proj": (c.hidden_size, c.d_inner),
            "up_proj": (c.intermediate_size, c.hidden_size), "down_proj": (c.hidden_size, c.intermediate_size),
            "q_proj": (c.q_dim, c.hidden_size), "k_proj": (c.kv_dim, c.hidden_size),
            "v_proj": (c.kv_dim, c.hidden_size), "o_proj": (c.hidden_size, c.q_dim),
            "lm_head": (c.vocab_size, c.hidden_size), "conv1d": (c.conv_dim, c.conv_kernel), "norm": (c.hidden_size,),
            "norm_f": (c.hidden_size,), "A_log": (c.mamba_num_heads,), "dt_bias": (c.mamba_num_heads,),
            "D": (c.mamba_num_heads,), "mixer.norm": (c.d_inner,), "conv1d.bias": (c.conv_dim,),
        }  # fmt: skip

    def _shape(self, name: str) -> tuple[int, ...]:
        stem = name.removesuffix(".weight")
        for key in sorted(self.shapes, key=len, reverse=True):
            if stem == key or stem.endswith("." + key):
                return self.shapes[key]
        raise KeyError(name)

    def has(self, name: str) -> bool:
        return not name.endswith(".bias") or name.endswith("conv1d.bias")

    def quantized(self, name: str) -> Quantized:
        rows, cols = self._shape(name)
        q = self.rng.integers(-8, 8, (rows, cols), dtype=np.int8)
        return Quantized(q, np.full((rows, cols // 64), self.scale, dtype=np.float16), self.bits)

    def values(self, name: str) -> np.ndarray:
        if name.endswith("dt_bias"):
            return np.full(self._shape(name), self.dt_bias, dtype=np.float32)
        return self.rng.random(self._shape(name)).astype(np.float32)


@pytest.fixture(scope="module")
def trt():
    return versions.load("tensorrt_rtx")


def declared(trt, config, weights, ring, step, half="float16"):
    """Inputs and outputs of a network definition: name to (dtype, shape)."""
    module = trt.module
    builder = module.Builder(module.Logger(module.Logger.ERROR))
    definition, ops = build.define(trt, builder, weights, Bindings.of(config, ring), half, step)
    tensors = (
        [definition.get_input(i) for i in range(definition.num_inputs)],
        [definition.get_output(i) for i in range(definition.num_outputs)],
    )
    found = [{t.name: (t.dtype.name, tuple(t.shape)) for t in side} for side in tensors]
    del definition, ops
    return found


@builds
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_inputs_and_outputs_of_the_step_at_the_shapes_of_the_4b(trt, half):
    config = NemotronHConfig.from_dict({**SHAPES_OF_4B, "hybrid_override_pattern": "M*-"})
    act = "HALF" if half == "float16" else "BF16"
    inputs, outputs = declared(trt, config, RandomWeights(config), Ring(4096, 64, 128), True, half)
    ssm, conv, kv = (8, 12, 128, 80), (3, 9728), (8, 4096 + 64 + 128, 128)
    assert inputs == {
        "hidden": ("HALF", (-1, 3136)), "positions": ("INT32", (-1,)), "ring_positions": ("INT32", (4288,)),
        "rows": ("INT32", (-1,)), "layers.0.ssm": ("FLOAT", ssm), "layers.0.conv": (act, conv),
        "layers.1.keys": (act, kv), "layers.1.values": (act, kv),
    }  # fmt: skip
    assert outputs == {
        "logits": ("FLOAT", (-1, 64)), "layers.0.ssm.next": ("FLOAT", ssm), "layers.0.conv.next": (act, conv),
        "layers.0.recorded": (act, (-1, 9728 + 96)), "layers.1.keys.fresh": (act, (8, -1, 128)),
        "layers.1.values.fresh": (act, (8, -1, 128)),
    }  # fmt: skip
    inputs, outputs = declared(trt, config, RandomWeights(config), Ring(4096, 64, 128), False, half)
    assert inputs == {
        "positions": ("INT32", (-1,)), "layers.0.ssm": ("FLOAT", ssm), "layers.0.conv": (act, conv),
        "layers.0.recorded": (act, (-1, 9728 + 96)),
    }  # fmt: skip
    assert outputs == {"layers.0.ssm.next": ("FLOAT", ssm), "layers.0.conv.next": (act, conv)}


WEIGHTS_OF_4B = {
    "M": (17504 + 7680, 3136), "*": (5120 + 1024 + 1024 + 5120, 3136), "-": (2 * 12544, 3136),
}  # fmt: skip


@builds
@pytest.mark.parametrize("kind", WEIGHTS_OF_4B)
def test_a_block_at_the_shapes_of_the_4b_is_stored_in_4_bits(trt, kind):
    config = NemotronHConfig.from_dict({**SHAPES_OF_4B, "hybrid_override_pattern": kind})
    plans, _ = build.build_plans(trt, RandomWeights(config), Bindings.of(config, Ring(4096, 64, 128)), "fp16")
    rows, cols = WEIGHTS_OF_4B[kind]
    integers, scales = rows * cols // 2, rows * cols // 64 * 2
    assert integers + scales <= len(plans.step) < integers + scales + 6_000_000  # kernels, norms, convolution, head
    assert (plans.replay is None) == (kind != "M")
    assert plans.replay is None or len(plans.replay) < 4_000_000


@builds
def test_with_float16_weights_the_same_block_is_four_times_as_large(trt, monkeypatch):
    """So the bound of the test above does tell 4 bits from 16."""
    config = NemotronHConfig.from_dict({**SHAPES_OF_4B, "intermediate_size": 3136, "hybrid_override_pattern": "-"})
    bindings = Bindings.of(config, Ring(64, 4, 16))
    sizes = []
    for dequantized in (TensorRTOps._dequantized, float16_constant):
        monkeypatch.setattr(TensorRTOps, "_dequantized", dequantized)
        sizes.append(len(build.build_plans(trt, RandomWeights(config), bindings, "fp16")[0].step))
    count = 2 * 3136 * 3136
    assert sizes[0] < count * 0.54 + 2_000_000
    assert sizes[1] >= count * 2


def float16_constant(self, q, scales, bits, stem):
    values = (q.astype(np.float32) * np.repeat(scales.astype(np.float32), 64, axis=0)).astype(np.float16)
    return self._constant(values)


@builds
def test_8_bits_in_groups_are_stored_in_8_bits_and_refused_where_they_cannot_be(trt):
    config = NemotronHConfig.from_dict({**SHAPES_OF_4B, "intermediate_size": 3136, "hybrid_override_pattern": "-"})
    bindings = Bindings.of(config, Ring(64, 4, 16))
    count = 2 * 3136 * 3136
    plans, _ = build.build_plans(trt, RandomWeights(config, bits=8), bindings, "fp16")
    assert count * (1 + 2 / 64) <= len(plans.step) < count * (1 + 2 / 64) + 2_000_000
    old = versions.TensorRT("tensorrt", trt.module, "10.3.0")
    with pytest.raises(EngineError, match="4 bits throughout"):
        declared(old, config, RandomWeights(config, bits=8), Ring(64, 4, 16), True)


@builds
def test_the_shipped_model_is_built_and_found_again_with_its_weights_in_4_bits(trt, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    build_command.add_arguments(parser)
    options = ["--package", "tensorrt_rtx", "--out", str(tmp_path), "--precision", "fp16", "--window", "512"]
    assert build_command.run(parser.parse_args(options)) == 0
    said = capsys.readouterr()
    assert str(tmp_path) in said.out and "layers; building" in said.err

    artifact = read_artifact(default_model())
    plans = cache.find(trt, artifact, cache.Options(window=512), ("NVIDIA Whatever", "sm87"), tmp_path)
    for tensor in artifact.tensors:
        if tensor.kind != INT4:
            continue
        stored = artifact.matrix(tensor.name).quantized()
        nibbles = [pack_nibbles(np.ascontiguousarray(q)).tobytes() for q in (stored.q, stored.q.T)]
        assert any(packed in plans.step for packed in nibbles), tensor.name
        values = stored.dequantize()
        for dtype in (np.float16, np.float32):
            for matrix in (values, values.T):  # a row is enough to find a copy by
                row = np.ascontiguousarray(matrix[1], dtype).tobytes()
                assert row not in plans.step, f"{tensor.name} is in the engine as {dtype.__name__}"

    for wrong in (cache.Options(window=511), cache.Options(window=512, precision="bf16")):
        with pytest.raises(EngineError, match=r"run: nano-agent build .* --window 51"):
            cache.find(trt, artifact, wrong, ("sm87",), tmp_path)
    next(tmp_path.glob("*/step.engine")).write_bytes(b"damaged")
    with pytest.raises(EngineError, match="build again"):
        cache.find(trt, artifact, cache.Options(window=512), ("sm87",), tmp_path)


@builds
def test_what_is_missing_is_named(trt, monkeypatch):
    with pytest.raises(EngineError, match="SM42.*SM86"):
        trt.configure(trt.module.Builder(trt.module.Logger()).create_builder_config(), ["sm42"])
    try:
        import pycuda.driver  # noqa: F401
    except ImportError:
        with pytest.raises(EngineError, match="pycuda cannot be imported.*pip install"):
            open_engine(default_model(), "tensorrt")
    monkeypatch.setattr(versions, "PACKAGES", {"tensorrt": ("no_such_tensorrt",)})
    with pytest.raises(EngineError, match="TensorRT cannot be imported.*pip install"):
        versions.load()
    monkeypatch.setattr(versions.platform, "machine", lambda: "aarch64")
    with pytest.raises(EngineError, match="comes with JetPack"):
        versions.load()
    for options in ({"window": 0}, {"sinks": -1}, {"chunk": 1}, {"precision": "fp8"}):
        with pytest.raises(EngineError):
            cache.Options(**options)


def test_nibbles_and_bfloat16_are_packed_as_tensorrt_reads_them():
    q = np.array([[-8, 7], [1, -1]], dtype=np.int8)
    assert pack_nibbles(q).tolist() == [0x78, 0xF1]
    values = np.array([1.0, -2.5, 3.140625, 1.00390625, 1.01171875], dtype=np.float32)
    back = (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    assert back.tolist() == [1.0, -2.5, 3.140625, 1.0, 1.015625]  # ties go to the even one


def test_logits_come_of_the_rows_that_are_asked_for():
    config = NemotronHConfig.from_dict({**SMALL, "hybrid_override_pattern": "M*-"})
    ring = Ring(WINDOW, SINKS, CHUNK)
    bindings = Bindings.of(config, ring)
    device = NumpyDevice(RandomWeights(config), bindings, "float32")
    hidden = np.random.default_rng(1).normal(size=(5, config.hidden_size)).astype(np.float16)
    at, rows = np.arange(5, dtype=np.int32), np.array([4, 1], dtype=np.int32)
    every = NumpyDevice(RandomWeights(config), bindings, "float32").step
    logits = device.step(device.new_memory(), hidden, at, ring.positions(0), rows)
    assert logits.shape == (2, config.vocab_size)
    np.testing.assert_allclose(logits, every(device.new_memory(), hidden, at, ring.positions(0), at)[rows], rtol=1e-5)
    assert {b.name for b in bindings.step_outputs()} >= {LOGITS, "layers.0.ssm.next"}


@builds
@pytest.mark.parametrize("name", CONFIGS)
def test_the_layers_that_tensorrt_is_given_compute_the_graph(trt, name, tmp_path):
    """The network definition itself, evaluated layer by layer, with float16 activations and a full ring.

    Small sums of large terms carry the rounding of the terms: the room is two float16 steps of the largest value.
    """
    artifact = read_artifact(make_artifact(tmp_path, CONFIGS[name], 2))
    ring, rng = Ring(WINDOW, SINKS, CHUNK), np.random.default_rng(4)
    bindings = Bindings.of(artifact.config, ring)
    numpy_ops = NumpyOps(ArtifactWeights(artifact), "float16")
    builder = trt.module.Builder(trt.module.Logger(trt.module.Logger.ERROR))
    for step in (True, False):
        definition, ops = build.define(trt, builder, ArtifactWeights(artifact), bindings, "float16", step)
        for count in (1, 7, CHUNK):
            inputs = {}
            for b in bindings.step_inputs() if step else bindings.replay_inputs():
                shape = tuple(count if n == -1 else n for n in b.shape)
                inputs[b.name] = rng.normal(size=shape).astype("float16" if b.dtype == "half" else b.dtype)
            inputs["positions"] = np.arange(50, 50 + count, dtype=np.int32)
            inputs["ring_positions"] = ring.positions(50)
            inputs["rows"] = np.array([count - 1, 0], dtype=np.int32)
            expected = (network.step if step else network.replay)(numpy_ops, bindings, inputs)
            outputs = evaluate(trt.module, definition, ops._held, inputs)
            assert outputs.keys() == expected.keys()
            for key, values in outputs.items():
                room = max(2e-3, 2 * float(np.finfo("float16").eps) * float(np.abs(expected[key]).max()))
                np.testing.assert_allclose(values, expected[key], rtol=2e-3, atol=room, err_msg=key)
        del definition, ops


def test_bench_gpu_says_what_is_missing_where_there_is_no_gpu(capsys):
    from bench import gpu

    try:
        open_gpu()
    except EngineError:
        assert gpu.main([]) == 2
        assert capsys.readouterr().err.startswith("bench.gpu: ")
    needed = gpu.decode_bytes(read_artifact(default_model()), cache.Options(window=512))
    assert 6.1e6 < needed < 6.5e6  # 7.2 M weights at 4.25 bits, the state read and written, the ring


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_the_run_times_bookkeeping_of_device_memory_is_that_of_the_engine_without_a_gpu(folder, data):
    """Pointers, sides, pitches, staging and replayed captures, on host memory that stands for the GPU's."""
    artifact = read_artifact(folder)
    bindings = Bindings.of(artifact.config, Ring(WINDOW, SINKS, CHUNK))
    ops = NumpyOps(ArtifactWeights(artifact), "float16")
    plain = graph_engine(folder, "float16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "CudaGraph", Recorded)
        gpu = host_gpu()
        device = runtime.CudaDevice(host_tensorrt(bindings, ops), gpu, bindings, build.Plans(b"step", b"replay"))
        engine = GraphEngine(artifact, bindings, device, "float16")
        pairs = [(engine.new_state(), plain.new_state())]
        for _ in range(data.draw(st.integers(1, 14), "calls")):
            ours, theirs = pairs[data.draw(st.integers(0, len(pairs) - 1), "state")]
            call = data.draw(st.sampled_from(("step", "step", "extend", "commit", "fork", "restore")), "call")
            if call in ("step", "extend"):
                count = 1 if call == "step" else data.draw(st.integers(1, 40), "tokens")
                tokens, every = random_tokens(count, count), data.draw(st.booleans(), "every")
                assert np.array_equal(engine.extend(ours, tokens, every), plain.extend(theirs, tokens, every))
            elif call == "commit":
                n = data.draw(st.integers(0, len(ours.open)), "kept")
                engine.commit(ours, n)
                plain.commit(theirs, n)
            elif call == "fork":
                pairs.append((engine.fork(ours), plain.fork(theirs)))
            else:
                snapshot = engine.snapshot(ours)
                assert snapshot == plain.snapshot(theirs)
                pairs.append((engine.restore(snapshot), plain.restore(snapshot)))
        for ours, theirs in pairs:
            for _ in range(7):
                assert np.array_equal(engine.extend(ours, [5]), plain.extend(theirs, [5]))
            assert {graph.launches for graph in ours.memory.graphs.values()} != {0}
            assert len(ours.memory.graphs) == 2
        gpu.thread.shutdown()
