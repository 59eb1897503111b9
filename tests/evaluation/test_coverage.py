"""Neighbours, precision, recall, density and coverage against brute force and known cases; planted copies."""

import pytest
import torch

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.evaluation import neighbours
from inkwash.evaluation.coverage import coverage
from inkwash.evaluation.memorisation import memorisation, thumbnails
from inkwash.evaluation.neighbours import nearest


def points(count: int, dimensions: int, purpose: str) -> torch.Tensor:
    return Noise(0, range(count)).normal((dimensions,), purpose)


def brute(real: torch.Tensor, generated: torch.Tensor, k: int) -> tuple[float, float, float, float]:
    """The definitions, word by word."""

    def radius(x):
        return [sorted((x[i] - x[j]).norm().item() for j in range(len(x)) if j != i)[k - 1] for i in range(len(x))]

    r, g = radius(real), radius(generated)
    d = [[(a - b).norm().item() for b in generated] for a in real]
    inside = [[d[i][j] <= r[i] for j in range(len(generated))] for i in range(len(real))]
    precision = sum(any(row[j] for row in inside) for j in range(len(generated))) / len(generated)
    recall = sum(any(d[i][j] <= g[j] for j in range(len(generated))) for i in range(len(real))) / len(real)
    density = sum(map(sum, inside)) / (k * len(generated))
    return precision, recall, density, sum(map(any, inside)) / len(real)


@pytest.mark.parametrize("block", [1, 1 << 24], ids=["row by row", "at once"])
def test_the_four_are_their_definitions(monkeypatch, block):
    for module in (neighbours, __import__("inkwash.evaluation.coverage", fromlist=["x"])):
        monkeypatch.setattr(module, "BLOCK", block)
    real, generated = points(40, 3, "real"), points(30, 3, "generated") * 0.7 + 0.4
    found = coverage(real, generated, k=3)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(
        brute(real.double(), generated.double(), 3)
    )


def test_the_same_set_is_precise_and_covered_in_full():
    x = points(50, 4, "x")
    found = coverage(x, x, k=5)
    # Each point lies in its own ball and in those of the points it is a neighbour of: k of them on average.
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    assert found.density == pytest.approx(1.2, abs=1e-6)


def test_sets_far_apart_share_nothing():
    found = coverage(points(30, 4, "x"), points(30, 4, "y") + 100.0)
    assert (found.precision, found.recall, found.density, found.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_a_collapsed_model_is_precise_without_recall():
    """All samples at one real point: inside that ball and those of its neighbours, and covering only them."""
    real = torch.arange(20.0)[:, None]
    found = coverage(real, real[10:11].repeat(8, 1), k=2)
    assert found.precision == 1.0
    assert found.recall == 1 / 20
    # Inner balls have radius 1, so 9, 10 and 11 hold the point.
    assert found.coverage == 3 / 20
    assert found.density == 3 / 2


def test_too_few_pictures_are_refused():
    with pytest.raises(WrongUse, match="at least 6 pictures, these are 5"):
        coverage(points(5, 2, "x"), points(9, 2, "y"), k=5)


def test_an_exact_copy_is_at_distance_zero_despite_an_offset():
    keys = points(50, 300, "keys") + 1000.0
    distance, index = nearest(keys[7:9], keys)
    assert index[:, 0].tolist() == [7, 8]
    assert distance[:, 0].tolist() == [0.0, 0.0]


def smooth(count: int, purpose: str) -> torch.Tensor:
    coarse = Noise(0, range(count)).normal((3, 6, 6), purpose)
    return torch.nn.functional.interpolate(coarse, (48, 48), mode="bicubic").tanh()


def test_planted_copies_are_flagged_and_independent_pictures_are_not():
    train, held_out, generated = smooth(120, "train"), smooth(60, "held"), smooth(40, "generated")
    noise = Noise(1, range(2)).normal((3, 48, 48))
    generated[3] = train[17]
    generated[8], generated[21] = train[[90, 5]] + 0.1 * noise
    spaces = [{"pixels": thumbnails(x.split(16))} for x in (generated, train, held_out)]
    found = memorisation(*spaces)
    assert found.flagged.nonzero().flatten().tolist() == [3, 8, 21]
    pairs = found.pairs(4)
    assert [(p.sample, p.training) for p in pairs[:3]] == [(3, 17), *sorted(
        [(8, 90), (21, 5)], key=lambda p: found.spaces["pixels"].distance[p[0]].item())]
    assert pairs[0].ratio == 0.0
    assert 0.7 < pairs[3].ratio < 1.3
    assert found.spaces["pixels"].false_alarms == 0.0


def test_a_mirrored_copy_is_a_copy():
    train, generated = smooth(30, "train"), smooth(5, "generated")
    generated[2] = train[11].flip(-1)
    found = memorisation(*({"pixels": thumbnails([x])} for x in (generated, train, smooth(20, "held"))))
    assert found.flagged.tolist() == [False, False, True, False, False]
    assert found.spaces["pixels"].index[2] == 11


def test_a_copy_in_either_space_is_a_copy():
    spaces = [{"pixels": points(20, 32 * 32, s), "features": points(20, 7, s)} for s in ("g", "t", "h")]
    spaces[0]["features"][4] = spaces[1]["features"][11]
    found = memorisation(*spaces)
    assert bool(found.flagged[4])
    assert (found.pairs(1)[0].training, found.pairs(1)[0].space) == (11, "features")


def test_a_leaking_split_shows_as_false_alarms():
    train, held_out = smooth(50, "train"), smooth(20, "held")
    held_out[:2] = train[:2]
    spaces = [{"pixels": thumbnails([x])} for x in (smooth(5, "g"), train, held_out)]
    assert memorisation(*spaces).spaces["pixels"].false_alarms == pytest.approx(0.1)
