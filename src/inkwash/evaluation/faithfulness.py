"""Is the thing where the mask says? A segmenter, trained on real pictures only, looks for it in generated ones.

The Dice overlap between the mask a picture was drawn from and the mask the segmenter finds in it is the score. It lies
between two others, without which it says little: the ceiling, the segmenter's own Dice on held-out real pictures, and
the floor, the same generated pictures held against masks they were not drawn from.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Integer
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from inkwash.atomic import write_bytes
from inkwash.corruption.noise import Noise
from inkwash.data import DataSpec, ImageSet, cache
from inkwash.data.augment import Augment
from inkwash.errors import WrongUse
from inkwash.evaluation.features import resize
from inkwash.evaluation.segmentation.overlap import confusion
from inkwash.evaluation.segmentation.overlap import dice as dice_of
from inkwash.evaluation.statistics import Score, bootstrap
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet

SIDE = 96
"""Larger pictures are segmented at this side, and the logits enlarged again."""

_TOGETHER = 64  # masks that are compared at once

PATCH = 2
"""Folding 2 x 2 pixels into channels makes a step three times as fast; sides that are odd are resized too."""


AUGMENT = Augment(flip=True, vertical=True, rotate=30.0, scale=(0.9, 1.2))
"""Few pictures are segmented better when they are seen from many sides."""


class Segmenter(nn.Module):
    """The U-Net of the diffusion models, fed forward: pictures in, a class for every pixel out.

    Raises:
        WrongUse: if the data has no masks.
    """

    def __init__(self, spec: DataSpec, *, base: int = 24) -> None:
        super().__init__()
        if spec.mask_classes is None:
            raise WrongUse("mask faithfulness needs masks, and this data has none")
        self.classes = spec.mask_classes
        fold = PATCH**2
        network = UNet(
            spec.channels * fold,
            self.classes * fold,
            base=base,
            multipliers=(1, 2, 4, 4),
            blocks=1,
            attention=(False,) * 4,
            head_channels=base,
        )
        self.network = Patched(network, PATCH)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of each class, `(B, classes, H, W)`, from pictures in [-1, 1]."""
        h, w = images.shape[-2:]
        small = images if _fits(h, w) else resize(images, SIDE)
        logits = self.network(small, small.new_zeros(1))
        return logits if small is images else F.interpolate(logits, (h, w), mode="bilinear", align_corners=False)

    def segment(self, images: Float[Tensor, "b c h w"], *, batch: int = 64) -> Integer[Tensor, "b h w"]:
        """The class of each pixel, on the host; the pictures are taken to the network in batches."""
        return torch.cat([self.classify(part) for part in images.split(batch)])

    @torch.no_grad()
    def classify(self, images: Float[Tensor, "b c h w"]) -> Integer[Tensor, "b h w"]:
        """The class of each pixel, on the host, in one byte where that holds it."""
        found = self(images.to(next(self.parameters()).device)).argmax(dim=1).cpu()
        return found.to(torch.uint8) if self.classes <= 256 else found


def _fits(h: int, w: int) -> bool:
    return max(h, w) <= SIDE and h % PATCH == 0 and w % PATCH == 0


