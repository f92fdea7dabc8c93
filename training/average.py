"""Average the weights of checkpoints of one network, as of runs that went on from one another ("model soup").

    python -m training.average --out AVERAGE OLDER:0.5 OLD NEW:1.5

A weight may follow each folder's name (default 1). Of runs from a common start the average is often better than any
of them on language that none was trained on (Wortsman et al. 2022); training in INT4 for a few minutes with
--qat-from 0 and a small rate then makes it the network that ships. Taken in float32, written in float16.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.model.checkpoint import load_checkpoint, save_checkpoint
from nano_agent_ros.model.network import NemotronH
from training.train import copy_tokenizer


def average(folders: Sequence[Path], weights: Sequence[float]) -> NemotronH:
    """The network whose tensors are the weighted means of those of the folders; raises ValueError if they differ."""
    if not folders or len(folders) != len(weights) or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError("weights must be at least 0, one for each folder, and not all 0")
    network = load_checkpoint(folders[0]).float()
    total = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    for folder, weight in zip(folders, weights, strict=True):
        state = load_checkpoint(folder).float().state_dict()
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in total.items()}:
            raise ValueError(f"{folder} is another network than {folders[0]}")
        for name, tensor in state.items():
            total[name] += tensor * (weight / sum(weights))
    network.load_state_dict(total)
    return network


def folder_and_weight(text: str) -> tuple[Path, float]:
    """A command-line argument FOLDER or FOLDER:WEIGHT; raises ValueError for a weight that is no number."""
    name, colon, weight = text.rpartition(":")
    return (Path(name), float(weight)) if colon else (Path(text), 1.0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=folder_and_weight, metavar="FOLDER[:WEIGHT]")
    parser.add_argument("--out", type=Path, required=True, help="folder of the average; tokenizer as in the last one")
    args = parser.parse_args()
    folders = [folder for folder, _ in args.checkpoints]
    try:
        network = average(folders, [weight for _, weight in args.checkpoints])
    except (ValueError, NanoAgentError) as error:
        parser.error(str(error))
    save_checkpoint(network.half(), args.out)
    copy_tokenizer(folders[-1], args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
