"""The `nano-agent` command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nano_agent_ros import __version__
from nano_agent_ros.errors import ConfigError, NanoAgentError

Command = Callable[[argparse.Namespace], int]

EPILOG = """\
examples:
  nano-agent demo                                  a spoken warehouse session, over a real ROS 2 graph
  nano-agent up                                    listener, agent and simulated robot until Ctrl-C
  nano-agent ask "take the blue bin to packing"    one command, no ROS; --json for programs
  nano-agent ask                                   a conversation: one command a line from standard input
  nano-agent eval eval/heldout.jsonl               accuracy on conversations with expected actions
  nano-agent convert CHECKPOINT OUT                a nemotron_h checkpoint to a model folder of 4 bits
  nano-agent golden add rack_7 good.jpg            a picture for the inspector to compare with
  nano-agent replay LOG                            a recorded conversation run again, and what differs
  nano-agent build MODEL --engine tensorrt         engines for an NVIDIA GPU, built once and kept

nano-agent COMMAND --help tells more about each.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (2: wrong use or bad input)."""
    parser = argparse.ArgumentParser(
        prog="nano-agent",
        description="Spoken commands to typed robot actions, on the robot's own computer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_add_demo, _add_up, _add_ask, _add_eval, _add_golden, _add_replay, _add_convert, _add_build):
        add(commands)
    args = parser.parse_args(argv)
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


def _add_demo(commands: argparse._SubParsersAction) -> None:
    import nano_agent_ros.demo as demo

    parser = commands.add_parser("demo", help="a spoken session through the whole ROS 2 graph, with latencies")
    demo.add_arguments(parser)
    parser.set_defaults(run=demo.run)


def _add_up(commands: argparse._SubParsersAction) -> None:
    import nano_agent_ros.bringup as bringup

    parser = commands.add_parser("up", help="start the nodes (as the launch file does) until Ctrl-C")
    bringup.add_arguments(parser)
    parser.set_defaults(run=bringup.run)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--skills", help="skills file (default: the one that ships)")
    parser.add_argument("--site", default="warehouse", help="site file, or the name of one that ships")
    _add_engine_options(parser)


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="model folder (default: the one that ships)")
    parser.add_argument("--engine", default="native", help="native (default), torch or tensorrt (docs/tensorrt.md)")
    parser.add_argument("--threads", type=int, help="threads of the engine (default: by the machine)")
    parser.add_argument(
        "--pin", help="processors of the native engine's threads: none (default), auto, or a list such as 0,2,4"
    )


def _add_decoding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--huge-pages",
        action="store_true",
        default=None,
        help="native engine: copy the weights into huge pages instead of mapping the file",
    )
    parser.add_argument(
        "--thinking", type=int, default=0, metavar="N", help="tokens that a model may think (default: 0)"
    )
    parser.add_argument(
        "--guess", type=int, metavar="N", help="tokens of a step when what comes is guessed (default: as many as pay)"
    )


def _add_ask(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ask",
        help="understand typed commands without ROS and print the plan",
        description="Understands a command and prints the plan; nothing moves. Without TEXT it reads a conversation, "
        "one command a line, from standard input; with several TEXTs they are the turns of one conversation.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what is said")
    parser.add_argument(
        "--fact", action="append", default=[], metavar="KEY=VALUE", help="something the robot knows, such as battery=62"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a turn")
    _add_model_options(parser)
    _add_decoding_options(parser)
    parser.set_defaults(run=_ask)


def _ask(args: argparse.Namespace) -> int:
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
    prompt = not args.text and sys.stdin.isatty()
    if prompt:
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


def _add_eval(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "eval",
        help="score conversations with expected actions",
        description="Runs the conversations of a JSON-lines file through the agent. A line is {id, site, turns: [{say, "
        "facts, expect: {kind, actions: [{skill, arguments}]}}]}; site is a name, a path or a mapping.",
    )
    parser.add_argument("file", metavar="FILE.jsonl")
    parser.add_argument("--out", type=Path, help="write the whole report as JSON")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="print the first N wrong turns")
    _add_model_options(parser)
    _add_decoding_options(parser)
    parser.set_defaults(run=_eval)


def _eval(args: argparse.Namespace) -> int:
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


def _add_golden(commands: argparse._SubParsersAction) -> None:
    import nano_agent_ros.inspection.command as golden

    parser = commands.add_parser(
        "golden",
        help="the pictures that the inspector compares with",
        description=golden.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    golden.add_arguments(parser)
    parser.set_defaults(run=golden.run)


def _add_replay(commands: argparse._SubParsersAction) -> None:
    import nano_agent_ros.recording.command as replay

    parser = commands.add_parser(
        "replay",
        help="run a recorded conversation again and report differences",
        description=replay.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_arguments(parser)
    _add_engine_options(parser)
    _add_decoding_options(parser)
    parser.set_defaults(run=replay.run)


CONVERT_EPILOG = """\
examples:
  nano-agent convert ~/NVIDIA-Nemotron-3-Nano-4B-BF16 models/4b
      INT4, rounded to nearest: a few minutes
  nano-agent convert ~/NVIDIA-Nemotron-3-Nano-4B-BF16 models/4b --head-bits 8 --attention-bits 8
      a little larger and slower, closer to the checkpoint
  nano-agent convert ~/NVIDIA-Nemotron-3-Nano-4B-BF16 models/4b --method gptq --calibration talk.jsonl
      rounded so that what the model computes on this text changes least; best for INT4
  nano-agent convert --random nemotron-3-nano-4b models/random-4b
      random weights of the published shapes, to measure speed without the weights