def segmentation_loss(logits: Float[Tensor, "b k h w"], mask: Int64[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Cross-entropy and one minus the soft Dice of the foreground classes, taken over the batch.

    Milletari, Navab & Ahmadi, "V-Net", 3DV 2016. Over the batch, because in one picture a class may be absent.
    """
    truth = F.one_hot(mask, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    guess = logits.softmax(dim=1)
    overlap = (guess * truth).sum(dim=(0, 2, 3))[1:]
    size = (guess + truth).sum(dim=(0, 2, 3))[1:]
    return F.cross_entropy(logits, mask) + 1 - (2 * overlap / size.clamp_min(1.0)).mean()


@dataclass(frozen=True)
class Fitting:
    """Where the training of a segmenter stands; the last one yielded carries the finished segmenter.

    `step` counts from 1 to `total`; a cached segmenter comes in one `Fitting` with `cached` set and no loss.
    """

    step: int
    total: int
    loss: float | None
    segmenter: Segmenter
    cached: bool = False


def train_segmenter(
    images: ImageSet,
    *,
    steps: int = 800,
    batch: int = 16,
    seed: int = 0,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Fitting]:
    """Train a segmenter on real pictures, or find the one trained before on the same data in the same way.

    Args:
        images: the training pictures, with masks.
        folder: where finished ones are kept, named by the fingerprint of the data and these options; None is the cache
            of decoded pictures.

    Raises:
        WrongUse: if the data has no masks.
    """
    recipe = {"data": images.fingerprint, "steps": steps, "batch": batch, "seed": seed, "side": SIDE, "version": 2}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    path = (folder or cache.home() / "segmenters") / f"segmenter-{digest}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # layers draw their first weights from torch's global generator
        segmenter = Segmenter(images.spec).to(device)
    if path.is_file():
        try:
            segmenter.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError):
            path.unlink()  # of another version or damaged: it is made anew below
        else:
            yield Fitting(steps, steps, None, segmenter.eval(), cached=True)
            return

    optimiser = torch.optim.AdamW(segmenter.parameters(), lr=2e-3, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        noise = Noise(seed, range(step * batch, (step + 1) * batch))
        chosen = (noise.uniform((), "which") * len(images)).long()
        moved = AUGMENT(images.batch(chosen), noise)
        picture, mask = moved["image"].to(device), moved["mask"].to(device)
        if not _fits(picture.shape[-2], picture.shape[-1]):
            picture = resize(picture, SIDE)
            mask = F.interpolate(mask[:, None].float(), (SIDE, SIDE), mode="nearest-exact")[:, 0].long()
        loss = segmentation_loss(segmenter(picture), mask)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(segmenter.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step == steps - 1:
            segmenter.eval()
            write_bytes(path, save({k: v.contiguous().cpu() for k, v in segmenter.state_dict().items()}))
        yield Fitting(step + 1, steps, loss.item(), segmenter)


def dice(
    found: Integer[Tensor, "n h w"], asked: Integer[Tensor, "n h w"], classes: int
) -> Float[Tensor, "n k"]:
    """The Dice overlap `2 |A and B| / (|A| + |B|)` of each foreground class in each picture, `(N, classes - 1)`.

    NaN where the class is not in the mask that was asked for: there is nothing to overlap with.
    """
    parts = zip(found.split(_TOGETHER), asked.split(_TOGETHER), strict=True)
    table = torch.cat([confusion(one.long(), other.long(), classes) for one, other in parts])
    return torch.where(table.sum(dim=2)[:, 1:] > 0, dice_of(table), torch.nan).float()


@dataclass(frozen=True)
class Faithfulness:
    """Dice of the masks found in generated pictures against those they were drawn from.

    Attributes:
        score: mean over pictures; of each, the mean over the classes in its mask.
        by_class: the mean Dice of each foreground class over the pictures that have it; None where none has.
        ceiling: the same of held-out real pictures: what this segmenter can see.
        floor: the generated pictures against one another's masks; None where all masks are the same.
        empty: pictures drawn from a mask without foreground. They have no Dice and are left out of the scores.
        invented: the share of those in which the segmenter finds something all the same; None where there are none.
    """

    score: Score
    by_class: tuple[float | None, ...]
    ceiling: Score
    floor: Score | None
    empty: int
    invented: float | None


def _scores(overlap: Float[Tensor, "n k"]) -> Float[Tensor, "m"]:
    """One number a picture, for those pictures that have any class."""
    return overlap.nanmean(dim=1)[~overlap.isnan().all(dim=1)]


def _floor(found: Tensor, asked: Tensor, classes: int, seed: int) -> Score | None:
    """Each picture against the masks of up to eight others, where these differ from its own."""
    count = len(asked)
    values = torch.full((count, min(8, count - 1)), torch.nan)
    for turn in range(values.shape[1]):
        other = asked.roll(turn + 1, dims=0)
        differs: Bool[Tensor, "n"] = (other != asked).flatten(1).any(dim=1)
        values[:, turn] = torch.where(differs, dice(found, other, classes).nanmean(dim=1), torch.nan)
    known = _scores(values)
    return bootstrap(known, seed=seed) if len(known) else None


def faithfulness(
    segmenter: Segmenter,
    generated: Float[Tensor, "n c h w"],
    masks: Int64[Tensor, "n h w"],
    real: Float[Tensor, "m c h w"],
    real_masks: Int64[Tensor, "m h w"],
    *,
    seed: int = 0,
) -> Faithfulness:
    """Score generated pictures against the masks they were drawn from.

    Args:
        generated, masks: pictures in [-1, 1] and the class maps they were conditioned on.
        real, real_masks: held-out real pictures with their own masks, for the ceiling.

    Raises:
        WrongUse: if the masks are all empty.
    """
    return agreement(
        segmenter.classes, segmenter.segment(generated), masks, segmenter.segment(real), real_masks, seed=seed
    )


def agreement(
    classes: int,
    found: Integer[Tensor, "n h w"],
    masks: Integer[Tensor, "n h w"],
    real_found: Integer[Tensor, "m h w"],
    real_masks: Integer[Tensor, "m h w"],
    *,
    seed: int = 0,
) -> Faithfulness:
    """The scores from what a segmenter found in generated and in held-out real pictures; as `faithfulness`."""
    empty = ~masks.flatten(1).any(dim=1)
    if bool(empty.all()):
        raise WrongUse("every mask the pictures were drawn from is empty: there is nothing to find in them")
    overlap = dice(found, masks, classes)
    by_class = [None if value.isnan() else value.item() for value in overlap.nanmean(dim=0)]
    invented = found[empty].flatten(1).any(dim=1).float().mean().item() if bool(empty.any()) else None
    return Faithfulness(
        score=bootstrap(_scores(overlap), seed=seed),
        by_class=tuple(by_class),
        ceiling=bootstrap(_scores(dice(real_found, real_masks, classes)), seed=seed),
        floor=_floor(found[~empty], masks[~empty], classes, seed),
        empty=int(empty.sum()),
        invented=invented,
    )
