"""Caches of a walk: what is computed and what is kept, item by item, and that nothing outlives the walk."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import GaussianMixture
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import V
from inkwash.errors import WrongUse
from inkwash.nets.dit import DiT
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.sampling.cache import Cache
from inkwash.sampling.dpm_solver import DPMSolver
from inkwash.sampling.euler import Heun
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.cfg import apg, cfg
from inkwash.sampling.guidance.interval import within
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.loop import sample, walk
from inkwash.sampling.tuned import Tuned
from inkwash.sampling.unipc import UniPC
from inkwash.systems import recipes

SHAPE = (2, 8, 8)
GRID = Grid.uniform(6, start=0.9)
CORRUPTION = Cosine(steps=1000)
TWO = DPMSolver(2)


def awake(network, seed=0):
    """The network with all its weights random, those that start at zero too."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return network.eval()


def unet(**options):
    return awake(UNet(2, 2, base=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_channels=8, **options))


def dit(**options):
    return awake(DiT(2, 2, width=16, depth=3, head_channels=8, **options))


NETWORKS = {
    "unet": unet,
    "unet of two blocks": lambda **told: awake(
        UNet(2, 2, base=8, multipliers=(2, 1, 2), blocks=2, attention=(False, False, True), head_channels=8, **told)
    ),
    "unet of one level": lambda **told: awake(
        UNet(2, 2, base=8, multipliers=(1,), blocks=1, attention=(False,), head_channels=8, **told)
    ),
    "patched": lambda **told: Patched(
        awake(UNet(8, 8, base=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_channels=8, **told)), 2
    ),
    "dit": dit,
}


def denoiser(network, **options):
    return GaussianDenoiser(network, CORRUPTION, V(), **options).eval()


def draw(model, cache, items=5, *, solver=TWO, grid=GRID, seed=3, **condition):
    noise = Noise(seed, range(items) if isinstance(items, int) else items)
    return sample(model, solver, grid, SHAPE, noise=noise, cache=cache, **condition)


class Count:
    """Rows that went through a module."""

    def __init__(self, module):
        self.calls = []
        module.register_forward_hook(lambda _, given, __: self.calls.append(given[0].shape[0]))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("cache", [Cache(), Cache(deep=1), Cache(first_block=0.0), Cache(guidance=1)], ids=str)
def test_keeping_nothing_changes_no_bit(name, cache):
    model = denoiser(NETWORKS[name](classes=3))
    guided, label = clip(-3.0, 3.0)(cfg(2.0)(model)), torch.tensor([0, 1, 2, 0, 1])
    assert cache.begin(guided) is guided
    assert torch.equal(draw(guided, cache, label=label), draw(guided, None, label=label))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cache_that_is_always_stale_computes_what_none_would(name):
    """The path through the memory itself: a residual never changes by less than nothing."""
    model = denoiser(NETWORKS[name]())
    plain, kept = draw(model, None), draw(model, Cache(first_block=1e-12))
    if name == "dit":  # what the blocks add is taken off and put back
        assert (kept - plain).abs().max() < 1e-5
    else:
        assert torch.equal(kept, plain)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_deep_part_is_computed_at_every_nth_evaluation(name):
    network = NETWORKS[name]()
    inside = network.network if name == "patched" else network
    deep, shallow = (inside.blocks[1], inside.blocks[0]) if name == "dit" else (inside.middle[0], inside.enter)
    deep, shallow = Count(deep), Count(shallow)
    model = denoiser(network)
    for every, calls in ((2, 3), (3, 2), (4, 2), (6, 1), (50, 1)):
        deep.calls.clear()
        shallow.calls.clear()
        kept = draw(model, Cache(deep=every))
        assert deep.calls == [5] * calls
        assert shallow.calls == [5] * 6
        assert (kept - draw(model, None)).abs().max() > 1e-4  # here it makes a difference


