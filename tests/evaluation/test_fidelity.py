"""FID and KID against closed forms, and the border of the feature networks."""

import math

import pytest
import torch

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.evaluation import features
from inkwash.evaluation.features import Compact, resize
from inkwash.evaluation.fidelity import fidelity, frechet, kernel


def normal(count: int, dimensions: int, purpose: str, *, seed: int = 0) -> torch.Tensor:
    return Noise(seed, range(count)).normal((dimensions,), purpose, dtype=torch.float64)


def pictures(count: int, channels: int = 3, size: int = 64, *, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures in [-1, 1]."""
    return Noise(seed, range(count)).normal((channels, 8, 8)).tanh().repeat_interleave(size // 8, 2).repeat_interleave(
        size // 8, 3
    )


def whitened(count: int, dimensions: int, purpose: str) -> torch.Tensor:
    """Points whose sample mean is exactly 0 and whose sample covariance exactly the identity."""
    x = normal(count, dimensions, purpose)
    x = x - x.mean(dim=0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (count - 1))).T


def test_frechet_distance_of_normals_is_the_closed_form():
    d = 6
    a, b = normal(d, d, "a"), normal(d, d, "b")
    first, second = a @ a.T + torch.eye(d), b @ b.T + torch.eye(d)
    shift = normal(1, d, "shift")[0]
    x = whitened(500, d, "x") @ torch.linalg.cholesky(first).T
    y = whitened(700, d, "y") @ torch.linalg.cholesky(second).T + shift
    # Tr (S1 S2)^(1/2) by the symmetric form (S1^(1/2) S2 S1^(1/2))^(1/2), another route than torchmetrics'.
    values, vectors = torch.linalg.eigh(first)
    root = vectors @ values.sqrt().diag() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).sqrt().sum()
    expected = shift.square().sum() + first.trace() + second.trace() - 2 * cross
    assert frechet(x, y) == pytest.approx(expected.item(), rel=1e-9)


def test_identical_sets_are_at_distance_zero():
    x = normal(400, 64, "same")
    assert abs(frechet(x, x)) < 1e-6
    mean, deviation = kernel(x, x)
    # Two subsets of one set share pictures, which draws the unbiased estimate below 0 by exactly this much.
    k = (x @ x.T / 64 + 1) ** 3
    off = (k.sum() - k.trace()) / (400 * 399)
    expected = 2 / 400 * (off - k.trace() / 400)
    assert abs(mean - expected.item()) < 5 * deviation / 10


def test_two_draws_of_one_distribution_are_at_kernel_distance_zero():
    mean, deviation = kernel(normal(600, 16, "x"), normal(600, 16, "y"))
    shifted, _ = kernel(normal(600, 16, "x"), normal(600, 16, "y") + 0.3)
    assert abs(mean) < 3 * deviation
    assert shifted > 10 * abs(mean)


def test_kernel_distance_of_all_subsets_is_the_unbiased_estimate():
    x, y = normal(8, 5, "x"), normal(8, 5, "y") + 1.0
    k = lambda a, b: (a @ b.T / 5 + 1) ** 3  # noqa: E731
    off = ~torch.eye(4, dtype=torch.bool)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        estimates = []
        for _ in range(20):
            p, q = torch.randperm(8)[:4], torch.randperm(8)[:4]
            a, b = x[p], y[q]
            estimates.append(k(a, a)[off].mean() + k(b, b)[off].mean() - 2 * k(a, b).mean())
    mean, _ = kernel(x, y, subsets=20, seed=3)
    assert mean == pytest.approx(torch.stack(estimates).mean().item(), rel=1e-9)


def test_kernel_distance_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first = kernel(normal(20, 4, "x"), normal(20, 4, "y"), seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first == kernel(normal(20, 4, "x"), normal(20, 4, "y"), seed=1)
    assert first != kernel(normal(20, 4, "x"), normal(20, 4, "y"), seed=2)


@pytest.mark.law
def test_a_checkerboard_scales_down_to_grey():
    """Pitfall 23: without the low-pass filter a fine checkerboard turns into black, white or stripes."""
    i = torch.arange(128)
    board = (1.0 - 2.0 * ((i[:, None] + i) % 2)).expand(1, 3, 128, 128)
    assert resize(board, 64)[..., 1:-1, 1:-1].abs().max() < 1e-6
    network = Compact()
    grey = network(torch.zeros(1, 3, 128, 128))
    assert (network(board) - grey).norm() < 0.2 * (network(board[..., :64, :64]) - grey).norm()


@pytest.mark.law
def test_nothing_is_rounded_to_eight_bits():
    x = torch.zeros(1, 3, 64, 64)
    assert not torch.equal(Compact()(x), Compact()(x + 0.2 / 127.5))


def test_grey_is_three_equal_channels_and_four_are_refused():
    network, grey = Compact(), pictures(3, channels=1)
    torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(WrongUse, match="1 or 3 channels, these have 4"):
        network(torch.zeros(2, 4, 64, 64))


def test_features_do_not_depend_on_the_batch():
    network, x = Compact(), pictures(6)
    together = features.extract(network, [x])
    apart = features.extract(network, x.split(1))
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert together.shape == (6, 256)


@pytest.mark.parametrize("size", [1, 28, 100])
def test_any_size_goes_in(size):
    assert Compact()(torch.zeros(1, 3, size, size + 1)).isfinite().all()


def test_the_bundled_network_feels_every_degradation_and_more_of_it_more():
    network, x = Compact(), pictures(64)
    clean = features.extract(network, [x])
    noise = Noise(1, range(64)).normal((3, 64, 64))
    flat = lambda a: x * (1 - a)  # noqa: E731
    for degrade in (lambda a: x + a * noise, flat, lambda a: (x + a).clamp(-1, 1)):
        distances = [frechet(clean, features.extract(network, [degrade(a)])) for a in (0.0, 0.2, 0.6)]
        assert distances[0] < distances[1] < distances[2]


def test_fidelity_says_which_network_and_warns_of_small_sets():
    network = Compact()
    f = {name: features.extract(network, [pictures(20, seed=seed)]) for seed, name in enumerate("abc")}
    result = fidelity(network, f["a"], f["b"], f["c"][:12])
    assert (result.network, result.comparable, result.count) == ("compact", False, 12)
    assert result.warning is not None
    assert "12 pictures" in result.warning
    assert all(math.isfinite(v) for v in (result.fid, result.fid_floor, result.kid, result.kid_floor))
    # Three draws of one distribution: generated is as near as held-out.
    assert 0.5 < result.fid / result.fid_floor < 2.0


def test_wrong_networks_are_named(monkeypatch, tmp_path):
    with pytest.raises(WrongUse, match="did you mean 'compact'"):
        features.get("compct")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WrongUse, match="no such file; Inception features need"):
        features.get("inception-v3")
    with pytest.raises(WrongUse, match="no such file"):
        Compact(tmp_path / "none.safetensors")
