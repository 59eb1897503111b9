"""Intervals and tests: they cover and err as often as they say."""

import pytest
import torch
from scipy import stats

from inkwash.corruption.noise import Noise
from inkwash.evaluation.segmentation.calibration import calibration_error
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.rounds import Rounds
from inkwash.evaluation.segmentation.table import METRICS, notes, rows
from inkwash.evaluation.statistics import bootstrap, bootstrap_sum, holm, paired, paired_sum

mean_of = lambda sums: sums[:, 0] / sums[:, 1]  # noqa: E731


def test_a_ratio_of_sums_has_the_interval_of_the_mean_it_is():
    values = Noise(0, range(60)).normal((), "v").double()
    plain, ratio = bootstrap(values), bootstrap_sum(torch.stack([values, torch.ones(60).double()], dim=1), mean_of)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((plain.mean, plain.low, plain.high))


def test_intervals_cover_the_truth_as_often_as_they_say():
    values = Noise(1, range(300)).normal((40,), "v").double()
    inside = [score.low <= 0 <= score.high for score in (bootstrap(v, resamples=300) for v in values)]
    # 95 % less what percentiles of 40 cases lose; +- three standard errors of 300 trials.
    assert 0.89 < sum(inside) / 300 < 0.98


def test_paired_is_scipys_test_of_the_cases_that_both_have():
    first, second = Noise(0, range(25)).normal((2,), "v").double().unbind(1)
    first[3], second[7] = torch.nan, torch.nan
    known = ~(first.isnan() | second.isnan())
    found = paired(first, second)
    assert found.count == 23
    assert found.mean == pytest.approx((first - second)[known].mean().item())
    assert found.p == pytest.approx(stats.wilcoxon(first[known].numpy(), second[known].numpy()).pvalue)
    assert found.low < found.mean < found.high


def test_paired_where_there_is_nothing_to_tell():
    same = torch.arange(5.0)
    assert paired(same, same).p == 1.0
    assert paired(same, torch.full((5,), torch.nan)) is None


def test_exchanges_find_a_difference_and_do_not_invent_one():
    noise = Noise(0, range(50))
    base, shift = noise.normal((), "a").double(), 0.3 * noise.normal((), "b").double()
    ones = torch.ones(50).double()
    one, other = torch.stack([base, ones], dim=1), torch.stack([base + shift, ones], dim=1)
    better = torch.stack([base + shift + 0.3, ones], dim=1)
    assert paired_sum(one, better, mean_of).p < 0.001
    found = paired_sum(one, other, mean_of)
    # The exchange test of means is close to the t-test here.
    assert found.p == pytest.approx(stats.ttest_rel(one[:, 0], other[:, 0]).pvalue, abs=0.05)
    assert found.mean == pytest.approx(-shift.mean().item())
    assert paired_sum(one, one, mean_of).p == 1.0


def test_exchanges_err_as_often_as_they_say():
    draws = Noise(2, range(200)).normal((2, 12), "v").double()
    ones = torch.ones(12).double()
    ps = [
        paired_sum(torch.stack([a, ones], 1), torch.stack([b, ones], 1), mean_of, resamples=200).p for a, b in draws
    ]
    assert sum(p < 0.05 for p in ps) / 200 < 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def cases(values: list[float], names: str, bins: torch.Tensor) -> Cases:
    dice = torch.tensor(values, dtype=torch.float64)
    return Cases(tuple(names), {"Dice": dice, "error AUROC": dice}, {"Dice": dice[:, None]}, bins)


@pytest.fixture
def rounds() -> Rounds:
    bins = Noise(0, range(6)).uniform((3, 4), dtype=torch.float64)
    first = cases([0.2, 0.4, torch.nan], "abc", bins[:3])
    return Rounds.of([first, cases([torch.nan, 0.6, 0.8], "cab", bins[3:])])


def test_rounds_are_of_the_same_cases_whatever_their_order(rounds):
    torch.testing.assert_close(rounds.cases("Dice"), torch.tensor([0.4, 0.6, torch.nan]).double(), equal_nan=True)
    assert rounds.rounds("Dice") == pytest.approx([0.3, 0.7])
    assert rounds.of_classes("Dice") == pytest.approx([0.5])
    assert rounds.score("Dice").mean == pytest.approx(0.5)
    assert rounds.score("Dice").count == 2


def test_the_calibration_error_of_rounds_is_the_mean_of_theirs(rounds):
    bins = Noise(0, range(6)).uniform((3, 4), dtype=torch.float64)
    each = [calibration_error(part.sum(dim=0)).item() for part in (bins[:3], bins[3:])]
    assert rounds.rounds("ECE") == pytest.approx(each)
    score = rounds.score("ECE")
    assert score.mean == pytest.approx(sum(each) / 2)
    assert score.low <= score.mean <= score.high
    assert rounds.against(rounds, "ECE").p == 1.0
    assert rounds.against(rounds, "Dice").mean == 0.0


def test_rows_have_a_floor_where_one_was_measured_and_notes_what_is_missing(rounds):
    dice, ece, _ = rows(rounds, rounds)
    assert (dice.name, ece.name) == ("Dice", "ECE")
    assert (dice.floor, dice.ceiling, dice.better) == (dice.value, 1.0, "higher")
    assert (ece.ceiling, ece.better) == (0.0, "lower")
    assert set(METRICS) >= {"Dice", "HD95", "GED"}
    said = " ".join(notes(rounds))
    assert "1 of 3 cases have no foreground" in said
    assert "inkwash[medical]" in said
