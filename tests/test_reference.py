"""The NumPy network equals the PyTorch one, and its pieces put together equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_artifact import randomise

from nano_agent_ros.model import reference
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.network import NemotronH
from nano_agent_ros.model.reference import embed, head_logits, reference_logits, run_layer

PATTERNS = {"M": "mamba", "*": "attention", "-": "mlp"}


def random_network(pattern: str, seed: int, **overrides) -> NemotronH:
    """A small network with no parameter left at a value that hides a mistake."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "mamba_num_heads": 8, "mamba_head_dim": 12, "ssm_state_size": 16,
        "conv_kernel": 4, "chunk_size": 16, "n_groups": 2,
    } | overrides  # fmt: skip
    network = NemotronH(NemotronHConfig(layers=tuple(PATTERNS[sign] for sign in pattern), **settings)).eval()
    randomise(network)
    return network


def loader(network: NemotronH):
    """The network's tensors by published name; a tied head is not there, as in a checkpoint."""
    tensors = {
        name if name.startswith("lm_head") else f"backbone.{name}": value.numpy()
        for name, value in network.state_dict().items()
        if not (network.config.tie_word_embeddings and name == "lm_head.weight")
    }
    return tensors.__getitem__


def torch_logits(network: NemotronH, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network.logits(network(torch.from_numpy(tokens))[0]).numpy()


@pytest.mark.parametrize(
    ("pattern", "overrides"),
    [
        ("M", {"n_groups": 1}),
        ("*", {}),
        ("-", {}),
        ("M-M*-", {}),
        ("M*-M", {"n_groups": 4, "use_bias": True}),
        ("M-*", {"attention_bias": True, "mlp_bias": True}),
        ("MM*", {"use_conv_bias": False, "n_groups": 8}),
        ("M*-", {"tie_word_embeddings": True, "residual_in_fp32": True}),
        ("M-", {"time_step_limit": (0.05, 0.2), "conv_kernel": 3}),
        ("*M", {"num_key_value_heads": 4, "layer_norm_epsilon": 1e-3}),
        ("*-", {"num_key_value_heads": 1, "vocab_size": 97}),
    ],
)
def test_it_equals_the_pytorch_network(pattern, overrides):
    network = random_network(pattern, seed=len(pattern), **overrides)
    tokens = np.random.default_rng(0).integers(0, network.config.vocab_size, (3, 37))
    theirs = torch_logits(network, tokens)
    ours = reference_logits(network.config, loader(network), tokens)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_extreme_time_steps_stay_finite():
    network = random_network("MM", seed=3)
    with torch.no_grad():
        for layer in network.layers:
            layer.mixer.dt_bias.copy_(torch.linspace(-40.0, 33.0, 8))
    tokens = np.random.default_rng(1).integers(0, 96, (1, 20))
    theirs = torch_logits(network, tokens)
    ours = reference_logits(network.config, loader(network), tokens)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_walking_layer_by_layer_equals_the_whole():
    network = random_network("M-*", seed=4)
    config, load = network.config, loader(network)
    tokens = np.random.default_rng(2).integers(0, 96, (2, 19))
    hidden = embed(load, tokens)
    for index in range(len(config.layers)):
        hidden = run_layer(config, index, hidden, load)
    np.testing.assert_array_equal(head_logits(config, hidden, load), reference_logits(config, load, tokens))


def test_the_last_positions_alone_are_those_of_the_whole():
    network = random_network("M*", seed=5)
    tokens = np.random.default_rng(3).integers(0, 96, (2, 11))
    whole = reference_logits(network.config, loader(network), tokens)
    last = reference_logits(network.config, loader(network), tokens, last=2)
    np.testing.assert_allclose(last, whole[:, -2:], rtol=1e-4, atol=1e-5)


def test_every_linear_layer_is_observed_with_its_inputs():
    network = random_network("M*-", seed=6, use_bias=True, attention_bias=True, mlp_bias=True)
    tokens = np.random.default_rng(4).integers(0, 96, (2, 9))
    seen = {}
    reference_logits(network.config, loader(network), tokens, observe=lambda stem, x: seen.setdefault(stem, x))
    theirs = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear):
            stem = name if name == "lm_head" else f"backbone.{name}"
            module.register_forward_pre_hook(lambda _, inputs, stem=stem: theirs.setdefault(stem, inputs[0]))
    torch_logits(network, tokens)
    assert set(seen) == set(theirs)
    for stem, x in seen.items():
        expected = theirs[stem].reshape(-1, theirs[stem].shape[-1]).numpy()
        assert np.abs(x - expected).max() < 1e-4 * np.abs(expected).max(), stem


def test_long_texts_and_large_vocabularies_go_in_blocks(monkeypatch):
    network = random_network("*-", seed=7)
    tokens = np.random.default_rng(5).integers(0, 96, (1, 30))
    whole = reference_logits(network.config, loader(network), tokens)
    monkeypatch.setattr(reference, "_QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(reference, "_HEAD_ROWS_AT_ONCE", 10)
    in_blocks = reference_logits(network.config, loader(network), tokens)
    np.testing.assert_allclose(in_blocks, whole, rtol=1e-4, atol=1e-5)
