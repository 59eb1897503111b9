r"""HiDiff: a segmenter's belief refined by a diffusion of binary masks that ends in it.

Chen, Wang, Chen, Lei & Shan, "HiDiff: hybrid diffusion framework for medical image segmentation", IEEE Transactions on
Medical Imaging 2024 (arXiv 2407.03548). With `p` what a segmenter believes of each pixel, a mask is corrupted to
`q(y_t | y) = B(keep(t) y + (1 - keep(t)) p)`; a binary U-Net that sees the image, `p` and the segmenter's feature maps
says which pixels were flipped. A draw starts from a mask of `B(p)` and takes 10 steps; the last gives the mean.

**Training in turns.** In a step of the paper (i) the refiner learns from `L_diff` with `p` and the features held fast,
then (ii) the segmenter learns from `L_seg + lambda L_diff`, where `L_diff` reaches it through `p` and the features.
Refiner and segmenter share no parameter, so both gradients are those of one pass: `p` and the features enter the
refiner through `passing`, which leaves them as they are and hands `lambda` times the gradient back. AdamW keeps its
moments for each parameter, so one optimiser does what their two do; there is no state besides. Left are two
differences: the refiner that (ii) sees is the one before its step (i), and both use the same flips, where the paper
draws them twice. The training's `clip` is of both gradients together; `clip=null` makes the two wholly independent.

Departures from the paper.
- The segmenter is the U-Net of the other systems here, of the refiner's widths, or one that is given (`prior`); the
  paper's is a cascade of transformers. Its features are joined at every level but the coarsest, where the two attend to
  one another; in the paper from a quarter of the side on. A prior without feature maps gives `p` alone.
- A step back is averaged over the believed mask (see `inkwash.denoise.bernoulli`), and `keep(1)` is 0.
- Group norms stand where batch norms do, so that a training item does not depend on the others; the binary network
  leaves out averages over rows and columns in its feed-forward part and thresholds on its attention.
- In the preset `quick` the network predicts the mask, not the flips (see there), on patches of 2x2: flips are what an
  image says of the mask compared with the noisy mask at each pixel, which takes longer to learn. In `paper` an
  untrained refiner takes each pixel for unflipped with probability 0.95 (a logit of -3). Either way what is not trained
  draws masks of the prior.
- In `quick` a mask takes 1 evaluation of the refiner, `paper` takes the 10 of the paper. The pixels of a step are drawn
  by themselves, which leaves speckle where the belief is unsure, and a refiner that had minutes takes the speckle for
  mask: Kvasir-SEG at 64 x 64 after 4 minutes, 80 images held out of the training split, Dice of 1, 2, 3 and 10 steps:
  0.58, 0.34, 0.36, 0.40.
- Masks of more than two classes have one Bernoulli a class, as in the paper; their probabilities are scaled to add up
  to 1. Of two classes there is one picture and `p` is its sigmoid: the published code's softmax over one picture is 1.
- `lambda` is not stated; the published code's default, 0, would leave the segmenter alone. Here it is 1. The linear
  schedule of the code asks for probabilities above 1 at 10 steps; `cosine` and `linear` here are of what is kept.
- The learning rate falls linearly, where the paper has a power of 0.9.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from inkwash.corruption.bernoulli import BernoulliCorruption
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.bernoulli import BernoulliDenoiser
from inkwash.errors import WrongUse, unknown
from inkwash.nets.binary_unet import BinaryUNet
from inkwash.nets.patched import Patched
from inkwash.sampling.loop import walk
from inkwash.systems import masks, recipes
from inkwash.systems.kept_run import KeptRun
from inkwash.systems.segmentation.losses import dice_and_cross_entropy
from inkwash.systems.segmentation.network import NetworkConfig
from inkwash.systems.segmentation.prior import Prior, Seen, around
from inkwash.systems.segmentation.unet import UNetConfig, UNetSegmenter
from inkwash.systems.segmenter import Segmenter

# How sure a prior can be: a pixel that it rules out for certain could be no draw of the corruption's.
_SURE = 1e-6
# The logit of a flip in an untrained refiner.
_FLIP = -3.0


def _prior(value: Any) -> Any:
    """Names as they are, and a run folder read."""
    if isinstance(value, dict | KeptRun) or value in ("joint", "given"):
        return value
    return KeptRun.of(str(value), Segmenter, "a prior is a segmenter")


class HiDiffConfig(NetworkConfig):
    """Options of HiDiff; those of the network are the refiner's and the joint prior's."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "predict": "flip",
            "sampling_steps": 10,
            "base": 128,
            "multipliers": (1, 1, 2, 2, 4, 4),
            "blocks": 1,
            "attention": (),
            "patch": 1,
        }
    }

    prior: Annotated[str | KeptRun, BeforeValidator(_prior)] = Field(
        "joint", description="what is refined: joint (a U-Net trained here), or the run folder of a segmenter"
    )
    frozen: bool = Field(False, description="leave the prior as it is, instead of training both in turns")
    collaboration: float = Field(1.0, ge=0, description="lambda: how much of the refiner's loss the prior feels")
    predict: Literal["flip", "mask"] = Field("mask", description="what the refiner predicts")
    binarised: bool = Field(True, description="weights and activations of the refiner are signs")
    retention: str = Field("cosine", description=f"how long pixels last: {', '.join(recipes.RETENTIONS)}")
    schedule_steps: int = Field(10, ge=2, description="steps of the diffusion that the refiner is trained on")
    sampler: Literal["ddpm", "ddim"] = Field("ddpm", description="how a step back is drawn")
    sampling_steps: int = Field(1, ge=1, description="evaluations of the refiner a mask; at most schedule_steps")

    @model_validator(mode="after")
    def _sound(self) -> "HiDiffConfig":
        if self.retention not in recipes.RETENTIONS:
            raise unknown("retention", self.retention, recipes.RETENTIONS)
        recipes.binary_sampler(self.sampler, self.schedule_steps, self.sampling_steps)
        if self.frozen and self.prior == "joint":
            raise WrongUse("frozen leaves the prior as it is, and a joint one has learned nothing: give prior=RUN")
        return self


