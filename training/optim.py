"""Muon for the matrices of the layers, AdamW for the rest.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the nearest
orthogonal one, found with five Newton-Schulz steps.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalised(g: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of matrices g [n, rows, columns] towards 1; bfloat16 products, shape and dtype kept."""
    a, b, c = _NEWTON_SCHULZ
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        xx = x @ x.mT
        x = a * x + (b * xx + c * (xx @ xx)) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, with decoupled weight decay; for two-dimensional parameters only.

    The step, of spectral norm about `lr`, is scaled by sqrt(max(1, rows / columns)): one `lr` serves all shapes.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                shapes[tuple(p.shape)].append((p, p.grad.lerp(momentum, group["momentum"])))
            for (rows, columns), members in shapes.items():
                updates = orthogonalised(torch.stack([update for _, update in members]))
                scale = max(1.0, rows / columns) ** 0.5
                for (p, _), update in zip(members, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * scale)


def optimizers(network: nn.Module, kind: str, lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a network: "muon" (with AdamW for embeddings, head, vectors) or "adamw" alone.

    Vectors (norms, biases, A_log, D, dt_bias), the convolution and the embeddings are not decayed; the embeddings, of
    which a step sees few, take three times `lr`.
    """
    matrices, head, embeddings, vectors = [], [], [], []
    for name, p in network.named_parameters():
        if name.startswith("embeddings"):
            embeddings.append(p)
        elif name.startswith("lm_head"):
            head.append(p)
        elif p.dim() == 2:
            matrices.append(p)
        else:
            vectors.append(p)
    groups: list[dict[str, Any]] = [
        {"params": embeddings, "weight_decay": 0.0, "lr": 3 * lr},
        {"params": head, "weight_decay": 0.01},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if kind == "adamw":
        groups.append({"params": matrices, "weight_decay": 0.1})
    chosen: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))]
    if kind == "muon":
        chosen.append(Muon(matrices, lr=muon_lr, weight_decay=0.05))
    for optimizer in chosen:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return chosen
