"""What the generators of images from masks share: they are told the mask at every step, one-hot."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from inkwash.data.spec import DataSpec
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.errors import WrongUse
from inkwash.systems.base import Generator, GeneratorConfig
from inkwash.systems.pixel import PixelConfig, denoiser


class FromMasks(Generator):
    """A generator that is told a class map, as a channel for each class with background."""

    task = "synthesis"
    told: ClassVar[tuple[str, ...]] = ("mask",)  # type: ignore[assignment]

    def __init__(self, config: GeneratorConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.denoiser = self.made()

    def made(self) -> GaussianDenoiser:
        """The denoiser, new; here the mask lies beside the noisy image."""
        assert isinstance(self.config, PixelConfig)
        return denoiser(self.config, self.spec, image=self.classes)

    @property
    def classes(self) -> int:
        """Number of mask classes, the background among them."""
        assert self.spec.mask_classes is not None
        return self.spec.mask_classes

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        if not spec.mask_classes or spec.mask_classes < 2:
            raise WrongUse(
                f"{cls.name} makes images from masks, and this data has none: it needs images/ and masks/, "
                "or x.png beside x_mask.png (inkwash data PATH says what was found)"
            )

    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if "mask" not in batch:
            return {}
        return {"image": F.one_hot(batch["mask"], self.classes).movedim(-1, 1).float()}
