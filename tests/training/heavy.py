"""A system whose activations are large and whose weights are few: what it takes is known, and it is quick."""

from typing import Any

import torch
from standin import TinyConfig
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from inkwash.corruption.noise import Noise
from inkwash.training import TrainOptions

MIB = 2**20
FLOATS = 3 * MIB
TENSOR = 12 * MIB


class Stage(nn.Module):
    """Five tensors of an item are kept for the backward pass, or one with checkpointing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = (x * self.weight).abs()
        return x


class Heavy(nn.Module):
    """Shades in, shades out, by way of 3 million copies of each."""

    name = "heavy"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = TinyConfig()
        self.checkpointing = False
        self.enter = nn.Parameter(torch.full((), 0.5))
        self.stages = nn.ModuleList(Stage() for _ in range(2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("unsaved", torch.zeros(3), persistent=False)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
        shade = batch["image"].flatten(1).mean(dim=1)
        if self.training:
            self.seen += len(shade)
            self.unsaved += 1
        x = (shade * self.enter)[:, None].expand(-1, FLOATS)
        for stage in self.stages:
            x = checkpoint(stage, x, use_reentrant=False) if self.checkpointing else stage(x)
        return {"loss": (x.mean(dim=1) - noise.uniform((), "aim")).square()}


def options(**more: Any) -> TrainOptions:
    return TrainOptions(**{"steps": 3, "batch": 4, "warmup": 0, "log_every": 1, "precision": "fp32", **more})
