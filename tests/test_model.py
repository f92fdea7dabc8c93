"""The network: equal to transformers', to its own reference, and to its own checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_artifact import randomise

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.mamba2 import scan_chunked, scan_recurrent
from nano_agent_ros.model.network import NemotronH, initialise

NAMES = {"M": "linear_attention", "*": "full_attention", "-": "mlp"}


def randomised_transformers_model(folder: Path, pattern: str, n_groups: int, seed: int, **overrides):
    """Write a random checkpoint with `save_pretrained`, no parameter left at a value that hides a mistake."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "mamba_num_heads": 8, "mamba_head_dim": 12, "ssm_state_size": 16,
        "conv_kernel": 4, "chunk_size": 16, "time_step_min": 1e-30, "n_groups": n_groups,
    } | overrides  # fmt: skip
    config = transformers.NemotronHConfig(layers_block_type=[NAMES[sign] for sign in pattern], **settings)
    model = transformers.NemotronHForCausalLM(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    return model


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference relative to the largest logit."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def fed_in_pieces(network: NemotronH, tokens: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Logits of every position when the tokens come in pieces of the given sizes."""
    state, logits = None, []
    for piece in tokens.split(sizes, dim=1):
        hidden, state = network(piece, state)
        logits.append(network.logits(hidden))
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("pattern", ["M*", "M-M*-", "*-MM*M-", "MMM-*"])
@pytest.mark.parametrize("n_groups", [1, 2, 8])
@pytest.mark.parametrize("length", [7, 16, 45])
def test_logits_equal_transformers_whole_in_pieces_and_token_by_token(tmp_path, pattern, n_groups, length):
    theirs = randomised_transformers_model(tmp_path, pattern, n_groups, seed=length)
    network = load_checkpoint(tmp_path)
    tokens = torch.randint(0, 96, (2, length), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        expected = theirs(tokens).logits
        pieces = [3, length - 5, 1, 1]
        assert relative_error(fed_in_pieces(network, tokens, [length]), expected) < 1e-4
        assert relative_error(fed_in_pieces(network, tokens, pieces), expected) < 1e-4
        assert relative_error(fed_in_pieces(network, tokens, [1] * length), expected) < 1e-4

        cache, step = None, []
        for t in range(length):
            out = theirs(tokens[:, t : t + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            step.append(out.logits)
        assert relative_error(fed_in_pieces(network, tokens, [length]), torch.cat(step, dim=1)) < 1e-4


@pytest.mark.parametrize(
    "overrides",
    [
        {"use_bias": True, "mlp_bias": True},
        {"use_conv_bias": False, "conv_kernel": 3},
    ],
)
def test_variants_of_the_published_config_equal_transformers(tmp_path, overrides):
    theirs = randomised_transformers_model(tmp_path, "M-*M", 2, seed=5, **overrides)
    tokens = torch.randint(0, 96, (1, 40), generator=torch.Generator().manual_seed(1))
    network = load_checkpoint(tmp_path)
    with torch.no_grad():
        assert relative_error(network.logits(network(tokens)[0]), theirs(tokens).logits) < 1e-4


def test_sharded_checkpoints_load(tmp_path):
    theirs = randomised_transformers_model(tmp_path / "whole", "M-*", 1, seed=2)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    whole, shards = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "shards")
    for (name, a), (_, b) in zip(whole.named_parameters(), shards.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_we_save_transformers_loads(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = NemotronHConfig.from_dict(SMALL | {"time_step_min": 0.0})
    network = NemotronH(config).eval()
    fill(network)
    save_checkpoint(network, tmp_path)
    theirs = transformers.NemotronHForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.arange(30)[None] % 64
    with torch.no_grad():
        assert relative_error(network.logits(network(tokens)[0]), theirs(tokens).logits) < 1e-4
        again = load_checkpoint(tmp_path)
        assert torch.equal(again.logits(again(tokens)[0]), network.logits(network(tokens)[0]))


def test_a_tied_head_is_the_embedding_table(tmp_path):
    network = NemotronH(NemotronHConfig.from_dict(SMALL | {"tie_word_embeddings": True}))
    fill(network)
    save_checkpoint(network, tmp_path)
    again = load_checkpoint(tmp_path)
    assert again.lm_head.weight is again.embeddings.weight
    assert torch.equal(again.lm_head.weight, network.embeddings.weight)


SMALL = {
    "hybrid_override_pattern": "M-*", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 16,
    "ssm_state_size": 16, "n_groups": 1, "chunk_size": 8,
}  # fmt: skip


def fill(network: NemotronH) -> None:
    """Fill every parameter with noise."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.2)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 50), chunk=st.integers(1, 24), groups=st.sampled_from([1, 2, 4]),
    cut=st.integers(0, 49), seed=st.integers(0, 9),
)  # fmt: skip
def test_the_matrix_form_of_the_scan_is_the_recurrence(length, chunk, groups, cut, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).float()

    x, b, c = normal(2, length, 4, 6), normal(2, length, groups, 5), normal(2, length, groups, 5)
    dt, a, d = normal(2, length, 4).abs(), -normal(4).exp(), normal(4)
    ssm = normal(2, 4, 5, 6)
    expected, last = scan_recurrent(x, dt, a, b, c, d, ssm)
    y, end = scan_chunked(x, dt, a, b, c, d, ssm, chunk)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(end, last, rtol=1e-4, atol=1e-4)
    cut = min(cut, length - 1)
    if cut:
        first, middle = scan_chunked(x[:, :cut], dt[:, :cut], a, b[:, :cut], c[:, :cut], d, ssm, chunk)
        second, end = scan_chunked(x[:, cut:], dt[:, cut:], a, b[:, cut:], c[:, cut:], d, middle, chunk)
        torch.testing.assert_close(torch.cat((first, second), 1), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(end, last, rtol=1e-4, atol=1e-4)


def test_dt_is_clamped_to_time_step_limit_and_not_to_time_step_min(tmp_path):
    config = NemotronHConfig.from_dict(SMALL | {"time_step_min": 10.0})
    limited = NemotronHConfig.from_dict(SMALL | {"time_step_limit": [10.0, 20.0]})
    plain, clamped = NemotronH(config), NemotronH(limited)
    fill(plain)
    clamped.load_state_dict(plain.state_dict())
    free = NemotronH(NemotronHConfig.from_dict(SMALL | {"time_step_min": 0.0}))
    free.load_state_dict(plain.state_dict())
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(plain(tokens)[0], free(tokens)[0])
        assert not torch.allclose(plain(tokens)[0], clamped(tokens)[0], atol=1e-3)


def test_a_large_dt_bias_stays_finite():
    network = NemotronH(NemotronHConfig.from_dict(SMALL))
    fill(network)
    with torch.no_grad():
        network.layers[0].mixer.dt_bias.fill_(33.0)
        hidden, _ = network(torch.arange(60)[None])
    assert hidden.isfinite().all()


def test_initialisation_is_that_of_mamba_2_and_follows_the_seed():
    network, again = (NemotronH(NemotronHConfig.from_dict(SMALL)) for _ in range(2))
    initialise(network, 3)
    initialise(again, 3)
    mixer = network.layers[0].mixer
    assert ((mixer.A_log.exp() >= 1.0) & (mixer.A_log.exp() <= 16.0)).all()
    dt = torch.nn.functional.softplus(mixer.dt_bias)
    assert ((dt > 0.9e-3) & (dt < 0.11)).all()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_config_reads_every_generation_of_layer_lists():
    legacy = NemotronHConfig.from_dict({"hybrid_override_pattern": "M-*"})
    for names in (["mamba", "mlp", "attention"], ["linear_attention", "mlp", "full_attention"]):
        assert NemotronHConfig.from_dict({"layers_block_type": names}) == legacy
    assert legacy.hybrid_override_pattern == "M-*"
    assert NemotronHConfig.from_dict(json.loads(legacy.to_json())) == legacy
    infinite = {"hybrid_override_pattern": "M", "time_step_limit": [0.0, {"__float__": "Infinity"}], "novel_key": 1}
    assert NemotronHConfig.from_dict(infinite).time_step_limit == (0.0, math.inf)


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"hybrid_override_pattern": "ME"}, "mixture of experts"),
        ({"layers_block_type": ["mamba", "moe"]}, "mixture of experts"),
        ({"hybrid_override_pattern": "MX"}, "'X'"),
        ({}, "hybrid_override_pattern"),
        ({"hybrid_override_pattern": "M", "model_type": "llama"}, "llama"),
        ({"hybrid_override_pattern": "M", "mlp_hidden_act": "silu"}, "mlp_hidden_act"),
        ({"hybrid_override_pattern": "M", "hidden_size": "many"}, "hidden_size"),
        ({"hybrid_override_pattern": "M", "hidden_size": -4}, "hidden_size"),
        ({"hybrid_override_pattern": "M", "n_groups": 7}, "n_groups"),
    ],
)
def test_unsupported_configs_are_named(raw, named):
    with pytest.raises(ConfigError, match=named):
        NemotronHConfig.from_dict(raw)


def test_damaged_checkpoints_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_checkpoint(tmp_path)
    config = NemotronHConfig.from_dict(SMALL)
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(tmp_path)
    network = NemotronH(config)
    save_checkpoint(network, tmp_path)
    (tmp_path / "config.json").write_text(NemotronHConfig.from_dict(SMALL | {"vocab_size": 65}).to_json())
    with pytest.raises(CheckpointError, match=r"embeddings\.weight"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(
        NemotronHConfig.from_dict(SMALL | {"hybrid_override_pattern": "M-*M"}).to_json()
    )
    with pytest.raises(CheckpointError, match=r"layers\.3"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(tmp_path)
