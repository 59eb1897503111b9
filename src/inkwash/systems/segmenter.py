"""What a segmenter is: from an image to what is believed of its mask, in one draw or in many."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse, unknown
from inkwash.systems.base import System, SystemConfig, keyed
from inkwash.systems.staple import staple

MERGES = ("mean", "staple")


class SegmenterConfig(SystemConfig):
    """What every segmenter can be told."""

    draws: int = Field(1, ge=1, description="masks drawn for an image when none are asked for")
    merge: Literal["mean", "staple"] = Field("mean", description="how several draws become one mask")


@dataclass(frozen=True)
class Belief:
    """What is believed of the masks after one evaluation of the network: `index` counts from 0 to `total - 1`.

    Attributes:
        probability: of each class, `(B, D, K, *size)`, for each of `D` draws.
    """

    index: int
    total: int
    probability: Float[Tensor, "b d k ..."]


@dataclass(frozen=True)
class Segmentation:
    """The masks of a batch of images.

    Attributes:
        probability: of each class, `(B, K, *size)`, all draws together.
        draws: the same of every single draw, `(B, D, K, *size)`.
        evaluations: of the network for an image, all draws together.
    """

    probability: Float[Tensor, "b k ..."]
    draws: Float[Tensor, "b d k ..."]
    evaluations: int

    @property
    def mask(self) -> Int64[Tensor, "b ..."]:
        """The most probable class of each pixel."""
        return self.probability.argmax(dim=1)

    @property
    def masks(self) -> Int64[Tensor, "b d ..."]:
        """The most probable class of each pixel in each draw."""
        return self.draws.argmax(dim=2)

    @property
    def uncertainty(self) -> Float[Tensor, "b ..."]:
        """The entropy of the class probabilities, in [0, 1]: 1 where all classes are as likely as one another."""
        p = self.probability
        classes = torch.tensor(float(p.shape[1]), dtype=p.dtype)
        return torch.special.entr(p).sum(dim=1) / classes.log()

    @property
    def disagreement(self) -> Float[Tensor, "b ..."]:
        """The part of the uncertainty that is between the draws, in [0, 1]: 0 for a single draw.

        The entropy of their mean less their mean entropy, the mutual information between draw and class.
        """
        p, classes = self.draws, torch.tensor(float(self.draws.shape[2]), dtype=self.draws.dtype)
        whole = torch.special.entr(p.mean(dim=1)).sum(dim=1)
        each = torch.special.entr(p).sum(dim=2).mean(dim=1)
        return ((whole - each) / classes.log()).clamp_min(0.0)

    @property
    def agreement(self) -> Float[Tensor, "b"]:
        """The Dice overlap of two draws, mean over the foreground classes and all pairs; 1 for a single draw.

        A class that neither draw has is agreed on.
        """
        masks, classes = self.masks.flatten(2), self.draws.shape[2]
        count = masks.shape[1]
        if count == 1:
            return torch.ones(len(masks))
        chosen = torch.nn.functional.one_hot(masks, classes)[..., 1:].float()
        overlap = torch.einsum("bipk,bjpk->bijk", chosen, chosen)
        size = torch.einsum("biik->bik", overlap)
        both = size[:, :, None] + size[:, None]
        dice = torch.where(both > 0, 2 * overlap / both.clamp_min(1.0), 1.0).mean(dim=3)
        # All ordered pairs but those of a draw with itself, whose overlap is 1.
        return (dice.sum(dim=(1, 2)) - count) / (count * (count - 1))


class Segmenter(System):
    """A system that finds masks in images.

    The mask of item `i` depends on the seed, `i` and its image alone; draw `d` of it also on `d`, not on how many there
    are.

    Attributes:
        draws_masks: whether draws differ; a network that is fed forward gives the same mask each time.
    """

    task = "segmentation"
    told = ("mask",)
    draws_masks: ClassVar[bool] = True
    config: SegmenterConfig

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        if not spec.mask_classes or spec.mask_classes < 2:
            raise WrongUse(
                f"{cls.name} learns masks, and this data has none: it needs images/ and masks/, or x.png beside "
                "x_mask.png (inkwash data PATH says what was found)"
            )

    @property
    def classes(self) -> int:
        """Number of mask classes, the background among them."""
        assert self.spec.mask_classes is not None
        return self.spec.mask_classes

    @abstractmethod
    def believe(
        self, image: Float[Tensor, "n c ..."], *, noise: Noise, **how: Any
    ) -> Iterator[tuple[int, int, Float[Tensor, "n k ..."]]]:
        """Find one mask in each image, yielding `(index, total, class probabilities)` after each evaluation.

        Args:
            image: in [-1, 1], on the system's device. The draws of one image are rows of their own.
            noise: one item for each row.
            **how: what the system's `segment` takes besides: `steps`, `sampler`.
        """

    def segmenting(
        self,
        image: Float[Tensor, "b c ..."],
        *,
        draws: int | None = None,
        seed: int = 0,
        first: int | Sequence[int] | Int64[Tensor, "b"] = 0,
        **how: Any,
    ) -> Iterator[Belief]:
        """Find masks, one evaluation of the network for all images and draws at a time.

        Args:
            image: in [-1, 1], of any size.
            draws: masks for each image, in one batch with one another; 1 for systems whose draws don't differ.
            first: the number of the first image, or that of each, which its noise is keyed by.
            **how: as the system takes it: `steps` and `sampler` for those that walk.
        """
        count = self._draws(draws)
        if image.shape[1] != self.spec.channels or image.ndim != len(self.spec.size) + 2:
            shape = ", ".join(["B", str(self.spec.channels), *"DHW"[3 - len(self.spec.size) :]])
            raise WrongUse(f"an image of shape {tuple(image.shape)}: {self.name} was trained on ({shape})")
        items = keyed(first, len(image), count)
        device = next(self.parameters()).device
        rows = image.to(device).repeat_interleave(count, dim=0)
        for index, total, probability in self.believe(rows, noise=Noise(seed, items), **how):
            yield Belief(index, total, probability.unflatten(0, (len(image), count)))

    @torch.no_grad()
    def segment(
        self, image: Float[Tensor, "b c ..."], *, merge: str | None = None, **options: Any
    ) -> Segmentation:
        """The masks of a batch of images; the options are those of `segmenting`.

        Args:
            merge: how draws become one: `mean` of their probabilities, or `staple`, which weighs each draw by how well
                it agrees with the others (Warfield, Zou & Wells 2004); the system's own by default.
        """
        how = self.config.merge if merge is None else merge
        if how not in MERGES:
            raise unknown("merge", how, MERGES)
        with torch.no_grad():
            *_, last = self.segmenting(image, **options)
        drawn = last.probability.cpu()
        probability = staple(drawn) if how == "staple" and drawn.shape[1] > 1 else drawn.mean(dim=1)
        return Segmentation(probability, drawn, last.total * drawn.shape[1])

    def _draws(self, draws: int | None) -> int:
        wanted = self.config.draws if draws is None else draws
        if wanted < 1:
            raise WrongUse(f"draws is how many masks are drawn for an image, at least 1, not {wanted}")
        return wanted if self.draws_masks else 1