def test_evaluations_are_counted_not_steps():
    network = unet()
    deep = Count(network.middle[0])
    draw(denoiser(network), Cache(deep=3), solver=Heun(), grid=Grid.uniform(4, start=0.9))
    assert len(deep.calls) == 3  # of 7 evaluations, the last step taking one


def test_what_is_kept_is_what_was_computed_then():
    """Between two computations the deep part is that of the evaluation that computed it: seen on the next one."""
    network = unet()
    model, seen = denoiser(network), []
    z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    cached = Cache(deep=2).begin(model)
    network.up[-1].register_forward_hook(lambda *_: None)
    network.up[2].register_forward_hook(lambda _, given, out: seen.append(out))  # the last of the coarser level
    cached(z, 0.9)
    entered = []
    network.up[3].register_forward_hook(lambda _, given, out: entered.append(given[0]))
    second = z + 0.3
    cached(second, 0.8)
    assert len(seen) == 1
    assert torch.equal(entered[0][:, : seen[0].shape[1]], seen[0])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("cache", [Cache(deep=2), Cache(first_block=0.15), Cache(first_block=0.4)], ids=str)
@pytest.mark.parametrize("solver", [DPMSolver(2), UniPC(2), Heun()], ids=lambda s: type(s).__name__)
def test_an_item_is_the_same_in_every_batch(name, cache, solver):
    model = clip(-1.0, 1.0)(denoiser(NETWORKS[name]()))
    together = draw(model, cache, 6, solver=solver)
    alone = torch.cat([draw(model, cache, [item], solver=solver) for item in range(6)])
    pair = draw(model, cache, [4, 1], solver=solver)
    assert (together - alone).abs().max() < 1e-4
    assert (pair - alone[[4, 1]]).abs().max() < 1e-4


def test_each_item_decides_for_itself():
    """One item stands still and one moves: the first is computed once, the second every time, and exactly so."""
    network = unet()
    deep = Count(network.middle[0])
    model = denoiser(network)
    generator = torch.Generator().manual_seed(0)
    still, moving = torch.randn(SHAPE, generator=generator), torch.randn(4, *SHAPE, generator=generator)
    cached = Cache(first_block=0.2).begin(model)
    for k, other in enumerate(moving):
        both = cached(torch.stack([still, other]), 0.5).mean
        assert (both - model(torch.stack([still, other]), 0.5).mean).abs().max() < 1e-5
        assert deep.calls.pop(-2) == (2 if k == 0 else 1)  # the last call is the plain model's
    assert deep.calls == [2] * 4


def test_the_threshold_is_where_the_first_block_says():
    network = unet()
    model, deep = denoiser(network), Count(network.middle[0])
    residuals = []
    network.down[0].register_forward_hook(lambda _, given, out: residuals.append((out - given[0])[0]))
    generator = torch.Generator().manual_seed(1)
    z, other = torch.randn(1, *SHAPE, generator=generator), torch.randn(1, *SHAPE, generator=generator)
    model(z, 0.5)
    model(z + 0.2 * other, 0.5)
    first, second = residuals
    change = ((second - first).abs().mean() / first.abs().mean()).item()
    assert 0.01 < change < 1
    for threshold, computed in ((change * 1.001, 1), (change * 0.999, 2)):
        deep.calls.clear()
        cached = Cache(first_block=threshold).begin(model)
        cached(z, 0.5)
        cached(z + 0.2 * other, 0.5)
        assert len(deep.calls) == computed


def test_the_change_is_since_the_deep_part_was_computed():
    """Small steps add up: each is below the threshold, and the deep part is computed wherever their sum is not."""
    network = unet()
    model, deep = denoiser(network), Count(network.middle[0])
    residuals = []
    network.down[0].register_forward_hook(lambda _, given, out: residuals.append((out - given[0])[0]))
    generator = torch.Generator().manual_seed(1)
    z, other = torch.randn(1, *SHAPE, generator=generator), torch.randn(1, *SHAPE, generator=generator)
    cached = Cache(first_block=0.1).begin(model)
    for k in range(40):
        cached(z + 0.05 * k * other, 0.5)
    then, expected = residuals[0], 1
    for before, now in pairwise(residuals):
        assert (now - before).abs().mean() < 0.1 * then.abs().mean()
        if (now - then).abs().mean() >= 0.1 * then.abs().mean():
            then, expected = now, expected + 1
    assert len(deep.calls) == expected >= 3


