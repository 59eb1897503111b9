"""Training times: their distribution, their weights, and that they depend on the item alone."""

import math

import pytest
import torch
from scipy import stats
from torch import distributed, nn

from inkwash.corruption.gaussian import EDM, Flow, Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.times import Importance, LogNormal, LowDiscrepancy, Uniform
from inkwash.errors import WrongUse

N = 20_000


def draw(times, corruption=None, items=range(N), seed=0):
    return times.draw(Noise(seed, items), corruption or Linear())


def test_uniform_and_low_discrepancy_are_uniform():
    for times in (Uniform(), LowDiscrepancy()):
        t, weight = draw(times)
        assert stats.kstest(t.numpy(), "uniform").pvalue > 1e-3
        assert (weight == 1).all()


def test_low_discrepancy_spreads_every_batch():
    for start in (0, 64, 6400):
        t, _ = draw(LowDiscrepancy(), items=range(start, start + 64))
        # Each of 16 equal parts gets 4 of 64, give or take the discrepancy of the golden ratio.
        counts = torch.histc(t, 16, 0, 1)
        assert counts.min() >= 2
        assert counts.max() <= 6


@pytest.mark.parametrize(
    "times", [Uniform(), LowDiscrepancy(), LogNormal(), Importance(4)], ids=lambda times: type(times).__name__
)
def test_times_depend_on_the_item_alone(times):
    t, _ = draw(times, items=range(8))
    assert torch.equal(draw(times, items=[5, 2])[0], t[[5, 2]])
    assert not torch.equal(draw(times, items=range(8), seed=1)[0], t)
    assert ((t > 0) & (t < 1)).all()


def test_log_normal_levels():
    t, _ = draw(LogNormal(-1.2, 1.2), EDM())
    alpha, sigma = EDM().scales(t)
    level = (sigma / alpha).log().numpy()
    assert stats.kstest(level, "norm", args=(-1.2, 1.2)).pvalue > 1e-3


def test_log_normal_of_a_flow_is_logit_normal():
    t, _ = draw(LogNormal(0.0, 1.0), Flow())
    assert stats.kstest(t.logit().numpy(), "norm").pvalue > 1e-3


def taught(loss, bins=10):
    times = Importance(bins, floor=0.01)
    assert torch.equal(times.probabilities(), torch.full((bins,), 1 / bins, dtype=torch.float64))
    for step in range(200):
        t = Noise(9, range(step * 32, step * 32 + 32)).uniform((), "t", dtype=torch.float64)
        times.update(t, loss(t).float())
    return times


def test_importance_is_the_root_of_the_second_moment():
    times = taught(lambda t: 1 + 4 * (t * 10).floor())
    p = times.probabilities()
    loss = 1 + 4 * torch.arange(10, dtype=torch.float64)
    torch.testing.assert_close(p, 0.99 * loss / loss.sum() + 0.001, rtol=1e-5, atol=0)
    t, weight = draw(times)
    counts = torch.histc(t, 10, 0, 1) / N
    assert ((counts - p).abs() < 4.5 * (p * (1 - p) / N).sqrt()).all()
    within = t * 10 - (t * 10).floor()
    assert stats.kstest(within.numpy(), "uniform").pvalue > 1e-3
    torch.testing.assert_close(weight, 1 / (10 * p[(t * 10).long()]))


def test_importance_weights_leave_the_expected_loss():
    times = taught(lambda t: torch.exp(3 * t))
    t, weight = draw(times)
    weighted = weight * torch.exp(3 * t)
    truth = (math.exp(3) - 1) / 3
    assert abs(weighted.mean().item() - truth) < 4.5 * weighted.std().item() / math.sqrt(N)
    plain = torch.exp(3 * draw(Uniform())[0])
    assert weighted.std() < 0.5 * plain.std()


def test_importance_is_uniform_until_every_bin_has_been_seen():
    times = Importance(4)
    times.update(torch.full((100,), 0.1, dtype=torch.float64), torch.ones(100))
    assert times.probabilities().tolist() == [0.25] * 4


def test_importance_is_carried_by_checkpoints_and_taught_by_training():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(0.5))

        def forward(self, z, t, **condition):
            return self.w * z

    denoiser = GaussianDenoiser(Scale(), Linear(), times=Importance(4))
    x = torch.zeros(64, 1, 2, 2)
    denoiser.loss(x, noise=Noise(0, range(64)))
    assert denoiser.times.seen.sum() == 64
    assert denoiser.times.seen.min() >= 10
    denoiser.eval().loss(x, noise=Noise(1, range(64)))
    assert denoiser.times.seen.sum() == 64
    copy = GaussianDenoiser(Scale(), Linear(), times=Importance(4))
    copy.load_state_dict(denoiser.state_dict())
    assert torch.equal(copy.times.probabilities(), denoiser.times.probabilities())
    assert copy.times.probabilities().std() > 0


def test_importance_learns_the_same_from_parts_as_from_a_whole():
    """And nothing before the last of them: a part's times don't depend on the losses of the part before."""
    t = Noise(0, range(64)).uniform((), "t", dtype=torch.float64)
    loss = (1 + t).float()
    whole, parts = Importance(4), Importance(4)
    for _ in range(3):
        whole.update(t, loss)
        before = parts.probabilities()
        parts.hold()
        for part in range(0, 64, 16):
            parts.update(t[part : part + 16], loss[part : part + 16])
            assert torch.equal(parts.probabilities(), before)
        parts.fold()
    torch.testing.assert_close(parts.square, whole.square, rtol=1e-6, atol=0)
    assert torch.equal(parts.seen, whole.seen)
    assert parts.state_dict().keys() == {"square", "seen"}
    parts.update(t, loss)
    assert parts.seen.sum() == 256


def test_importance_is_the_same_on_one_process_and_on_two(monkeypatch):
    t = Noise(0, range(64)).uniform((), "t", dtype=torch.float64)
    loss = (1 + t).float()
    alone, second = Importance(4), Importance(4)
    alone.update(t, loss)

    sent = []
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather", lambda parts, mine: sent.append(mine))
    for rank in range(2):
        Importance(4).update(t[rank::2], loss[rank::2])
    monkeypatch.setattr(distributed, "all_gather", lambda parts, mine: [p.copy_(q) for p, q in zip(parts, sent)])
    second.update(t[1::2], loss[1::2])
    assert torch.equal(second.square, alone.square)
    assert torch.equal(second.seen, alone.seen)


def test_impossible_settings_are_refused():
    for wrong in (lambda: Importance(0), lambda: Importance(floor=0.0), lambda: LogNormal(std=0.0)):
        with pytest.raises(WrongUse):
            wrong()
