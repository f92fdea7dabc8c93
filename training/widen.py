"""Widen the MLPs of a checkpoint without changing what it computes, so that training goes on with more room.

    python -m training.widen models/warehouse-float WIDER --intermediate-size 1536

The new units read at random, as loudly as the old ones, and write nothing yet: their columns of down_proj are zero
(after Chen et al. 2016, Net2Net). Go on with `training.train … --init WIDER --config WIDER/config.json`; to average
with what was widened, widen that as well: it gets the same units.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.model.checkpoint import load_checkpoint, save_checkpoint
from nano_agent_ros.model.network import NemotronH
from training.train import copy_tokenizer


def widened(network: NemotronH, intermediate_size: int) -> NemotronH:
    """A float32 network that computes the same with MLPs of `intermediate_size`; ValueError if they have more."""
    old = network.config.intermediate_size
    if intermediate_size < old:
        raise ValueError(f"the MLPs have {old} units already, more than {intermediate_size}")
    generator = torch.Generator().manual_seed(0)
    state = {name: tensor.float() for name, tensor in network.state_dict().items()}
    for name, tensor in state.items():
        if name.endswith("up_proj.weight"):
            rms = tensor.square().mean().sqrt()
            more = rms * torch.randn(intermediate_size - old, tensor.shape[1], generator=generator)
            state[name] = torch.cat((tensor, more))
        elif name.endswith("up_proj.bias"):
            state[name] = torch.cat((tensor, tensor.new_zeros(intermediate_size - old)))
        elif name.endswith("down_proj.weight"):
            state[name] = torch.cat((tensor, tensor.new_zeros(tensor.shape[0], intermediate_size - old)), dim=1)
    wider = NemotronH(replace(network.config, intermediate_size=intermediate_size))
    wider.load_state_dict(state)
    return wider.eval()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="folder of the wider network")
    parser.add_argument("--intermediate-size", type=int, required=True, help="a multiple of 64, for INT4")
    args = parser.parse_args()
    if args.intermediate_size % 64:
        parser.error("--intermediate-size must be a multiple of 64: INT4 groups have that many inputs")
    try:
        network = widened(load_checkpoint(args.checkpoint), args.intermediate_size)
    except (ValueError, NanoAgentError) as error:
        parser.error(str(error))
    save_checkpoint(network.half(), args.out)
    copy_tokenizer(args.checkpoint, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
