"""The `nano-agent` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nano_agent_ros import __version__
from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.options import add_decoding_options, add_engine_options

EPILOG = """\
examples:
  nano-agent demo                                  a spoken warehouse session, over a real ROS 2 graph
  nano-agent up                                    listener, agent and simulated robot until Ctrl-C
  nano-agent ask "take the blue bin to packing"    one command, no ROS; --json for programs
  nano-agent ask                                   a conversation: one command a line from standard input
  nano-agent say "ready to work"                   try the robot's voice
  nano-agent audio --test 10                       the microphones, and what one of them hears
  nano-agent eval eval/heldout.jsonl               accuracy on conversations with expected actions
  nano-agent convert CHECKPOINT OUT                a nemotron_h checkpoint to a model folder of 4 bits
  nano-agent golden add rack_7 good.jpg            a picture for the inspector to compare with
  nano-agent replay LOG                            a recorded conversation run again, and what differs
  nano-agent build MODEL --engine tensorrt         engines for an NVIDIA GPU, built once and kept

nano-agent COMMAND --help tells more about each.
"""


@dataclass(frozen=True)
class Command:
    """A command: the module that has its `add_arguments` and `run`, and may have a `DESCRIPTION`."""

    help: str
    module: str
    options: tuple[Callable[[argparse.ArgumentParser], None], ...] = ()


COMMANDS = {
    "demo": Command("a spoken session through the whole ROS 2 graph, with latencies", "demo"),
    "up": Command("start the nodes (as the launch file does) until Ctrl-C", "bringup"),
    "ask": Command("understand typed commands without ROS and print the plan", "ask"),
    "audio": Command("list the microphones, or test one", "speech.command"),
    "say": Command("try the robot's voice (docs/audio.md)", "speech.say"),
    "eval": Command("score conversations with expected actions", "eval_command"),
    "golden": Command("the pictures that the inspector compares with", "inspection.command"),
    "replay": Command(
        "run a recorded conversation again and report differences",
        "recording.command",
        (add_engine_options, add_decoding_options),
    ),
    "convert": Command("a nemotron_h checkpoint to a model folder of 4 or 8 bits", "quantize.command"),
    "build": Command("what an engine needs beside the model folder, built once and kept", "engine.build"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (2: wrong use or bad input)."""
    words = sys.argv[1:] if argv is None else list(argv)
    args = _parser(words[0] if words else "").parse_args(words)
    try:
        code: int = args.run(args)
        return code
    except NanoAgentError as error:
        print(f"nano-agent {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _parser(wanted: str) -> argparse.ArgumentParser:
    """The parser; only the module of the command that is wanted is imported, so that each starts as soon as it can."""
    parser = argparse.ArgumentParser(
        prog="nano-agent",
        description="Spoken commands to typed robot actions, on the robot's own computer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        formatter = argparse.RawDescriptionHelpFormatter
        own = commands.add_parser(name, help=command.help, formatter_class=formatter)
        if name == wanted:
            module: Any = import_module(f"nano_agent_ros.{command.module}")
            own.description = getattr(module, "DESCRIPTION", None)
            module.add_arguments(own)
            for add in command.options:
                add(own)
            own.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
