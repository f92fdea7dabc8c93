"""GPTQ and AWQ: nearer to the float network than plain rounding, and never a change of what it computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_artifact import random_network
from test_reference import loader

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.checkpoint import load_checkpoint, save_checkpoint
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.reference import reference_logits
from nano_agent_ros.quantize.artifact import read_artifact
from nano_agent_ros.quantize.awq import Awq, fold_into_layer, fold_into_norm, shared_magnitude
from nano_agent_ros.quantize.calibration import MOST_TOKENS, Moments, calibration_tokens, last_name
from nano_agent_ros.quantize.convert import Request, convert
from nano_agent_ros.quantize.gptq import DAMPING, Feedback, Gptq, factor_in_place, quantize_matrix
from nano_agent_ros.quantize.grid import quantize
from nano_agent_ros.quantize.int4 import QuantizeError, fake_quantize
from nano_agent_ros.quantize.methods import LayerWeights
from nano_agent_ros.quantize.scales import find_scales, round_to
from nano_agent_ros.resources import default_model

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION = ROOT / "eval" / "calibration.jsonl"
ALL_KINDS = {"hybrid_override_pattern": "M-*M-", "n_groups": 2, "use_bias": True, "attention_bias": True,
             "mlp_bias": True}  # fmt: skip


def correlated_inputs(rng: np.random.Generator, tokens: int, cols: int) -> np.ndarray:
    """Inputs as networks have them: few directions carry most, and a few inputs are far larger than the rest."""
    x = rng.normal(size=(tokens, cols // 4)) @ rng.normal(size=(cols // 4, cols)) / np.sqrt(cols // 4)
    x += 0.3 * rng.normal(size=x.shape)
    x[:, rng.integers(0, cols, 4)] *= 12
    return x.astype(np.float32)


def output_error(w: np.ndarray, quantized: np.ndarray, x: np.ndarray) -> float:
    """Squared error of the outputs, relative to the outputs."""
    return float(np.square(x @ (quantized - w).T).sum() / np.square(x @ w.T).sum())


def head_only(cols: int, tokens: np.ndarray, method, bits: int, w: np.ndarray, x: np.ndarray):
    """Let a method quantize w as the head of a network without layers before it that would change x."""
    config = NemotronHConfig.from_dict({"hybrid_override_pattern": "-", "hidden_size": cols, "vocab_size": len(w)})
    made = method(config, [tokens], 64)
    made.begin(lambda ids: x[ids])
    norm = np.ones(cols, dtype=np.float32)
    weights = LayerWeights(1, {"lm_head.weight": w}, {"lm_head.weight": bits}, {"backbone.norm_f.weight": norm})
    result = made.layer(weights)
    scale = result.vectors.get("backbone.norm_f.weight", norm)
    return result.matrices["lm_head.weight"].dequantize() * scale


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("method", [Gptq, Awq])
def test_the_output_is_nearer_than_after_plain_rounding(method, bits):
    rng = np.random.default_rng(bits)
    x = correlated_inputs(rng, 500, 192)
    x /= np.sqrt(np.mean(np.square(x), axis=1, keepdims=True) + 1e-5)  # as the norm before the matrix leaves them
    w = rng.normal(size=(48, 192)).astype(np.float32)
    ours = output_error(w, head_only(192, np.arange(500), method, bits, w, x), x)
    plain = output_error(w, quantize(w, bits).dequantize(), x)
    assert ours < (0.75 if method is Gptq else 0.97) * plain


def test_gptq_helps_on_inputs_that_it_was_not_calibrated_on():
    rng = np.random.default_rng(5)
    x = correlated_inputs(rng, 2000, 128)
    w = rng.normal(size=(40, 128)).astype(np.float32)
    ours = quantize_matrix(w, Feedback.of(Moments.of([x[:1000]]), 64), 4).dequantize()
    assert output_error(w, ours, x[1000:]) < 0.75 * output_error(w, fake_quantize(w), x[1000:])


def test_gptq_without_correlation_is_plain_rounding():
    """Inputs that are independent and equal leave nothing to make up for; only the metric is then a constant."""
    rng = np.random.default_rng(6)
    w = rng.normal(size=(20, 128)).astype(np.float32)
    moments = Moments(np.eye(128, dtype=np.float32), np.ones(128, np.float32))
    np.testing.assert_array_equal(quantize_matrix(w, Feedback.of(moments, 64), 4).dequantize(), fake_quantize(w))


@pytest.mark.parametrize("group_size", [64, 128])
def test_errors_are_fed_back_as_the_definition_says(group_size):
    """Against the textbook form: the inverse of the moments, updated column by column."""
    rng = np.random.default_rng(7)
    x = correlated_inputs(rng, 600, 128).astype(np.float64)
    w = rng.normal(size=(6, 128)).astype(np.float32)
    feedback = Feedback.of(Moments.of([x.astype(np.float32)]), group_size)
    ours = quantize_matrix(w, feedback, 4)

    gram = x.T @ x / len(x)
    gram += DAMPING * np.trace(gram) / 128 * np.eye(128)
    upper = np.linalg.cholesky(np.linalg.inv(gram)).T
    left, theirs = w.astype(np.float64), np.empty_like(w)
    scales = np.repeat(ours.scales.astype(np.float64), 64, axis=1)
    for j in range(128):
        theirs[:, j] = np.clip(np.rint(left[:, j] / scales[:, j]), -8, 7) * scales[:, j]
        left[:, j:] -= np.outer((left[:, j] - theirs[:, j]) / upper[j, j], upper[j, j:])
    different = np.abs(ours.dequantize() - theirs) > 1e-4
    assert different.mean() < 0.01  # a tie may be rounded otherwise in float32, and what follows in its row


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_weights_on_the_grid_come_back_as_they_are(name, tmp_path):
    """What quantization-aware training has put on the grid, no method may move."""
    network = random_network(ALL_KINDS, seed=1)
    for name_, parameter in network.named_parameters():
        if name_.endswith("_proj.weight") or name_ == "lm_head.weight":
            parameter.data.copy_(parameter.new_tensor(fake_quantize(parameter.detach().numpy())))
    save_checkpoint(network, tmp_path / "checkpoint")
    method, config = {"gptq": Gptq, "awq": Awq}[name], network.config
    made = method(config, [np.random.default_rng(2).integers(0, 200, 60)], 64)
    load, tensors = loader(network), published(network)
    made.begin(lambda ids: load("backbone.embeddings.weight")[ids])
    for weights in layers(config, tensors, 4):
        result = made.layer(weights)
        for tensor, quantized in result.matrices.items():
            np.testing.assert_array_equal(quantized.dequantize(), tensors[tensor])
        for tensor, changed in result.vectors.items():
            np.testing.assert_array_equal(changed, tensors[tensor])


def published(network) -> dict[str, np.ndarray]:
    """All tensors by published name, in the artifact's shapes."""
    named = {n if n.startswith("lm_head") else f"backbone.{n}": v.numpy() for n, v in network.state_dict().items()}
    return {n: v[:, 0] if v.ndim == 3 else v for n, v in named.items()}


