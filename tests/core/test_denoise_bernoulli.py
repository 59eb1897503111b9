"""The denoiser of binary masks and its samplers, against chains that are counted out and beliefs that are exact."""

import math

import pytest
import torch
from torch import nn

from inkwash.corruption.bernoulli import BernoulliCorruption
from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Bernoulli
from inkwash.corruption.retention import CosineRetention, LinearRetention
from inkwash.denoise.bernoulli import BernoulliDenoiser, focal
from inkwash.denoise.exact import ExactBernoulli
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.errors import WrongUse
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.bernoulli import BernoulliDDIM
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import sample, walk
from inkwash.sampling.solver import State

T = 10
N = 40_000
# One probability a pixel, and two items that differ.
ENDS = torch.tensor([[0.1, 0.5, 0.93], [0.6, 0.02, 0.3]], dtype=torch.float64)
RETENTIONS = {"cosine": CosineRetention(), "linear": LinearRetention()}
each_retention = pytest.mark.parametrize("retention", RETENTIONS.values(), ids=RETENTIONS)


def doubles(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chain(retention, end):
    """The product of the transition matrices of steps `i + 1 .. j`, `(T + 1, T + 1, 2, 2)`, from state to state."""
    keep = [retention(torch.tensor(k / T, dtype=torch.float64)).item() for k in range(T + 1)]
    redraw = torch.tensor([[1 - end, end], [1 - end, end]], dtype=torch.float64)
    steps = [keep[k + 1] / keep[k] * torch.eye(2).double() + (1 - keep[k + 1] / keep[k]) * redraw for k in range(T)]
    table = torch.zeros(T + 1, T + 1, 2, 2, dtype=torch.float64)
    for i in range(T + 1):
        table[i, i] = torch.eye(2)
        for j in range(i, T):
            table[i, j + 1] = table[i, j] @ steps[j]
    return table


@each_retention
def test_the_marginal_is_that_of_the_chain_step_by_step(retention):
    for end in (0.0, 0.3, 0.97):
        table = chain(retention, end)
        for k in range(T + 1):
            keep = retention(torch.tensor(k / T, dtype=torch.float64)).item()
            for y in (0, 1):
                assert table[0, k, y, 1].item() == pytest.approx(keep * y + (1 - keep) * end, abs=1e-14)


@each_retention
def test_the_posterior_of_every_pair_of_steps_is_counted_out(retention):
    """Items at times of their own, each pixel with an end of its own."""
    corruption = BernoulliCorruption(retention=retention).towards(ENDS)
    tables = [[chain(retention, end) for end in row] for row in ENDS.tolist()]
    for j in range(1, T + 1):
        for i in range(j):
            other = (j % T + 1, j % T)  # the second item's pair of steps
            t = torch.tensor([j / T, other[0] / T], dtype=torch.float64)
            s = torch.tensor([i / T, other[1] / T], dtype=torch.float64)
            for z in (0.0, 1.0):
                for y in (0, 1):
                    sure = Bernoulli(torch.full_like(ENDS, math.inf if y else -math.inf))
                    drawn = torch.full_like(ENDS, z)
                    ours = corruption.kernel(drawn, sure, t, s)
                    for item, (b, a) in enumerate(((j, i), other)):
                        for pixel, table in enumerate(tables[item]):
                            joint = table[0, a, y] * table[a, b, :, int(z)]
                            assert ours[item, pixel].item() == pytest.approx((joint[1] / joint.sum()).item(), abs=1e-9)


def test_log_odds_are_the_logit_of_the_kernel():
    corruption = BernoulliCorruption().towards(ENDS)
    z, belief = (doubles(2, 3) > 0).double(), Bernoulli(doubles(2, 3, seed=1))
    for t, s in ((1.0, 0.9), (0.5, 0.1)):
        expected = corruption.kernel(z, belief, t, s).logit()
        torch.testing.assert_close(corruption.log_odds(z, belief, t, s), expected, rtol=0, atol=1e-12)
    narrow = BernoulliCorruption(1e-6).log_odds(torch.zeros(1, 1), Bernoulli(torch.tensor([[-40.0]])), 0.2, 0.1)
    assert -40 < narrow.item() < -14


def test_evidence_is_the_ratio_of_the_likelihoods():
    corruption = BernoulliCorruption().towards(ENDS)
    z = (doubles(2, 3) > 0).double()
    t = torch.tensor([0.3, 1.0], dtype=torch.float64)
    zero, one = corruption.likelihood(z, t).unbind(dim=1)
    evidence = corruption.evidence(z, t)
    torch.testing.assert_close(evidence, (one / zero).log(), rtol=0, atol=1e-12)
    assert evidence[0].abs().min() > 0.1
    assert evidence[1].abs().max() < 1e-12


class Fixed(nn.Module):
    """A network that returns the same thing whatever it sees, and remembers what it saw."""

    def __init__(self, output):
        super().__init__()
        self.output = nn.Parameter(output)
        self.seen = ()

    def forward(self, z, t, **condition):
        self.seen = (z, t, condition)
        return self.output.expand(len(z), *self.output.shape[1:])


def test_the_clean_mask_is_the_noisy_one_less_the_flips():
    flip = torch.tensor([[-2.0, 0.0, 3.0]], dtype=torch.float64)
    network = Fixed(flip)
    denoiser = BernoulliDenoiser(network, BernoulliCorruption())
    z = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    mean = denoiser(z, 0.4, image=z).mean
    torch.testing.assert_close(mean, (z - flip.sigmoid()).abs(), rtol=0, atol=1e-12)
    seen, time, condition = network.seen
    assert torch.equal(seen, 2 * z - 1)
    assert time.tolist() == [400.0]
    assert condition.keys() == {"image"}


def test_a_network_that_says_nothing_of_the_mask_leaves_bayes_rule_on_its_own():
    """The exact posterior of a pixel that is one with the probability that the corruption ends in."""
    for end in (0.2, 0.85):
        corruption = BernoulliCorruption(end)
        weights = torch.tensor([1 - end, end], dtype=torch.float64)
        exact = ExactBernoulli(weights, torch.tensor([[0.0], [1.0]]), corruption)
        ours = BernoulliDenoiser(Fixed(torch.zeros(1, 1).double()), corruption, predict="mask")
        z = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        for t in (1.0, 0.6, 0.1):
            torch.testing.assert_close(ours(z, t).mean, exact(z, t).mean, rtol=0, atol=1e-12)


def test_the_end_of_one_denoiser_is_not_that_of_another():
    denoiser = BernoulliDenoiser(Fixed(torch.zeros(1, 3).double()), BernoulliCorruption())
    aimed = denoiser.towards(ENDS)
    assert torch.equal(aimed.corruption.prior_mean, ENDS)
    assert denoiser.corruption.prior_mean == 0.5
    assert aimed.network is denoiser.network


@each_retention
@pytest.mark.parametrize("predict", ["flip", "mask"])
def test_the_terms_of_the_loss_are_written_out(retention, predict):
    """KL of the counted step, the likelihood at the last, focal; bits, mean over pixels."""
    items = 60
    ends = ENDS.repeat(items // 2, 1)
    corruption = BernoulliCorruption(retention=retention).towards(ends)
    network = Fixed(doubles(1, 3))
    denoiser = BernoulliDenoiser(network, corruption, steps=T, predict=predict)
    y = (doubles(items, 3, seed=2) > 0).double()
    noise = Noise(5, range(items))
    terms = denoiser.terms(y, noise=noise)
    z, time = (network.seen[0] + 1) / 2, network.seen[1]
    steps = (time / 1000 * T).round().int().tolist()
    assert set(steps) == set(range(1, T + 1))
    belief = denoiser(z, torch.tensor(steps, dtype=torch.float64) / T).mean
    tables = [[chain(retention, end) for end in row] for row in ENDS.tolist()]
    for item, k in enumerate(steps):
        divergence = focused = 0.0
        for pixel in range(3):
            table, one = tables[item % 2][pixel], belief[item, pixel].item()
            truth, seen = int(y[item, pixel]), int(z[item, pixel])
            steps_to = [table[0, k - 1, x] * table[k - 1, k, :, seen] for x in (0, 1)]
            zero_to, one_to = (step / step.sum() for step in steps_to)
            q, p = (zero_to, one_to)[truth], (1 - one) * zero_to + one * one_to
            right = one if truth else 1 - one
            divergence += -math.log2(right) if k == 1 else sum(
                (a * math.log2(a / b) for a, b in zip(q.tolist(), p.tolist()) if a > 0), 0.0
            )
            focused += -((1 - right) ** 2) * math.log2(right)
        assert terms["divergence"][item].item() == pytest.approx(divergence / 3, abs=1e-7)
        assert terms["focal"][item].item() == pytest.approx(focused / 3, abs=1e-9)
    torch.testing.assert_close(denoiser.loss(y, noise=noise), terms["divergence"] + terms["focal"])


def test_focal_is_its_formula_and_the_same_for_a_flip():
    logits, y, z = doubles(50), (doubles(50, seed=1) > 0).double(), (doubles(50, seed=2) > 0).double()
    right = torch.where(y > 0, logits.sigmoid(), (-logits).sigmoid())
    torch.testing.assert_close(focal(logits, y), -((1 - right) ** 2) * right.log(), rtol=1e-10, atol=0)
    torch.testing.assert_close(focal(logits, y, gamma=0.5), -((1 - right) ** 0.5) * right.log(), rtol=1e-10, atol=0)
    torch.testing.assert_close(focal((1 - 2 * z) * logits, (z - y).abs()), focal(logits, y), rtol=1e-10, atol=0)


def test_no_belief_costs_less_than_the_exact_one():
    """At every step: the expected divergence, counted over the mask and the noisy mask, is least at `p(y_0 | y_t)`."""
    clean, corruption = torch.tensor([0.2, 0.8], dtype=torch.float64), BernoulliCorruption(0.35)
    exact = ExactBernoulli(clean, torch.tensor([[0.0], [1.0]]), corruption)
    denoiser = BernoulliDenoiser(Fixed(torch.zeros(1, 1).double()), corruption, steps=T)
    y, z = (v.reshape(-1, 1) for v in torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij"))
    for k in range(1, T + 1):
        t = torch.full((4,), k / T, dtype=torch.float64)
        weight = clean[y] * corruption.likelihood(z.double(), t)[:, :, 0].gather(1, y)
        assert weight.sum().item() == pytest.approx(1, abs=1e-12)

        def cost(logits, t=t, weight=weight):
            """Of a belief for each value of the noisy mask."""
            return (weight * denoiser.divergence(y.double(), z.double(), Bernoulli(logits[z]), t)).sum()

        belief = exact(torch.tensor([[0.0], [1.0]], dtype=torch.float64), k / T).logits[:, 0].requires_grad_()
        assert torch.autograd.grad(cost(belief), belief)[0].abs().max() < 1e-9
        for off in (-0.5, 0.5):
            assert cost(belief + off) > cost(belief) + 1e-6


@pytest.mark.parametrize("predict", ["flip", "mask"])
def test_gradients_are_finite_where_the_end_is_nearly_sure(predict):
    end = torch.tensor([[1e-6, 1 - 1e-6, 0.5]]).repeat(40, 1).requires_grad_()
    output = torch.tensor([[30.0, -30.0, 0.0]]).repeat(40, 1)
    for sign in (1, -1):
        network = Fixed(sign * output)
        denoiser = BernoulliDenoiser(network, BernoulliCorruption(), predict=predict).towards(end)
        y = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]).repeat(20, 1)
        loss = denoiser.loss(y, noise=Noise(0, range(40)))
        assert loss.isfinite().all()
        gradients = torch.autograd.grad(loss.sum(), (network.output, end))
        assert all(g.isfinite().all() for g in gradients)


class Aimed(ExactBernoulli):
    """The exact belief of one pixel an item, each with an end of its own."""

    def _marginals(self, likelihood):
        share = self.weights[None, :, None] * likelihood
        return share / share.sum(dim=1, keepdim=True)


def pixels(solver, times, *, ends, clean):
    """Ones drawn, and how many there would be, with their standard deviation."""
    corruption = BernoulliCorruption().towards(ends)
    denoiser = Aimed(torch.tensor([1 - clean, clean]), torch.tensor([[0.0], [1.0]]), corruption)
    return sample(denoiser, solver, Grid.of(times), (1,), noise=Noise(7, range(len(ends)))), corruption


@pytest.mark.parametrize("solver", [Ancestral(), BernoulliDDIM()], ids=["ancestral", "ddim"])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_exact_beliefs_give_the_data_in_any_number_of_steps(solver, steps):
    ends = torch.where(torch.arange(N) % 2 == 0, 0.1, 0.7)[:, None]
    drawn, _ = pixels(solver, Grid.trailing(T, steps).times, ends=ends, clean=0.35)
    for part in (drawn[::2], drawn[1::2]):
        assert abs(part.mean().item() - 0.35) < 4 * math.sqrt(0.35 * 0.65 / len(part))


@pytest.mark.parametrize("solver", [Ancestral(), BernoulliDDIM()], ids=["ancestral", "ddim"])
@pytest.mark.parametrize("times", [(1.0, 0.3), (1.0, 0.5, 0.3), tuple(k / T for k in range(10, 2, -1))])
def test_respaced_walks_have_the_same_marginals_on_their_way(solver, times):
    ends = torch.where(torch.arange(N) % 2 == 0, 0.1, 0.7)[:, None]
    drawn, corruption = pixels(solver, times, ends=ends, clean=0.35)
    keep = corruption.keep(0.3)
    for part, end in ((drawn[::2], 0.1), (drawn[1::2], 0.7)):
        one = keep * 0.35 + (1 - keep) * end
        assert abs(part.mean().item() - one) < 4 * math.sqrt(one * (1 - one) / len(part))


@pytest.mark.parametrize("solver", [Ancestral(), BernoulliDDIM()], ids=["ancestral", "ddim"])
def test_masks_of_dependent_pixels_come_out_whole_with_enough_steps(solver):
    """Two masks, each the other's negative; in one step the pixels know nothing of one another."""
    atoms = torch.tensor([[1.0] * 4 + [0.0] * 4, [0.0] * 4 + [1.0] * 4])
    denoiser = ExactBernoulli(torch.tensor([0.5, 0.5]), atoms, BernoulliCorruption(0.5))
    whole = []
    for steps in (1, 10, 40):
        drawn = sample(denoiser, solver, Grid.uniform(steps), (8,), noise=Noise(1, range(4000)))
        whole.append((drawn[:, None] == atoms).all(dim=2).any(dim=1).double().mean().item())
    assert whole[0] < 0.03
    assert whole[1] > 0.5
    assert whole[2] > 0.9


def test_ddim_keeps_the_marginals_and_a_pixel_as_long_as_it_can():
    corruption, clean = BernoulliCorruption(0.2), 1.0
    for t, s in ((1.0, 0.7), (0.6, 0.1)):
        keep_t, keep_s = corruption.keep(t), corruption.keep(s)
        stay = (1 - keep_s) / (1 - keep_t)
        one_t = keep_t * clean + (1 - keep_t) * 0.2
        assert stay * one_t + (1 - stay) * clean == pytest.approx(keep_s * clean + (1 - keep_s) * 0.2, abs=1e-12)
        denoiser = BernoulliDenoiser(Fixed(torch.zeros(1, 1)), corruption)
        path = Noise(0, range(N)).path((1,))
        for z in (0.0, 1.0):
            step = BernoulliDDIM().step(denoiser, State(torch.full((N, 1), z)), t, s, path=path)
            one = stay * z + (1 - stay) * 0.5
            assert abs(step.z.mean().item() - one) < 4 * math.sqrt(one * (1 - one) / N)
            assert torch.equal(step.posterior.mean, torch.full((N, 1), 0.5))


def test_an_item_is_itself_in_every_batch():
    denoiser = ExactBernoulli(torch.tensor([0.4, 0.6]), torch.eye(2), BernoulliCorruption(0.3))
    for solver in (Ancestral(), BernoulliDDIM()):
        z = denoiser.corruption.prior((2,), noise=Noise(0, range(9)))
        together = [step.z[4:5] for step in walk(denoiser, solver, Grid.uniform(5), z, noise=Noise(0, range(9)))]
        alone = [step.z for step in walk(denoiser, solver, Grid.uniform(5), z[4:5], noise=Noise(0, [4]))]
        assert all(torch.equal(a, b) for a, b in zip(together, alone))


def test_wrong_uses_are_refused():
    corruption = BernoulliCorruption()
    gaussian = GaussianDenoiser(Fixed(torch.zeros(1, 1)), Cosine())
    x, noise = torch.zeros(2, 1), Noise(0, range(2))
    for wrong, said in (
        (lambda: BernoulliDenoiser(nn.Identity(), corruption, steps=1), "at least 2 steps"),
        (lambda: BernoulliDenoiser(Fixed(torch.zeros(1, 2)), corruption)(x, 0.5), "one shape"),
        (lambda: BernoulliDenoiser(Fixed(torch.zeros(1, 1)), corruption).terms(x, noise=Noise(0, [1])), "1 items"),
        (lambda: BernoulliDDIM().step(gaussian, State(x), 0.5, 0.1, path=noise.path((1,))), "Cosine"),
    ):
        with pytest.raises(WrongUse, match=said):
            wrong()
