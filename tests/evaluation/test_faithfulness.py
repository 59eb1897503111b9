"""Dice by hand and against torchmetrics; a segmenter that learns, is kept, and tells faithful pictures from others."""

import math
from typing import Any

import pytest
import torch
from torchmetrics.segmentation import DiceScore

from inkwash.corruption.noise import Noise
from inkwash.data import DataSpec, ImageSet
from inkwash.errors import WrongUse
from inkwash.evaluation.faithfulness import (
    SIDE,
    Segmenter,
    bootstrap,
    dice,
    faithfulness,
    segmentation_loss,
    train_segmenter,
)


class InMemory(ImageSet):
    """Pictures that are tensors already."""

    def __init__(self, images: torch.Tensor, masks: torch.Tensor | None, classes: int | None, name: str) -> None:
        self.spec = DataSpec(channels=images.shape[1], size=tuple(images.shape[2:]), mask_classes=classes)
        self.names, self.fingerprint = tuple(map(str, range(len(images)))), name
        self.images, self.masks = images, masks

    def batch(self, indices: Any) -> dict[str, torch.Tensor]:
        return {"image": self.images[indices]} | ({} if self.masks is None else {"mask": self.masks[indices]})


def discs(count: int, *, seed: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures of a bright disc (class 1) and a dark one (class 2), and their masks."""
    noise = Noise(seed, range(count))
    place = torch.arange(size) / size
    masks = torch.zeros(count, size, size, dtype=torch.int64)
    for k in (1, 2):
        y, x, r = noise.uniform((3, 1, 1), "disc", k).unbind(1)
        centre = (0.25 if k == 1 else 0.75) + 0.1 * (x - 0.5)
        inside = (place[:, None] - 0.2 - 0.6 * y) ** 2 + (place - centre) ** 2 < (0.1 + 0.1 * r) ** 2
        masks[inside] = k
    levels = torch.tensor([0.0, 0.7, -0.7])[masks][:, None]
    return levels + 0.1 * noise.normal((1, size, size), "grain"), masks


def test_dice_by_hand():
    asked = torch.tensor([[[1, 1, 0, 0]], [[2, 2, 2, 0]], [[0, 0, 0, 0]]])
    found = torch.tensor([[[1, 0, 0, 0]], [[2, 2, 2, 1]], [[1, 0, 0, 0]]])
    expected = torch.tensor([[2 / 3, math.nan], [math.nan, 1.0], [math.nan, math.nan]])
    torch.testing.assert_close(dice(found, asked, 3), expected, equal_nan=True)


def test_dice_agrees_with_torchmetrics():
    u = Noise(0, range(5)).uniform((2, 16, 16))
    found, asked = (4 * u).long().unbind(1)
    referee = DiceScore(num_classes=4, include_background=False, average="none", input_format="index")
    torch.testing.assert_close(dice(found, asked, 4).mean(dim=0), referee(found, asked).float())


def test_the_loss_of_a_sure_and_right_answer_is_zero_and_of_a_wrong_one_is_not():
    mask = torch.tensor([[[0, 1], [2, 1]]])
    right = 100.0 * torch.nn.functional.one_hot(mask, 3).movedim(-1, 1)
    assert segmentation_loss(right, mask).item() == pytest.approx(0.0, abs=1e-6)
    # Nothing said: log 3 of cross-entropy; classes 1 and 2 have soft Dice 2 (2/3) / (2 + 4/3) and 2 (1/3) / (1 + 4/3).
    expected = math.log(3) + 1 - (4 / 3 / (10 / 3) + 2 / 3 / (7 / 3)) / 2
    assert segmentation_loss(torch.zeros(1, 3, 2, 2), mask).item() == pytest.approx(expected, rel=1e-6)


def test_the_bootstrap_interval_is_that_of_the_mean():
    values = Noise(0, range(400)).normal((), "v") * 2 + 5
    score = bootstrap(values)
    error = values.std().item() / 20
    assert score.mean == pytest.approx(values.mean().item())
    # A percentile of 2000 resamples is itself known to about 3 %.
    assert score.high - score.mean == pytest.approx(1.96 * error, rel=0.1)
    assert score.mean - score.low == pytest.approx(1.96 * error, rel=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        images = InMemory(*discs(64, seed=0), 3, "discs")
        fittings = list(train_segmenter(images, steps=60, batch=8))
        again = list(train_segmenter(images, steps=60, batch=8))
        other = next(train_segmenter(images, steps=60, batch=8, seed=1))
        yield fittings, again, other


def test_training_reports_every_step_and_is_found_again(trained):
    fittings, again, other = trained
    assert [f.step for f in fittings] == list(range(1, 61))
    assert fittings[-1].loss < 0.5 * fittings[0].loss
    assert [f.cached for f in again] == [True]
    assert not other.cached
    for a, b in zip(fittings[-1].segmenter.parameters(), again[0].segmenter.parameters()):
        assert torch.equal(a, b)


def test_faithful_pictures_score_near_the_ceiling_and_others_near_the_floor(trained):
    segmenter = trained[0][-1].segmenter
    real, generated, strangers = (discs(24, seed=seed) for seed in (1, 2, 3))
    good = faithfulness(segmenter, *generated, *real)
    bad = faithfulness(segmenter, strangers[0], generated[1], *real)
    assert good.ceiling.mean > 0.8
    assert good.score.mean == pytest.approx(good.ceiling.mean, abs=0.05)
    assert good.floor is not None
    assert good.score.low > good.floor.high
    assert bad.score.mean == pytest.approx(good.floor.mean, abs=0.12)
    assert good.score.low < good.score.mean < good.score.high
    assert len(good.by_class) == 2
    assert (good.empty, good.invented) == (0, None)


def test_empty_masks_are_left_out_and_told(trained):
    segmenter, (images, masks) = trained[0][-1].segmenter, discs(10, seed=4)
    reference = faithfulness(segmenter, images, masks, images, masks)
    blank = torch.zeros(2, 1, 32, 32)
    blank[1] = images[0]  # drawn from an empty mask, with discs all the same
    found = faithfulness(
        segmenter, torch.cat([images, blank]), torch.cat([masks, masks.new_zeros(2, 32, 32)]), images, masks
    )
    assert found.score == reference.score
    assert (found.empty, found.invented) == (2, 0.5)
    with pytest.raises(WrongUse, match="every mask"):
        faithfulness(segmenter, images, torch.zeros_like(masks), images, masks)


def test_one_mask_for_all_has_no_floor(trained):
    images, masks = discs(6, seed=5)
    same = masks[:1].expand(6, -1, -1)
    found = faithfulness(trained[0][-1].segmenter, images[:1].expand(6, -1, -1, -1), same, images, masks)
    assert found.floor is None


def test_a_class_that_never_occurs_has_no_score(trained):
    images, masks = discs(6, seed=5)
    found = faithfulness(trained[0][-1].segmenter, images, torch.where(masks == 2, 0, masks), images, masks)
    assert found.by_class[0] is not None
    assert found.by_class[1] is None


def test_large_pictures_are_segmented_small_and_come_back_large():
    segmenter = Segmenter(DataSpec(channels=3, size=(2 * SIDE, SIDE), mask_classes=2)).eval()
    assert segmenter.segment(torch.zeros(2, 3, 2 * SIDE, SIDE)).shape == (2, 2 * SIDE, SIDE)


def test_data_without_masks_is_refused():
    images = InMemory(torch.zeros(4, 1, 8, 8), None, None, "bare")
    with pytest.raises(WrongUse, match="needs masks"):
        next(train_segmenter(images, steps=1))