def passing(x: Float[Tensor, "*n"], weight: float) -> Float[Tensor, "*n"]:
    """`x`, exactly, with `weight` times its gradient."""
    still = x.detach()
    return still if weight == 0.0 else still + weight * (x - still)


class HiDiff(Segmenter):
    """A segmenter and the refiner of its belief.

    Args:
        prior: what is refined, from Python: a segmenter, a module or a function from images to logits of each class,
            `(N, C, *size)` to `(N, K, *size)`. A module is trained unless `frozen`. `inkwash.load` can't make it again:
            make the model with it, then `Run.open(folder).load_weights(model)`.

    Raises:
        WrongUse: the prior was made for other data, or is missing.
    """

    name = "hidiff"
    title = "a segmenter's masks refined by a binary diffusion that ends in them"
    reads = "hidiff"
    paper = "Chen et al., HiDiff: Hybrid Diffusion Framework for Medical Image Segmentation, TMI 2024, arXiv 2407.03548"
    Config = HiDiffConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 1e-4, "batch": 32, "decay": "linear"},
    }
    config: HiDiffConfig

    def __init__(
        self,
        config: HiDiffConfig,
        spec: DataSpec,
        *,
        prior: Segmenter | Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if prior is not None:
            config = config.model_copy(update={"prior": "given"})
        super().__init__(config, spec)
        self.prior = self._prior(prior)
        spatial, pictures = len(spec.size), masks.channels(self.classes)
        fold = config.patch**spatial
        # Of the prior's levels the one whose positions are nearest in size to the refiner's.
        self.matched = [
            min(range(len(self.prior.levels)), key=lambda i: abs(self.prior.levels[i][0] - (config.patch << level)))
            for level in range(len(config.multipliers))
            if self.prior.levels
        ]
        network = BinaryUNet(
            pictures * fold,
            pictures * fold,
            spatial=spatial,
            base=config.base,
            multipliers=config.multipliers,
            blocks=config.blocks,
            image=(spec.channels + pictures) * fold,
            features=[self.prior.levels[i][1] for i in self.matched],
            start=_FLIP if config.predict == "flip" else 0.0,
            binary=config.binarised,
        )
        self.denoiser = BernoulliDenoiser(
            network if config.patch == 1 else Patched(network, config.patch),
            BernoulliCorruption(retention=recipes.RETENTIONS[config.retention]()),
            predict=config.predict,
            steps=config.schedule_steps,
        )

    def _prior(self, given: Segmenter | Callable[[Tensor], Tensor] | None) -> Prior:
        told = self.config.prior
        if given is not None:
            return around(given, self.spec, frozen=self.config.frozen)
        if isinstance(told, KeptRun):
            built = told.build()
            assert isinstance(built, Segmenter)
            return around(built, self.spec, frozen=self.config.frozen, name=f"the prior {told.run}")
        if told == "given":
            raise WrongUse("this model refines a prior of your own: HiDiff(config, spec, prior=...) makes it in Python")
        options = {name: getattr(self.config, name) for name in UNetConfig.model_fields}
        return around(UNetSegmenter(UNetConfig(**options), self.spec), self.spec, frozen=False)

    def _told(self, seen: Seen, image: Tensor, weight: float) -> tuple[BernoulliDenoiser, dict[str, Any]]:
        """The refiner of this belief, and its condition; the prior feels `weight` times its gradient."""
        p = seen.probability[:, 1:] if self.classes == 2 else seen.probability
        p = passing(p.clamp(_SURE, 1 - _SURE), weight)
        condition = {
            "image": torch.cat([image, 2 * p - 1], dim=1),
            "features": [passing(seen.features[i], weight) for i in self.matched],
        }
        return self.denoiser.towards(p), condition

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        seen = self.prior(batch["image"], noise=noise)
        refiner, condition = self._told(seen, batch["image"], self.config.collaboration if self.prior.trained else 0.0)
        clean = (masks.encode(batch["mask"], self.classes) + 1) / 2
        terms = refiner.terms(clean, noise=noise, **condition)
        if self.prior.trained:
            assert seen.logits is not None
            terms["segmenter"] = dice_and_cross_entropy(seen.logits, batch["mask"])
        return {"loss": torch.stack([*terms.values()]).sum(dim=0), **terms}

    def believe(
        self,
        image: Float[Tensor, "n c ..."],
        *,
        noise: Noise,
        steps: int | None = None,
        sampler: str | None = None,
        **how: Any,
    ) -> Iterator[tuple[int, int, Float[Tensor, "n k ..."]]]:
        """The prior's belief first, then the refiner's, after each evaluation of either; `steps` are the refiner's."""
        wanted = self.config.sampling_steps if steps is None else steps
        solver, grid = recipes.binary_sampler(sampler or self.config.sampler, self.config.schedule_steps, wanted)
        looking = self.prior.looking(image, noise=noise)
        with torch.no_grad():
            index, before, seen = next(looking)
        yield index, before + wanted, seen.probability
        for index, before, seen in looking:
            yield index, before + wanted, seen.probability
        refiner, condition = self._told(seen, image, 0.0)
        shape = (masks.channels(self.classes), *image.shape[2:])
        z = refiner.corruption.prior(shape, noise=noise, device=image.device)
        for step in walk(refiner, solver, grid, z, noise=noise, **condition):
            yield before + step.index, before + wanted, masks.probabilities(2 * step.posterior.mean - 1)
