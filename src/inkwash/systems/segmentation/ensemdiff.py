"""EnsemDiff: a mask diffused beside its image, and an ensemble of draws.

Wolleb, Sandkühler, Bieder, Valmaggia & Cattin, "Diffusion models for implicit image segmentation ensembles", MIDL 2022
(arXiv 2112.03145). What the paper changes is the condition: the image is concatenated to the noisy mask at every step,
in DDPM otherwise (linear betas, epsilon-prediction, a learned variance); several draws give a mean mask and a map of
their variance. It is the plain diffusion segmenter, which the others set out from.

Departures. Masks are pictures in [-1, 1], one a class where there are more than two, where the paper's are binary in
{0, 1}. In the preset `quick` the network predicts the mask, on 2x2 patches, with a cosine schedule of 16 times the
noise, and draws 5 masks in 2 steps of DDIM each; `paper` is the published network with 1000 ancestral steps and an
ensemble of 5. `blind` is no part of the paper: it is one of the experiments of Öttl et al. 2024
(`systems/segmentation/ottl`).
"""

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from inkwash.data.spec import DataSpec
from inkwash.systems import masks
from inkwash.systems.segmentation.mask_diffusion import GUIDED_DIFFUSION, MaskDiffusion, MaskDiffusionConfig, denoiser
from inkwash.systems.segmentation.network import unet


class EnsemDiffConfig(MaskDiffusionConfig):
    """Options of EnsemDiff."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {**GUIDED_DIFFUSION, "sampling_steps": 1000, "draws": 5}
    }

    blind: bool = Field(False, description="show a grey picture instead of the image, to see what masks alone tell")


class EnsemDiff(MaskDiffusion):
    """Masks drawn beside their image."""

    name = "ensemdiff"
    title = "masks drawn by diffusion beside their image, in ensembles"
    reads = "ensemdiff"
    paper = "Wolleb et al., Diffusion models for implicit image segmentation ensembles, MIDL 2022, arXiv 2112.03145"
    Config = EnsemDiffConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 1e-4, "batch": 10, "decay": "constant"},
    }
    config: EnsemDiffConfig

    def __init__(self, config: EnsemDiffConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        pictures = masks.channels(self.classes)
        out = pictures * (2 if config.learned_variance else 1)
        self.denoiser = denoiser(
            config, unet(config, self.spec, inputs=pictures, outputs=out, image=spec.channels)
        )

    def condition(self, image: Float[Tensor, "n c ..."]) -> dict[str, Any]:
        return {"image": image.new_zeros(image.shape) if self.config.blind else image}
