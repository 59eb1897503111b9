"""What is measured of masks, against scikit-learn, torchmetrics, MONAI, SciPy, and by hand."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from sklearn.metrics import brier_score_loss, f1_score, jaccard_score, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.evaluation.segmentation import surface
from inkwash.evaluation.segmentation.calibration import bins, brier, calibration_error
from inkwash.evaluation.segmentation.cases import Cases, measure
from inkwash.evaluation.segmentation.energy import energy_distance
from inkwash.evaluation.segmentation.overlap import confusion, dice, iou
from inkwash.evaluation.segmentation.surface import surfaces
from inkwash.evaluation.segmentation.uncertainty import error_auroc, error_correlation, ranks

SIZES = [(13, 9), (7, 6, 5)]


def chance(count: int, classes: int, size: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities `(N, K, *size)` and true classes that follow them, more or less."""
    noise = Noise(seed, range(count))
    probability = (2 * noise.normal((classes, *size), "p")).softmax(dim=1)
    drawn = noise.uniform((1, *size), "truth")
    return probability, (probability.cumsum(dim=1)[:, :-1] < drawn).sum(dim=1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_overlap_agrees_with_scikit_learn(size):
    probability, truth = chance(4, 3, size)
    found = probability.argmax(dim=1)
    table = confusion(found, truth, 3)
    for k in range(4):
        a, b = truth[k].flatten().numpy(), found[k].flatten().numpy()
        np.testing.assert_allclose(dice(table)[k], f1_score(a, b, labels=[1, 2], average=None))
        np.testing.assert_allclose(iou(table)[k], jaccard_score(a, b, labels=[1, 2], average=None))


def test_overlap_of_empty_masks():
    nothing, something = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[0, 1, 1, 0]])
    found, truth = torch.cat([nothing, nothing, something, something]), torch.cat([nothing, something] * 2)
    table = confusion(found, truth, 2)
    for value in (dice(table)[:, 0], iou(table)[:, 0]):
        assert value[0].isnan()
        assert value[1:].tolist() == [0.0, 0.0, 1.0]


def by_hand(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """HD95 and the average distance from the distance of every surface pixel to every other."""
    edges = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in (found, truth)]
    apart = np.linalg.norm(edges[0][:, None] - edges[1][None], axis=-1)
    there, back = apart.min(axis=1), apart.min(axis=0)
    return max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


@pytest.mark.parametrize("spacing", [None, (1.5, 0.7)], ids=str)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_surface_distances_are_those_of_all_pairs_of_surface_pixels(dimensions, spacing):
    if spacing is not None:
        spacing = (*spacing, 2.0)[:dimensions]
    axes = np.meshgrid(*[np.arange(n) for n in (17, 15, 13)[:dimensions]], indexing="ij")
    masks = [sum((a - c) ** 2 for a in axes) < r**2 for c, r in ((6, 4.5), (8, 3.5), (5, 6.2), (4, 2.3))]
    found, truth = (torch.from_numpy(np.stack(m).astype(np.int64)) for m in (masks[:2], masks[2:]))
    hd95, average = surfaces(found, truth, 2, spacing=spacing)
    for k in range(2):
        expected = by_hand(masks[k], masks[k + 2], spacing or (1.0,) * dimensions)
        assert (hd95[k, 0].item(), average[k, 0].item()) == pytest.approx(expected, rel=1e-5)


def test_surfaces_of_missing_classes_and_at_the_border():
    nothing = torch.zeros(5, 12, dtype=torch.int64)
    line = nothing.clone()
    line[:, 0] = 1
    shifted = nothing.clone()
    shifted[:, 3] = 1
    found, truth = torch.stack([nothing, line, nothing, line]), torch.stack([nothing, nothing, line, shifted])
    hd95, average = surfaces(found, truth, 3)
    diagonal = math.hypot(4, 11)
    assert hd95[0, 0].isnan()
    assert hd95[:, 1].isnan().all()
    assert hd95[1:, 0].tolist() == pytest.approx([diagonal, diagonal, 3.0])
    assert average[1:, 0].tolist() == pytest.approx([diagonal, diagonal, 3.0])
    assert surfaces(found, truth, 2, spacing=(2.0, 0.5))[0][1, 0].item() == pytest.approx(math.hypot(8, 5.5))


def test_without_monai_surfaces_say_what_to_install_and_the_rest_is_measured(monkeypatch):
    monkeypatch.setattr(surface, "find_spec", lambda name: None)
    probability, truth = chance(2, 2, (6, 6))
    with pytest.raises(WrongUse, match=r"inkwash\[medical\]"):
        surfaces(truth, truth, 2)
    found = measure("ab", probability, truth.float(), truth[:, None], truth)
    assert set(found.values) == {"Dice", "IoU", "Brier", "error correlation", "error AUROC"}


@pytest.mark.parametrize("classes", [2, 4])
def test_calibration_agrees_with_torchmetrics(classes):
    probability, truth = chance(3, classes, (24, 24))
    sums = bins(probability, truth)
    for k in range(3):
        expected = multiclass_calibration_error(probability[k : k + 1], truth[k : k + 1], classes, n_bins=15, norm="l1")
        assert calibration_error(sums[k]).item() == pytest.approx(expected.item(), rel=1e-5)
    together = multiclass_calibration_error(probability, truth, classes, n_bins=15, norm="l1")
    assert calibration_error(sums.sum(dim=0)).item() == pytest.approx(together.item(), rel=1e-5)