def layers(config, tensors, bits):
    """The layers as conversion hands them over."""
    for index in range(len(config.layers) + 1):
        stem = f"backbone.layers.{index}." if index < len(config.layers) else ("lm_head.", "backbone.norm_f.")
        own = {n: v for n, v in tensors.items() if n.startswith(stem)}
        matrices = {n: v for n, v in own.items() if v.ndim == 2 and "conv1d" not in n}
        vectors = {n: v for n, v in own.items() if n not in matrices}
        yield LayerWeights(index, matrices, dict.fromkeys(matrices, bits), vectors)


def test_folding_changes_nothing_that_the_float_network_computes():
    network = random_network(ALL_KINDS, seed=3)
    config, tensors, rng = network.config, published(network), np.random.default_rng(4)
    tokens = rng.integers(0, config.vocab_size, (2, 30))
    before = reference_logits(config, tensors.__getitem__, tokens)
    folded = tensors
    for index in range(len(config.layers)):
        last = last_name(config, index)
        own = [n for n in tensors if n.startswith(f"backbone.layers.{index}.") and n.endswith("_proj.weight")]
        factors = rng.uniform(0.2, 5.0, config.hidden_size).astype(np.float32)
        norm = f"backbone.layers.{index}.norm.weight"
        folded = fold_into_norm(folded, norm, [n for n in own if n != last], factors)
        cols = tensors[last].shape[1]
        anything = Moments(np.eye(cols, dtype=np.float32), rng.uniform(0.2, 5.0, cols).astype(np.float32))
        folded = fold_into_layer(config, index, folded, shared_magnitude(config, index, anything))
    folded = fold_into_norm(folded, "backbone.norm_f.weight", ["lm_head.weight"], factors)
    after = reference_logits(config, folded.__getitem__, tokens)
    moved = [n for n in tensors if n.endswith("proj.weight") and "q_" not in n]
    assert not any(np.array_equal(folded[n], tensors[n]) for n in moved)
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()


