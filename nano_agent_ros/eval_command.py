"""`nano-agent eval`: conversations with expected actions, scored."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nano_agent_ros.options import add_decoding_options, add_model_options

DESCRIPTION = """\
Runs the conversations of a JSON-lines file through the agent. A line is {id,
site, turns: [{say, facts, expect: {kind, actions: [{skill, arguments}]}}]};
site is a name, a path or a mapping.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", metavar="FILE.jsonl")
    parser.add_argument("--out", type=Path, help="write the whole report as JSON")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="print the first N wrong turns")
    add_model_options(parser)
    add_decoding_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises NanoAgentError for what cannot be opened."""
    from tqdm import tqdm

    from nano_agent_ros import evaluate
    from nano_agent_ros.agent import Model
    from nano_agent_ros.resources import default_skills
    from nano_agent_ros.skills import Site, Skills

    skills = Skills.load(args.skills or default_skills())
    conversations = evaluate.read(args.file, skills, Site.load(args.site))
    model = Model.open(args.model, args.engine, args.threads, args.pin, args.huge_pages)
    total = sum(len(c.turns) for c in conversations)
    with tqdm(total=total, unit=" turns", desc=Path(args.file).name) as bar:
        how = {"thinking": args.thinking, "guess": args.guess}
        scored = list(evaluate.run(conversations, model, skills, bar.update, **how))
    result = evaluate.report(scored)
    print(evaluate.table(result))
    for wrong in result["wrong"][: args.wrong]:
        print(json.dumps(wrong, ensure_ascii=False))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"file": str(args.file), **result}, indent=1, ensure_ascii=False) + "\n")
    return 0
