"""No engine starts that computes another network than its artifact's."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_artifact import CONFIGS, make_artifact

from nano_agent_ros.engine import load
from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.engine.native_engine import NativeEngine
from nano_agent_ros.engine.self_check import LARGEST_RATIO, check_engine
from nano_agent_ros.engine.torch_engine import TorchEngine
from nano_agent_ros.quantize.artifact import MANIFEST, WEIGHTS, ArtifactTensor, read_artifact
from nano_agent_ros.quantize.self_check import SELF_CHECK, read_self_check
from nano_agent_ros.quantize.writer import write_manifest
from nano_agent_ros.resources import default_model


@pytest.fixture(scope="module", params=CONFIGS)
def any_artifact(request, tmp_path_factory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("model"), CONFIGS[request.param], 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An artifact, not to be changed."""
    return make_artifact(tmp_path_factory.mktemp("made"), CONFIGS["all kinds"])


@pytest.fixture
def artifact(made, tmp_path) -> Path:
    """A copy of the artifact that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "artifact"))


def signed_again(folder: Path) -> None:
    """Give a folder that was tampered with a manifest in which every digest fits."""
    manifest = json.loads((folder / MANIFEST).read_text())
    write_manifest(folder, [ArtifactTensor(**t) for t in manifest["tensors"]], manifest["quantization"])


def test_the_references_logits_are_those_of_the_pytorch_network(any_artifact):
    ratios = check_engine(TorchEngine(any_artifact), any_artifact)
    assert max(ratios) < 1e-4


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_rounded_activations_stay_far_below_the_bound(any_artifact, kernels):
    assert max(check_engine(NativeEngine(any_artifact, kernels=kernels), any_artifact)) < LARGEST_RATIO / 2


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_the_model_that_ships_passes_with_room(kernels):
    assert max(check_engine(NativeEngine(default_model(), kernels=kernels), default_model())) < LARGEST_RATIO / 3


class _Permuted(NativeEngine):
    def extend(self, state, tokens, every=False):
        return np.roll(super().extend(state, tokens, every), 1, axis=-1)


class _Scaled(NativeEngine):
    def extend(self, state, tokens, every=False):
        return super().extend(state, tokens, every) * 1.3


class _Forgetful(NativeEngine):
    """Loses its state between two calls."""

    def extend(self, state, tokens, every=False):
        return super().extend(self.new_state(), tokens, every)


class _Infinite(NativeEngine):
    def extend(self, state, tokens, every=False):
        logits = super().extend(state, tokens, every)
        logits[3] = np.inf
        return logits


class _Short(NativeEngine):
    def extend(self, state, tokens, every=False):
        return super().extend(state, tokens, every)[:-1]


@pytest.mark.parametrize("engine", [_Permuted, _Scaled, _Forgetful, _Infinite, _Short])
def test_an_engine_that_computes_something_else_refuses_to_start(engine, made, monkeypatch):
    monkeypatch.setattr(load, "_open", lambda folder, name, options: engine(folder, **options))
    with pytest.raises(EngineError, match="fails the self-check .*(off by|not finite).*reinstall the engine"):
        open_engine(made)
    assert isinstance(open_engine(made, self_check=False), engine)


@pytest.mark.parametrize("name", ["native", "torch"])
def test_weights_that_are_not_the_checked_ones_are_refused(name, artifact):
    """Rows of one matrix swapped, and every digest made to fit: only the computation can tell."""
    t = next(t for t in read_artifact(artifact).tensors if t.name.endswith("0.mixer.in_proj.weight"))
    content = bytearray((artifact / WEIGHTS).read_bytes())
    panel = t.nbytes // -(-t.rows // 16)
    begin, end = t.offset, t.offset + t.nbytes // panel * panel
    content[begin:end] = content[begin + panel : end] + content[begin : begin + panel]
    (artifact / WEIGHTS).write_bytes(content)
    signed_again(artifact)
    with pytest.raises(EngineError, match="fails the self-check"):
        open_engine(artifact, name)


def test_the_self_check_of_another_model_is_refused(artifact, tmp_path):
    other = make_artifact(tmp_path / "other", CONFIGS["all kinds"], seed=9)
    shutil.copy(other / SELF_CHECK, artifact)
    with pytest.raises(EngineError, match="SHA-256 differs"):
        open_engine(artifact)
    signed_again(artifact)
    with pytest.raises(EngineError, match="fails the self-check"):
        open_engine(artifact)


def test_a_missing_self_check_is_an_error(artifact):
    (artifact / SELF_CHECK).unlink()
    with pytest.raises(EngineError, match=SELF_CHECK):
        open_engine(artifact)
    signed_again(artifact)
    with pytest.raises(EngineError, match=f"{SELF_CHECK} is missing: .*convert the checkpoint again"):
        open_engine(artifact)


@pytest.mark.parametrize("verify", [None, False])
def test_a_damaged_self_check_is_an_error_even_unverified(verify, artifact):
    content = bytearray((artifact / SELF_CHECK).read_bytes())
    content[-2] ^= 1
    (artifact / SELF_CHECK).write_bytes(content)
    with pytest.raises(EngineError, match=f"{SELF_CHECK} is damaged"):
        open_engine(artifact, verify=verify)
    os.truncate(artifact / SELF_CHECK, 100)
    with pytest.raises(EngineError, match=SELF_CHECK):
        open_engine(artifact, verify=verify)


def test_a_self_check_of_the_wrong_shape_is_an_error(artifact):
    manifest = json.loads((artifact / MANIFEST).read_text())
    shutil.copy(artifact / WEIGHTS, artifact / SELF_CHECK)
    signed_again(artifact)
    with pytest.raises(EngineError, match=f"{SELF_CHECK} is damaged"):
        read_self_check(artifact)
    assert json.loads((artifact / MANIFEST).read_text())["model_digest"] == manifest["model_digest"]


def test_an_attention_window_shorter_than_the_check_is_named(made):
    with pytest.raises(EngineError, match="window of 10 recent and 3 first tokens is shorter than the self-check"):
        open_engine(made, window=10, sinks=3)
    open_engine(made, window=10)  # all 16 tokens are among the first 64
