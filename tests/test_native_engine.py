"""The native engine: equal to the PyTorch network, exact about what it keeps, and robust against bad input."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_artifact import CONFIGS, dequantized_network, make_artifact, round_keys_and_values

from nano_agent_ros.engine import native_library
from nano_agent_ros.engine.base import EngineError, Snapshot
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.engine.native_engine import NativeEngine
from nano_agent_ros.quantize.artifact import read_artifact

HAS_AVX512 = native_library.load_library().nano_kernel_relu_squared(b"avx512", None, 0) == 0
SETS = ["portable", "avx512"] if HAS_AVX512 else ["portable"]
each_set = pytest.mark.parametrize("kernels", SETS)
each_config = pytest.mark.parametrize("config", CONFIGS)
MOST_PENDING = 128


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return {name: make_artifact(tmp_path_factory.mktemp("model"), raw, 1) for name, raw in CONFIGS.items()}


@pytest.fixture(scope="module")
def engines(artifacts):
    """An engine of each configuration and kernel set, with two threads."""
    return {(c, k): NativeEngine(artifacts[c], kernels=k, threads=2) for c in CONFIGS for k in (*SETS, "float")}


def random_tokens(seed: int, count: int, vocabulary: int = 133) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocabulary, count).tolist()


def stepwise(engine: NativeEngine, prompt: list[int], decoded: list[int]) -> np.ndarray:
    """Logits of a prompt in one go and then of token after token."""
    state = engine.new_state()
    first = engine.extend(state, prompt, every=True)
    return np.concatenate([first, *(engine.extend(state, [t])[None] for t in decoded)])


def torch_logits(network, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        hidden, _ = network(torch.tensor([tokens]))
        return network.logits(hidden)[0].numpy()


def like_the_engine(artifact):
    """The PyTorch network on the artifact's weights, keys and values rounded as the engine's cache does."""
    network = dequantized_network(read_artifact(artifact))
    round_keys_and_values(network)
    return network


def quantize_activations(network) -> None:
    """Make the inputs of every linear layer what the engine's INT8 makes of them."""

    def hook(_, inputs):
        groups = inputs[0].unflatten(-1, (-1, 64))
        peak = groups.abs().amax(-1, keepdim=True)
        q = torch.round(groups * torch.where(peak > 0, 127 / peak, 0.0))
        return ((q * (peak / 127)).flatten(-2),)

    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(hook)


@each_config
def test_with_float_activations_logits_equal_pytorch_over_prefill_and_200_steps(config, artifacts, engines):
    prompt, decoded = random_tokens(1, 150), random_tokens(2, 200)
    logits = stepwise(engines[config, "float"], prompt, decoded)
    expected = torch_logits(like_the_engine(artifacts[config]), prompt + decoded)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(logits, expected, atol=1e-3)


@each_set
@each_config
def test_logits_equal_pytorch_with_the_same_rounding_of_activations(config, kernels, artifacts, engines):
    # An activation on the edge between two INT8 values may fall to either side for a difference of one float32 ulp, and
    # everything after that differs by the noise of INT8. So: short prompts, most of which have no such case.
    network = like_the_engine(artifacts[config])
    quantize_activations(network)
    engine = engines[config, kernels]
    errors = []
    for seed in range(20):
        prompt, decoded = random_tokens(seed, 3), random_tokens(seed + 100, 2)
        errors.append(np.abs(stepwise(engine, prompt, decoded) - torch_logits(network, prompt + decoded)).max())
    assert np.quantile(errors, 0.7) < 1e-3
    assert max(errors) < 0.3


@each_set
@each_config
def test_int8_activations_cost_little(config, kernels, engines):
    prompt, decoded = random_tokens(3, 100), random_tokens(4, 200)
    exact = stepwise(engines[config, "float"], prompt, decoded)
    error = stepwise(engines[config, kernels], prompt, decoded) - exact
    # 1 to 4 % on these random networks, which damp nothing.
    assert np.sqrt((error**2).mean()) < 0.06 * exact.std()


@each_set
@each_config
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_committing_n_tokens_leaves_the_state_of_extending_by_n(config, kernels, engines, data):
    engine = engines[config, kernels]
    history = random_tokens(5, data.draw(st.integers(0, 20), "history"))
    tokens = random_tokens(6, data.draw(st.integers(1, 40), "tokens"))
    n = data.draw(st.integers(0, len(tokens)), "kept")
    guessed, plain = engine.new_state(), engine.new_state()
    for state in (guessed, plain):
        if history:
            engine.extend(state, history)
    engine.extend(guessed, tokens)
    engine.commit(guessed, n)
    if n:
        engine.extend(plain, tokens[:n])
    assert engine.length(guessed) == len(history) + n
    assert engine.snapshot(guessed) == engine.snapshot(plain)
    assert np.array_equal(engine.extend(guessed, tokens), engine.extend(plain, tokens))


