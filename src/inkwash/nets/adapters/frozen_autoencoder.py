"""Somebody else's autoencoder of pictures or volumes, used as it is: what those of all libraries have in common."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.nets.adapters.frozen import Frozen
from inkwash.nets.autoencoder import Code
from inkwash.nets.patched import cut, fill


class FrozenAutoencoder(Frozen, ABC):
    """From pictures to codes and back.

    Sides that are no multiple of `factor` are filled up with their mirrored edge, and the picture is cut back.

    Attributes:
        spatial: dimensions of a picture.
        channels: of a code.
        pictures: channels of a picture.
        factor: how many times shorter the side of a code is.
    """

    spatial: int
    channels: int
    pictures: int
    factor: int

    @abstractmethod
    def coded(self, x: Tensor) -> Code:
        """The code of a picture of as many channels as it takes, each side a multiple of `factor`."""

    @abstractmethod
    def decoded(self, z: Tensor) -> Tensor:
        """The whole picture that a code stands for."""

    def size_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of the code of a picture of this size."""
        return tuple(-(-side // self.factor) for side in size)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "b c *size"]) -> Code:
        """The code of a picture in [-1, 1]; one of a single channel is copied to all that it takes.

        Raises:
            WrongUse: the picture has another number of channels.
        """
        if x.shape[1] not in (1, self.pictures):
            raise WrongUse(f"a picture of {x.shape[1]} channels: {self.name} takes {self.pictures}, or 1 to be copied")
        filled = fill(x, self.factor)
        return self.coded(filled.expand(-1, self.pictures, *filled.shape[2:]))

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "b c *code"], size: tuple[int, ...]) -> Float[Tensor, "b d ..."]:
        """The picture of this size that a code stands for."""
        return cut(self.decoded(z), size)
