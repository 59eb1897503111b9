"""What is held out from training, as a segmenter is measured on it: pictures at its size, or whole scans."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkwash.api.progress import Progress
from inkwash.api.segmenting import of_mean, segmenting
from inkwash.data import ImageSet
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.floor import mean_mask
from inkwash.systems.segmenter import Segmentation, Segmenter

What = Literal["images", "scans"]


def one(what: What) -> str:
    """A single case, in words."""
    return "an image" if what == "images" else "a scan"


class Held(ABC):
    """The cases of a split for one system.

    Attributes:
        what: a case is one of these.
        names: of the cases.
        fingerprint: hash of the contents.
        classes: of their masks; None where they have none.
        batch: how many images or windows are segmented at a time where nothing else is asked for.
    """

    what: ClassVar[What]
    system: Segmenter
    names: tuple[str, ...]
    fingerprint: str
    classes: int | None
    batch: int

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def segmenting(
        self, indices: Int64[Tensor, "n"], *, seed: int = 0, batch: int | None = None, **how: Any
    ) -> Iterator[Progress]:
        """Find the masks of these cases and measure them; the last report carries a `Segmented`."""

    @abstractmethod
    def once(self, *, seed: int = 0, **how: Any) -> None:
        """Segment as much as is held in memory at a time, so that it can be weighed."""

    @abstractmethod
    def mean(self) -> Float[Tensor, "k *size"]:
        """The mean mask of these cases."""

    @abstractmethod
    def of_mean(self, mean: Float[Tensor, "k *size"], indices: Int64[Tensor, "n"]) -> Cases:
        """The figures of a mean mask, found in every case."""

    @abstractmethod
    def shown(
        self, places: Sequence[int], *, seed: int = 0, **how: Any
    ) -> tuple[dict[str, Tensor], Segmentation]:
        """Some cases to look at: `image` and `mask`, and what is found in them; of scans one slice of each."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What the network sees at a time, in words."""

    @abstractmethod
    def notes(self) -> list[str]:
        """How the masks are compared, and what one should know of that."""


class HeldPictures(Held):
    """Pictures at the size that the system was trained on."""

    what = "images"

    def __init__(self, system: Segmenter, images: ImageSet) -> None:
        self.system, self.images = system, images
        self.names, self.fingerprint, self.classes = images.names, images.fingerprint, images.spec.mask_classes
        self.batch = 16

    def segmenting(
        self, indices: Int64[Tensor, "n"], *, seed: int = 0, batch: int | None = None, **how: Any
    ) -> Iterator[Progress]:
        size = self.batch if batch is None else batch
        yield from segmenting(self.system, self.images, indices, seed=seed, batch=size, **how)

    def once(self, *, seed: int = 0, **how: Any) -> None:
        some = torch.arange(min(self.batch, len(self)))
        self.system.segment(self.images.batch(some)["image"], seed=seed, **how)

    def mean(self) -> Float[Tensor, "k *size"]:
        return mean_mask(self.images)

    def of_mean(self, mean: Float[Tensor, "k *size"], indices: Int64[Tensor, "n"]) -> Cases:
        return of_mean(mean, self.images, indices)

    def shown(
        self, places: Sequence[int], *, seed: int = 0, **how: Any
    ) -> tuple[dict[str, Tensor], Segmentation]:
        at = torch.tensor(places)
        batch = self.images.batch(at)
        return batch, self.system.segment(batch["image"], seed=seed, first=at, **how)

    @property
    def described(self) -> str:
        return f"{' x '.join(map(str, self.system.spec.size))} pixels"

    def notes(self) -> list[str]:
        return [f"masks are compared at {self.described}, distances are in those pixels"]
