"""AUROC beside scikit-learn's, its interval beside its distribution, Dice at the best threshold."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.evaluation.detection import auroc, best_dice


def test_it_is_that_of_scikit_learn() -> None:
    noise = Noise(0, range(200))
    sick = noise.uniform((), "sick") < 0.3
    scores = (noise.normal((), "score") + sick.float()).round(decimals=1)  # with ties
    assert auroc(scores, sick).mean == pytest.approx(roc_auc_score(sick.numpy(), scores.numpy()))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    truth, held = 0.7602, 0  # of two unit normals one apart
    for seed in range(100):
        noise = Noise(seed, range(80))
        sick = torch.arange(80) < 40
        scores = noise.normal((), "score") + sick.float()
        found = auroc(scores, sick, resamples=300, seed=seed)
        held += found.low <= truth <= found.high
    assert 86 <= held <= 100


def test_one_kind_alone_is_refused() -> None:
    with pytest.raises(WrongUse, match="cases of both"):
        auroc(torch.rand(4), torch.ones(4, dtype=torch.bool))


def test_the_best_threshold_separates_what_can_be() -> None:
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[:, 2:5, 2:5] = True
    maps = masks.float() + 0.3 * Noise(0, range(3)).uniform((8, 8), "x")
    assert best_dice(maps, masks)[0] == 1.0
    assert best_dice(torch.rand(3, 8, 8), masks)[0] < 0.5
