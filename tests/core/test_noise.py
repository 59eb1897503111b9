"""Noise: the distribution is right, and a number depends on (seed, item, purpose) alone."""

import hashlib
import itertools
import math
import struct

import pytest
import torch
from scipy import stats

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse

MANY = 200_000


def test_normal_passes_kolmogorov_smirnov_within_and_across_items():
    one = Noise(1, [0]).normal((MANY,), "a", dtype=torch.float64)[0].numpy()
    across = Noise(1, range(MANY)).normal((1,), "a", dtype=torch.float64)[:, 0].numpy()
    for sample in (one, across):
        assert stats.kstest(sample, "norm").pvalue > 1e-3
        # Standard errors of the first four moments of a normal: 1, sqrt 2, sqrt 15, sqrt 96 over sqrt n.
        for moment, (truth, deviation) in enumerate([(0, 1), (1, 2**0.5), (0, 15**0.5), (3, 96**0.5)], start=1):
            assert abs((sample**moment).mean() - truth) < 4 * deviation / math.sqrt(MANY)


def test_normal_has_its_tails():
    x = Noise(0, range(16)).normal((250_000,), "tails").abs()
    for level in (3.0, 4.0, 4.5):
        expected = x.numel() * math.erfc(level / math.sqrt(2))
        assert abs((x > level).sum().item() - expected) < 4 * math.sqrt(expected)


def test_uniform_passes_kolmogorov_smirnov_and_never_reaches_the_ends():
    for dtype in (torch.float32, torch.float64):
        u = Noise(3, range(4)).uniform((MANY,), "u", dtype=dtype)
        assert u.min() > 0
        assert u.max() < 1
        assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3