@each_set
@pytest.mark.parametrize("kept", [0, 5, 128, 200, 256, 290, 300])
def test_the_tail_of_a_long_extend_can_be_taken_back_as_well(kernels, kept, engines):
    engine = engines["all kinds", kernels]
    tokens = random_tokens(7, 300)
    guessed, plain = engine.new_state(), engine.new_state()
    for state in (guessed, plain):
        engine.extend(state, tokens[:10])
    engine.extend(guessed, tokens)
    engine.commit(guessed, kept)
    if kept:
        engine.extend(plain, tokens[:kept])
    assert engine.snapshot(guessed) == engine.snapshot(plain)


@each_set
@each_config
def test_the_split_into_calls_changes_no_bit(config, kernels, engines):
    engine = engines[config, kernels]
    tokens = random_tokens(8, 270)
    whole = engine.new_state()
    expected = engine.extend(whole, tokens, every=True)
    pieces, logits = engine.new_state(), []
    for begin, end in ((0, 1), (1, 2), (2, 9), (9, 140), (140, 268), (268, 270)):
        logits.append(engine.extend(pieces, tokens[begin:end], every=True))
    assert np.array_equal(np.concatenate(logits), expected)
    assert engine.snapshot(pieces) == engine.snapshot(whole)


@each_set
def test_the_number_of_threads_changes_no_bit(kernels, artifacts):
    tokens = random_tokens(9, 300)
    results = []
    for threads in (1, 2, 5):
        engine = NativeEngine(artifacts["all kinds"], kernels=kernels, threads=threads)
        assert engine.threads == threads
        results.append(engine.extend(engine.new_state(), tokens, every=True))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def ticks(threads: set[str]) -> int:
    """Processor time of some threads of this process, in the system's clock ticks."""
    fields = [Path(f"/proc/self/task/{t}/stat").read_text().rpartition(")")[2].split() for t in threads]
    return sum(int(f[11]) + int(f[12]) for f in fields)


def test_threads_sleep_between_calls(artifacts):
    before = set(os.listdir("/proc/self/task"))
    engine = NativeEngine(artifacts["no conv bias"], threads=3, kernels="portable")
    workers = set(os.listdir("/proc/self/task")) - before
    assert len(workers) == 2
    state, deadline = engine.new_state(), time.monotonic() + 60
    while ticks(workers) < 5:
        assert time.monotonic() < deadline, "the workers do no work"
        engine.extend(state, random_tokens(18, 512))
    worked = ticks(workers)
    time.sleep(0.5)
    assert ticks(workers) - worked <= 1


def test_threads_can_be_bound_to_processors(artifacts):
    allowed = os.sched_getaffinity(0)
    tokens = random_tokens(19, 512)
    unbound = NativeEngine(artifacts["no conv bias"], threads=2)
    expected = unbound.extend(unbound.new_state(), tokens)
    for pin in ("auto", str(min(allowed)), f"{max(allowed)},{min(allowed)}"):
        before = set(os.listdir("/proc/self/task"))
        engine = NativeEngine(artifacts["no conv bias"], threads=2, pin=pin)
        (worker,) = set(os.listdir("/proc/self/task")) - before
        assert np.array_equal(engine.extend(engine.new_state(), tokens), expected)
        deadline = time.monotonic() + 60  # a worker that has had nothing to do yet may not have begun
        while len(os.sched_getaffinity(int(worker))) != 1:
            assert time.monotonic() < deadline, "the worker is not bound"
            time.sleep(0.01)
        assert os.sched_getaffinity(0) == allowed


def test_the_last_logits_are_the_last_of_every(engines):
    engine = engines["all kinds", SETS[-1]]
    tokens = random_tokens(10, 150)
    every = engine.extend(engine.new_state(), tokens, every=True)
    assert every.shape == (150, engine.vocab_size)
    assert np.array_equal(engine.extend(engine.new_state(), tokens), every[-1])


@each_set
@each_config
def test_a_restored_state_goes_on_as_the_original(config, kernels, engines):
    engine = engines[config, kernels]
    state = engine.new_state()
    engine.extend(state, random_tokens(11, 50))
    snapshot = engine.snapshot(state)
    assert snapshot.length == 50
    restored = engine.restore(snapshot)
    assert engine.snapshot(restored) == snapshot
    tokens = random_tokens(12, 30)
    assert np.array_equal(engine.extend(restored, tokens, every=True), engine.extend(state, tokens, every=True))
    engine.commit(restored, 7)
    engine.commit(state, 7)
    assert engine.snapshot(restored) == engine.snapshot(state)


