"""Many pictures looked at, a part of them at a time."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from inkwash.data import ImageSet
from inkwash.evaluation import features
from inkwash.evaluation.faithfulness import Segmenter
from inkwash.evaluation.features import FeatureNetwork
from inkwash.evaluation.memorisation import thumbnails
from inkwash.memory.fit import Trial, best, search
from inkwash.memory.meter import meter
from inkwash.memory.watch import Watch


def at_once(look: Callable[[Tensor], Tensor], shape: tuple[int, ...], used: Watch, *, most: int) -> int:
    """How many pictures of a shape are looked at together: `most` without a limit, as many as fit within one."""
    if used.limit is None:
        return most
    counted = meter(used.meter.device)

    def trial(size: int) -> Trial:
        with torch.no_grad():
            return Trial(size, counted.of(lambda: look(torch.zeros(size, *shape))))

    found = best([*search(trial, [2**k for k in range(most.bit_length())], used.limit)], used.limit)
    # Where not even one fits there is nothing to choose: the watch says so.
    return 1 if found is None else found.size


def described(
    embed: FeatureNetwork, batches: Iterable[Float[Tensor, "_ c h w"]]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n e"]]:
    """The features and the thumbnails of all pictures, each read once."""
    looked = [(features.extract(embed, [part]), thumbnails([part])) for part in batches]
    vectors, pixels = (torch.cat(parts) for parts in zip(*looked, strict=True))
    return vectors, pixels


def found(
    segmenter: Segmenter, images: ImageSet, size: int
) -> tuple[Integer[Tensor, "n h w"], Integer[Tensor, "n h w"]]:
    """The masks that a segmenter finds in pictures, and their own."""
    seen, own = [], []
    for at in torch.arange(len(images)).split(size):
        batch = images.batch(at)
        seen.append(segmenter.classify(batch["image"]))
        own.append(batch["mask"].to(torch.int16))
    return torch.cat(seen), torch.cat(own)
