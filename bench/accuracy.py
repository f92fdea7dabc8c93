"""How much of what people say is understood: every evaluation file in one table.

    python -m bench.accuracy [FILE.jsonl ...] [--model FOLDER] [--out FILE.json]

Without files: those of eval/ that are there to measure with. A turn is right when its kind and, for actions, every
skill and argument in their order are as expected. Prints Markdown; intervals are 95 % (Wilson). What went wrong in a
file is shown by `nano-agent eval FILE --wrong N`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.harness import Row, add_out, say, write
from nano_agent_ros import evaluate
from nano_agent_ros.agent import Model
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills

FOLDER = Path(__file__).resolve().parents[1] / "eval"
MEASURING = ("phrasings", "sites", "heldout", "multi_turn", "heard", "negative", "outside", "strangers_test", "people")


def rate(value: Mapping[str, Any]) -> str:
    """`97.1 % (602/620; 95.4 to 98.2)`, or a dash where nothing was counted."""
    if not value["of"]:
        return "–"
    low, high = value["interval95"]
    return f"{100 * value['rate']:.1f} % ({value['count']}/{value['of']}; {100 * low:.1f} to {100 * high:.1f})"


def of_kind(result: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The rate of one kind of turn, of nothing if the file has none."""
    return result["kinds"].get(kind) or {"of": 0}


def rows(name: str, result: Mapping[str, Any]) -> list[Row]:
    """The figures of one file."""
    picked = {
        "turns right": result["turns"],
        "commands right": of_kind(result, "act"),
        "conversations right": result["conversations"],
        "false actions": result["false_actions"],
    }
    return [
        Row(f"{name}: {what}", 100 * value["rate"], "%", config=dict(value))
        for what, value in picked.items()
        if value["of"]
    ]


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of all files, then commands right by skill over all of them."""
    lines = ["| file | turns right | commands right | false actions |", "|---|---|---|---|"]
    for name, result in results.items():
        cells = (rate(result["turns"]), rate(of_kind(result, "act")), rate(result["false_actions"]))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    skills: dict[str, list[int]] = {}
    for result in results.values():
        for skill, value in result["skills"].items():
            counted = skills.setdefault(skill, [0, 0])
            counted[0] += value["count"]
            counted[1] += value["of"]
    ordered = sorted(skills.items(), key=lambda item: item[1][0] / item[1][1])
    worst = ", ".join(f"{name} {100 * right / of:.0f} % of {of}" for name, (right, of) in ordered)
    return "\n".join([*lines, "", f"Turns with a skill, right, over all files, the weakest first: {worst}."])


def measure(files: Sequence[Path], model: Model) -> dict[str, dict[str, Any]]:
    """The report of `nano-agent eval` for each file."""
    skills, site = Skills.load(default_skills()), Site.load("warehouse")
    results = {}
    for path in files:
        conversations = evaluate.read(path, skills, site)
        total = sum(len(c.turns) for c in conversations)
        with tqdm(total=total, unit=" turns", desc=path.name, mininterval=2) as bar:
            results[path.name] = evaluate.report(list(evaluate.run(conversations, model, skills, bar.update)))
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE.jsonl", help="default: those of eval/")
    parser.add_argument("--model", help="model folder (default: the one that ships)")
    parser.add_argument("--threads", type=int, help="threads of the engine")
    add_out(parser)
    args = parser.parse_args()
    files = args.files or [FOLDER / f"{name}.jsonl" for name in MEASURING]
    results = measure(files, Model.open(args.model, threads=args.threads))
    print(markdown(results))
    if args.out:
        write([row for name, result in results.items() for row in rows(name, result)], args.out)
        say(f"wrote {args.out}")


if __name__ == "__main__":
    main()
