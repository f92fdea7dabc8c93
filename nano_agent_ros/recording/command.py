"""`nano-agent replay`: a recorded conversation run again, and what comes out otherwise."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from nano_agent_ros.agent import MAX_OVERHEARD, MIN_CONFIDENCE, Agent
from nano_agent_ros.recording import replay
from nano_agent_ros.recording.mcap_files import LogError, read

DESCRIPTION = """\
Tells the agent what was said in a log, with the facts that it was told then, and compares kind, actions and reply of
every turn, and its tokens where model and configuration are the same. Exit code 1 if anything differs.

  nano-agent replay ~/.local/state/nano_agent_ros/records/default/        all logs of a folder
  nano-agent replay 20261123T190000-000.mcap --model models/new           would another model do the same?

Skills and site are those recorded in the log, unless given here. docs/recording.md tells how to record.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command, besides those of the model."""
    parser.add_argument("log", nargs="+", type=Path, metavar="LOG", help="MCAP file, or a folder of them")
    parser.add_argument("--json", action="store_true", help="one JSON object a turn")
    parser.add_argument("--skills", help="skills file (default: the log's, else the one that ships)")
    parser.add_argument("--site", help="site file, or the name of one that ships (default: the log's, else warehouse)")
    parser.add_argument(
        "--min-plan-confidence",
        type=float,
        default=MIN_CONFIDENCE,
        metavar="P",
        help="as the agent's parameter of that name (default: %(default)s)",
    )
    parser.add_argument(
        "--max-plan-overheard",
        type=float,
        default=MAX_OVERHEARD,
        metavar="P",
        help="as the agent's parameter of that name (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run it; returns 0 if all is as recorded, 1 if not."""
    paths = [found for path in args.log for found in _files(path)]
    recordings = [read(path) for path in paths]
    for path, recording in zip(paths, recordings, strict=True):
        if not recording.whole:
            print(f"{path}: the end is missing; what is there is used", file=sys.stderr)
    turns = replay.turns_of(recordings)
    with replay.scratch() as folder:
        skills = args.skills or replay.attached(recordings[-1], "skills.yaml", Path(folder))
        site = args.site or replay.attached(recordings[-1], "site.yaml", Path(folder)) or "warehouse"
        agent = Agent.open(
            args.model,
            args.engine,
            skills,
            site,
            args.threads,
            args.min_plan_confidence,
            args.thinking,
            args.guess,
            pin=args.pin,
            huge_pages=args.huge_pages,
            max_overheard=args.max_plan_overheard,
        )
    if any(turn.configuration != agent.identity for turn in turns):
        print("model, engine, skills or site are not those of the log: tokens are not compared", file=sys.stderr)
    compared = []
    for one in replay.replay(turns, agent):
        compared.append(one)
        if args.json:
            print(json.dumps(one.to_json(), ensure_ascii=False), flush=True)
    if not args.json:
        print(replay.table(compared, shutil.get_terminal_size((110, 24)).columns))
    return int(any(one.differences for one in compared))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.mcap"))
    if not found:
        raise LogError(f"{path}: there is no .mcap file in this folder")
    return found
