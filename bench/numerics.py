"""How far each engine's logits are from those of the float network on the same dequantized weights.

    python -m bench.numerics            the model that ships, and two blocks of each kind at the shapes of a 4B model
    python -m bench.numerics --no-blocks                                                  the former only, in seconds

The reference is the network in plain NumPy, float32. The text is held-out dialogue through the prompt builder: of the
model that ships every token after the system prompt counts, on the site of each conversation. `top-1` is the share of
tokens after which the likeliest next token is the reference's. The kernel set "float" leaves activations as they are:
its error is that of the kernels and of keys and values in float16; that of the others is INT8 activations on top.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nano_agent_ros.engine.base import Engine
from nano_agent_ros.engine.native_engine import NativeEngine
from nano_agent_ros.engine.native_library import load_library
from nano_agent_ros.engine.torch_engine import TorchEngine
from nano_agent_ros.model.reference import reference_logits
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer, clean
from nano_agent_ros.quantize.artifact import read_artifact
from nano_agent_ros.quantize.random_model import PRESETS, write_random_model
from nano_agent_ros.resources import default_model, default_skills
from nano_agent_ros.skills import Call, Site, Skills

from .conversation import TALK
from .harness import Row, add_out, report, say

ALL_SETS = ("float", "portable", "avx2", "avxvnni", "avx512", "neon")
BLOCKS = PRESETS["nemotron-3-nano-4b"] | {
    "hybrid_override_pattern": "M*-M*-", "num_hidden_layers": 6, "vocab_size": 2048,
}  # fmt: skip


@dataclass(frozen=True)
class Text:
    """Tokens of one conversation; those from `begin` on count."""

    tokens: tuple[int, ...]
    begin: int = 0


@dataclass(frozen=True)
class Agreement:
    """Logits against the reference's: largest and rms difference (that in its standard deviations), top-1 share."""

    largest: float
    ratio: float
    top1: float
    tokens: int


def kernel_sets() -> list[str]:
    """The kernel sets that run on this processor, "float" first."""
    library = load_library()
    return [name for name in ALL_SETS if library.nano_kernel_relu_squared(name.encode(), None, 0) == 0]


def dialogue(folder: Path, count: int) -> Iterator[Text]:
    """Held-out conversations in the tokens of a model folder, until `count` tokens after system prompts."""
    tokenizer, template = Tokenizer(folder), ChatTemplate.load(folder)
    skills = Skills.load(default_skills())
    for conversation in map(json.loads, TALK.read_text(encoding="utf-8").splitlines()):
        chosen = skills.subset(conversation["skills"]) if "skills" in conversation else skills
        builder = PromptBuilder(tokenizer, template, chosen, Site.load(conversation.get("site") or "warehouse"))
        prefix, turns = builder.prefix(), []
        for i, turn in enumerate(conversation["turns"]):
            turns += builder.turn(clean(turn["say"]), turn.get("facts"), first=i == 0)
            calls = [Call(c["name"], {k: str(v) for k, v in c["arguments"].items()}) for c in turn["reply"]]
            turns += builder.reply(builder.dialect.write(calls))
        turns = turns[:count]
        yield Text((*prefix, *turns), len(prefix))
        count -= len(turns)
        if count == 0:
            return
    raise ValueError(f"{TALK} has {count} tokens too few")


def reference(folder: Path, texts: Sequence[Text]) -> list[np.ndarray]:
    """Logits of the float network after each token that counts, float32 [tokens, vocab] per text."""
    artifact = read_artifact(folder)
    return [
        reference_logits(artifact.config, artifact.tensor, np.array([t.tokens]), last=len(t.tokens) - t.begin)[0]
        for t in texts
    ]


def agreement(engine: Engine, texts: Sequence[Text], expected: Sequence[np.ndarray]) -> Agreement:
    """Run each text from an empty state: what comes before those that count at once, then those."""
    ours = []
    for text in texts:
        state = engine.new_state()
        if text.begin:
            engine.extend(state, text.tokens[: text.begin])
        ours.append(engine.extend(state, text.tokens[text.begin :], every=True))
    logits, wanted = np.concatenate(ours), np.concatenate(expected)
    error = np.abs(logits - wanted)
    return Agreement(
        float(error.max()),
        float(np.sqrt(np.mean(np.square(error, dtype=np.float64))) / wanted.std(dtype=np.float64)),
        float((logits.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
        len(wanted),
    )


def rows(model: str, engine: str, found: Agreement) -> list[Row]:
    """The figures of one engine on one model."""
    config = {"model": model, "engine": engine, "tokens": found.tokens}
    name = f"{model}, {engine}, {found.tokens} tokens"
    return [
        Row(f"{name}: largest |difference of a logit|", found.largest, "", config=config),
        Row(f"{name}: rms difference / std of logits", 100 * found.ratio, "%", config=config),
        Row(f"{name}: top-1 agreement", 100 * found.top1, "%", config=config),
    ]


def measure(model: str, folder: Path, texts: Sequence[Text], slow: int | None = None) -> list[Row]:
    """All engines on one model; the plain kernel sets on the first `slow` tokens of the first text if that is given."""
    say(f"{model}: reference")
    expected = reference(folder, texts)
    found = []
    for kernels in kernel_sets():
        say(f"{model}: native, {kernels}")
        engine = NativeEngine(folder, kernels=kernels, verify=False)
        if slow is not None and kernels in ("float", "portable"):
            short = Text(texts[0].tokens[:slow])
            found += rows(model, f"native {kernels}", agreement(engine, [short], [expected[0][:slow]]))
        else:
            found += rows(model, f"native {kernels}", agreement(engine, texts, expected))
    say(f"{model}: torch")
    found += rows(model, "torch", agreement(TorchEngine(folder), texts, expected))
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.numerics", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--model", type=Path, default=default_model(), metavar="DIR", help="artifact (default: what ships)")
    p.add_argument("--tokens", type=int, default=2000, metavar="N", help="tokens of dialogue that are compared")
    p.add_argument("--slow-tokens", type=int, default=64, metavar="N", help="those of the plain kernels on the blocks")
    p.add_argument("--no-blocks", action="store_true", help="the model only")
    add_out(p)
    return p


def main() -> None:
    """Compare, print and write."""
    args = parser().parse_args()
    texts = list(dialogue(args.model, args.tokens))
    found = measure("the model that ships" if args.model == default_model() else args.model.name, args.model, texts)
    if not args.no_blocks:
        stream = tuple(token for text in dialogue(default_model(), args.tokens) for token in text.tokens)
        with tempfile.TemporaryDirectory() as folder:
            say("blocks: random weights")
            write_random_model(BLOCKS, Path(folder) / "blocks", progress=False)
            found += measure("blocks of a 4B", Path(folder) / "blocks", [Text(stream[: args.tokens])], args.slow_tokens)
    report(found, args.out)


if __name__ == "__main__":
    main()
