"""A scan counted slice by slice has the figures of one that is measured whole, and those that are known in advance."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial.distance import cdist

from inkwash.evaluation.segmentation.cases import Cases, measure
from inkwash.evaluation.segmentation.tally import Tally, fullest
from inkwash.evaluation.segmentation.uncertainty import error_auroc, error_correlation, of_counts

SPACING = (2.5, 1.2, 0.8)


def counted(truth: np.ndarray, probability: torch.Tensor, folder: Path, spacing=SPACING) -> Cases:
    tally = Tally(truth, spacing, len(probability), folder)
    for plane in probability.unbind(dim=1):
        tally.put(plane)
    return tally.cases("x")


def sphere(shape: tuple[int, int, int], middle: tuple[float, float, float], radius: float) -> np.ndarray:
    """All in millimetres but the shape."""
    place = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, SPACING, strict=True)), indexing="ij"), -1)
    return (((place - np.array(middle)) ** 2).sum(-1) <= radius**2).astype(np.uint8)


def certain(mask: np.ndarray, classes: int = 2, by: float = 0.9) -> torch.Tensor:
    """The probabilities of a system that is as sure of every voxel."""
    chosen = torch.nn.functional.one_hot(torch.from_numpy(mask).long(), classes).movedim(-1, 0)
    return torch.where(chosen > 0, by, (1 - by) / (classes - 1))


@pytest.mark.parametrize("classes", [2, 4])
def test_the_figures_are_those_of_the_whole(tmp_path: Path, classes: int):
    generator = torch.Generator().manual_seed(classes)
    probability = torch.randn(classes, 7, 12, 15, generator=generator).mul(2).softmax(dim=0)
    truth = torch.randn(classes, 7, 12, 15, generator=generator).add(probability * 3).argmax(dim=0)
    entropy = torch.special.entr(probability).sum(dim=0) / math.log(classes)
    found = probability.argmax(dim=0)[None, None]
    whole = measure(["x"], probability[None], entropy[None], found, truth[None], spacing=SPACING)
    part = counted(truth.numpy().astype(np.uint8), probability, tmp_path)
    assert part.names == whole.names
    assert set(part.values) == set(whole.values)
    for name, value in whole.values.items():
        # Uncertainties that differ by less than 1 in 2048 are ranked alike.
        near = 1e-3 if name.startswith("error") else 1e-6
        torch.testing.assert_close(part.values[name], value, atol=near, rtol=near, msg=name)
    for name, value in whole.by_class.items():
        torch.testing.assert_close(part.by_class[name], value, msg=name)
    torch.testing.assert_close(part.bins, whole.bins)


@pytest.mark.parametrize(("axis", "steps"), [(0, 2), (1, 3), (2, 4)])
def test_a_sphere_that_was_moved_is_as_far_away_as_it_was_moved(tmp_path: Path, axis: int, steps: int):
    """In millimetres of voxels that are no cubes. Surfaces of two spheres of radius R that lie d apart are
    |sqrt(R^2 + d^2 - 2 R d u) - R| from one another, u even in [-1, 1]."""
    shape, radius = (20, 36, 54), 14.0
    truth = sphere(shape, (22.5, 20.4, 20.0), radius)
    found = np.roll(truth, steps, axis)
    far = steps * SPACING[axis]

    def apart(u: float) -> float:
        return abs(math.sqrt(radius**2 + far**2 - 2 * radius * far * u) - radius)

    figures = counted(truth, certain(found), tmp_path).values
    farthest = float(np.percentile([apart(u) for u in np.linspace(-1, 1, 4001)], 95))
    # The surface is made of voxels: it lies within half of one, and they are not even over the sphere.
    assert figures["HD95"].item() == pytest.approx(farthest, abs=0.5 * SPACING[axis])
    assert figures["ASSD"].item() == pytest.approx(quad(apart, -1, 1)[0] / 2, abs=0.5 * SPACING[axis])
    # And voxel by voxel it is this to the last digit.
    cross = generate_binary_structure(3, 1)
    edges = [np.argwhere(mask & ~binary_erosion(mask, cross)) * SPACING for mask in (found > 0, truth > 0)]
    between = cdist(*edges)
    there, back = between.min(axis=1), between.min(axis=0)
    assert figures["HD95"].item() == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert figures["ASSD"].item() == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)


def test_all_else_is_known_of_a_system_that_is_as_sure_of_every_voxel(tmp_path: Path):
    truth = sphere((20, 36, 54), (22.5, 20.4, 20.0), 12.0)
    found = np.roll(truth, 3, 2)
    cases = counted(truth, certain(found), tmp_path)
    both, size, wrong = (truth & found).sum(), truth.sum(), (truth != found).mean()
    assert cases.values["Dice"].item() == pytest.approx(both / size)
    assert cases.values["IoU"].item() == pytest.approx(both / (2 * size - both))
    assert cases.values["Brier"].item() == pytest.approx(0.81 * wrong + 0.01 * (1 - wrong), rel=1e-5)
    count, sure, right = cases.bins[0].sum(dim=1).tolist()
    assert (count, sure / count, right / count) == pytest.approx((truth.size, 0.9, 1 - wrong), rel=1e-6)
    assert cases.values["error AUROC"].item() == 0.5
    assert cases.values["error correlation"].isnan()


def test_a_class_that_was_missed_is_a_diagonal_away_and_one_that_is_nowhere_has_no_value(tmp_path: Path):
    truth = np.zeros((5, 6, 7), np.uint8)
    truth[2, 2, 2] = 1
    cases = counted(truth, certain(np.zeros_like(truth), 3), tmp_path)
    far = math.sqrt(sum(((n - 1) * s) ** 2 for n, s in zip(truth.shape, SPACING, strict=True)))
    assert cases.by_class["HD95"][0].tolist() == pytest.approx([far, math.nan], nan_ok=True)
    assert cases.by_class["Dice"][0].tolist() == pytest.approx([0, math.nan], nan_ok=True)
    assert cases.values["ASSD"].item() == pytest.approx(far)


@pytest.mark.parametrize("right", [True, False])
def test_a_scan_without_errors_or_without_anything_else_says_nothing_of_uncertainty(tmp_path: Path, right: bool):
    truth = sphere((4, 8, 8), (5, 5, 3), 3.0)
    cases = counted(truth, certain(truth if right else 1 - truth), tmp_path)
    assert cases.values["error AUROC"].isnan()
    assert cases.values["error correlation"].isnan()


def test_counts_are_ranked_as_the_pixels_are():
    generator = torch.Generator().manual_seed(0)
    level = torch.randint(0, 9, (400,), generator=generator)
    wrong = torch.rand(400, generator=generator) < level / 12
    counts = (level * 2 + wrong).bincount(minlength=18).unflatten(0, (9, 2))
    correlation, area = of_counts(counts)
    assert correlation == pytest.approx(error_correlation(level[None].float(), wrong[None]).item())
    assert area == pytest.approx(error_auroc(level[None].float(), wrong[None]).item())
    assert correlation > 0.2


def test_the_slice_that_is_shown_has_most_of_the_truth():
    truth = np.zeros((9, 4, 4), np.uint8)
    assert fullest(truth) == 4
    truth[6, :2] = 2
    truth[1, :1] = 1
    assert fullest(truth) == 6
