"""Options that several commands share: which model runs, and how it decodes."""

from __future__ import annotations

import argparse


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Skills, site and engine: `skills`, `site`, and what `add_engine_options` adds."""
    parser.add_argument("--skills", help="skills file (default: the one that ships)")
    parser.add_argument("--site", default="warehouse", help="site file, or the name of one that ships")
    add_engine_options(parser)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """`model`, `engine`, `threads`, `pin`."""
    parser.add_argument("--model", help="model folder (default: the one that ships)")
    parser.add_argument("--engine", default="native", help="native (default), torch or tensorrt (docs/tensorrt.md)")
    parser.add_argument("--threads", type=int, help="threads of the engine (default: by the machine)")
    parser.add_argument(
        "--pin", help="processors of the native engine's threads: none (default), auto, or a list such as 0,2,4"
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """`huge_pages`, `thinking`, `guess`."""
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