def test_calibration_by_hand():
    foreground = torch.tensor([[0.9, 0.9, 0.9, 1.0, 0.5]])
    truth = torch.tensor([[1, 1, 0, 1, 0]])
    sums = bins(torch.stack([1 - foreground, foreground], dim=1), truth)
    # 0.9 in a bin of its own with 2 of 3 right; 1 right; of 0.5 and 0.5 the first class, which is right.
    assert calibration_error(sums).item() == pytest.approx((3 * (0.9 - 2 / 3) + 0 + 0.5) / 5)
    assert sums[0, 0].sum() == 5
    assert sums[0, :, -1].tolist() == [1, 1, 1]


def test_brier_agrees_with_scikit_learn():
    probability, truth = chance(2, 2, (9, 9))
    expected = [brier_score_loss(t.flatten(), p[1].flatten()) for p, t in zip(probability, truth, strict=True)]
    assert brier(probability, truth).tolist() == pytest.approx(expected)
    several, true = chance(1, 4, (9, 9))
    flat = several[0].flatten(1).T.double()
    flat = flat / flat.sum(dim=1, keepdim=True)  # to the last digit, on which scikit-learn insists
    whole = brier_score_loss(true.flatten(), flat, scale_by_half=True, labels=range(4))
    assert brier(several, true).item() == pytest.approx(whole, rel=1e-6)


def test_uncertainty_agrees_with_scipy_and_scikit_learn():
    uncertainty = Noise(0, range(4)).uniform((11, 7), "u").mul(6).round()  # with many ties
    wrong = Noise(0, range(4)).uniform((11, 7), "w") < 0.1 + uncertainty / 12
    flat = [(u.flatten().numpy(), w.flatten().numpy()) for u, w in zip(uncertainty, wrong, strict=True)]
    np.testing.assert_allclose(ranks(uncertainty.flatten(1)), [stats.rankdata(u) for u, _ in flat])
    spearman = [stats.spearmanr(u, w).statistic for u, w in flat]
    np.testing.assert_allclose(error_correlation(uncertainty, wrong), spearman)
    np.testing.assert_allclose(error_auroc(uncertainty, wrong), [roc_auc_score(w, u) for u, w in flat])


def test_uncertainty_that_says_nothing():
    flat, wrong = torch.ones(3, 6), torch.zeros(3, 6, dtype=torch.bool)
    wrong[0, 2], wrong[2] = True, True
    assert error_auroc(flat, wrong)[0] == 0.5
    assert error_correlation(flat, wrong)[0].isnan()
    assert error_auroc(flat, wrong)[1:].isnan().all()
    assert error_correlation(torch.rand(3, 6), wrong)[1:].isnan().all()


def distance(a: torch.Tensor, b: torch.Tensor, classes: int) -> float:
    """1 - IoU of two masks, over the classes that are in either."""
    values = [
        ((a == k) & (b == k)).sum().item() / ((a == k) | (b == k)).sum().item()
        for k in range(1, classes) if ((a == k) | (b == k)).any()
    ]  # fmt: skip
    return 1 - sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_energy_distance_is_that_of_all_pairs(size):
    u = Noise(0, range(3)).uniform((7, *size))
    drawn, annotated = (3 * u[:, :4]).long(), (3 * u[:, 4:] ** 2).long()
    drawn[0, 0], annotated[0, :2] = 0, 0

    def mean(one: torch.Tensor, two: torch.Tensor) -> float:
        return np.mean([distance(a, b, 3) for a in one for b in two])

    expected = [2 * mean(s, y) - mean(s, s) - mean(y, y) for s, y in zip(drawn, annotated, strict=True)]
    assert energy_distance(drawn, annotated, 3).tolist() == pytest.approx(expected)


def test_the_energy_distance_of_the_same_distribution_is_nothing():
    masks = (2 * Noise(0, range(2)).uniform((3, 8, 8))).long()
    assert energy_distance(masks, masks, 2).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert energy_distance(masks, masks.repeat(1, 2, 1, 1), 2).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    one = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    assert energy_distance(one, one + 1, 2).item() == 2.0


def test_cases_are_measured_in_parts_and_kept_as_json():
    probability, truth = chance(5, 3, (10, 8))
    uncertainty, drawn = Noise(0, range(5)).uniform((10, 8), "u"), probability.argmax(dim=1)[:, None]
    truth[2], probability[2] = 0, torch.tensor([1.0, 0, 0])[:, None, None]
    raters = [torch.stack([t, t.roll(1, 0)]) for t in truth[:3]] + [truth[3:4], truth[4].repeat(3, 1, 1)]
    names = [f"{i}.png" for i in range(5)]

    def part(where: slice) -> Cases:
        parts = (names[where], probability[where], uncertainty[where], drawn[where], truth[where])
        return measure(*parts, annotations=raters[where])

    whole, joined = part(slice(None)), Cases.joined([part(slice(0, 2)), part(slice(2, 4)), part(slice(4, 5))])
    for cases in (joined, Cases.of(json.loads(json.dumps(whole.plain())))):
        assert cases.names == whole.names
        assert cases.values.keys() == whole.values.keys()
        for name, value in whole.values.items():
            torch.testing.assert_close(cases.values[name], value, equal_nan=True)
        for name, value in whole.by_class.items():
            torch.testing.assert_close(cases.by_class[name], value, equal_nan=True)
        torch.testing.assert_close(cases.bins, whole.bins)
    assert whole.values["Dice"][2].isnan()
    assert whole.values["GED"].isnan().tolist() == [False, False, False, True, False]
    torch.testing.assert_close(whole.values["IoU"], whole.by_class["IoU"].nanmean(dim=1), equal_nan=True)
