"""Polyp-DDPM: an image that fits a mask.

Dorjsembe, Pao & Xiao, "Polyp-DDPM: Diffusion-based semantic polyp synthesis for enhanced segmentation", EMBC 2024
(arXiv 2402.04031). What the paper changes is the condition: the mask is concatenated to the noisy image at every
step. Corruption (cosine, T = 250), epsilon-prediction with an absolute error and ancestral sampling are DDPM's.

Departures. In both presets the mask enters one-hot, a channel for each class with background, where the published
code repeats one mask in three channels of +-1: for one class that is the same information, and this holds for any
number of classes. A condition of zeros means "no mask", which makes classifier-free guidance possible. In the
preset `quick` the network predicts the image, on 2x2 patches, with a squared error, because within ten minutes of two
processor cores epsilon-prediction does not leave the noise; it samples with DPM-Solver++ in 20 steps. `paper` is the
published network and loss (for 256x256 pixels) and 250 ancestral steps.
"""

from typing import Any, ClassVar

from inkwash.systems.pixel import PixelConfig
from inkwash.systems.synthesis.from_masks import FromMasks


class PolypDDPMConfig(PixelConfig):
    """Options of Polyp-DDPM."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "schedule": "cosine",
            "schedule_steps": 250,
            "predict": "eps",
            "distance": "l1",
            "times": "uniform",
            "base": 64,
            "multipliers": (1, 1, 2, 2, 4, 4),
            "blocks": 2,
            "attention": (16,),
            "patch": 1,
            "drop_condition": 0.0,
            "sampler": "ddpm",
            "sampling_steps": 250,
        }
    }


class PolypDDPM(FromMasks):
    """Images from masks: any picture with a class map beside it, polyps or not."""

    name = "polyp-ddpm"
    title = "images that fit a mask"
    reads = "polyp-ddpm"
    paper = "Dorjsembe, Pao & Xiao, Polyp-DDPM, EMBC 2024, arXiv 2402.04031"
    Config = PolypDDPMConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-4, "batch": 64, "decay": "constant", "rotate": 45.0},
    }
    config: PolypDDPMConfig