@pytest.mark.parametrize("n", [64, 256, 448])
def test_the_factor_in_place_is_the_cholesky_factor(n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(3 * n, n)).astype(np.float32)
    gram = x.T @ x / len(x)
    ours = gram.copy()
    factor_in_place(ours)
    np.testing.assert_allclose(ours, np.linalg.cholesky(gram.astype(np.float64)), atol=1e-5)
    with pytest.raises(QuantizeError, match="more text"):
        factor_in_place(gram - 2 * np.eye(n, dtype=np.float32))


def test_scales_follow_the_metric():
    rng = np.random.default_rng(8)
    w = rng.normal(size=(200, 64)).astype(np.float32)
    root = rng.normal(size=(64, 64)).astype(np.float32)
    metric = root @ root.T

    def cost(scales: np.ndarray) -> float:
        error = w - round_to(w, scales, 4) * scales.astype(np.float32)[:, None]
        return float(np.einsum("ng,gh,nh->", error, metric, error))

    plain = quantize(w, 4).scales[:, 0]
    assert cost(find_scales(w, 4, metric)) < 0.99 * cost(plain)
    np.testing.assert_array_equal(find_scales(w, 4, np.ones(64, np.float32)), plain)
    np.testing.assert_array_equal(find_scales(w, 8, metric), quantize(w, 8).scales[:, 0])
    assert not find_scales(np.zeros((3, 64), np.float32), 4, metric).any()
    w[7, 7] = np.nan
    with pytest.raises(QuantizeError, match="NaN"):
        find_scales(w, 4, metric)


def test_inputs_that_the_text_never_excites_keep_their_weights():
    rng = np.random.default_rng(9)
    x = correlated_inputs(rng, 300, 128)
    x[:, 10:70] = 0
    w = rng.normal(size=(16, 128)).astype(np.float32)
    ours = quantize_matrix(w, Feedback.of(Moments.of([x]), 64), 4).dequantize()
    unseen = np.s_[:, 10:70]
    assert np.square(ours - w)[unseen].mean() < 1.5 * np.square(fake_quantize(w) - w)[unseen].mean()
    silent = quantize_matrix(w, Feedback.of(Moments.of([np.zeros_like(x)]), 64), 4).dequantize()
    np.testing.assert_array_equal(silent, fake_quantize(w))


# On the network that ships


@pytest.fixture(scope="module")
def dialogue() -> list[np.ndarray]:
    """A few conversations as the shipped model sees them."""
    return calibration_tokens(CALIBRATION, default_model(), 2048)[:6]


@pytest.fixture(scope="module")
def off_grid(tmp_path_factory) -> Path:
    """The shipped network as a float checkpoint, its weights moved off the grid by noise."""
    from nano_agent_ros.engine.torch_engine import _dequantized

    folder = tmp_path_factory.mktemp("shipped")
    network = _dequantized(read_artifact(default_model()))
    rng = np.random.default_rng(10)
    for name, parameter in network.named_parameters():
        if parameter.dim() == 2 and "embeddings" not in name:
            noise = rng.normal(size=tuple(parameter.shape)) * 0.2 * float(parameter.detach().std())
            parameter.data += parameter.new_tensor(noise)
    save_checkpoint(network, folder)
    return folder


