"""ControlNet: a trained generator that learns to follow masks and stays what it was.

Zhang, Rao & Agrawala, "Adding conditional control to text-to-image diffusion models", ICCV 2023 (arXiv 2302.05543). The
prior, a generator that was trained without masks, is frozen. A copy of the encoder and the middle of its U-Net is shown
the mask and trained; what it makes enters the prior's skip connections and middle through convolutions that start at
zero (section 3, see `inkwash.nets.control`). So a training begins at the prior exactly, and few pairs of a picture and
a mask are enough, where the prior has seen many pictures without one. `--adapter-weight` of drawing is what is called
the conditioning scale elsewhere: 0 is the prior.

Departures.
- The prior is any run here whose network is our U-Net, on pixels (`ddpm`) or codes (`ldm`), where the paper's is Stable
  Diffusion. It is used without its own condition (class or mask), which it must have been trained without part of the
  time.
- There are no prompts, of which the paper drops half in training. Here the mask is dropped of some items
  (`drop_condition`), told as zeros, which makes classifier-free guidance by the mask possible.
- The condition encoder is four 3x3 convolutions of one width with SiLU, on the mask folded into channels, as often as
  the prior's codes are smaller and by its patches. The paper's has kernels of 4 and strides of 2, ReLU, and 16 to 128
  channels.
- Guidance is the same at all resolutions; the paper's weighting by resolution (section 3.4) is for prompts alone.
- `quick` differs from `paper` in the width of the condition encoder and in its learning rate, 1e-3: at 1e-5 minutes do
  nothing.

A run holds the prior's weights with its own and no longer needs the prior's folder.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.errors import WrongUse
from inkwash.nets.control import Controlled
from inkwash.nets.patched import fold
from inkwash.systems import frozen_prior
from inkwash.systems.base import Generator, GeneratorConfig, filled
from inkwash.systems.frozen_prior import OnPrior
from inkwash.systems.kept_run import KeptRun
from inkwash.systems.synthesis.from_masks import FromMasks


class ControlNetConfig(GeneratorConfig):
    """Options of ControlNet; how it is drawn from is the prior's, where nothing else is said."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"hint": 128}}

    preset: str = Field("quick", description="what the options below start from: quick or paper")
    prior: Annotated[KeptRun | None, BeforeValidator(frozen_prior.asked)] = Field(
        None, description="the trained generator that is steered: a run folder, or bundled:NAME"
    )
    hint: int = Field(32, ge=1, description="channels of the encoder of the mask")
    drop_condition: float = Field(0.1, ge=0, lt=1, description="share of items without mask; guidance needs some")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = filled(cls.presets, values)
        kept = frozen_prior.asked(values.get("prior"))
        if kept is None:
            return values
        return {**frozen_prior.taken(kept, "sampler", "sampling_steps"), **values, "prior": kept}


class ControlNet(OnPrior, FromMasks):
    """A frozen generator with a trained branch that tells it the mask.

    Raises:
        WrongUse: there is no prior, it makes other pictures, its network is none that can be steered, or it was never
            trained without its own condition.
    """

    name = "controlnet"
    title = "a trained generator, frozen, that learns to follow masks"
    reads = "controlnet"
    paper = "Zhang, Rao & Agrawala, Adding Conditional Control to Text-to-Image Diffusion Models, ICCV 2023"
    Config = ControlNetConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-5, "decay": "constant"},
    }
    config: ControlNetConfig

    def made(self) -> GaussianDenoiser:
        config = self.config
        kept = frozen_prior.needed(config.prior, self.spec, system=self.name)
        built = kept.build()
        assert isinstance(built, Generator)
        theirs = built.spec
        told = "class" if theirs.classes else "mask" if theirs.mask_classes else "caption" if theirs.captions else ""
        if told and built.config.drop_condition == 0.0:
            raise WrongUse(f"the prior {kept.run} was never trained without a {told}: give one with drop_condition")
        self.stand_on(built)
        for name, part in built.named_children():
            if name != "denoiser":
                self.add_module(name, part)
        own = built.denoiser
        passed = built.shape[0] if own.self_conditioning else 0
        channels = self.classes * built.factor ** len(self.spec.size)
        own.network = Controlled(own.network, channels, width=config.hint, passed=passed)
        own.drop = config.drop_condition
        return own

    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        told = super().condition(batch)
        return {name: mask if self.factor == 1 else fold(mask, self.factor) for name, mask in told.items()}
