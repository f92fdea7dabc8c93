"""The trainer: shards to batches, quantization-aware training, and a checkpoint that quantizes without loss."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.model.checkpoint import load_checkpoint, save_checkpoint
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.network import NemotronH, initialise
from nano_agent_ros.quantize import qat
from nano_agent_ros.quantize.convert import convert
from nano_agent_ros.quantize.int4 import QuantizeError, dequantize_rows, fake_quantize, quantize_rows
from training import train
from training.average import average
from training.optim import orthogonalised
from training.shards import OPEN_AT_START, Order, read_units
from training.weights import NAME_END, PREFIX, SKILL, USER, VALUE
from training.widen import widened

CONFIG = {
    "model_type": "nemotron_h", "hybrid_override_pattern": "M-*", "vocab_size": 64, "hidden_size": 64,
    "intermediate_size": 64, "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1,
    "chunk_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "residual_in_fp32": True,
}  # fmt: skip


def write_shard(path, sites: int, per_site: int, seed: int) -> None:
    """Conversations whose reply repeats the two tokens that follow the asked one in the prefix."""
    rng = np.random.default_rng(seed)
    tokens, weights, offsets = [], [], [0]
    for _ in range(sites):
        pairs = rng.choice(np.arange(8, 64), (6, 2), replace=False)
        for _ in range(per_site):
            row, loss = [1], [0.02]
            for pair in pairs:
                row += [2, *pair]
                loss += [0.02] * 3
            for pair in pairs[rng.integers(0, 6, rng.integers(1, 5))]:
                row += [3, pair[0], 4, pair[1], 5]
                loss += [0.1, 0.1, 0.1, 1.0, 1.0]
            tokens += row
            weights += loss
            offsets.append(len(tokens))
    np.savez(path, tokens=np.array(tokens, np.uint16), weights=np.array(weights, np.float16), offsets=np.array(offsets))


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "shard.npz"
    write_shard(path, sites=12, per_site=5, seed=1)
    return path


def small_network(seed: int = 0) -> NemotronH:
    network = NemotronH(NemotronHConfig.from_dict(CONFIG))
    initialise(network, seed)
    return network


def test_every_token_of_a_shard_is_in_one_unit(shard):
    units = read_units([shard], rows=3)
    assert all(unit.prefix is not None for unit in units)
    raw = np.load(shard)
    replies = sum(int((block.weights > 0.9).sum()) for unit in units for block in unit.blocks)
    assert replies == int((raw["weights"] > 0.9).sum())
    assert max(block.tokens.shape[0] for unit in units for block in unit.blocks) <= 3
    assert [u.length for u in units] == sorted(u.length for u in units)


def test_a_shared_prefix_gives_the_loss_and_gradient_of_whole_conversations(shard):
    network = small_network()
    shared, apart = 0.0, 0.0
    prefix_again = 0.0
    for unit in read_units([shard], rows=5):
        shared = shared + train.unit_loss(network, unit)
        rows = sum(block.tokens.shape[0] for block in unit.blocks)
        prefix_again = prefix_again + (rows - 1) * train._weighted_loss(
            network, network(torch.from_numpy(unit.prefix.tokens))[0][:, :-1], unit.prefix, 1
        )
        for block in unit.blocks:
            for row, weights in zip(block.tokens, block.weights, strict=True):
                tokens = np.concatenate([unit.prefix.tokens[0], row])[None]
                loss = np.concatenate([unit.prefix.weights[0], weights])[None]
                whole = train.Unit(None, (train.Block(tokens, loss),), tokens.shape[1])
                apart = apart + train.unit_loss(network, whole)
    total = shared + prefix_again
    torch.testing.assert_close(total, apart, rtol=1e-4, atol=1e-4)
    parameters = list(network.parameters())
    for a, b in zip(torch.autograd.grad(total, parameters), torch.autograd.grad(apart, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4)


def test_only_replies_count_where_reading_does_not(tmp_path):
    path = tmp_path / "shard.npz"
    tokens, words = np.arange(8, 20, dtype=np.uint16), [PREFIX] * 4 + [USER] * 5
    loss = np.array([*words, NAME_END, SKILL, VALUE], np.float16)
    np.savez(path, tokens=np.tile(tokens, 2), weights=np.tile(loss, 2), offsets=np.array([0, 12, 24]))
    for reading in (1.0, 0.5, 0.0):
        (unit,) = read_units([path], reading=reading)
        read = np.concatenate([unit.prefix.weights[0], unit.blocks[0].weights[0, :5]])
        np.testing.assert_allclose(read, reading * loss[:9].astype(np.float32))
        np.testing.assert_allclose(unit.blocks[0].weights[:, 5:], [loss[9:], loss[9:]])


def test_an_average_is_the_weighted_mean_of_every_tensor(tmp_path):
    networks = [small_network(seed) for seed in (1, 2)]
    for i, network in enumerate(networks):
        save_checkpoint(network, tmp_path / str(i))
    mean = average([tmp_path / "0", tmp_path / "1"], [1.0, 3.0]).state_dict()
    for name, tensor in mean.items():
        first, second = (network.state_dict()[name] for network in networks)
        torch.testing.assert_close(tensor, 0.25 * first + 0.75 * second)
    other = NemotronH(NemotronHConfig.from_dict({**CONFIG, "intermediate_size": 128}))
    save_checkpoint(other, tmp_path / "other")
    with pytest.raises(ValueError, match="other is another network"):
        average([tmp_path / "0", tmp_path / "other"], [1.0, 1.0])
    with pytest.raises(ValueError, match="not all 0"):
        average([tmp_path / "0"], [0.0])


def test_a_wider_network_computes_the_same_and_can_learn():
    network = small_network()
    wider = widened(network, 192)
    assert wider.config.intermediate_size == 192
    tokens = torch.arange(3, 40)[None]
    expected = network.logits(network(tokens)[0])
    logits = wider.logits(wider(tokens)[0])
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    for name, parameter in wider.named_parameters():
        if name.endswith("down_proj.weight"):
            assert (parameter[:, 64:] == 0).all() and (parameter.grad[:, 64:] != 0).any()
        if name.endswith("up_proj.weight"):
            old, new = parameter[:64].std(), parameter[64:].std()
            assert 0.8 < new / old < 1.25
    with pytest.raises(ValueError, match="more than 32"):
        widened(network, 32)


def test_short_conversations_come_first_and_all_take_part_in_the_end():
    order = Order(100, seed=0)
    first = round(100 * OPEN_AT_START)
    assert {order.next(0.0) for _ in range(60)} == set(range(first))
    later = [order.next(0.5) for _ in range(100 - first)]  # those not yet used come first
    assert set(later) == set(range(first, 100))


def test_orthogonalised_matrices_have_singular_values_near_one():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 32, 96), (2, 96, 32)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape, generator=generator)).float())
        assert values.min() > 0.5 and values.max() < 1.4


def test_the_network_in_training_computes_with_the_weights_of_the_artifact():
    network = small_network()
    expected = fake_quantize(network.layers[0].mixer.in_proj.weight.detach().numpy())
    original = network.layers[0].mixer.in_proj.weight
    qat.begin(network)
    assert network.layers[0].mixer.in_proj.parametrizations.weight.original is original  # the optimizer holds it
    assert np.array_equal(network.layers[0].mixer.in_proj.weight.detach().numpy(), expected)
    network(torch.arange(20)[None])[0].square().sum().backward()
    gradient = network.layers[0].mixer.in_proj.parametrizations.weight.original.grad
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_activations_are_rounded_as_the_engine_rounds_them():
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = qat.int8_activations(x)
    groups = x.detach().unflatten(-1, (-1, 64))
    steps = y.detach().unflatten(-1, (-1, 64)) / (groups.abs().amax(-1, keepdim=True) / 127)
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert (y - x).abs().max() <= 0.51 * groups.abs().max() / 127
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_a_finished_network_quantizes_without_loss():
    network = small_network()
    qat.begin(network)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.03 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    qat.finish(network)
    assert not network.layers[0].mixer.in_proj._forward_pre_hooks
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.detach().numpy()
            assert np.array_equal(dequantize_rows(*quantize_rows(weight)), weight)


def test_inputs_that_64_does_not_divide_are_named():
    network = NemotronH(NemotronHConfig.from_dict(CONFIG | {"intermediate_size": 80}))
    with pytest.raises(QuantizeError, match=r"layers\.1\.mixer\.down_proj has 80 inputs"):
        qat.begin(network)


def run_trainer(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    monkeypatch.setattr(train, "keep_freed_memory", lambda: None)  # it would change the whole test process
    train.main()


def test_a_run_learns_resumes_and_ends_on_an_artifact_that_answers_alike(tmp_path, shard, monkeypatch, capsys):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_shard(tmp_path / "valid.npz", sites=3, per_site=4, seed=2)
    common = [
        str(shard), "--valid", str(tmp_path / "valid.npz"), "--model", str(tmp_path / "none"),
        "--config", str(tmp_path / "config.json"),
        "--out", str(tmp_path / "run"), "--batch-tokens", "400", "--report-every", "10", "--save-every", "0",
        "--no-compile",
    ]  # fmt: skip
    run_trainer(monkeypatch, *common, "--steps", "40", "--qat-from", "0.7")
    run_trainer(monkeypatch, *common, "--steps", "60", "--qat-from", "0.7", "--resume")
    printed = capsys.readouterr().out
    assert "INT4" in printed
    curve = json.loads((tmp_path / "run/curve.json").read_text())
    losses = [p["loss"] for p in curve if "loss" in p]
    assert [p["step"] for p in curve if "loss" in p] == [10, 20, 30, 40, 50, 60]
    assert losses[-1] < 0.7 * losses[0]

    network = load_checkpoint(tmp_path / "run/model")
    convert(tmp_path / "run/model", tmp_path / "artifact", progress=False)
    engine = open_engine(tmp_path / "artifact", "torch")
    tokens = list(range(3, 40))
    with torch.no_grad():
        expected = network.logits(network(torch.tensor([tokens]))[0])[0].numpy()
    np.testing.assert_allclose(engine.extend(engine.new_state(), tokens, every=True), expected, atol=1e-4)


def test_the_mean_over_the_steps_is_kept_resumed_and_what_int4_begins_with(tmp_path, shard):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    args = train.arguments().parse_args([
        str(shard), "--model", str(tmp_path / "none"), "--config", str(tmp_path / "config.json"),
        "--out", str(tmp_path),
        "--batch-tokens", "400", "--steps", "6", "--qat-from", "0.6", "--mean", "0.7",
    ])  # fmt: skip
    run = train.Run(args, NemotronHConfig.from_dict(CONFIG), read_units([shard]))
    expected = None
    for _ in range(3):
        run.step()
        now = {name: p.detach().clone() for name, p in run.network.named_parameters()}
        expected = now if expected is None else {name: 0.7 * expected[name] + 0.3 * p for name, p in now.items()}
    run.save(tmp_path / "run.pt")
    resumed = train.Run(args, run.network.config, run.units)
    resumed.resume(tmp_path / "run.pt")
    for best in (run.best(), resumed.best()):
        torch.testing.assert_close(dict(best.named_parameters()), expected)
    assert any((p != expected[name]).any() for name, p in run.network.named_parameters())
    resumed.quantize()
    assert resumed.best() is resumed.network
    began = {
        n.replace(".parametrizations.weight.original", ".weight"): p for n, p in resumed.network.named_parameters()
    }
    torch.testing.assert_close(began, expected)


def test_what_is_no_shard_is_named(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.npz is no token shard"):
        read_units([tmp_path / "bad.npz"])
