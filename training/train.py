"""Train the model that ships: shards in, a checkpoint in Hugging Face layout out.

    python -m training.train runs/data/train --valid runs/data/valid.npz --model models/warehouse \
        --out training/runs/first --minutes 65

The folder of --model holds tokenizer.json and the like (training.tokenizer); they are copied beside the weights.
With --mean the network that is measured and kept is the mean over the last steps; INT4 begins with it.
After --qat-from of the budget the network computes in INT4 as the engine will, and ends on weights that quantize
without loss. A run that was cut off goes on with --resume. To see what INT4 costs, take the state before it,
before_qat.pt, as the run.pt of another folder and go on there with --resume --qat-from 2.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nano_agent_ros.model import attention, mamba2, mlp
from nano_agent_ros.model.checkpoint import load_checkpoint, save_checkpoint
from nano_agent_ros.model.config import NemotronHConfig
from nano_agent_ros.model.network import NemotronH, NetworkState, initialise
from nano_agent_ros.quantize import qat
from training.optim import optimizers
from training.shards import Block, Order, Unit, read_units
from training.validate import repeated, validate

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")


def copy_tokenizer(source: Path, out: Path) -> None:
    """Put the files of a model folder that weights need beside them into `out`, those that are there."""
    for name in TOKENIZER_FILES:
        if (source / name).exists() and source.resolve() != out.resolve():
            shutil.copyfile(source / name, out / name)


@dataclass
class Progress:
    """Where a run stands; times are seconds of training, without what a pause took."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    quantized: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them: on CPUs page faults took half of a step."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    arena_max, mmap_max, trim_threshold, top_pad = -8, -4, -1, -2
    libc.mallopt(arena_max, 1)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 256 << 20)


def bfloat16_pays(rows: int = 2048, repeats: int = 9) -> bool:
    """Whether products of the model's shapes take less time in bfloat16 than in float32 here, casts left out.

    Some CPUs have instructions for it that their library does not use well: there it can take twice as long.
    """
    typical = {}
    for dtype in (torch.float32, torch.bfloat16):
        times = []
        for inputs, outputs in ((256, 1536), (1536, 256)):
            x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
            F.linear(x, weight)
            for _ in range(repeats):
                begun = time.perf_counter()
                F.linear(x, weight)
                times.append(time.perf_counter() - begun)
        typical[dtype] = float(np.median(times))
    return typical[torch.bfloat16] < typical[torch.float32]


FUSED = (
    (mlp, ("rms_norm", "squared_relu")),
    (mamba2, ("_scan_inputs", "_decayed", "_scan_outputs", "gated_group_norm", "causal_conv_silu")),
    (attention, ("_masked_softmax",)),
    (qat, ("_int8_error",)),
)


def fuse_elementwise() -> None:
    """Compile what stands between the matrix products; on two cores a fifth less time, after a minute's compiling."""
    for module, names in FUSED:
        for name in names:
            setattr(module, name, torch.compile(getattr(module, name), dynamic=True))


def unit_loss(network: NemotronH, unit: Unit) -> torch.Tensor:
    """Sum over the unit's tokens of loss weight times cross entropy (natural log)."""
    total = torch.zeros(())
    state = None
    last = None
    if unit.prefix is not None:
        hidden, state = network(torch.from_numpy(unit.prefix.tokens))
        total = total + _weighted_loss(network, hidden[:, :-1], unit.prefix, 1)
        last = hidden[:, -1:]
    for block in unit.blocks:
        rows = block.tokens.shape[0]
        tokens = torch.from_numpy(block.tokens)
        started: NetworkState | None = repeated(state, rows) if state is not None else None
        hidden, _ = network(tokens[:, :-1], started)
        if last is not None:
            hidden = torch.cat((last.expand(rows, -1, -1), hidden), dim=1)
        total = total + _weighted_loss(network, hidden, block, 0 if last is not None else 1)
    return total


def _weighted_loss(network: NemotronH, hidden: torch.Tensor, block: Block, first: int) -> torch.Tensor:
    """Loss of the block's tokens from `first` on, predicted by hidden [rows, T - first, hidden]."""
    weights = torch.from_numpy(block.weights[:, first:]).flatten()
    chosen = weights.nonzero().squeeze(1)
    if not len(chosen):
        return torch.zeros(())
    targets = torch.from_numpy(block.tokens[:, first:]).flatten()[chosen]
    logits = network.logits(hidden.flatten(0, 1)[chosen])
    return (F.cross_entropy(logits, targets, reduction="none") * weights[chosen]).sum()


def learning_rate_scale(progress: float, warm_up: float, floor: float) -> float:
    """Linear warm-up, then cosine down to `floor`; progress in [0, 1]."""
    if progress < warm_up:
        return max(progress, 1e-4) / warm_up
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


