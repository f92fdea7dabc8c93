"""The `nano-agent build` command: engines that must be built before they run. Only `tensorrt` is one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nano_agent_ros.resources import default_model

DESCRIPTION = """\
Builds the TensorRT engines of a model folder and keeps them in the cache, where --engine tensorrt finds them.

examples:
  nano-agent build models/4b --engine tensorrt                        for the GPU of this machine
  nano-agent build models/4b --engine tensorrt --precision bf16       activations in bfloat16
  nano-agent build models/4b --engine tensorrt --package tensorrt_rtx --gpu sm86,sm89
      with TensorRT for RTX, which needs no GPU to build
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("model", nargs="?", type=Path, help="model folder (default: the one that ships)")
    parser.add_argument("--engine", choices=("tensorrt",), default="tensorrt", help="tensorrt is the only one so far")
    parser.add_argument("--precision", choices=("fp16", "bf16"), default="fp16", help="of activations (default: fp16)")
    parser.add_argument(
        "--window", type=int, default=4096, metavar="W", help="recent tokens that attention sees (default: 4096)"
    )
    parser.add_argument(
        "--sinks", type=int, default=64, metavar="S", help="first tokens that attention sees (default: 64)"
    )
    parser.add_argument("--chunk", type=int, default=128, metavar="N", help="tokens of the largest step (default: 128)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of built engines (default: the user's cache)")
    parser.add_argument("--package", choices=("tensorrt", "tensorrt_rtx"), help="which one, if both are installed")
    parser.add_argument(
        "--gpu", default="", metavar="SM[,SM…]", help="compute capabilities to build for (tensorrt_rtx only), as sm86"
    )


def run(args: argparse.Namespace) -> int:
    """Build; the folder of the built engines goes to standard output, progress to standard error."""
    from .tensorrt.cache import Options
    from .tensorrt.command import build_model

    folder = build_model(
        args.model or default_model(),
        Options(args.window, args.sinks, args.chunk, args.precision),
        gpus=[g for g in args.gpu.split(",") if g],
        package=args.package,
        out=args.out,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(folder)
    return 0
