"""`nano-agent ask`: typed commands understood without ROS."""

from __future__ import annotations

import argparse
import json
import sys

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.options import add_decoding_options, add_model_options

DESCRIPTION = """\
Understands a command and prints the plan; nothing moves. Without TEXT it reads a
conversation, one command a line, from standard input; with several TEXTs they
are the turns of one conversation.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what is said")
    parser.add_argument(
        "--fact", action="append", default=[], metavar="KEY=VALUE", help="something the robot knows, such as battery=62"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a turn")
    add_model_options(parser)
    add_decoding_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises NanoAgentError for what cannot be opened."""
    from nano_agent_ros.agent import Agent
    from nano_agent_ros.report import plan_text, turn_json

    facts = dict(_fact(pair) for pair in args.fact)
    agent = Agent.open(
        args.model,
        args.engine,
        args.skills,
        args.site,
        args.threads,
        pin=args.pin,
        huge_pages=args.huge_pages,
        thinking=args.thinking,
        guess=args.guess,
    )
    if not args.text and sys.stdin.isatty():
        print("Say something (Ctrl-D ends):", file=sys.stderr)
    for line in args.text or sys.stdin:
        if not line.strip() and not args.text:
            continue
        turn = agent.hear(line, facts)
        print(json.dumps(turn_json(turn, agent.site), ensure_ascii=False) if args.json else plan_text(turn), flush=True)
    return 0


def _fact(pair: str) -> tuple[str, str]:
    key, found, value = pair.partition("=")
    if not found or not key:
        raise ConfigError(f"--fact {pair!r}: write KEY=VALUE, such as battery=62")
    return key, value
