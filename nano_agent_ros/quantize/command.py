"""`nano-agent convert`: a checkpoint becomes a model folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Quantizes a checkpoint in the published layout (config.json, safetensors,
tokenizer.json, chat_template.jinja) to the model folder that every engine runs.
"""
EPILOG = """\
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.epilog = EPILOG
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


def run(args: argparse.Namespace) -> int:
    """Run the command; raises NanoAgentError for what cannot be converted."""
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