def test_items_purposes_seeds_neighbours_and_pairs_are_uncorrelated():
    x = Noise(5, [7]).normal((MANY,), "a", dtype=torch.float64)[0]
    others = [
        Noise(5, [8]).normal((MANY,), "a", dtype=torch.float64)[0],
        Noise(6, [7]).normal((MANY,), "a", dtype=torch.float64)[0],
        Noise(5, [7]).normal((MANY,), "b", dtype=torch.float64)[0],
        Noise(5, [7]).normal((MANY,), "a", 0, dtype=torch.float64)[0],
        x.roll(1),
        x.roll(MANY // 2),  # the two numbers of one Box-Muller pair
    ]
    for y in others:
        for f in (lambda v: v, lambda v: v**2 - 1):
            correlation = (f(x) * f(y)).mean() / (f(x).std() * f(y).std())
            assert abs(correlation) < 4.5 / math.sqrt(MANY)


def test_the_same_item_of_many_seeds_and_purposes_is_normal():
    seeds = torch.stack([Noise(s, [0]).normal((1,), "a", dtype=torch.float64)[0, 0] for s in range(500)])
    steps = Noise(0, [0])
    purposes = torch.stack([steps.normal((1,), "a", k, dtype=torch.float64)[0, 0] for k in range(500)])
    assert stats.kstest(seeds.numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(purposes.numpy(), "norm").pvalue > 1e-3


def test_batches_slices_and_order_change_nothing():
    shape = (3, 5, 7)  # an odd count: the last pair is half used
    whole = Noise(9, range(16)).normal(shape, "a")
    for i in range(16):
        assert torch.equal(Noise(9, [i]).normal(shape, "a")[0], whole[i])
    assert torch.equal(Noise(9, range(16))[3:6].normal(shape, "a"), whole[3:6])
    assert torch.equal(Noise(9, [11, 2]).normal(shape, "a"), whole[[11, 2]])
    assert torch.equal(Noise(9, torch.tensor([11, 2])).normal(shape, "a"), whole[[11, 2]])


def test_zero_negative_and_huge_seeds_are_seeds():
    draws = [Noise(seed, [0]).normal((8,), "a") for seed in (0, 1, -1, 2**63, 2**64 + 5)]
    for i, j in itertools.combinations(range(5), 2):
        assert not torch.allclose(draws[i], draws[j])
    assert torch.equal(Noise(0, [0]).normal((8,), "a"), draws[0])


def test_the_numbers_are_those_of_the_definition():
    # In Python's own integers. Saved runs and published pictures depend on these numbers.
    def mix(bits):
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) % 2**64
        return bits ^ (bits >> 31)

    golden, seed, item = 0x9E3779B97F4A7C15, -3, 2**40
    purpose = int.from_bytes(hashlib.blake2b(b"sa\0i7\0f" + struct.pack("<d", 0.5), digest_size=8).digest(), "little")
    key = mix(mix((mix((seed * golden + 1) % 2**64) + item * golden) % 2**64) ^ purpose)
    words = [w for j in (1, 2) for w in divmod(mix((key + j * golden) % 2**64), 2**32)[::-1]]
    radius = [math.sqrt(-2 * math.log((w % 2**31 + 0.5) / 2**31)) for w in words[:2]]
    angle = [(w - 2**32 * (w >> 31)) / 2**31 * math.pi for w in words[2:]]
    expected = [f(a) * r for f in (math.cos, math.sin) for r, a in zip(radius, angle)]
    drawn = Noise(seed, [item]).normal((4,), "a", 7, 0.5, dtype=torch.float64)[0].tolist()
    assert drawn == pytest.approx(expected, abs=1e-12)


def test_precisions_agree():
    noise = Noise(2, range(3))
    exact = noise.normal((1000,), "a", dtype=torch.float64)
    torch.testing.assert_close(noise.normal((1000,), "a").double(), exact, atol=2e-5, rtol=1e-5)
    half = noise.normal((1000,), "a", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, atol=1e-3, rtol=2**-7)


def test_global_generators_are_not_touched():
    state = torch.get_rng_state()
    Noise(0, [0]).normal((10,), "a")
    Noise(0, [0]).path((2,)).normal(1.0, 0.5)
    assert torch.equal(torch.get_rng_state(), state)


def test_spread_covers_the_interval_evenly_whatever_the_batch():
    u = Noise(4, range(1000)).spread("time")
    assert torch.equal(torch.cat([Noise(4, range(k, k + 250)).spread("time") for k in range(0, 1000, 250)]), u)
    assert u.min() > 0
    assert u.max() < 1
    # The three-distance theorem: gaps of n golden-ratio points are at most about 1.9 / n; random ones log(n) / n.
    gaps = u.sort().values.diff()
    assert gaps.max() < 2.0 / 1000
    assert gaps.min() > 0.3 / 1000
    assert not torch.allclose(Noise(5, range(4)).spread("time"), u[:4])


def increments(times, *, depth=16, count=20_000, seed=0):
    path = Noise(seed, [0]).path((count,), dtype=torch.float64, depth=depth)
    return {(t, s): path.normal(t, s)[0] for t, s in itertools.pairwise(times)}


def test_increments_add_up_over_refined_grids():
    coarse, fine = [1.0, 0.5, 0.25, 0.0], [1.0, 0.875, 0.5, 0.375, 0.3, 0.25, 0.125, 0.0]
    big, small = increments(coarse, count=50), increments(fine, count=50)
    # Points between leaves are interpolated, and scaled: exact at dyadic points, here all but 0.3.
    for (t, s), value in big.items():
        parts = [(a, b) for a, b in small if s <= b and a <= t and 0.3 not in (a, b)]
        if math.isclose(sum(a - b for a, b in parts), t - s):
            total = sum(small[a, b] * math.sqrt(a - b) for a, b in parts)
            torch.testing.assert_close(value * math.sqrt(t - s), total, atol=1e-12, rtol=0)


def test_a_path_of_another_depth_or_order_is_the_same_path():
    noise = Noise(3, range(4))
    deep, shallow = (noise.path((5,), dtype=torch.float64, depth=d) for d in (12, 6))
    for t in (0.75, 1 / 64, 1.0, 0.0, 0.5, 63 / 64):
        torch.testing.assert_close(deep.value(t), shallow.value(t), atol=1e-12, rtol=0)
    torch.testing.assert_close(noise[1:2].path((5,), dtype=torch.float64, depth=12).value(0.3), deep.value(0.3)[1:2])


@pytest.mark.parametrize("times", [[i / 7 for i in range(7, -1, -1)], [1.0, 0.9, 0.31, 0.3, 0.0101, 0.01, 0.0]])
def test_increments_are_independent_standard_normals(times):
    values = torch.stack(list(increments(times).values()))
    n = values.shape[1]
    covariance = values @ values.T / n
    expected = torch.eye(len(values), dtype=torch.float64)
    assert (covariance - expected).abs().max() < 4.5 * math.sqrt(2 / n)
    for row in values:
        assert stats.kstest(row.numpy(), "norm").pvalue > 1e-4


def test_increments_below_the_resolution_are_standard_normal_still():
    path = Noise(0, [0]).path((50_000,), dtype=torch.float64, depth=4)
    for t, s in ((0.51, 0.5), (0.53, 0.52), (0.565, 0.56), (0.6, 0.55)):
        assert abs(path.normal(t, s).var().item() - 1) < 4.5 * math.sqrt(2 / 50_000)


def test_the_covariance_of_a_path_is_brownian():
    path = Noise(1, [0]).path((50_000,), dtype=torch.float64)
    times = [0.125, 0.3, 0.5, 0.9, 1.0]
    values = torch.stack([path.value(t)[0] for t in times])
    expected = torch.tensor([[min(t, s) for s in times] for t in times], dtype=torch.float64)
    assert (values @ values.T / 50_000 - expected).abs().max() < 4.5 * math.sqrt(2 / 50_000)


def test_fresh_and_uniform_are_independent_of_the_path_and_keyed_by_interval():
    path = Noise(1, [0]).path((MANY,), dtype=torch.float64)
    w, fresh, u = path.normal(0.5, 0.25)[0], path.fresh(0.5, 0.25, "churn")[0], path.uniform(0.5, 0.25)[0]
    assert abs((w * fresh).mean()) < 4.5 / math.sqrt(MANY)
    assert abs((w * (u - 0.5)).mean()) * math.sqrt(12) < 4.5 / math.sqrt(MANY)
    assert torch.equal(path.fresh(0.5, 0.25, "churn")[0], fresh)
    assert not torch.equal(path.fresh(0.5, 0.125, "churn")[0], fresh)


def test_a_path_for_classes_draws_real_numbers():
    assert Noise(0, [0]).path((100,), dtype=torch.int64).uniform(0.5, 0.25).unique().numel() == 100


def test_a_path_refuses_times_outside():
    with pytest.raises(WrongUse, match=r"\[0, 1\]"):
        Noise(0, [0]).path((1,)).value(1.5)
