"""What quantization costs in quality: perplexity and command accuracy of float, INT8, INT4 by each method.

    python -m bench.quantization [--out FILE.json]             the pair that ships: models/warehouse and warehouse-float
    python -m bench.quantization --limit 20 --keep DIR         20 conversations; the artifacts stay in DIR
    python -m bench.quantization --pair --data FILE.jsonl      float against what ships alone, on more conversations

Every row runs through the same agent, with grammar and checks on; float through PyTorch on the checkpoint, all others
through the native engine on an artifact. Perplexity is that of the expected replies, each token given the right ones
before it. The last row and the line below the table are of what rounding activations to INT8 adds: the same artifact
with float activations, through PyTorch, and logit by logit through the native engine's float kernels.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nano_agent_ros import evaluate
from nano_agent_ros.agent import Model
from nano_agent_ros.decode import write_reply
from nano_agent_ros.engine.base import Engine
from nano_agent_ros.engine.load import open_engine
from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.prompt import ChatTemplate, PromptBuilder, Tokenizer, clean
from nano_agent_ros.quantize.artifact import MANIFEST
from nano_agent_ros.quantize.convert import Request, convert
from nano_agent_ros.resources import default_model, default_skills
from nano_agent_ros.skills import Call, Site, Skills

from .harness import Row, add_out, say, write

ROOT = Path(__file__).resolve().parents[1]
FLOAT_FOLDER = "models/warehouse-float"
MADE_FROM_FLOAT = (("INT8 rtn", 8, "rtn"), ("INT4 rtn", 4, "rtn"), ("INT4 gptq", 4, "gptq"), ("INT4 awq", 4, "awq"))
COMPARED = 10  # conversations, logit by logit: the float kernels are written to be right, not fast
FLOAT, SHIPS = "float", "INT4 that ships"


@dataclass(frozen=True)
class Text:
    """One conversation as tokens; `replies` [T] says which are the model's own."""

    tokens: np.ndarray
    replies: np.ndarray


@dataclass(frozen=True)
class Quality:
    """What one row of the table says; `nll` is the mean over reply tokens, `scored` every turn."""

    name: str
    nll: float
    scored: Sequence[evaluate.Scored]

    @property
    def report(self) -> dict:
        """As `nano-agent eval` reports."""
        return evaluate.report(self.scored)


@dataclass(frozen=True)
class Difference:
    """Logits of one engine against another's on the same tokens."""

    largest: float
    rms_ratio: float
    agreement: float
    positions: int


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.quantization", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--float", type=Path, default=ROOT / FLOAT_FOLDER, metavar="CHECKPOINT", help="the float network")
    p.add_argument(
        "--int4", type=Path, default=default_model(), metavar="MODEL", help="artifact, or checkpoint after QAT"
    )
    p.add_argument("--data", type=Path, default=ROOT / "eval" / "heldout.jsonl", metavar="FILE.jsonl")
    p.add_argument("--calibration", type=Path, default=ROOT / "eval" / "calibration.jsonl", metavar="FILE")
    p.add_argument("--pair", action="store_true", help="only the rows of float and of what ships")
    p.add_argument("--limit", type=int, metavar="N", help="the first N conversations only")
    p.add_argument("--threads", type=int, default=0, help="0: the engine's own choice")
    p.add_argument("--keep", type=Path, metavar="DIR", help="where the artifacts are made, and stay (default: nowhere)")
    add_out(p)
    return p


def main() -> int:
    """Run it."""
    args = parser().parse_args()
    try:
        rows = run(args)
    except NanoAgentError as error:
        say(f"bench.quantization: {error}")
        return 2
    if args.out:
        write(rows, args.out)
    return 0