def test_a_walk_leaves_nothing_behind():
    network = unet()
    model, cache = denoiser(network), Cache(deep=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    once, other, again = draw(model, cache), draw(model, cache, seed=4), draw(model, cache)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(draw(model, None), draw(denoiser(unet()), None))
    assert model.network is network


def test_two_walks_at_once_do_not_see_each_other():
    model, cache = denoiser(unet()), Cache(deep=3)
    noises = [Noise(seed, range(3)) for seed in (1, 2)]
    starts = [CORRUPTION.prior(SHAPE, noise=noise) for noise in noises]
    walks = [walk(model, DPMSolver(2), GRID, z, noise=noise, cache=cache) for z, noise in zip(starts, noises)]
    *_, last = zip(*walks)
    for step, seed in zip(last, (1, 2)):
        assert torch.equal(step.z, draw(model, cache, 3, seed=seed))


def test_a_tuned_walk_takes_a_cache():
    steps = Tuned((1.0, 0.7, 0.3, 0.0), ((0.7, 0.2), (0.5, 0.4, 0.1), (0.0, 1.1, -0.1)))
    network = unet()
    deep = Count(network.middle[0])
    assert draw(denoiser(network), Cache(deep=2), solver=steps, grid=steps.grid).isfinite().all()
    assert len(deep.calls) == 2


def test_weights_are_shared_not_copied():
    model = clip(-1.0, 1.0)(cfg(3.0)(denoiser(unet(classes=2))))
    cached = Cache(deep=2, guidance=2).begin(model)
    assert {id(p) for p in cached.parameters()} == {id(p) for p in model.parameters()}
    assert cached.corruption is model.corruption


GUIDANCES = {"cfg": cfg(2.5), "rescaled": cfg(2.5, rescale=0.7), "apg": apg(2.5, radius=4.0)}
LABEL = torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize("name", GUIDANCES)
def test_cached_guidance_calls_half_the_network_in_between(name):
    network = unet(classes=3)
    rows = Count(network.enter)
    model = clip(-3.0, 3.0)(GUIDANCES[name](denoiser(network)))
    kept = draw(model, Cache(guidance=3), 4, label=LABEL)
    assert rows.calls == [8, 4, 4, 8, 4, 4]
    assert (kept - draw(model, None, 4, label=LABEL)).abs().max() > 1e-4
    alone = torch.cat([draw(model, Cache(guidance=3), [i], label=LABEL[i : i + 1]) for i in range(4)])
    assert (kept - alone).abs().max() < 1e-4


def test_a_guidance_that_stays_the_same_is_kept_exactly():
    """Where the difference does not depend on z and t, keeping it costs nothing but rounding."""

    class Shifted(GaussianMixture):
        def forward(self, z, t, *, label):
            posterior = super().forward(z, t)
            return dataclasses.replace(posterior, mean=posterior.mean + 0.1 * (label + 1).reshape(-1, 1, 1, 1))

    model = cfg(3.0)(Shifted(torch.ones(1), torch.full((1, *SHAPE), 0.2), CORRUPTION, std=0.5))
    plain, kept = (draw(model, cache, 4, label=LABEL) for cache in (None, Cache(guidance=4)))
    assert (kept - plain).abs().max() < 1e-5


def test_both_caches_together_compute_what_each_row_needs():
    network = unet(classes=3)
    shallow, deep = Count(network.enter), Count(network.middle[0])
    model = cfg(2.5)(denoiser(network))
    draw(model, Cache(deep=2, guidance=3), 4, label=LABEL)
    assert shallow.calls == [8, 4, 4, 8, 4, 4]
    # The conditional half at the evaluations 0, 2, 4; the other one where it is called and two have passed.
    assert deep.calls == [8, 4, 4, 4]
    kept = draw(model, Cache(deep=2, guidance=3), 4, label=LABEL)
    alone = torch.cat([draw(model, Cache(deep=2, guidance=3), [i], label=LABEL[i : i + 1]) for i in range(4)])
    assert (kept - alone).abs().max() < 1e-4


def test_guidance_in_an_interval_keeps_one_memory():
    network = unet(classes=3)
    shallow, deep = Count(network.enter), Count(network.middle[0])
    model = within(cfg(2.5), t=(0.4, 0.7))(denoiser(network))
    draw(model, Cache(deep=2), 4, label=LABEL)
    assert shallow.calls == [4, 4, 8, 8, 4, 4]  # at 0.9, 0.75 | 0.6, 0.45 | 0.3, 0.15
    # 0.9: the four; 0.6: the four again and the four new ones; 0.3: the four.
    assert deep.calls == [4, 8, 4]


def test_conditions_of_every_kind_go_with_their_rows():
    told = {
        "label": torch.tensor([0, 1, 2, 1]),
        "vector": torch.randn(4, 3, generator=torch.Generator().manual_seed(1)),
        "context": torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(2)),
        "image": torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3)),
    }
    for make in (unet, dit):
        model = denoiser(make(classes=3, vector=3, context=6, image=1))
        cache = Cache(first_block=0.15)
        together = draw(model, cache, 4, **told)
        alone = torch.cat([draw(model, cache, [i], **{k: v[i : i + 1] for k, v in told.items()}) for i in range(4)])
        assert (together - alone).abs().max() < 1e-4


