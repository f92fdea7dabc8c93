"""Conversion: what is asked for is what is written, in little memory, and a run that was cut off goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_artifact import BASE, CONFIGS, random_network

from nano_agent_ros import cli
from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.model.checkpoint import save_checkpoint
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.quantize import int4, int8
from nano_agent_ros.quantize.artifact import WEIGHTS, read_artifact
from nano_agent_ros.quantize.convert import ConversionError, Request, convert
from nano_agent_ros.quantize.grid import HIGHEST, LOWEST, quantize
from nano_agent_ros.quantize.int4 import GROUP, QuantizeError
from nano_agent_ros.quantize.random_model import PRESETS, parameters, write_random_model
from nano_agent_ros.quantize.table import artifact_tensors
from nano_agent_ros.resources import default_model

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint folder, not to be changed; every linear layer has inputs that 128 divides."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(random_network(CONFIGS["all kinds"] | {"hidden_size": 128, "head_dim": 32}), folder)
    return folder


def matrices(folder: Path) -> dict[str, np.ndarray]:
    artifact = read_artifact(folder)
    return {t.name: artifact.tensor(t.name) for t in artifact.tensors if t.in_panels}


def weights_of(checkpoint: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(checkpoint / "model.safetensors")


def plain_search(w: np.ndarray) -> tuple[np.ndarray, np.float16]:
    """The documented choice of q and scale for one group, candidate by candidate."""
    best = (np.inf, np.zeros(len(w)), np.float16(0))
    peak = np.abs(w).max()
    for divisor in int4.DIVISORS:
        scale = np.float16(peak / np.float32(divisor))
        q = np.clip(np.rint(w / np.float32(scale)), -8, 7) if scale > 0 else np.zeros_like(w)
        error = np.float64(((w.astype(np.float64) - q.astype(np.float64) * scale) ** 2).sum())
        if error < best[0]:
            best = (error, q, scale)
    return best[1], best[2]


@settings(max_examples=30, deadline=None)
@given(seed=seeds, magnitude=st.sampled_from([1e-7, 1e-5, 1e-3, 0.02, 1.0, 300.0]))
def test_the_search_finds_a_grid_as_good_as_trying_every_documented_candidate(seed, magnitude):
    w = (np.random.default_rng(seed).standard_t(4, (3, 2 * GROUP)) * magnitude).astype(np.float32)
    found = (w - int4.fake_quantize(w)).astype(np.float64).reshape(-1, GROUP)
    for group, error in zip(w.reshape(-1, GROUP), (found**2).sum(axis=1), strict=True):
        q, scale = plain_search(group)
        assert error <= ((group - q * np.float64(scale)) ** 2).sum() * (1 + 1e-5) + 1e-30


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rows=st.integers(1, 40), groups=st.integers(1, 4), bits=st.sampled_from([4, 8]))
def test_blocks_of_rows_are_quantized_as_the_whole(seed, rows, groups, bits):
    w = np.random.default_rng(seed).standard_normal((rows, groups * GROUP)).astype(np.float32)
    whole = quantize(w, bits)
    for begin in range(0, rows, 16):
        part = quantize(w[begin : begin + 16], bits)
        assert np.array_equal(part.q, whole.q[begin : begin + 16])
        assert np.array_equal(part.scales, whole.scales[begin : begin + 16])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, magnitude=st.sampled_from([1e-8, 1e-6, 1e-4, 0.02, 1.0, 300.0]))
def test_int8_is_off_by_half_a_step_at_most(seed, magnitude):
    w = (np.random.default_rng(seed).standard_normal((5, 2 * GROUP)) * magnitude).astype(np.float32)
    q, scales = int8.quantize_rows(w)
    step = np.repeat(scales.astype(np.float32), GROUP, axis=1)
    assert (q.min() >= -127) and (np.abs(w - int4.dequantize_rows(q, scales)) <= step * 0.51 + 1e-12).all()
    assert np.isfinite(scales).all() and (scales >= 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.sampled_from([1e-3, 0.05, 1.0, 100.0]))
def test_int8_quantizing_twice_changes_nothing(seed, scale):
    w = (np.random.default_rng(seed).standard_normal((7, GROUP)) * scale).astype(np.float32)
    once = quantize(w, 8).dequantize()
    assert np.array_equal(quantize(once, 8).dequantize(), once)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [128, 192])
def test_a_larger_group_shares_one_scale_among_its_blocks(bits, group_size):
    w = np.random.default_rng(0).standard_normal((20, 2 * group_size)).astype(np.float32)
    found = quantize(w, bits, group_size)
    shared = found.scales.reshape(20, 2, group_size // GROUP)
    assert (shared == shared[:, :, :1]).all() and len(np.unique(shared)) > 10
    assert found.q.min() >= LOWEST[bits] and found.q.max() <= HIGHEST[bits]
    error = np.abs(w - found.dequantize()).mean()
    assert 0 < np.abs(w - quantize(w, bits).dequantize()).mean() < error < (0.15 if bits == 4 else 0.01)


@pytest.mark.parametrize("bits, group_size", [(4, 96), (4, 32), (4, 0), (8, 256)])
def test_groups_that_do_not_fill_the_blocks_or_the_rows_are_refused(bits, group_size):
    with pytest.raises(QuantizeError, match=str(group_size)):
        quantize(np.zeros((16, 384), np.float32), bits, group_size)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rows=st.integers(1, 40), groups=st.integers(1, 3))
def test_int8_panels_unpack_to_what_was_packed(seed, rows, groups):
    rng = np.random.default_rng(seed)
    q = rng.integers(-127, 128, (rows, groups * GROUP), dtype=np.int8)
    scales = rng.standard_normal((rows, groups)).astype(np.float16)
    packed = int8.pack_panels(q, scales)
    assert packed.nbytes == int8.packed_nbytes(rows, groups * GROUP)
    back_q, back_scales = int8.unpack_panels(packed, rows)
    assert np.array_equal(back_q, q) and np.array_equal(back_scales, scales)


def test_an_int8_panel_has_the_documented_bytes():
    rng = np.random.default_rng(1)
    q = rng.integers(-127, 128, (20, 128), dtype=np.int8)
    scales = rng.standard_normal((20, 2)).astype(np.float16)
    packed = int8.pack_panels(q, scales)
    assert packed.shape == (2, 2, 1056)
    panel, group, n = 1, 1, 3  # row 19, inputs 64 to 127
    for j in range(16):
        for k in range(4):
            assert packed[panel, group, 64 * j + 4 * n + k] == int(q[19, 64 + 4 * j + k]) + 128
    assert packed[panel, group, 1024 + 2 * n : 1026 + 2 * n].tobytes() == scales[19, 1].tobytes()
    assert (packed[1, :, :1024].reshape(2, 16, 16, 4)[:, :, 4:] == 128).all()  # rows beyond the last weigh nothing
    assert not packed[1, :, 1024 + 8 :].any()


@pytest.mark.parametrize(
    "request_, kinds",
    [
        (Request(), {"int4_panels"}),
        (Request(bits=8), {"int8_panels"}),
        (Request(head_bits=8, attention_bits=8, group_size=128), {"int4_panels", "int8_panels"}),
        (Request(bits=8, head_bits=4), {"int4_panels", "int8_panels"}),
    ],
)
def test_every_matrix_gets_the_bits_and_groups_asked_for(request_, kinds, checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "out", progress=False, request=request_)
    artifact = read_artifact(tmp_path / "out")
    table = {t.name: t for t in artifact.tensors if t.in_panels}
    assert {t.kind for t in table.values()} == kinds
    original = weights_of(checkpoint)
    for name, values in matrices(tmp_path / "out").items():
        assert table[name].kind == f"int{request_.bits_of(name)}_panels"
        expected = quantize(original[name], request_.bits_of(name), request_.group_size).dequantize()
        assert np.array_equal(values, expected)
    assert artifact.quantization["group_size"] == request_.group_size
    tokens = list(range(1, 60))
    engines = [open_engine(tmp_path / "out", "torch")]
    engines += [open_engine(tmp_path / "out", "native", kernels=kernels) for kernels in ("float", "auto")]
    exact, unrounded, rounded = (engine.extend(engine.new_state(), tokens, every=True) for engine in engines)
    np.testing.assert_allclose(unrounded, exact, atol=3e-3)
    assert np.sqrt(np.square(rounded - exact).mean()) < 0.1 * exact.std()


def test_int8_is_closer_to_the_checkpoint_than_int4(checkpoint, tmp_path):
    tokens = list(range(1, 40))
    network = open_engine(checkpoint, "torch")
    expected = network.extend(network.new_state(), tokens, every=True)
    errors = []
    for bits in (4, 8):
        convert(checkpoint, tmp_path / str(bits), progress=False, request=Request(bits=bits))
        engine = open_engine(tmp_path / str(bits), "torch")
        errors.append(np.abs(engine.extend(engine.new_state(), tokens, every=True) - expected).mean())
    assert errors[1] < errors[0] / 5


def test_a_group_size_that_a_layer_does_not_allow_names_the_layer(tmp_path):
    save_checkpoint(random_network(CONFIGS["all kinds"]), tmp_path / "checkpoint")
    with pytest.raises(ConversionError, match=r"layers\.0\.mixer\.in_proj has 64 inputs, which groups of 128 do not"):
        convert(tmp_path / "checkpoint", tmp_path / "out", progress=False, request=Request(group_size=128))
    assert not (tmp_path / "out").exists()


def test_an_embedding_beyond_float16_is_named(tmp_path):
    network = random_network(CONFIGS["all kinds"])
    with torch.no_grad():
        network.embeddings.weight[7, 3] = 1e5
    save_checkpoint(network, tmp_path / "checkpoint")
    with pytest.raises(ConversionError, match=r"embeddings\.weight: its largest value 1e\+05 is beyond float16"):
        convert(tmp_path / "checkpoint", tmp_path / "out", progress=False)


# --- interrupted conversions -----------------------------------------------------------------------------------------

SLOW = """
import pathlib, sys, time
from nano_agent_ros.quantize import writer
from nano_agent_ros.quantize.convert import Request, convert
finished = writer.ArtifactWriter.finished
def slowly(self, *names):
    finished(self, *names)
    print(len(self.done), flush=True)
    time.sleep(0.05)
