"""Quality against time: the unbiased distance, differences known better than the distances, the front, the chart."""

import pytest
import torch

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.evaluation.fidelity import kernel
from inkwash.evaluation.front import Mark, chart, distance, front


def features(count: int, item: int, shift: float = 0.0) -> torch.Tensor:
    return Noise(0, [item]).normal((count, 6), dtype=torch.float64)[0] + shift


def slow(drawn: torch.Tensor, real: torch.Tensor) -> float:
    """The estimate as its definition reads."""
    d = drawn.shape[1]

    def mean(a, b, *, same):
        pairs = [(x @ y / d + 1) ** 3 for i, x in enumerate(a) for j, y in enumerate(b) if not (same and i == j)]
        return sum(pairs) / len(pairs)

    return float(mean(drawn, drawn, same=True) - 2 * mean(drawn, real, same=False) + mean(real, real, same=True))


def test_it_is_the_unbiased_estimate_and_so_without_any_picture():
    drawn, real = features(7, 0, 0.5), features(9, 1)
    found = distance(drawn, real)
    assert found.value == pytest.approx(slow(drawn, real), abs=1e-12)
    for i in range(7):
        fewer = torch.cat([drawn[:i], drawn[i + 1 :]])
        assert found.without[i].item() == pytest.approx(slow(fewer, real), abs=1e-12)


def test_it_is_what_torchmetrics_estimates():
    drawn, real = features(300, 0, 0.3), features(300, 1)
    mean, deviation = kernel(real, drawn, subsets=200)
    # The mean of 200 overlapping subsets of half of the pictures.
    assert distance(drawn, real).value == pytest.approx(mean, abs=deviation / 2)


def test_differences_are_known_better_than_distances():
    """Of two sets that differ a little, in the same pictures, the difference is sure where the distances are not."""
    real, base = features(400, 1), features(100, 0, 1.0)
    near, far = distance(base, real), distance(base + 0.02 * features(100, 2) + 0.03, real)
    excess, error = far.excess(near)
    assert excess == pytest.approx(far.value - near.value)
    assert excess > 3 * error
    own = ((near.without - near.without.mean()).square().sum() * 99 / 100).sqrt().item()
    assert error < own / 3
    assert near.excess(near) == (0.0, 0.0)


def test_the_standard_error_is_that_of_repetitions():
    real = features(500, 1)
    excesses, errors = [], []
    for trial in range(60):
        base = features(60, 100 + trial)
        found = distance(1.3 * base, real).excess(distance(base, real))
        excesses.append(found[0])
        errors.append(found[1])
    # 60 repetitions tell a standard deviation within a tenth; the jackknife is a little wide.
    assert sum(errors) / 60 == pytest.approx(torch.tensor(excesses).std().item(), rel=0.3)


def test_too_few_pictures_have_no_distance():
    with pytest.raises(WrongUse, match="three pictures of each kind; these are 2 and 9"):
        distance(features(2, 0), features(9, 1))


def test_the_front_is_what_nothing_beats():
    points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0), (1.0, 5.0)]
    assert front(points) == [True, True, False, False, True, True]


def test_the_chart_names_the_front_and_circles_the_choice():
    first, second = Mark(0.1, 0.5, 0.02, "one", True), Mark(0.2, 0.0, 0.0, "two", True, chosen=True)
    svg = chart([first, second, Mark(0.3, 0.4, 0.1, "slow", False)])
    assert svg.startswith("<svg")
    assert ">one<" in svg
    assert ">two<" in svg
    assert "slow" not in svg
    assert svg.count("var(--accent)") == 1
    assert "var(--accent)" not in chart([Mark(0.1, 0.0, 0.0, "a", True)])