def test_the_shipped_network_loses_less_by_calibrating(off_grid, dialogue):
    network = load_checkpoint(off_grid)
    config, tensors = network.config, published(network)
    dialogue = [tokens[-350:] for tokens in dialogue]
    held_out = dialogue[-1][None]
    exact = reference_logits(config, tensors.__getitem__, held_out)
    error = {}
    for name in ("rtn", "gptq", "awq"):
        changed = dict(tensors)
        if name == "rtn":
            for weights in layers(config, tensors, 4):
                changed |= {n: fake_quantize(w) for n, w in weights.matrices.items()}
        else:
            method = {"gptq": Gptq, "awq": Awq}[name](config, dialogue[:-1], 64)
            method.begin(lambda ids: tensors["backbone.embeddings.weight"][ids])
            for weights in layers(config, tensors, 4):
                result = method.layer(weights)
                changed |= {n: q.dequantize() for n, q in result.matrices.items()} | dict(result.vectors)
        error[name] = float(np.square(reference_logits(config, changed.__getitem__, held_out) - exact).mean())
    assert error["gptq"] < 0.8 * error["rtn"], error
    assert error["awq"] < error["rtn"], error


# The calibration file


def test_conversations_are_read_as_the_model_sees_them(dialogue):
    from training.encode import Encoder, read

    encoder = Encoder(default_model())
    for tokens, conversation in zip(dialogue, read(CALIBRATION), strict=False):
        assert tokens[: len(encoder.builder(conversation).prefix())].tolist() == encoder.builder(conversation).prefix()
        assert abs(len(tokens) - len(encoder.encode(conversation)[0])) < 60  # facts told twice are told once


def test_calibration_is_not_the_data_that_is_evaluated():
    def said(path: Path) -> set[str]:
        return {t["say"] for line in path.read_text().splitlines() for t in json.loads(line)["turns"]}

    ours = said(CALIBRATION)
    shared = ours & (said(ROOT / "eval" / "heldout.jsonl") | said(ROOT / "eval" / "outside.jsonl"))
    assert len(shared) < 0.02 * len(ours)


def test_plain_text_is_cut_into_pieces_and_limited(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("take the blue bin to dock three\n" * 8000)
    found = calibration_tokens(path, default_model(), 2048)
    assert sum(len(s) for s in found) == MOST_TOKENS and {len(s) for s in found} == {512}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"turns": [{"say": "go"}]}', "line 1: not in the eval format"),
        ('\n{"turns": [{"say": "...", "expect": {"kind": "ignore"}}]}', "line 2: I didn't hear"),
        ('{"turns": 3', "line 1"),
    ],
)
def test_a_bad_calibration_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        calibration_tokens(path, default_model(), 2048)
    with pytest.raises(ConfigError, match=r"missing\.jsonl"):
        calibration_tokens(tmp_path / "missing.jsonl", default_model(), 2048)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_checkpoint_converts_by_calibration(off_grid, tmp_path, method):
    """The way through `convert`: the artifact holds what the method made, and it still is the network."""
    text = tmp_path / "calibration.jsonl"
    text.write_text("\n".join(CALIBRATION.read_text().splitlines()[:2]) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        (off_grid / name).write_bytes((default_model() / name).read_bytes())
    request = Request(method=method, calibration=text)
    convert(off_grid, tmp_path / "artifact", progress=False, request=request)
    artifact = read_artifact(tmp_path / "artifact")
    network = load_checkpoint(off_grid)
    tokens = calibration_tokens(text, default_model(), 2048)[0][None, :200]
    exact = reference_logits(network.config, published(network).__getitem__, tokens)
    ours = reference_logits(artifact.config, artifact.tensor, tokens)
    assert np.sqrt(np.square(ours - exact).mean()) < 0.2 * exact.std()
    with pytest.raises(ConfigError, match="--calibration FILE"):
        convert(off_grid, tmp_path / "other", progress=False, request=Request(method=method))
