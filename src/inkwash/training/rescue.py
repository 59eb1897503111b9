"""A training whose step breaks off: back to where the step before had left it."""

from typing import Literal

import torch
from torch import Tensor, nn


class Rescue:
    """Knows how far a step has come, and what the buffers held when it began.

    Until the optimizer moves the weights a step changes buffers only; while it does, weights and averages don't belong
    together, and nothing can be undone.
    """

    def __init__(self, system: nn.Module) -> None:
        self.buffers = [*system.buffers()]
        self.kept: list[Tensor] = [torch.empty_like(buffer) for buffer in self.buffers]
        self.phase: Literal["still", "gradients", "update"] = "still"

    def begins(self) -> None:
        """A step begins."""
        for kept, buffer in zip(self.kept, self.buffers):
            kept.copy_(buffer)
        self.phase = "gradients"

    def moves(self) -> None:
        """The weights move."""
        self.phase = "update"

    def ends(self) -> None:
        """The step is done."""
        self.phase = "still"

    def back(self) -> bool:
        """Undo an unfinished step; False where that can't be done."""
        if self.phase == "gradients":
            for kept, buffer in zip(self.kept, self.buffers):
                buffer.copy_(kept)
            self.phase = "still"
        return self.phase == "still"
