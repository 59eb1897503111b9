"""U-Net: the baseline that every diffusion segmenter has to be held against.

Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015 (arXiv
1505.04597), with the loss of Isensee et al., "nnU-Net", Nature Methods 2021: Dice and cross-entropy in equal parts.

Departures. The network is not the published one but that of the diffusion systems here, fed forward once with its time
held at 0, so that a comparison is of methods and not of networks. The overlap is taken for each image, the
cross-entropy is not weighted towards borders.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems.segmentation.losses import dice_and_cross_entropy
from inkwash.systems.segmentation.network import NetworkConfig, unet
from inkwash.systems.segmenter import Segmenter


class UNetConfig(NetworkConfig):
    """Options of the U-Net."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"base": 64, "multipliers": (1, 2, 4, 8), "blocks": 2, "attention": (), "patch": 1}
    }


class UNetSegmenter(Segmenter):
    """Masks in one pass: the honest baseline."""

    name = "unet"
    title = "masks in one pass: the baseline of all segmenters"
    reads = "unet"
    paper = "Ronneberger, Fischer & Brox, U-Net, MICCAI 2015, arXiv 1505.04597"
    Config = UNetConfig
    draws_masks = False
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 1e-3, "batch": 12, "decay": "linear"},
    }
    config: UNetConfig

    def __init__(self, config: UNetConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.network = unet(config, self.spec, inputs=spec.channels, outputs=self.classes)

    def forward(self, image: Float[Tensor, "b c ..."]) -> Float[Tensor, "b k ..."]:
        """Logits of each class."""
        logits: Tensor = self.network(image, image.new_zeros(1))
        return logits

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        return {"loss": dice_and_cross_entropy(self(batch["image"]), batch["mask"])}

    def believe(
        self, image: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None, **how: Any
    ) -> Iterator[tuple[int, int, Float[Tensor, "n k ..."]]]:
        if how or steps not in (None, 1):
            raise WrongUse(f"{self.name} finds a mask in one pass: it takes no {', '.join([*how]) or 'steps'}")
        yield 0, 1, self(image).softmax(dim=1)
