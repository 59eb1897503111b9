"""DnCNN: the feed-forward baseline of restoration.

Zhang, Zuo, Chen, Meng & Zhang, "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising", IEEE
Transactions on Image Processing 26(7), 2017 (arXiv 1608.03981). The network finds what is wrong with the image, not the
image; half the squared error of that is trained. `blind` draws the level of the noise for each image between 0 and the
one that is said, as DnCNN-B does (up to 55).

Departures: any operator can be learned, the input being its inverse without a prior (the paper has denoising,
super-resolution from bicubically enlarged images, and JPEG, which are cases of it). In the preset `quick` the network
is 9 convolutions deep and 48 wide. `paper` has 17 and 64 (20 for DnCNN-B: `--set layers=20`), and batches of 128
patches of 40 pixels (`--size 40`), trained by Adam where the paper has SGD.
"""

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.dncnn import DnCNN
from inkwash.systems.base import filled
from inkwash.systems.restoration.measurements import kind
from inkwash.systems.restoration.supervised import Supervised, SupervisedConfig


class DnCNNConfig(SupervisedConfig):
    """Options of DnCNN."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"layers": 17, "base": 64}}
    preset: str = Field("quick", description="quick, or paper: the published network")
    blind: bool = Field(False, description="learn all levels of noise up to the operator's own")
    layers: int = Field(9, ge=2, description="convolutions")
    base: int = Field(48, ge=1, description="channels between them")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        return filled(cls.presets, values)


class DnCNNRestorer(Supervised):
    """Images from measurements in one pass."""

    name = "dncnn"
    title = "images from measurements in one pass"
    reads = "dncnn"
    paper = "Zhang et al., Beyond a Gaussian denoiser, IEEE TIP 26(7), 2017, arXiv 1608.03981"
    Config = DnCNNConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-3, "batch": 128},
    }
    config: DnCNNConfig

    def __init__(self, config: DnCNNConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        if config.blind and kind(config.operator) != "denoise":
            raise WrongUse(f"blind is about the level of noise, and the operator is {config.operator}: leave it out")
        self.network = DnCNN(spec.channels, spatial=len(spec.size), depth=config.layers, base=config.base)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        x, seen = batch["image"], self.guessed(batch, noise)
        if self.config.blind:
            share = noise.uniform((), "level", dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
            seen = x + share * (seen - x)
        error = self.network(seen) - (seen - x)
        return {"loss": error.square().flatten(1).mean(dim=1)}

    def estimate(
        self, guess: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None
    ) -> tuple[Float[Tensor, "n c ..."], int]:
        return guess - self.in_tiles(self.network, guess, overlap=2 * self.config.layers), 1
