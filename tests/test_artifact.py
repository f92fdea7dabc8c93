"""INT4 and the artifact folder: exact where it must be, whole or refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.torch import save_file
from small_artifact import BASE, CONFIGS, make_artifact, random_network

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.model.checkpoint import save_checkpoint
from nano_agent_ros.quantize.artifact import MANIFEST, WEIGHTS, read_artifact
from nano_agent_ros.quantize.convert import ConversionError, convert
from nano_agent_ros.quantize.int4 import (
    GROUP,
    PANEL_BYTES,
    QuantizeError,
    dequantize_rows,
    fake_quantize,
    pack_panels,
    packed_nbytes,
    quantize_rows,
    unpack_panels,
)

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A checkpoint and its artifact, not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    make_artifact(folder, CONFIGS["all kinds"])
    return folder


@pytest.fixture
def artifact(made, tmp_path) -> Path:
    """A copy of the artifact that a test may damage."""
    for path in (made / "artifact").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@settings(max_examples=50, deadline=None)
@given(seed=seeds, rows=st.integers(1, 20), groups=st.integers(1, 3), magnitude=st.sampled_from([1e-4, 0.02, 1.0, 300]))
def test_weights_already_on_the_grid_come_back_unchanged(seed, rows, groups, magnitude):
    rng = np.random.default_rng(seed)
    largest = rng.integers(0, 9, (rows, groups, 1))
    q = np.clip(rng.integers(-8, 8, (rows, groups, GROUP)), -largest, np.minimum(largest, 7))
    scales = np.abs(rng.standard_normal((rows, groups)) * magnitude).astype(np.float16)
    w = dequantize_rows(q.reshape(rows, -1), scales)
    assert np.array_equal(fake_quantize(w), w)


@settings(max_examples=50, deadline=None)
@given(seed=seeds, rows=st.integers(1, 20), scale=st.sampled_from([1e-6, 1e-3, 0.05, 1.0, 100.0]))
def test_quantizing_twice_changes_nothing(seed, rows, scale):
    once = fake_quantize((np.random.default_rng(seed).standard_normal((rows, 2 * GROUP)) * scale).astype(np.float32))
    assert np.array_equal(fake_quantize(once), once)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, heavy=st.booleans())
def test_the_scale_search_is_never_worse_than_the_largest_weight_and_mostly_better(seed, heavy):
    rng = np.random.default_rng(seed)
    w = (rng.standard_t(3, (64, 4 * GROUP)) if heavy else rng.standard_normal((64, 4 * GROUP))).astype(np.float32)
    groups = w.reshape(-1, GROUP)
    plain_scale = (np.abs(groups).max(axis=1, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    plain = ((groups - np.clip(np.rint(groups / plain_scale), -8, 7) * plain_scale) ** 2).sum(axis=1)
    searched = ((w - fake_quantize(w)) ** 2).reshape(-1, GROUP).sum(axis=1)
    assert (searched <= plain * 1.00001).all()
    assert searched.sum() < 0.95 * plain.sum()


def test_quantized_values_and_scales_are_in_range():
    q, scales = quantize_rows(np.random.default_rng(0).standard_normal((50, 256)).astype(np.float32))
    assert (q.dtype, scales.dtype) == (np.int8, np.float16)
    assert (q.min(), q.max()) == (-8, 7)
    assert (scales > 0).all()


@pytest.mark.parametrize(
    "w, message",
    [
        (np.zeros((4, 65)), "multiple of 64"),
        (np.zeros(64), "no matrix"),
        (np.full((1, 64), np.nan), "NaN"),
        (np.full((1, 64), np.inf), "infinity"),
        (np.full((1, 64), 1e6), "beyond float16"),
    ],
)
def test_what_has_no_int4_form_is_refused(w, message):
    with pytest.raises(QuantizeError, match=message):
        quantize_rows(w)


def test_a_group_of_zeros_stays_zero():
    assert not fake_quantize(np.zeros((3, 128), np.float32)).any()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rows=st.integers(1, 40), groups=st.integers(1, 3))
def test_panels_unpack_to_what_was_packed(seed, rows, groups):
    rng = np.random.default_rng(seed)
    q = rng.integers(-8, 8, (rows, groups * GROUP), dtype=np.int8)
    scales = rng.standard_normal((rows, groups)).astype(np.float16)
    packed = pack_panels(q, scales)
    assert packed.nbytes == packed_nbytes(rows, groups * GROUP)
    back_q, back_scales = unpack_panels(packed, rows)
    assert np.array_equal(back_q, q)
    assert np.array_equal(back_scales, scales)


def test_a_panel_has_the_documented_bytes():
    rng = np.random.default_rng(1)
    q = rng.integers(-8, 8, (20, 128), dtype=np.int8)
    scales = rng.standard_normal((20, 2)).astype(np.float16)
    packed = pack_panels(q, scales)
    assert packed.shape == (2, 2, PANEL_BYTES)
    panel, group, n = 1, 1, 3  # row 19, inputs 64 to 127
    for j in range(8):
        for k in range(4):
            byte = packed[panel, group, 64 * j + 4 * n + k]
            assert byte & 15 == q[19, 64 + 8 * j + k] + 8
            assert byte >> 4 == q[19, 64 + 8 * j + 4 + k] + 8
    assert packed[panel, group, 512 + 2 * n : 514 + 2 * n].tobytes() == scales[19, 1].tobytes()


@pytest.mark.parametrize("config", CONFIGS)
def test_an_artifact_holds_the_checkpoint(config, tmp_path):
    network = random_network(CONFIGS[config])
    artifact = read_artifact(make_artifact(tmp_path, CONFIGS[config]), verify=True)
    assert artifact.config == network.config
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    for t in artifact.tensors:
        original = weights[t.name.removeprefix("backbone.")].reshape(t.rows, t.cols)
        stored = artifact.tensor(t.name).reshape(t.rows, t.cols)
        if t.kind == "float32":
            assert np.array_equal(stored, original)
        elif t.kind == "float16":
            assert np.array_equal(stored, original.astype(np.float16).astype(np.float32))
        else:
            assert np.array_equal(stored, fake_quantize(original))
    assert {t.name for t in artifact.tensors} >= {"lm_head.weight", "backbone.embeddings.weight"}


def test_other_programs_can_read_the_weights_and_tensors_are_aligned(made):
    tensors = load_file(made / "artifact" / WEIGHTS)
    for t in read_artifact(made / "artifact").tensors:
        assert t.offset % 64 == 0
        assert tensors[t.name].nbytes == t.nbytes


def test_bfloat16_shards_with_transformers_names_give_the_same_artifact(tmp_path):
    network = random_network(CONFIGS["all kinds"]).to(torch.bfloat16)
    save_checkpoint(network.float(), tmp_path / "float")
    expected = convert(tmp_path / "float", tmp_path / "expected", progress=False)

    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "config.json").write_bytes((tmp_path / "float" / "config.json").read_bytes())
    weights = {("" if k.startswith("lm_head") else "model.") + k: v.bfloat16() for k, v in network.state_dict().items()}
    names = sorted(weights)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({n: weights[n].contiguous() for n in part}, shards / file)
    index = {"weight_map": {n: file for file, part in parts.items() for n in part}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    assert convert(shards, tmp_path / "artifact", progress=False) == expected


def test_conversion_is_deterministic_and_replaces_an_older_artifact(made, tmp_path):
    first = convert(made / "checkpoint", tmp_path / "out", progress=False)
    assert convert(made / "checkpoint", tmp_path / "out", progress=False) == first
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_tokenizer_and_template_are_taken_along(made, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for path in (made / "checkpoint").iterdir():
        (checkpoint / path.name).write_bytes(path.read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        (checkpoint / name).write_text("{}")
    convert(checkpoint, tmp_path / "out", progress=False)
    kept = {p.name for p in (tmp_path / "out").iterdir()}
    assert kept >= {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"}


def test_a_folder_with_something_else_is_not_overwritten(made, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(EngineError, match="choose another folder"):
        convert(made / "checkpoint", tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_failed_conversion_leaves_nothing_behind(tmp_path):
    network = random_network(CONFIGS["all kinds"])
    with torch.no_grad():
        network.layers[-1].mixer.down_proj.weight[3, 5] = float("nan")
    save_checkpoint(network, tmp_path / "checkpoint")
    with pytest.raises(ConversionError, match=r"backbone\.layers\.5\.mixer\.down_proj\.weight holds NaN"):
        convert(tmp_path / "checkpoint", tmp_path / "out", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"intermediate_size": 96}, r"layers\.1\.mixer\.down_proj has 96 inputs, which groups of 64 do not fill"),
        ({"head_dim": 20}, r"o_proj has 80 inputs"),
        ({"hidden_size": 80}, r"in_proj has 80 inputs"),
    ],
)
def test_a_layer_that_64_does_not_divide_is_named(overrides, message, tmp_path):
    save_checkpoint(random_network(CONFIGS["all kinds"] | overrides), tmp_path / "checkpoint")
    with pytest.raises(ConversionError, match=message):
        convert(tmp_path / "checkpoint", tmp_path / "out", progress=False)


def test_a_checkpoint_that_does_not_fit_its_config_is_named(made, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes((made / "checkpoint" / "model.safetensors").read_bytes())
    with pytest.raises(ConversionError, match="config.json"):
        convert(checkpoint, tmp_path / "out", progress=False)
    (checkpoint / "config.json").write_text(json.dumps(BASE | CONFIGS["all kinds"] | {"vocab_size": 256}))
    with pytest.raises(ConversionError, match=r"embeddings\.weight has shape \(200, 64\).*asks for \(256, 64\)"):
        convert(checkpoint, tmp_path / "out", progress=False)
    (checkpoint / "config.json").write_text(json.dumps(BASE | {"hybrid_override_pattern": "M-M*M-M"}))
    with pytest.raises(ConversionError, match=r"lacks tensor backbone\.layers\.6"):
        convert(checkpoint, tmp_path / "out", progress=False)
    os.truncate(checkpoint / "model.safetensors", 5000)
    with pytest.raises(ConversionError, match="cut short"):
        convert(checkpoint, tmp_path / "out", progress=False)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, "config.json"])
def test_a_missing_file_is_named(name, artifact):
    (artifact / name).unlink()
    with pytest.raises(EngineError, match=re.escape(str(artifact / name))):
        open_engine(artifact)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, "config.json"])
@pytest.mark.parametrize("left", [0, 7, 0.5, -1])
@pytest.mark.parametrize("verify", [True, False])
def test_a_truncated_file_is_named(name, left, verify, artifact):
    size = (artifact / name).stat().st_size
    os.truncate(artifact / name, int(size * left) if isinstance(left, float) else left % size)
    if name == MANIFEST and left == -1:
        open_engine(artifact)  # nothing but the last line's end is gone
        return
    with pytest.raises(EngineError, match=re.escape(str(artifact / name))):
        open_engine(artifact, verify=verify)


@pytest.mark.parametrize("huge_pages", [False, True])
@pytest.mark.parametrize("change", ["cut short", "written into"])
def test_weights_that_change_while_they_are_in_use_are_named_and_not_read(change, huge_pages, artifact):
    path = artifact / WEIGHTS
    os.utime(path, (1, 1))
    size = path.stat().st_size
    engine = open_engine(artifact, huge_pages=huge_pages)
    state = engine.new_state()
    engine.extend(state, [1, 2])
    before = engine.snapshot(state).digest
    if change == "cut short":
        os.truncate(path, 0)
    else:
        with path.open("r+b") as file:
            file.write(b"\1")
    for _ in range(2):
        with pytest.raises(EngineError, match=rf"{re.escape(str(path))}.*{path.stat().st_size} bytes.*{size}.*renam"):
            engine.extend(state, [3])
    assert engine.snapshot(state).digest == before


def test_a_new_weights_file_in_the_place_of_one_in_use_leaves_the_engine_as_it_is(artifact):
    engine = open_engine(artifact)
    logits = engine.extend(engine.new_state(), [1, 2])
    (artifact / "new").write_bytes(b"other weights")
    os.replace(artifact / "new", artifact / WEIGHTS)
    assert np.array_equal(engine.extend(engine.new_state(), [1, 2]), logits)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_noticed_wherever_it_is(made, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    for path in (made / "artifact").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / data.draw(st.sampled_from([WEIGHTS, "config.json"]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(EngineError, match=re.escape(str(path))):
        open_engine(folder)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_the_manifest_is_an_error_or_changes_nothing_that_matters(made, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    for path in (made / "artifact").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    intact = read_artifact(folder)
    content = bytearray((folder / MANIFEST).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / MANIFEST).write_bytes(content)
    try:
        assert read_artifact(folder) == intact
    except EngineError as e:
        assert str(folder) in str(e)


@pytest.mark.parametrize(
    "key, change",
    [
        ("rows", lambda v: v + 1),  # still as many panels: only the digest can tell
        ("cols", lambda v: v + 10),  # still as many groups of 64
        ("kind", lambda v: {"float32": "float16", "float16": "float32"}.get(v, "int8_panels")),
        ("offset", lambda v: v + 64),
        ("nbytes", lambda v: v - 64),
        ("name", lambda v: v + "x"),
    ],
)
def test_a_changed_entry_of_the_tensor_table_is_found(key, change, artifact):
    intact = json.loads((artifact / MANIFEST).read_text())
    for i, entry in enumerate(intact["tensors"]):
        manifest = json.loads((artifact / MANIFEST).read_text())
        manifest["tensors"][i][key] = change(entry[key])
        (artifact / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(EngineError, match="digest"):
            read_artifact(artifact)
        (artifact / MANIFEST).write_text(json.dumps(intact))
    read_artifact(artifact)


@pytest.mark.parametrize("key", ["symmetric", "block_inputs", "scale_dtype", "panel_rows", "block_bytes", "method"])
def test_a_changed_quantization_block_is_found(key, artifact):
    manifest = json.loads((artifact / MANIFEST).read_text())
    manifest["quantization"][key] = None
    (artifact / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="digest"):
        read_artifact(artifact)


def test_an_artifact_of_another_version_is_refused(artifact):
    manifest = json.loads((artifact / MANIFEST).read_text())
    (artifact / MANIFEST).write_text(json.dumps(manifest | {"version": 3}))
    with pytest.raises(EngineError, match="version 3, this package reads version 2"):
        open_engine(artifact)
    (artifact / MANIFEST).write_text(json.dumps(manifest | {"format": "nano_agent_ros-int4", "version": 1}))
    with pytest.raises(EngineError, match="version 1, this package reads version 2; convert the checkpoint again"):
        open_engine(artifact)


def test_a_folder_that_is_no_artifact_is_refused(made, tmp_path):
    for folder in (tmp_path, made / "checkpoint", tmp_path / "nowhere"):
        with pytest.raises(EngineError, match="made by converting a checkpoint"):
            open_engine(folder)