writer.ArtifactWriter.finished = slowly
method, text = (sys.argv[3], pathlib.Path(sys.argv[4])) if sys.argv[3:] else ("rtn", None)
convert(sys.argv[1], sys.argv[2], progress=False, request=Request(method=method, calibration=text))
"""


def start_and_kill(checkpoint: Path, out: Path, after: int, signal_: int, *method: str) -> None:
    """Convert in a process that is slowed down, and send it a signal once that many tensors are done."""
    command = [sys.executable, "-c", SLOW, str(checkpoint), str(out), *method]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= after:
            break
    os.kill(process.pid, signal_)
    process.stdout.close()
    assert process.wait() != 0


def counted(monkeypatch) -> list[str]:
    """Names of the tensors that are written from now on."""
    from nano_agent_ros.quantize.writer import ArtifactWriter

    written: list[str] = []
    finished = ArtifactWriter.finished

    def count(self, *names: str) -> None:
        written.extend(names)
        finished(self, *names)

    monkeypatch.setattr(ArtifactWriter, "finished", count)
    return written


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_conversion_goes_on_where_it_was(signal_, checkpoint, tmp_path, monkeypatch):
    expected = convert(checkpoint, tmp_path / "expected", progress=False)
    start_and_kill(checkpoint, tmp_path / "out", 10, signal_)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial").exists()
    written = counted(monkeypatch)
    assert convert(checkpoint, tmp_path / "out", progress=False) == expected
    total = len(read_artifact(tmp_path / "out").tensors)
    assert 0 < len(written) <= total - 10
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "expected" / WEIGHTS).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expected", "out"]


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_killed_calibration_goes_on_with_the_layers_that_are_left(method, tmp_path, monkeypatch):
    checkpoint, text = tmp_path / "checkpoint", tmp_path / "text.txt"
    save_checkpoint(random_network(CONFIGS["all kinds"] | {"vocab_size": 2048}), checkpoint)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (checkpoint / name).write_bytes((default_model() / name).read_bytes())
    text.write_text("take the blue bin to packing and then come back to dock three\n" * 20)
    request = Request(method=method, calibration=text)
    convert(checkpoint, tmp_path / "expected", progress=False, request=request)
    start_and_kill(checkpoint, tmp_path / "out", 20, signal.SIGKILL, method, str(text))
    written = counted(monkeypatch)
    convert(checkpoint, tmp_path / "out", progress=False, request=request)
    assert 0 < len(written) < len(read_artifact(tmp_path / "out").tensors) - 20
    expected, found = matrices(tmp_path / "expected"), matrices(tmp_path / "out")
    assert all(np.array_equal(found[name], expected[name]) for name in found if name not in written)
    # The activations that are made again differ in their last bits, so the rest is as good rather than the same.
    tokens = list(range(300, 400))
    engines = [open_engine(folder, "torch") for folder in (checkpoint, tmp_path / "expected", tmp_path / "out")]
    exact, straight, resumed = (engine.extend(engine.new_state(), tokens, every=True) for engine in engines)
    assert np.square(resumed - exact).mean() < 1.5 * np.square(straight - exact).mean()


def test_a_tensor_that_was_not_finished_is_written_again(checkpoint, tmp_path):
    """What a cut leaves behind the last mark is not trusted: here it is overwritten with rubbish."""
    expected = convert(checkpoint, tmp_path / "expected", progress=False)
    start_and_kill(checkpoint, tmp_path / "out", 5, signal.SIGKILL)
    partial = tmp_path / ".out.partial"
    done = (partial / "done.txt").read_text().splitlines()
    (partial / "done.txt").write_text("\n".join(done[:4]) + "\n" + done[4][:7])  # the last line is cut off
    t = {t.name: t for t in read_artifact(tmp_path / "expected").tensors}[done[4]]
    with (partial / "new" / WEIGHTS).open("r+b") as f:
        f.seek(t.offset)
        f.write(b"\xff" * t.nbytes)
    assert convert(checkpoint, tmp_path / "out", progress=False) == expected


def test_an_older_artifact_stays_until_the_new_one_is_whole(checkpoint, tmp_path):
    before = convert(checkpoint, tmp_path / "out", progress=False, request=Request(bits=8))
    start_and_kill(checkpoint, tmp_path / "out", 8, signal.SIGKILL)
    assert read_artifact(tmp_path / "out", verify=True).model_digest == before
    after = convert(checkpoint, tmp_path / "out", progress=False)
    assert read_artifact(tmp_path / "out", verify=True).model_digest == after != before


def test_another_request_or_source_does_not_go_on_with_what_is_there(checkpoint, tmp_path):
    start_and_kill(checkpoint, tmp_path / "out", 8, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"unfinished conversion to out .*request.*rm -r .*\.out\.partial"):
        convert(checkpoint, tmp_path / "out", progress=False, request=Request(attention_bits=8))
    save_checkpoint(random_network(CONFIGS["all kinds"] | {"hidden_size": 128, "head_dim": 32}, 5), tmp_path / "other")
    with pytest.raises(EngineError, match=r"differs from this one \(source\)"):
        convert(tmp_path / "other", tmp_path / "out", progress=False)
    convert(checkpoint, tmp_path / "out", progress=False)


def test_two_conversions_to_one_folder_do_not_mix(checkpoint, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(checkpoint), str(tmp_path / "out")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline()
    try:
        with pytest.raises(EngineError, match="being written by another process"):
            convert(checkpoint, tmp_path / "out", progress=False)
    finally:
        process.communicate()
    assert process.returncode == 0
    read_artifact(tmp_path / "out", verify=True)


def test_interrupting_the_command_says_how_to_go_on(checkpoint, tmp_path):
    slowed = SLOW[: SLOW.index("method, text")]
    script = slowed + "from nano_agent_ros import cli\nsys.exit(cli.main(['convert', *sys.argv[1:]]))"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(checkpoint), str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a job in the background ignores it
    )
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"interrupted; the same command goes on where it was" in err and b"Traceback" not in err
    again = subprocess.run(
        [sys.executable, "-m", "nano_agent_ros.cli", "convert", str(checkpoint), str(tmp_path / "out")],
        capture_output=True,
    )
    assert again.returncode == 0 and re.search(rb"going on: \d+ of \d+ tensors were done", again.stderr)


def test_a_full_disk_is_named_before_anything_is_written(checkpoint, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(EngineError, match="GB are free there; make room"):
        convert(checkpoint, tmp_path / "out", progress=False)
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_named_and_can_be_cured(checkpoint, tmp_path, monkeypatch):
    from nano_agent_ros.quantize.writer import ArtifactWriter

    expected = convert(checkpoint, tmp_path / "expected", progress=False)
    finished = ArtifactWriter.finished

    def disk_full(self, *names: str) -> None:
        if len(self.done) == 7:
            raise OSError(28, "No space left on device", str(self.weights_path))
        finished(self, *names)

    monkeypatch.setattr(ArtifactWriter, "finished", disk_full)
    with pytest.raises(ConversionError, match="No space left on device; when that is cured, the same command goes on"):
        convert(checkpoint, tmp_path / "out", progress=False)
    monkeypatch.setattr(ArtifactWriter, "finished", finished)
    written = counted(monkeypatch)
    assert convert(checkpoint, tmp_path / "out", progress=False) == expected
    assert len(written) == len(read_artifact(tmp_path / "out").tensors) - 7


# --- random models ---------------------------------------------------------------------------------------------------

SMALL = {
    "hybrid_override_pattern": "M-M*-MM-*-M-", "hidden_size": 128, "intermediate_size": 320, "vocab_size": 2100,
    "mamba_num_heads": 8, "mamba_head_dim": 40, "n_groups": 4, "ssm_state_size": 32, "num_attention_heads": 10,
    "num_key_value_heads": 2, "head_dim": 32, "conv_kernel": 4, "chunk_size": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    "name, count, tensors", [("nemotron-3-nano-4b", 3_973_556_832, 263), ("nemotron-nano-9b-v2", 8_888_227_328, 341)]
)
def test_the_presets_add_up_to_the_published_parameter_counts(name, count, tensors):
    config = NemotronHConfig.from_dict(PRESETS[name])
    assert parameters(config) == count
    assert len(artifact_tensors(config)) == tensors
    assert PRESETS[name]["num_hidden_layers"] == len(config.layers)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_random_model_runs_and_keeps_its_activations_sane(bits, tmp_path):
    write_random_model(SMALL, tmp_path / "random", Request(bits=bits), progress=False)
    artifact = read_artifact(tmp_path / "random", verify=True)
    engine = open_engine(tmp_path / "random", "torch")
    logits = engine.extend(engine.new_state(), list(range(2000, 2100)), every=True)
    assert 0.3 < logits.std() < 3
    differing = np.corrcoef(logits[-3:])  # the logits depend on the tokens, not on an offset that all share
    assert (np.abs(differing[np.triu_indices(3, 1)]) < 0.9).all()
    for t in artifact.tensors:
        values = artifact.tensor(t.name)
        assert np.isfinite(values).all()
        if t.in_panels:
            assert abs(values.mean()) < 4 * values.std() / np.sqrt(values.size)
            assert len(np.unique(artifact.matrix(t.name).quantized().q)) > (12 if bits == 4 else 150)
    assert {p.name for p in (tmp_path / "random").iterdir()} >= {"tokenizer.json", "chat_template.jinja"}


def test_a_random_model_is_that_of_its_seed(tmp_path):
    digests = [write_random_model(SMALL, tmp_path / "a", seed=seed, progress=False) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_the_rows_that_fill_up_a_panel_are_those_of_packing(tmp_path):
    for bits in (4, 8):
        write_random_model(SMALL, tmp_path / str(bits), Request(bits=bits), progress=False)
        artifact = read_artifact(tmp_path / str(bits))
        head = next(t for t in artifact.tensors if t.name == "lm_head.weight")
        stored = np.fromfile(artifact.weights_path, np.uint8, head.nbytes, offset=head.offset)
        assert head.rows % 16
        assert np.array_equal(stored, artifact.matrix(head.name).quantized().pack().reshape(-1))


def test_a_bad_random_model_is_named(tmp_path):
    with pytest.raises(ConversionError, match="no random model 'gpt'; known are nemotron-3-nano-4b"):
        write_random_model("gpt", tmp_path / "out")
    with pytest.raises(ConversionError, match="down_proj has 96 inputs"):
        write_random_model(BASE | {"hybrid_override_pattern": "-", "intermediate_size": 96}, tmp_path / "out")
    with pytest.raises(ConversionError, match="seed -1 is negative"):
        write_random_model(SMALL, tmp_path / "out", seed=-1)
    with pytest.raises(ConversionError, match="leave these options out"):
        write_random_model(SMALL, tmp_path / "out", Request(group_size=128))
    assert not (tmp_path / "out").exists()


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_converts(checkpoint, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert cli.main(["convert", str(checkpoint), out, "--bits", "4", "--head-bits", "8", "--group-size", "128"]) == 0
    assert "nano-agent ask --model" in capsys.readouterr().out
    asked = read_artifact(out).quantization
    assert (asked["bits"], asked["head_bits"], asked["attention_bits"], asked["group_size"]) == (4, 8, 4, 128)
    assert (asked["method"], asked["calibration"]) == ("rtn", None)


def test_help_teaches_by_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("examples:", "--random nemotron-3-nano-4b", "--calibration", "goes on"))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--method", "gptq"], "--calibration FILE"),
        (["--calibration", "x.txt"], "x.txt"),
        (["--group-size", "100"], "group size 100 is no multiple of 64"),
        (["--group-size", "256"], "in_proj has 128 inputs"),
        (["--threads", "-1"], "-1 threads"),
    ],
)
def test_bad_options_are_one_clear_line(options, message, checkpoint, tmp_path, capsys):
    assert cli.main(["convert", str(checkpoint), str(tmp_path / "out"), *options]) == 2
    err = capsys.readouterr().err.strip()
    assert message in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_nothing_of_pytorch_is_imported(checkpoint, tmp_path):
    script = (
        "import sys\nfrom nano_agent_ros import cli\n"
        f"assert cli.main(['convert', {str(checkpoint)!r}, {str(tmp_path / 'out')!r}]) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_memory_is_that_of_a_few_rows(tmp_path):
    """Of a checkpoint of 200 MB in bfloat16, either table alone would be 200 MB in float32."""
    config = BASE | {"hybrid_override_pattern": "-", "hidden_size": 512, "vocab_size": 98304, "intermediate_size": 512}
    save_checkpoint(random_network(config).bfloat16(), tmp_path / "checkpoint")
    script = (
        "from nano_agent_ros.quantize import convert\nfrom nano_agent_ros.model import reference\n"
        "def peak():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return 1024 * int(next(line for line in lines if line.startswith('VmHWM')).split()[1])\n"
        "before = peak()\n"
        f"convert.convert({str(tmp_path / 'checkpoint')!r}, {str(tmp_path / 'out')!r}, progress=False, threads=2)\n"
        "print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert 1e6 < int(run.stdout) < 150e6