def test_a_snapshot_keeps_open_tokens(engines):
    engine = engines["all kinds", SETS[-1]]
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    assert engine.snapshot(state).length == 3
    with pytest.raises(ValueError, match="cannot keep 1 of the 0 tokens"):
        engine.commit(state, 1)
    engine.commit(state, 0)
    assert engine.length(state) == 3


def test_snapshots_of_another_model_are_refused(engines):
    one, other = engines["all kinds", SETS[-1]], engines["biases", SETS[-1]]
    snapshot = one.snapshot(one.new_state())
    with pytest.raises(EngineError, match="another model"):
        other.restore(snapshot)
    with pytest.raises(EngineError, match="another model"):
        other.restore(replace(snapshot, model_digest=other.model_digest))


def test_snapshots_of_another_window_are_refused(artifacts, engines):
    snapshot = engines["all kinds", SETS[-1]].snapshot(engines["all kinds", SETS[-1]].new_state())
    with pytest.raises(EngineError, match="window 4096 and 64 sinks, the engine has 100 and 4"):
        NativeEngine(artifacts["all kinds"], window=100, sinks=4).restore(snapshot)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_snapshot_is_refused(engines, data):
    engine = engines["all kinds", SETS[-1]]
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    snapshot = engine.snapshot(state)
    content = bytearray(snapshot.data)
    at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 80), "byte")
    content[at] ^= data.draw(st.integers(1, 255), "bits")
    with pytest.raises(EngineError):
        engine.restore(replace(snapshot, data=bytes(content)))
    with pytest.raises(EngineError):
        engine.restore(replace(snapshot, data=snapshot.data[:at]))
    with pytest.raises(EngineError):
        engine.restore(replace(snapshot, data=bytes(snapshot.data) + b"\0" * 8))


def test_a_snapshot_with_the_wrong_length_is_refused(engines):
    engine = engines["all kinds", SETS[-1]]
    snapshot = engine.snapshot(engine.new_state())
    with pytest.raises(EngineError, match="damaged"):
        engine.restore(Snapshot(snapshot.model_digest, 3, snapshot.data))


@each_set
def test_tokens_beyond_the_window_fall_out_but_for_the_sinks(kernels, artifacts):
    # One attention layer and nothing before it: the logits at the end depend on exactly the tokens in view.
    engine = NativeEngine(artifacts["odd sizes"], kernels=kernels, window=10, sinks=3)
    tokens = random_tokens(13, 400)

    def attention_state(tokens):
        state = engine.new_state()
        engine.extend(state, tokens)
        engine.extend(state, random_tokens(14, 200))
        return engine.snapshot(state).data[-8 - 2 * 2 * 13 * 24 : -8]

    changed_sink, changed_middle = list(tokens), list(tokens)
    changed_sink[1] = (tokens[1] + 1) % 133
    changed_middle[100] = (tokens[100] + 1) % 133
    assert attention_state(tokens) == attention_state(changed_middle)
    assert attention_state(tokens) != attention_state(changed_sink)


@pytest.mark.parametrize("window, sinks", [(10, 3), (150, 70), (128, 128), (300, 0)])
def test_windowed_attention_equals_pytorch_with_the_same_mask(window, sinks, artifacts, monkeypatch):
    count = 400
    engine = NativeEngine(artifacts["odd sizes"], kernels="float", window=window, sinks=sinks)
    position = torch.arange(count)
    age = position[:, None] - position[None, :]
    mask = (age >= 0) & ((age < window) | (position[None, :] < sinks))
    plain = torch.nn.functional.scaled_dot_product_attention

    calls = []

    def masked(q, k, v, **options):
        calls.append(options)
        return plain(q, k, v, attn_mask=mask, enable_gqa=True)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", masked)
    tokens = random_tokens(15, count)
    expected = torch_logits(like_the_engine(artifacts["odd sizes"]), tokens)
    assert len(calls) == 1
    np.testing.assert_allclose(stepwise(engine, tokens[:350], tokens[350:]), expected, atol=1e-3)


def test_a_state_stops_growing_when_the_window_is_full(artifacts):
    engine = NativeEngine(artifacts["all kinds"], window=20, sinks=4)
    state = engine.new_state()
    sizes = []
    for _ in range(10):
        engine.extend(state, random_tokens(16, 40))
        sizes.append(len(engine.snapshot(state).data))
    assert set(sizes) == {sizes[0]}
    header_and_checksum = 128 + 8
    assert sizes[0] == engine.spec.nbytes + header_and_checksum


@each_set
def test_commit_is_exact_across_the_end_of_the_ring(kernels, artifacts):
    engine = NativeEngine(artifacts["one group, tied"], kernels=kernels, window=16, sinks=2)
    guessed, plain = engine.new_state(), engine.new_state()
    rng = np.random.default_rng(17)
    for _ in range(30):
        tokens = random_tokens(int(rng.integers(1 << 30)), int(rng.integers(1, MOST_PENDING + 1)))
        n = int(rng.integers(0, len(tokens) + 1))
        engine.extend(guessed, tokens)
        engine.commit(guessed, n)
        if n:
            engine.extend(plain, tokens[:n])
    assert engine.snapshot(guessed) == engine.snapshot(plain)


