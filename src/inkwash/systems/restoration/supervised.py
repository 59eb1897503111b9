"""Restoration that was learned for one kind of measurement: clean images, measured anew at every step of training.

Where the operator is `measured`, nothing is simulated: the data holds a measured picture beside each clean one.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field, field_validator
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.operators.mask import Identity
from inkwash.sampling.tiled import blended
from inkwash.systems.base import System, SystemConfig, keyed
from inkwash.systems.restoration.measurements import Measurement, described, kind, measurement
from inkwash.systems.restoration.restorer import Restoration

_SIDES = {1: 65536, 2: 512, 3: 64}
"""What a network of convolutions takes at a time, by dimensions."""


class SupervisedConfig(SystemConfig):
    """What every learned restoration can be told."""

    operator: str = Field("denoise:noise=25", description=f"how images are measured: {', '.join(described())}")

    @field_validator("operator")
    @classmethod
    def _known(cls, text: str) -> str:
        # Whether it fits the images is known when they are.
        measurement(text, (1, 64, 64))
        return text


class Supervised(System):
    """A network from the image that a measurement gives without any prior to the image behind it.

    Attributes:
        draws_images: whether draws differ.
    """

    task = "restoration"
    told = ("measured",)
    draws_images: ClassVar[bool] = False
    config: SupervisedConfig

    def __init__(self, config: SupervisedConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.measurement = measurement(self.learned, (spec.channels, *spec.size))
        if self.measurement.made and not spec.pairs:
            raise WrongUse(
                f"operator={config.operator} learns from pictures measured and clean, and this data has no pairs: "
                "two folders, noisy/ and clean/ for example, or a list with columns of those names"
            )
        if self.measurement.estimated and not self.measurement.made:
            raise WrongUse(f"operator={config.operator} can't be simulated: say the level of its noise, noise=25")

    @property
    def learned(self) -> str:
        """The measurement that it learned to undo."""
        return self.config.operator

    def taken(self, batch: dict[str, Tensor], *, noise: Noise) -> Float[Tensor, "b ..."]:
        """The measurement of each image of a batch: simulated, or the data's own."""
        return batch["measured"] if self.measurement.made else self.measurement.take(batch["image"], noise=noise)

    def guessed(self, batch: dict[str, Tensor], noise: Noise) -> Float[Tensor, "b ..."]:
        """What of each image is left: its measurement, turned into an image."""
        with torch.no_grad():
            return self.measurement.first_guess(self.taken(batch, noise=noise)).to(batch["image"])

    def in_tiles(
        self, network: Callable[[Tensor], Tensor], x: Float[Tensor, "n c ..."], *, overlap: int
    ) -> Float[Tensor, "n c ..."]:
        """What a network of convolutions makes of images in one pass; of large ones in tiles.

        Args:
            overlap: twice as far as it sees, so that no pixel is told by a tile's border alone.
        """
        side = _SIDES[x.ndim - 2]
        return blended(network, x, (side,) * (x.ndim - 2), overlap=min(overlap, side - 1))

    @abstractmethod
    def estimate(
        self, guess: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None
    ) -> tuple[Float[Tensor, "n c ..."], int]:
        """The images behind these, and the evaluations of the network that it took."""

    @torch.no_grad()
    def restore(
        self,
        asked: Measurement,
        y: Float[Tensor, "b ..."],
        *,
        draws: int = 1,
        steps: int | None = None,
        seed: int = 0,
        first: int | Sequence[int] | Int64[Tensor, "b"] = 0,
    ) -> Restoration:
        """The images behind measurements of the kind it learned, of any size that the operator has.

        Memory does not grow with the image: what is larger than a network takes at a time is put together from tiles.
        What learned one kind of noise is taken for another, simulated for measured: how well that does is to be seen.

        Args:
            first: the number of the first image, or that of each, which its noise is keyed by.

        Raises:
            WrongUse: a measurement of another kind, or of images of other channels.
        """
        noisy = isinstance(asked.operator, Identity) and isinstance(self.measurement.operator, Identity)
        if not noisy and kind(asked.name) != kind(self.learned):
            raise WrongUse(f"this {self.name} learned {self.learned}, and the measurement is {asked.name}")
        channels = asked.operator.shape[0]
        if channels != self.spec.channels:
            raise WrongUse(f"this {self.name} learned images of {self.spec.channels} channels, not of {channels}")
        count = draws if self.draws_images else 1
        device = next(self.parameters()).device
        guess = asked.first_guess(y).float().to(device).repeat_interleave(count, dim=0)
        found, evaluations = self.estimate(guess, noise=Noise(seed, keyed(first, len(y), count)), steps=steps)
        return Restoration(found.unflatten(0, (len(y), count)).clamp(-1, 1).cpu(), evaluations)