A conversion that was interrupted goes on where it was when the same command is given again. Until it is complete,
OUT stays as it was.
"""


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert",
        help="a nemotron_h checkpoint to a model folder of 4 or 8 bits",
        description="Quantizes a checkpoint in the published layout (config.json, safetensors, tokenizer.json, "
        "chat_template.jinja) to the model folder that every engine runs.",
        epilog=CONVERT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", help="checkpoint folder; with --random: nemotron-3-nano-4b or nemotron-nano-9b-v2"
    )
    parser.add_argument("out", type=Path, help="model folder to write; one that is there is replaced at the end")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=4, help="bits of a weight (default: 4)")
    parser.add_argument(
        "--group-size",
        type=int,
        default=64,
        metavar="N",
        help="inputs that share a scale, a multiple of 64 (default: 64)",
    )
    parser.add_argument(
        "--method",
        choices=("rtn", "gptq", "awq"),
        default="rtn",
        help="rtn: to the nearest, each weight alone (default); gptq, awq: so that what layers compute changes least",
    )
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="text that gptq and awq run through the model")
    parser.add_argument("--head-bits", type=int, choices=(4, 8), help="bits of lm_head (default: --bits)")
    parser.add_argument("--attention-bits", type=int, choices=(4, 8), help="bits of q, k, v, o (default: --bits)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="for rtn (default: one per core, at most 8)"
    )
    parser.add_argument("--random", action="store_true", help="random weights of a published model's shapes, see above")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random weights")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    from nano_agent_ros.quantize.convert import Request, convert
    from nano_agent_ros.quantize.random_model import write_random_model

    request = Request(args.bits, args.group_size, args.method, args.calibration, args.head_bits, args.attention_bits)
    try:
        if args.random:
            write_random_model(args.checkpoint, args.out, request, args.seed)
        else:
            convert(args.checkpoint, args.out, request=request, threads=args.threads)
    except KeyboardInterrupt:
        print("nano-agent convert: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    if args.random:
        print(f"{args.out}: written; its answers are noise, its speed is that of {args.checkpoint}")
    else:
        print(f'{args.out}: written; try: nano-agent ask --model {args.out} "go to dock 3"')
    return 0


def _add_build(commands: argparse._SubParsersAction) -> None:
    import nano_agent_ros.engine.build as build

    parser = commands.add_parser(
        "build",
        help="what an engine needs beside the model folder, built once and kept",
        description=build.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_arguments(parser)
    parser.set_defaults(run=build.run)


if __name__ == "__main__":
    sys.exit(main())
