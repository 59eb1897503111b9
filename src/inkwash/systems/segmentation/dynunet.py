"""DynUNet: the strong baseline, a U-Net planned as nnU-Net plans its own, by MONAI.

Isensee, Jaeger, Kohl, Petersen & Maier-Hein, "nnU-Net: a self-configuring method for deep learning-based biomedical
image segmentation", Nature Methods 2021. Kernels and strides follow from the size and the spacing of the data; plain
convolutions, instance norm and leaky ReLU; channels double up to 512, in volumes up to 320; Dice and cross-entropy, at
every resolution but the two coarsest with weights that halve; and, where `mirror` is set, the mean of the mirrored
predictions. The network is `DynUNet` of MONAI.

Departures. nnU-Net is a whole pipeline, and this is its network, its loss and its mirroring: not its resampling, its
cropping into patches, its augmentation, its cross-validation and ensembles, nor its choice between configurations.
AdamW with the trainer's schedule takes the place of SGD with Nesterov momentum, whose learning rate of 0.01 does not
carry over; `paper` decays linearly, which its polynomial of power 0.9 nearly is. Images stay in [-1, 1] where theirs
are standardised, which the first instance norm makes up for. Coarse predictions are compared at full resolution,
enlarged, where theirs are compared to a mask made smaller; Dice is taken for each image, where it is that of the whole
batch in 2-D. In the preset `quick` there are half as many channels and no mirroring; the batch of 12 of `paper` is for
pictures, volumes had 2.
"""

from collections.abc import Iterator
from itertools import chain, combinations
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import require
from inkwash.systems.segmentation.losses import dice_and_cross_entropy
from inkwash.systems.segmentation.network import PresetConfig
from inkwash.systems.segmentation.plan import plan
from inkwash.systems.segmenter import Segmenter
from inkwash.training.options import listed

WIDEST = {2: 512, 3: 320}


class DynUNetConfig(PresetConfig):
    """Options of the DynUNet."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"base": 32, "mirror": True}}

    base: int = Field(16, ge=1, description="channels of the first stage; each further one has twice as many")
    spacing: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], BeforeValidator(listed)
    ] = Field((), description="distance of the pixels along each axis, in any unit; all alike if not given")
    deep_supervision: bool = Field(True, description="train coarser resolutions too, each at half the weight")
    mirror: bool = Field(False, description="predict every mirror image too and take the mean: 4 passes, 8 in 3-D")


class DynUNetSegmenter(Segmenter):
    """Masks in one pass, by a network whose shape follows from the data."""

    name = "dynunet"
    title = "masks in one pass by a U-Net planned as nnU-Net plans its own"
    reads = "nnunet"
    paper = "Isensee et al., nnU-Net, Nature Methods 2021, doi 10.1038/s41592-020-01008-z"
    Config = DynUNetConfig
    draws_masks = False
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 1e-3, "batch": 12, "decay": "linear", "weight_decay": 3e-5, "clip": 12.0},
    }
    config: DynUNetConfig

    def __init__(self, config: DynUNetConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        nets = require("monai.networks.nets", "medical")
        dims = len(spec.size)
        if dims not in WIDEST:
            raise WrongUse(f"{self.name} is for pictures and volumes, not for {dims} dimensions")
        spacing = config.spacing or (1.0,) * dims
        if len(spacing) != dims:
            raise WrongUse(f"spacing has {len(spacing)} numbers, one for each of the {dims} axes are needed")
        self.plan = plan(spec.size, spacing)
        stages = len(self.plan.strides)
        coarser = stages - 3 if config.deep_supervision else 0
        self.network = nets.DynUNet(
            dims,
            spec.channels,
            self.classes,
            kernel_size=self.plan.kernels,
            strides=self.plan.strides,
            upsample_kernel_size=self.plan.strides[1:],
            filters=[min(config.base * 2**stage, WIDEST[dims]) for stage in range(stages)],
            norm_name=("INSTANCE", {"affine": True}),
            act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
            deep_supervision=coarser > 0,
            deep_supr_num=max(coarser, 1),
        )
        # Its forward pass goes through `skip_layers`, which holds these again: a state would have each weight twice.
        for again in ("input_block", "downsamples", "bottleneck", "upsamples", "deep_supervision_heads"):
            if hasattr(self.network, again):
                delattr(self.network, again)

    def forward(self, image: Float[Tensor, "b c ..."]) -> Float[Tensor, "b k ..."]:
        """Logits of each class; in training with coarser resolutions behind the batch, `(B, R, K, *size)`."""
        # Instance norm needs more than one pixel where the network is coarsest.
        size, many = image.shape[2:], self.plan.multiples
        wanted = [m if m == 1 else max(2, -(-side // m)) * m for side, m in zip(size, many, strict=True)]
        missing = [width for side, want in reversed([*zip(size, wanted)]) for width in (0, max(want - side, 0))]
        logits: Tensor = self.network(F.pad(image, missing, mode="replicate"))
        for axis, side in enumerate(size, start=-len(size)):
            logits = logits.narrow(axis, 0, side)
        return logits

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        logits, mask = self(batch["image"]), batch["mask"]
        found = logits.unbind(dim=1) if logits.ndim > batch["image"].ndim else (logits,)
        weights = torch.tensor([2.0**-coarser for coarser in range(len(found))])
        losses = [dice_and_cross_entropy(each, mask) for each in found]
        return {"loss": sum(each * weight for each, weight in zip(losses, (weights / weights.sum()).tolist()))}

    def believe(
        self,
        image: Float[Tensor, "n c ..."],
        *,
        noise: Noise,
        steps: int | None = None,
        mirror: bool | None = None,
        **how: Any,
    ) -> Iterator[tuple[int, int, Float[Tensor, "n k ..."]]]:
        """As every segmenter's; with `mirror` there is a pass for each set of axes, and the mean of those so far."""
        if how or steps not in (None, 1):
            raise WrongUse(f"{self.name} finds a mask in one pass: it takes no {', '.join([*how]) or 'steps'}")
        axes = range(2, image.ndim)
        turns = [*chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))]
        if not (self.config.mirror if mirror is None else mirror):
            turns = turns[:1]
        total: Tensor | float = 0.0
        for index, turned in enumerate(turns):
            with torch.no_grad():
                total = total + self(image.flip(turned)).softmax(dim=1).flip(turned)
            yield index, len(turns), total / (index + 1)
