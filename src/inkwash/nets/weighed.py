"""What was learned beside a frozen network, and how much of it counts when the two are used together."""

from abc import ABC, abstractmethod

from torch import nn


class Weighed(nn.Module, ABC):
    """A frozen network with something learned added to it, times a weight.

    Attributes:
        weight: 1 as it was trained, 0 is the frozen network alone.
    """

    weight: float = 1.0

    @abstractmethod
    def weigh(self, weight: float) -> None:
        """Count what was learned this much from now on."""
