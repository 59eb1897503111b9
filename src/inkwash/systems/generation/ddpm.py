"""DDPM: images from noise, of all kinds or of a named class.

Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (arXiv 2006.11239), and, for sampling
in few steps, Song, Meng & Ermon, "Denoising diffusion implicit models", ICLR 2021 (arXiv 2010.02502): the system
of the DDPM and DDIM notebooks. What the papers give is the corruption (linear betas), the epsilon objective and
the two samplers; class labels and their drop-out are Ho & Salimans' (arXiv 2207.12598).

Departures, all in the preset `quick` and none in `paper`: the network predicts the image, on 2x2 patches, with a cosine
schedule, because within ten minutes of two processor cores epsilon-prediction does not leave the noise. `paper` is the
network of the CIFAR-10 experiment (appendix B) with 1000 ancestral steps.
"""

from typing import Any, ClassVar

from torch import Tensor

from inkwash.data.spec import DataSpec
from inkwash.systems.base import Generator
from inkwash.systems.pixel import PixelConfig, denoiser


class DDPMConfig(PixelConfig):
    """Options of DDPM."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "schedule": "linear",
            "predict": "eps",
            "times": "uniform",
            "base": 128,
            "multipliers": (1, 2, 2, 2),
            "blocks": 2,
            "attention": (16,),
            "patch": 1,
            "dropout": 0.1,
            "drop_condition": 0.0,
            "sampler": "ddpm",
            "sampling_steps": 1000,
        }
    }


class DDPM(Generator):
    """Images from noise; where the data has classes, of the class asked for."""

    name = "ddpm"
    title = "images from noise, unconditional or by class"
    reads = "ddpm"
    paper = "Ho, Jain & Abbeel, Denoising diffusion probabilistic models, NeurIPS 2020, arXiv 2006.11239"
    task = "generation"
    Config = DDPMConfig
    volumes = True
    told = ("label",)
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 2e-4, "batch": 128, "warmup": 5000, "decay": "constant"},
    }
    config: DDPMConfig

    def __init__(self, config: DDPMConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.denoiser = denoiser(config, self.spec, classes=len(self.spec.classes or ()))

    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"label": batch["label"]} if self.spec.classes and "label" in batch else {}
