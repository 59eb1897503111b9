"""What the loop asks of a system and of the data, and what it says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec

Batch = dict[str, Tensor]
Augmentation = Callable[[Batch, Noise], Batch]


@runtime_checkable
class Trainable(Protocol):
    """What the loop asks of a system, which is an `nn.Module` besides."""

    def loss(self, batch: Batch, *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        """The terms of the loss of each item; the one called `loss` is minimised."""


@runtime_checkable
class Images(Protocol):
    """What the loop asks of the data."""

    spec: DataSpec
    fingerprint: str

    def __len__(self) -> int: ...

    def batch(self, indices: Int[Tensor, "b"]) -> Batch:
        """These images, with what belongs to them. Called from several threads where there are several workers."""


@dataclass(frozen=True)
class Progress:
    """Where a training is, after `step` steps.

    Attributes:
        steps: how many there will be; None where only the time is limited.
        seconds, seconds_left: of the clock, resumed trainings included; None while the pace is unknown.
        items: images seen.
        losses: the means since the rows of the log before, and `gradient`, the norm before clipping.
        rate: steps a second.
        preview_due: the system holds the averaged weights, in evaluation mode, until the next step is asked for; where
            several processes share the weights, that of the first process does.
        finished: this is the last step: the run is saved, and the system keeps the averaged weights.
    """

    step: int
    steps: int | None
    seconds: float
    seconds_left: float | None
    items: int
    losses: dict[str, float] = field(default_factory=dict)
    rate: float | None = None
    learning_rate: float = 0.0
    preview_due: bool = False
    finished: bool = False