def test_an_estimate_and_a_learned_variance_pass_through():
    network = awake(
        UNet(2, 4, base=8, multipliers=(1, 2), blocks=1, attention=(False, False), head_channels=8, image=2)
    )
    model = denoiser(network, learned_variance=True, self_conditioning=True)
    assert draw(model, Cache(deep=2)).isfinite().all()


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        (Cache(deep=2), "keeps the deep part of a U-Net or a transformer"),
        (Cache(first_block=0.1), "keeps the deep part of a U-Net or a transformer"),
        (Cache(guidance=2), "guidance is off"),
    ],
    ids=str,
)
def test_a_cache_without_anything_to_keep_is_refused(cache, said):
    with pytest.raises(WrongUse, match=said):
        draw(GaussianMixture(torch.ones(1), torch.zeros(1, *SHAPE), CORRUPTION, std=0.5), cache)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deep": 0}, "1 evaluation or more"),
        ({"guidance": -1}, "1 evaluation or more"),
        ({"first_block": -0.1}, "0 or more"),
        ({"first_block": float("nan")}, "0 or more"),
        ({"deep": 2, "first_block": 0.1}, "take one of them"),
    ],
    ids=str,
)
def test_wrong_caches_are_refused(options, said):
    with pytest.raises(WrongUse, match=said):
        Cache(**options)


@pytest.mark.parametrize(
    ("text", "cache"),
    [
        ("deep:3", Cache(deep=3)),
        ("first-block:0.08", Cache(first_block=0.08)),
        ("guidance:2", Cache(guidance=2)),
        ("deep:2+guidance:4", Cache(deep=2, guidance=4)),
        ("none", Cache()),
    ],
)
def test_caches_have_names(text, cache):
    assert recipes.cache(text) == cache
    assert recipes.cache(str(cache) or "none") == cache


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dep:3", "did you mean 'deep'"),
        ("deep", "deep:N"),
        ("deep:x", "deep:N"),
        ("deep:2.5", "deep:N"),
        ("first-block:", "first-block:CHANGE"),
        ("deep:2+deep:3", "twice"),
        ("deep:0", "1 evaluation or more"),
        ("", "known"),
    ],
)
def test_what_is_no_cache_is_told_what_would_be_one(text, said):
    with pytest.raises(WrongUse, match=said):
        recipes.cache(text)
