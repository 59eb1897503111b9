"""What a refiner starts from: another segmenter's belief of the mask, and the feature maps behind it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.systems.segmentation.unet import UNetSegmenter
from inkwash.systems.segmenter import Segmenter


@dataclass(frozen=True)
class Seen:
    """What a prior says of a batch of images.

    Attributes:
        probability: of each class.
        logits: what they come from, where there is such a thing.
        features: `(N, channels, *size)` of each level, from the finest.
    """

    probability: Float[Tensor, "n k ..."]
    logits: Float[Tensor, "n k ..."] | None = None
    features: tuple[Tensor, ...] = ()


class Prior(nn.Module, ABC):
    """A segmenter whose belief is refined.

    Attributes:
        trained: whether it learns; one that doesn't stays in evaluation mode.
        levels: (pixels of the image a side, channels) of each feature map, from the finest.
    """

    levels: tuple[tuple[int, int], ...] = ()

    def __init__(self, *, trained: bool) -> None:
        super().__init__()
        self.trained = trained

    @abstractmethod
    def looking(
        self, image: Float[Tensor, "n c ..."], *, noise: Noise
    ) -> Iterator[tuple[int, int, Seen]]:
        """What is believed of each image, as `(index, total, seen)` after each evaluation of a network."""

    def forward(self, image: Float[Tensor, "n c ..."], *, noise: Noise) -> Seen:
        """What is believed in the end, with gradients where it learns."""
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            *_, (_, _, seen) = self.looking(image, noise=noise)
        return seen

    def train(self, mode: bool = True) -> "Prior":
        return super().train(mode and self.trained)


class NetworkPrior(Prior):
    """The U-Net, with the feature maps of its way up."""

    def __init__(self, segmenter: UNetSegmenter, *, trained: bool) -> None:
        super().__init__(trained=trained)
        self.segmenter = segmenter.requires_grad_(trained)
        network = segmenter.network
        patch = network.patch if isinstance(network, Patched) else 1
        network = network.network if isinstance(network, Patched) else network
        assert isinstance(network, UNet)
        self.levels = tuple((patch << level, width) for level, width in enumerate(network.widths))

    def looking(self, image: Float[Tensor, "n c ..."], *, noise: Noise) -> Iterator[tuple[int, int, Seen]]:
        features: list[Tensor] = []
        logits = self.segmenter.network(image, image.new_zeros(1), features=features).float()
        yield 0, 1, Seen(logits.softmax(dim=1), logits, tuple(reversed(features)))


class SegmenterPrior(Prior):
    """Any other segmenter, as it is."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__(trained=False)
        self.segmenter = segmenter.requires_grad_(False)

    def looking(self, image: Float[Tensor, "n c ..."], *, noise: Noise) -> Iterator[tuple[int, int, Seen]]:
        # The refiner draws from `noise` for the same purposes; what is drawn here has nothing to do with it.
        own = Noise(~noise.seed, noise.items)
        for index, total, probability in self.segmenter.believe(image, noise=own):
            yield index, total, Seen(probability.float())


class GivenPrior(Prior):
    """A function of the user's own, or a module, which is trained: from images to logits of each class."""

    def __init__(self, ask: Callable[[Tensor], Tensor], classes: int, *, trained: bool) -> None:
        super().__init__(trained=trained and isinstance(ask, nn.Module))
        self.ask, self.classes = ask, classes
        if isinstance(ask, nn.Module):
            ask.requires_grad_(self.trained)

    def looking(self, image: Float[Tensor, "n c ..."], *, noise: Noise) -> Iterator[tuple[int, int, Seen]]:
        logits = self.ask(image)
        expected = (len(image), self.classes, *image.shape[2:])
        if tuple(logits.shape) != expected:
            raise WrongUse(f"the prior returned {tuple(logits.shape)}: logits of each class are {expected}")
        yield 0, 1, Seen(logits.float().softmax(dim=1), logits.float())


def around(
    source: Segmenter | Callable[[Tensor], Tensor], spec: DataSpec, *, frozen: bool, name: str = "the prior"
) -> Prior:
    """The prior that `source` is, for data of `spec`.

    Raises:
        WrongUse: it was made for other data, or is to be trained and can't be.
    """
    if not isinstance(source, Segmenter):
        assert spec.mask_classes is not None
        return GivenPrior(source, spec.mask_classes, trained=not frozen)
    theirs = source.spec
    for what, have, want in (
        ("channels", theirs.channels, spec.channels),
        ("mask classes", theirs.mask_classes, spec.mask_classes),
        ("dimensions", len(theirs.size), len(spec.size)),
    ):
        if have != want:
            raise WrongUse(f"{name} was trained on images of {have} {what}, and these have {want}")
    if isinstance(source, UNetSegmenter):
        return NetworkPrior(source, trained=not frozen)
    if not frozen:
        raise WrongUse(f"{name} is a run of {source.name}, which is refined as it is: say frozen=true")
    return SegmenterPrior(source)
