"""The reference engine keeps the interface: exact commits, snapshots that come back, the native engine's window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_artifact import CONFIGS, make_artifact, random_network, round_keys_and_values

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.engine.native_engine import NativeEngine
from nano_agent_ros.engine.torch_engine import TorchEngine
from nano_agent_ros.model.checkpoint import save_checkpoint


def random_tokens(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 133, count).tolist()


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("model"), CONFIGS[request.param], 1)


@pytest.fixture(scope="module")
def engine(folder):
    return open_engine(folder, "torch")


def test_logits_are_those_of_the_native_engine_with_float_activations(folder):
    engine, native = open_engine(folder, "torch"), open_engine(folder, "native", kernels="float")
    round_keys_and_values(engine._network)
    prompt = random_tokens(1, 90)
    ours, theirs = engine.new_state(), native.new_state()
    expected = native.extend(theirs, prompt, every=True)
    np.testing.assert_allclose(engine.extend(ours, prompt, every=True), expected, atol=1e-3)
    for token in random_tokens(2, 20):
        np.testing.assert_allclose(engine.extend(ours, [token]), native.extend(theirs, [token]), atol=1e-3)


def test_with_a_window_old_tokens_fall_out_as_in_the_native_engine(folder):
    engine = TorchEngine(folder, window=10, sinks=3)
    round_keys_and_values(engine._network)
    native = NativeEngine(folder, kernels="float", window=10, sinks=3)
    ours, theirs = engine.new_state(), native.new_state()
    for piece in (random_tokens(3, 7), random_tokens(4, 1), random_tokens(5, 40), random_tokens(6, 2)):
        logits = engine.extend(ours, piece, every=True)
        np.testing.assert_allclose(logits, native.extend(theirs, piece, every=True), atol=1e-3)
    largest = engine.spec.nbytes
    assert len(engine.snapshot(ours).data) < largest + 100


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_committing_n_tokens_leaves_the_state_of_extending_by_n(engine, data):
    history = random_tokens(5, data.draw(st.integers(0, 20), "history"))
    tokens = random_tokens(6, data.draw(st.integers(1, 30), "tokens"))
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
    if 0 < n < len(tokens):
        assert engine.snapshot(guessed) == engine.snapshot(plain)
    np.testing.assert_allclose(engine.extend(guessed, tokens), engine.extend(plain, tokens), atol=1e-4)


def test_a_snapshot_comes_back_bit_for_bit(engine):
    state = engine.new_state()
    engine.extend(state, random_tokens(7, 33))
    snapshot = engine.snapshot(state)
    again = engine.restore(snapshot)
    assert engine.snapshot(again) == snapshot
    assert engine.length(again) == 33
    assert np.array_equal(engine.extend(again, [5, 6]), engine.extend(state, [5, 6]))
    empty = engine.snapshot(engine.new_state())
    assert engine.snapshot(engine.restore(empty)) == empty


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_snapshot_is_refused(engine, data):
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    snapshot = engine.snapshot(state)
    content = bytearray(snapshot.data)
    at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 63), "byte")
    content[at] ^= data.draw(st.integers(1, 255), "bits")
    for bad in (bytes(content), snapshot.data[:at], snapshot.data + b"\0" * 4):
        with pytest.raises(EngineError):
            engine.restore(replace(snapshot, data=bad))
    with pytest.raises(EngineError, match="another model"):
        engine.restore(replace(snapshot, model_digest="0" * 64))


def test_tokens_that_are_none_change_nothing(engine):
    state = engine.new_state()
    engine.extend(state, [1, 2])
    for bad in ([], [-1], [engine.vocab_size]):
        with pytest.raises(ValueError):
            engine.extend(state, bad)
    for n in (-1, 3):
        with pytest.raises(ValueError):
            engine.commit(state, n)
    assert engine.length(state) == 2


def test_a_checkpoint_folder_runs_with_its_own_weights(tmp_path):
    network = random_network(CONFIGS["all kinds"])
    save_checkpoint(network, tmp_path)
    engine = TorchEngine(tmp_path)
    tokens = random_tokens(8, 30)
    with torch.no_grad():
        expected = network.logits(network(torch.tensor([tokens]))[0])[0].numpy()
    np.testing.assert_allclose(engine.extend(engine.new_state(), tokens, every=True), expected, atol=1e-4)


def test_folders_without_a_model_are_named(tmp_path):
    with pytest.raises(EngineError, match=r"config\.json"):
        TorchEngine(tmp_path)