class Run:
    """One training run: network, optimizers, data order and progress, and how they are saved."""

    def __init__(self, args: argparse.Namespace, config: NemotronHConfig, units: list[Unit]):
        self.args, self.units = args, units
        self.bf16: bool = bfloat16_pays() if args.bf16 is None else args.bf16
        self.network = NemotronH(config)
        initialise(self.network, args.seed)
        if args.init:
            self.network.load_state_dict(load_checkpoint(args.init).state_dict())
        self.optimizers = optimizers(self.network, args.optimizer, args.lr, args.muon_lr)
        self.mean = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(args.mean)) if args.mean else None
        self.order = Order(len(units), args.seed)
        self.at = Progress()

    def best(self) -> NemotronH:
        """The network to measure and to keep: the mean over the last steps if there is one."""
        return self.mean.module if self.mean else self.network

    def progress(self) -> float:
        """Share of the budget that is used, in [0, 1]."""
        if self.args.steps:
            return min(1.0, self.at.step / self.args.steps)
        return min(1.0, self.at.seconds / (60 * self.args.minutes))

    def step(self) -> float:
        """Train on about --batch-tokens tokens; return the mean loss per unit of weight."""
        begun = time.perf_counter()
        progress = self.progress()
        if not self.at.quantized and progress >= self.args.qat_from:
            self.save(self.args.out / "before_qat.pt")
            self.quantize()
        if self.at.quantized and self.at.step % 50 == 0:
            qat.refresh(self.network)
        chosen: list[Unit] = []
        while not chosen or sum(u.processed for u in chosen) < self.args.batch_tokens:
            chosen.append(self.units[self.order.next(1.0 if self.args.init else progress)])
        weight = sum(u.total_weight for u in chosen)
        scale = learning_rate_scale(progress, self.args.warm_up, self.args.floor)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * scale
        loss = 0.0
        for unit in chosen:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                part = unit_loss(self.network, unit) / weight
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.mean:
            self.mean.update_parameters(self.network)
        self.at.step += 1
        self.at.tokens += sum(u.processed for u in chosen)
        self.at.seconds += time.perf_counter() - begun
        return loss

    def quantize(self) -> None:
        """Go on in INT4; the optimizers keep their moments, for the float weights stay the parameters.

        A mean ends here: training goes on from it.
        """
        if self.mean:
            self.network.load_state_dict(self.mean.module.state_dict())
            self.mean = None
        qat.begin(self.network, activations=self.args.qat_activations)
        self.at.quantized = True

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs, replacing the file at once."""
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "network": self.network.state_dict(),
                "mean": self.mean.state_dict() if self.mean else {},
                "optimizers": [o.state_dict() for o in self.optimizers],
                "uses": torch.from_numpy(self.order.uses),
                "rng": json.dumps(self.order.rng.bit_generator.state),
                "progress": asdict(self.at),
            },
            temporary,
        )
        temporary.replace(path)

    def resume(self, path: Path) -> None:
        """Take up a saved run."""
        saved = torch.load(path, weights_only=True)
        if len(saved["uses"]) != len(self.units) and not self.args.other_data:
            raise SystemExit(
                f"{path} was made from {len(saved['uses'])} batches, the shards give {len(self.units)}; "
                "if they are meant to be others, add --other-data"
            )
        if saved["progress"]["quantized"]:
            self.quantize()
        self.network.load_state_dict(saved["network"])
        if self.mean and saved.get("mean"):
            self.mean.load_state_dict(saved["mean"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        if not self.args.other_data:
            self.order.uses = saved["uses"].numpy()
        self.order.rng.bit_generator.state = json.loads(saved["rng"])
        self.at = Progress(**saved["progress"])


def train(run: Run, valid: list[Unit], out: Path) -> None:
    """Run until the budget is used, reporting, validating and saving on the way; then write the checkpoint."""
    args = run.args
    saved = validated = run.at.seconds
    recent: list[float] = []
    while run.progress() < 1.0:
        recent.append(run.step())
        if run.at.step % args.report_every == 0:
            speed = run.at.tokens / run.at.seconds
            left = run.at.seconds * (1 / max(run.progress(), 1e-6) - 1)
            print(
                f"step {run.at.step}  loss {np.mean(recent):.4f}  {run.at.tokens / 1e6:.2f} M tokens  "
                f"{speed:.0f} tok/s  {100 * run.progress():.1f} %  {left / 60:.1f} min left"
                + ("  INT4" if run.at.quantized else ""),
                flush=True,
            )
            run.at.curve.append({"step": run.at.step, "tokens": run.at.tokens, "loss": float(np.mean(recent))})
            recent = []
        if valid and run.at.seconds - validated > 60 * args.validate_every:
            validated = run.at.seconds
            _validate(run, valid, args.validate_tokens)
        if run.at.seconds - saved > 60 * args.save_every:
            saved = run.at.seconds
            run.save(out / "run.pt")
    if run.at.quantized:
        run.save(out / "run.pt")
        qat.finish(run.network)
    if valid:
        _validate(run, valid, 4 * args.validate_tokens)
    save_checkpoint(run.best(), out / "model")
    copy_tokenizer(args.model, out / "model")
    (out / "curve.json").write_text(json.dumps(run.at.curve, indent=1) + "\n")
    _plot(run.at.curve, out / "curve.png")
    print(f"wrote {out / 'model'}")


def _validate(run: Run, valid: list[Unit], tokens: int) -> None:
    result = validate(run.best(), valid, tokens, bf16=run.bf16)
    run.at.curve.append({"step": run.at.step, "tokens": run.at.tokens, **asdict(result)})
    print(
        f"held out: loss {result.reply_loss:.4f}  reply tokens right {100 * result.token_accuracy:.2f} %  "
        f"whole replies right {100 * result.reply_accuracy:.2f} % of {result.replies}",
        flush=True,
    )


def _plot(curve: list[dict[str, float]], path: Path) -> None:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axis = plt.subplots(figsize=(8, 4.5))
    for key, label in (("loss", "training"), ("reply_loss", "held out, replies")):
        points = [(p["tokens"] / 1e6, p[key]) for p in curve if key in p]
        if points:
            axis.plot(*zip(*points, strict=True), label=label)
    axis.set(xlabel="million tokens", ylabel="loss (nats)", yscale="log")
    axis.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of .npz shards, or one shard")
    parser.add_argument("--valid", type=Path, help="held-out shard")
    parser.add_argument("--model", type=Path, default=Path("models/warehouse"), help="folder with the tokenizer")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("model.json"), help="network")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, curve and the model")
    parser.add_argument("--minutes", type=float, default=65.0, help="budget of training time")
    parser.add_argument("--steps", type=int, help="budget in steps instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="checkpoint to go on from, with no curriculum")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--other-data", action="store_true", help="with --resume: the shards or --rows have changed")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="tokens of a step, prefixes included")
    parser.add_argument("--rows", type=int, default=16, help="conversations that share one pass over a prefix")
    parser.add_argument(
        "--reading",
        type=float,
        default=1.0,
        help="how much what is read counts, of the shards' weights; 0: replies only",
    )
    parser.add_argument("--optimizer", choices=["muon", "adamw"], default="muon")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak of AdamW")
    parser.add_argument("--muon-lr", type=float, default=0.006, help="peak of Muon")
    parser.add_argument("--warm-up", type=float, default=0.02, help="share of the budget")
    parser.add_argument("--floor", type=float, default=0.03, help="last learning rate, of the peak")
    parser.add_argument(
        "--mean",
        type=float,
        metavar="DECAY",
        help="keep the moving average of the weights, which forgets all but this share each step (such as 0.998)",
    )
    parser.add_argument("--qat-from", type=float, default=0.82, help="share of the budget after which to use INT4")
    parser.add_argument("--qat-activations", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="products in bfloat16 (default: whichever is faster here, by a short measurement)",
    )
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="fuse small operations")
    parser.add_argument("--threads", type=int, help="default: one per core")
    parser.add_argument("--report-every", type=int, default=20, help="steps")
    parser.add_argument("--validate-every", type=float, default=5.0, help="minutes of training")
    parser.add_argument("--validate-tokens", type=int, default=60_000)
    parser.add_argument("--save-every", type=float, default=5.0, help="minutes of training")
    return parser


def main() -> None:
    """Command line."""
    args = arguments().parse_args()
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.compile:
        fuse_elementwise()
    torch.manual_seed(args.seed)
    paths = sorted(args.data.glob("*.npz")) if args.data.is_dir() else [args.data]
    paths = [p for p in paths if args.valid is None or p.resolve() != args.valid.resolve()]
    if not paths:
        sys.exit(f"{args.data}: no .npz shards; write them with python -m training.encode")
    units = read_units(paths, args.rows, reading=args.reading)
    valid = read_units([args.valid], args.rows) if args.valid else []
    config = _config(args)
    run = Run(args, config, units)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.resume and (args.out / "run.pt").exists():
        run.resume(args.out / "run.pt")
    parameters = sum(p.numel() for p in run.network.parameters())
    shared = sum(u.prefix is not None for u in units)
    print(
        f"{parameters / 1e6:.2f} M parameters, {config.hybrid_override_pattern}, vocabulary {config.vocab_size}; "
        f"{len(units)} batches ({shared} with a shared prefix), {sum(u.processed for u in units) / 1e6:.1f} M tokens; "
        f"products in {'bfloat16' if run.bf16 else 'float32'}",
        flush=True,
    )
    train(run, valid, args.out)


def _config(args: argparse.Namespace) -> NemotronHConfig:
    """The network of --config with the vocabulary and end token of the tokenizer in --model."""
    raw = json.loads(args.config.read_text())
    path = args.model / "tokenizer.json"
    if path.exists():
        tokenizer = json.loads(path.read_text())
        ids = [*tokenizer["model"]["vocab"].values(), *(t["id"] for t in tokenizer["added_tokens"])]
        raw["vocab_size"] = max(raw.get("vocab_size", 0), max(ids) + 1)
        added = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
        raw["eos_token_id"], raw["pad_token_id"] = added.get("<|im_end|>"), added.get("<|endoftext|>")
    return NemotronHConfig.from_dict(raw)


if __name__ == "__main__":
    main()