@pytest.mark.parametrize(
    "tokens", [[], [-1], [133], [2**62], [1, 2, -(2**63)], [2**64 - 1], [2**70], [1.5], ["a"], [[1, 2]]]
)
def test_bad_tokens_raise_and_change_nothing(tokens, engines):
    engine = engines["odd sizes", SETS[-1]]
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    before = engine.snapshot(state)
    with pytest.raises(ValueError):
        engine.extend(state, tokens)
    assert engine.snapshot(state) == before


@pytest.mark.parametrize("n", [-1, 4, 2**62, 2**64])
def test_committing_more_than_was_fed_raises(n, engines):
    engine = engines["all kinds", SETS[-1]]
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    with pytest.raises(ValueError, match="of the .*tokens"):
        engine.commit(state, n)
    engine.commit(state, 2)
    assert engine.length(state) == 2


def test_a_state_of_another_engine_is_refused(engines):
    one, other = engines["odd sizes", SETS[-1]], engines["all kinds", SETS[-1]]
    state = other.new_state()
    for call in (lambda: one.extend(state, [1]), lambda: one.commit(state, 0), lambda: one.snapshot(state)):
        with pytest.raises(ValueError, match="another engine"):
            call()


def test_states_of_one_engine_are_independent_and_threads_may_share_it(engines):
    engine = engines["all kinds", SETS[-1]]
    expected = [stepwise(engine, random_tokens(i, 140), random_tokens(i + 50, 20)) for i in range(4)]
    results: dict[int, np.ndarray] = {}

    def converse(i: int) -> None:
        results[i] = stepwise(engine, random_tokens(i, 140), random_tokens(i + 50, 20))

    threads = [threading.Thread(target=converse, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(4):
        assert np.array_equal(results[i], expected[i])


def test_the_c_interface_refuses_null_pointers():
    library = native_library.load_library()
    assert library.nano_engine_open(None, None, None, 0, None) is None
    assert b"null" in library.nano_last_error()
    assert library.nano_state_new(None) is None
    assert library.nano_state_extend(None, None, 1, None, 0) == native_library.INVALID
    assert library.nano_state_commit(None, 0) == native_library.INVALID
    assert library.nano_state_length(None) == native_library.INVALID
    assert library.nano_state_snapshot_size(None) == native_library.INVALID
    assert library.nano_state_snapshot(None, None, 0) == native_library.INVALID
    assert library.nano_state_restore(None, None, 0) is None
    library.nano_state_free(None)
    library.nano_engine_close(None)


def test_the_c_interface_needs_no_room_for_logits(engines):
    engine = engines["all kinds", SETS[-1]]
    state = engine.new_state()
    tokens = (ctypes.c_int64 * 3)(1, 2, 3)
    assert engine._library.nano_state_extend(state._handle, tokens, 3, None, 1) == 0
    assert engine._library.nano_state_extend(state._handle, tokens, -3, None, 1) == native_library.INVALID
    assert engine.length(state) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kernels": "sse9"}, "kernels 'sse9' are unknown"),
        ({"threads": -1}, "threads must be 0 to 64"),
        ({"pin": "left"}, "pin 'left' is neither none, auto nor a list"),
        ({"pin": "0,,1"}, "pin '0,,1' is neither"),
        ({"pin": "99999"}, "may not run on processor 99999"),
        ({"window": 0}, "window must be 1"),
        ({"sinks": -1}, "sinks must be 0"),
        ({"wings": 2}, "does not take these options"),
    ],
)
def test_bad_options_are_named(options, message, artifacts):
    with pytest.raises(EngineError, match=message):
        open_engine(artifacts["all kinds"], **options)


def test_an_unknown_engine_is_answered_with_the_known_ones(artifacts):
    with pytest.raises(EngineError, match="no engine 'warp'; known are native, torch"):
        open_engine(artifacts["all kinds"], name="warp")


def test_a_missing_library_is_an_error_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("NANO_ENGINE_LIB", str(tmp_path / "nowhere.so"))
    with pytest.raises(EngineError, match=r"not built.*pip install"):
        native_library.load_library.__wrapped__()


def test_a_library_of_another_kind_is_refused(monkeypatch, tmp_path):
    (tmp_path / "broken.so").write_bytes(b"no library")
    monkeypatch.setenv("NANO_ENGINE_LIB", str(tmp_path / "broken.so"))
    with pytest.raises(EngineError, match="install the package again"):
        native_library.load_library.__wrapped__()