def run(args: argparse.Namespace) -> list[Row]:
    """Make the artifacts, measure and print the table; return the figures."""
    if not (args.float / "config.json").exists():
        raise ConfigError(
            f"{args.float} holds no float checkpoint; train one (python -m training.train … --qat-from 1), or give "
            "--float the folder of another"
        )
    skills = Skills.load(default_skills())
    made_from_float = () if args.pair else MADE_FROM_FLOAT
    conversations = evaluate.read(args.data, skills, Site.load("warehouse"))[: args.limit]
    texts = list(read_texts(args.data, args.float, skills, args.limit))
    with folder_for(args.keep) as made:
        artifacts = {SHIPS: artifact_of(args.int4, made / "int4", 4)}
        for name, bits, method in made_from_float:
            calibration = None if method == "rtn" else args.calibration
            artifacts[name] = artifact_of(args.float, made / f"int{bits}-{method}", bits, method, calibration)
        found = [measure(FLOAT, open_engine(args.float, "torch"), args.float, conversations, texts, skills)]
        for name in (*(name for name, _, _ in made_from_float), SHIPS):
            engine = open_engine(artifacts[name], "native", threads=args.threads)
            found.append(measure(name, engine, artifacts[name], conversations, texts, skills))
        if args.pair:
            print(table(found))
            return quality_rows(found, args)
        exact = open_engine(artifacts[SHIPS], "torch")
        found.append(measure(f"{SHIPS}, float activations", exact, artifacts[SHIPS], conversations, texts, skills))
        rounded = open_engine(artifacts[SHIPS], "native", threads=args.threads)
        plain = open_engine(artifacts[SHIPS], "native", threads=args.threads, kernels="float")
        difference = compare(rounded, plain, texts[:COMPARED])
    print(table(found))
    print(activations_text(difference))
    return [*quality_rows(found, args), *difference_rows(difference)]


@contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    """The folder that stays, or one that does not."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="nano-agent-quantization-") as folder:
        yield Path(folder)


def artifact_of(source: Path, out: Path, bits: int, method: str = "rtn", calibration: Path | None = None) -> Path:
    """`source` itself if it is an artifact, else that checkpoint converted into `out`."""
    if (source / MANIFEST).exists():
        return source
    begun = time.perf_counter()
    convert(source, out, progress=False, request=Request(bits=bits, method=method, calibration=calibration))
    say(f"{out.name}: converted in {time.perf_counter() - begun:.0f} s")
    return out


def read_texts(data: Path, model: Path, skills: Skills, limit: int | None) -> Iterator[Text]:
    """The conversations of an eval file whose turns hold their reply, as the agent would feed them."""
    tokenizer, template = Tokenizer(model), ChatTemplate.load(model)
    for number, line in enumerate(data.read_text(encoding="utf-8").splitlines()[:limit], 1):
        conversation = json.loads(line)
        if any("reply" not in turn for turn in conversation["turns"]):
            raise ConfigError(f"{data}, line {number}: a turn has no 'reply'; perplexity is that of the replies")
        chosen = skills.subset(conversation["skills"]) if "skills" in conversation else skills
        builder = PromptBuilder(tokenizer, template, chosen, Site.load(conversation["site"]))
        tokens, replies, told = builder.prefix(), [], {}
        replies += [False] * len(tokens)
        for i, turn in enumerate(conversation["turns"]):
            facts = {k: v for k, v in (turn.get("facts") or {}).items() if told.get(k) != v}
            told |= facts
            heard = builder.turn(clean(turn["say"]), facts, first=i == 0)
            calls = [Call(c["name"], {k: str(v) for k, v in c["arguments"].items()}) for c in turn["reply"]]
            said = builder.reply(write_reply(calls))
            tokens += heard + said
            replies += [False] * len(heard) + [True] * len(said)
        yield Text(np.array(tokens, dtype=np.int64), np.array(replies))


def measure(
    name: str,
    engine: Engine,
    folder: Path,
    conversations: Sequence[evaluate.Conversation],
    texts: Sequence[Text],
    skills: Skills,
) -> Quality:
    """Perplexity and accuracy of one engine; tokenizer and template come from `folder`."""
    begun = time.perf_counter()
    nll = mean_nll(engine, texts)
    scored = list(evaluate.run(conversations, Model(engine, Tokenizer(folder), ChatTemplate.load(folder)), skills))
    say(f"{name}: measured in {time.perf_counter() - begun:.0f} s")
    return Quality(name, nll, scored)


def mean_nll(engine: Engine, texts: Sequence[Text]) -> float:
    """Mean negative log likelihood of a reply token, in nats, given all tokens before it."""
    total, count = 0.0, 0
    for text in texts:
        at = np.flatnonzero(text.replies)
        logits = engine.extend(engine.new_state(), text.tokens, every=True)[at - 1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=1))
        total += float((log_sum - logits[np.arange(len(at)), text.tokens[at]]).sum())
        count += len(at)
    return total / count


def compare(ours: Engine, theirs: Engine, texts: Sequence[Text]) -> Difference:
    """Logits of `ours` against those of `theirs`, over every position of the texts."""
    largest, squares, spread, same, count = 0.0, 0.0, 0.0, 0, 0
    for text in texts:
        a = ours.extend(ours.new_state(), text.tokens, every=True)
        b = theirs.extend(theirs.new_state(), text.tokens, every=True)
        largest = max(largest, float(np.abs(a - b).max()))
        squares += float(np.square(a - b, dtype=np.float64).sum())
        spread += float(np.square(b - b.mean(axis=1, keepdims=True), dtype=np.float64).sum())
        same += int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
        count += len(a)
    return Difference(largest, math.sqrt(squares / spread), same / count, count)


def lost(found: Quality, best: Quality) -> tuple[float, float]:
    """Points of command accuracy that `found` loses against `best`, and 1.96 standard errors of it.

    Turn by turn, both having heard the same; conversations are the independent units.
    """
    by_conversation: dict[str, list[int]] = {}
    for a, b in zip(best.scored, found.scored, strict=True):
        by_conversation.setdefault(a.conversation, []).append(int(a.right) - int(b.right))
    turns = len(best.scored)
    mean = sum(map(sum, by_conversation.values())) / turns
    spread = sum((sum(d) - mean * len(d)) ** 2 for d in by_conversation.values())
    return 100 * mean, 100 * 1.96 * math.sqrt(spread) / turns


def table(found: Sequence[Quality]) -> str:
    """The qualities for people, as a Markdown table."""
    lines = [
        "| weights | perplexity of replies | turns right (95 %) | lost against float, points | false actions (95 %) |",
        "|---|---|---|---|---|",
    ]
    for quality in found:
        report, (points, error) = quality.report, lost(quality, found[0])
        difference = "" if quality is found[0] else f"{points:+.1f} ± {error:.1f}"
        lines.append(
            f"| {quality.name} | {math.exp(quality.nll):.4f} | {_rate(report['turns'])} | {difference} | "
            f"{_rate(report['false_actions'])} |"
        )
    return "\n".join(lines)


def _rate(rate: dict) -> str:
    if not rate["of"]:
        return "none asked for"
    low, high = rate["interval95"]
    return f"{rate['rate']:.1%} ({rate['count']}/{rate['of']}; {low:.1%} to {high:.1%})"


def activations_text(d: Difference) -> str:
    """The extra error of INT8 activations for people."""
    return (
        f"INT8 activations add, over {d.positions} positions of {SHIPS}: logits differ by {100 * d.rms_ratio:.2f} % "
        f"of their spread (rms), at most by {d.largest:.2f}; the same token is first at {d.agreement:.2%}."
    )


def quality_rows(found: Sequence[Quality], args: argparse.Namespace) -> list[Row]:
    """The table as figures; the ratio of an accuracy is that to float."""
    rows = []
    config = {"data": args.data.name, "conversations": len({s.conversation for s in found[0].scored})}
    accuracy = found[0].report["turns"]["rate"]
    for quality in found:
        report, (points, error) = quality.report, lost(quality, found[0])
        turns, false = report["turns"], report["false_actions"]
        rows += [
            Row(f"{quality.name}: perplexity", math.exp(quality.nll), "", config=config),
            Row(
                f"{quality.name}: turns right", 100 * turns["rate"], "%", ratio=turns["rate"] / accuracy, peer=FLOAT,
                config=config | turns | {"points_lost": points, "points_lost_error95": error},
            ),
            Row(f"{quality.name}: false actions", 100 * (false["rate"] or 0.0), "%", config=config | false),
        ]  # fmt: skip
    return rows


def difference_rows(d: Difference) -> list[Row]:
    """The extra error of INT8 activations as figures."""
    config = {"positions": d.positions, "against": "float activations, same artifact"}
    return [
        Row("INT8 activations: largest logit difference", d.largest, "", config=config),
        Row("INT8 activations: rms of the difference", 100 * d.rms_ratio, "% of spread", config=config),
        Row("INT8 activations: same first token", 100 * d.agreement, "%", config=config),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
