"""Tiles: exact where a denoiser looks at pixels alone, and as close as it looks far elsewhere."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from inkwash.corruption.categorical import CategoricalCorruption
from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Bernoulli, Categorical, Normal, Point, Ranged
from inkwash.denoise.base import Denoiser
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Data
from inkwash.errors import WrongUse
from inkwash.nets.dit import DiT
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.sampling.guidance.cfg import cfg
from inkwash.sampling.tiled import _window, blended, grid_of, places, starts, tiled
from inkwash.systems import recipes

SIZES = {1: (37,), 2: (20, 33), 3: (9, 14, 11)}
TILES = [(8, 0, 1), (8, 1, 1), (8, 3, 2), (8, 7, 4), (5, 2, 8), (64, 3, 1)]


class Pixelwise(Denoiser):
    """A belief about each pixel from that pixel, its condition and the label alone."""

    corruption = Cosine()

    def __init__(self, kind: type = Point) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, z, t, *, image=None, label=None, **condition: Any):
        x = torch.sin(3 * z) * (1 - t)
        if image is not None:
            x = x + image.sum(dim=1, keepdim=True)
        if label is not None:
            x = x + label.reshape(-1, *[1] * (z.ndim - 1))
        if self.kind is Point:
            return Point(x)
        return self.kind(x, x.square()) if self.kind in (Normal, Ranged) else self.kind(x)


class Seen(Denoiser):
    """Remembers the shapes of what it was asked about."""

    corruption = Cosine()

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, z, t, **condition):
        self.shapes.append(tuple(z.shape))
        return Point(z)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return Noise(seed, range(shape[0])).normal(shape[1:], "z")


@pytest.mark.parametrize("spatial", SIZES)
@pytest.mark.parametrize(("tile", "overlap", "multiple"), TILES)
@pytest.mark.parametrize("kind", [Point, Normal, Ranged, Bernoulli])
def test_a_pixelwise_denoiser_gives_the_same_bits(spatial, tile, overlap, multiple, kind):
    inner, z = Pixelwise(kind), noise(3, 2, *SIZES[spatial])
    told = {"image": noise(3, 4, *SIZES[spatial], seed=1), "label": torch.tensor([0, 5, 2])}
    made = tiled((tile,) * spatial, overlap=overlap, multiple=multiple)(inner)(z, 0.3, **told)
    expected = inner(z, 0.3, **told)
    assert type(made) is kind
    for name, value in vars(expected).items():
        assert torch.equal(getattr(made, name), value), name


def test_classes_have_no_channels():
    """Of tokens `z` is `(B, *positions)` and the logits have one axis more."""

    class Tokens(Denoiser):
        corruption = CategoricalCorruption.absorbing(4)

        def forward(self, z, t, **condition):
            return Categorical(torch.nn.functional.one_hot(z, 5).movedim(-1, 1)[:, :4].float() * 3)

    z = torch.arange(2 * 10 * 7).reshape(2, 10, 7) % 5
    made, expected = tiled((4, 4), overlap=2)(Tokens())(z, 0.5), Tokens()(z, 0.5)
    assert torch.equal(made.logits, expected.logits)


@pytest.mark.parametrize("spatial", SIZES)
@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 3), (6, 5), (40, 7)])
@pytest.mark.parametrize("multiple", [1, 2, 4])
def test_weights_are_a_partition_of_one_over_the_whole_picture(spatial, tile, overlap, multiple):
    """Beliefs of `k` from the k-th tile come out as the mean of those that cover a pixel."""
    size = SIZES[spatial]
    total, weighted, count = torch.zeros(size), torch.zeros(size), torch.zeros(size)
    window = _window([min(s, tile) for s in size], overlap)
    assert (window > 0).all()
    assert window.max() <= 1
    corners = list(places(size, (tile,) * spatial, overlap, multiple))
    for k, place in enumerate(corners):
        assert total[place].shape == window.shape
        total[place] += window
        weighted[place] += k * window
        count[place] += 1
    assert (count > 0).all()

    class Numbered(Denoiser):
        corruption = Cosine()
        k = -1

        def forward(self, z, t, **condition):
            self.k += 1
            return Point(torch.full_like(z, float(self.k)))

    made = tiled((tile,) * spatial, overlap=overlap, multiple=multiple)(Numbered())(noise(1, 1, *size), 0.5).mean[0, 0]
    torch.testing.assert_close(made, weighted / total, rtol=1e-5, atol=1e-5)


def test_neighbours_that_overlap_as_asked_fade_into_one_another():
    """sin^2 and cos^2: away from the picture's edge the plain weights already add up to one."""
    window = _window([16], 6)
    joined = torch.zeros(36)
    for start in starts(36, 16, 6):
        joined[start : start + 16] += window
    torch.testing.assert_close(joined[6:-6], torch.ones(24))
    assert window[:6].diff().min() > 0


@pytest.mark.parametrize("side", [16, 17, 40, 63, 64, 65])
@pytest.mark.parametrize(("tile", "overlap", "multiple"), [(16, 4, 1), (16, 4, 4), (16, 3, 8), (16, 15, 8), (16, 0, 1)])
def test_tiles_cover_an_axis_and_overlap(side, tile, overlap, multiple):
    at = starts(side, tile, overlap, multiple)
    assert at[0] == 0
    assert at[-1] + tile == side
    assert at == sorted(set(at))
    assert all(second - first <= tile - overlap for first, second in itertools.pairwise(at))
    if tile - overlap >= multiple:
        assert all(start % multiple == 0 for start in at[:-1])


def test_only_tiles_are_asked_about_and_of_the_whole_only_once():
    seen = Seen()
    tiled((8, 8), overlap=2)(seen)(noise(2, 3, 20, 8), 0.5)
    assert seen.shapes == [(2, 3, 8, 8)] * 3
    seen.shapes.clear()
    tiled((32, 32), overlap=2)(seen)(noise(2, 3, 20, 8), 0.5)
    assert seen.shapes == [(2, 3, 20, 8)]


@pytest.mark.parametrize(("tile", "overlap"), [((8, 8), 8), ((8, 4), 4), ((8, 8), -1), ((), 0)])
def test_what_cannot_be_tiles_is_refused(tile, overlap):
    with pytest.raises(WrongUse, match="overlap by 0 to"):
        tiled(tile, overlap=overlap)


class Blur(nn.Module):
    """Three convolutions with zeros around, which look 3 pixels far."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)]
        self.layers = nn.ModuleList(layers)

    def forward(self, z, t, **condition):
        for layer in self.layers:
            z = layer(z).tanh()
        return z


@pytest.fixture
def blur():
    return GaussianDenoiser(Blur(), Cosine(), Data()).eval()


@torch.no_grad()
def test_a_pixel_that_sees_all_it_looks_at_is_exact(blur):
    """A pixel in one tile only, further than 3 from its inner edges, or at the picture's own edge."""
    z = noise(2, 2, 32, 32)
    made, whole = tiled((24, 24), overlap=16)(blur)(z, 0.4).mean, blur(z, 0.4).mean
    alone = [slice(0, 8), slice(24, 32)]
    for rows in alone:
        for columns in alone:
            torch.testing.assert_close(made[..., rows, columns], whole[..., rows, columns], rtol=1e-5, atol=1e-6)
    assert (made - whole).abs().max() > 1e-3


@torch.no_grad()
def test_more_overlap_is_closer(blur):
    z = noise(2, 2, 48, 48)
    whole = blur(z, 0.4).mean
    made = [tiled((24, 24), overlap=overlap)(blur)(z, 0.4).mean for overlap in (0, 4, 8, 16)]
    errors = [(one - whole).square().mean() for one in made]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 4


@torch.no_grad()
def test_items_do_not_see_one_another(blur):
    z = noise(5, 2, 40, 40)
    together = tiled((16, 16), overlap=8)(blur)(z, 0.4).mean
    for i in range(5):
        alone = tiled((16, 16), overlap=8)(blur)(z[i : i + 1], 0.4).mean
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_guidance_around_tiles_is_guidance_of_tiles():
    """Both are linear, so it does not matter which comes first."""
    inner, z = Pixelwise(), noise(2, 1, 20, 20)
    told = {"image": noise(2, 1, 20, 20, seed=3)}
    inside, outside = cfg(2.5)(tiled((8, 8), overlap=3)(inner)), tiled((8, 8), overlap=3)(cfg(2.5)(inner))
    torch.testing.assert_close(inside(z, 0.3, **told).mean, outside(z, 0.3, **told).mean)
    torch.testing.assert_close(inside(z, 0.3, **told).mean, cfg(2.5)(inner)(z, 0.3, **told).mean)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm++2m", "heun"])
def test_every_solver_walks_on_tiles(name):
    """Of a pixelwise denoiser the pictures are those of the whole, bit for bit."""
    from inkwash.sampling.loop import sample

    inner = Pixelwise()
    solver = recipes.SOLVERS[name]()
    grid = recipes.GRIDS["uniform"](inner.corruption, 4)
    made, whole = (
        sample(denoiser, solver, grid, (1, 20, 13), noise=Noise(0, range(2)))
        for denoiser in (tiled((8, 8), overlap=4)(inner), inner)
    )
    assert torch.equal(made, whole)


def test_self_conditioning_is_cut_too():
    inner = Pixelwise()
    inner.self_conditioning = True
    seen = []

    def forward(z, t, *, estimate=None, **condition):
        seen.append(None if estimate is None else tuple(estimate.shape))
        return Point(z if estimate is None else z + estimate)

    inner.forward = forward
    made = tiled((8, 8), overlap=2)(inner)
    assert made.self_conditioning
    z, estimate = noise(1, 1, 20, 20), noise(1, 1, 20, 20, seed=4)
    assert torch.equal(made(z, 0.5, estimate=estimate).mean, z + estimate)
    assert set(seen) == {(1, 1, 8, 8)}


def test_weights_fall_off_smoothly():
    window = _window([32, 17], 8)
    assert window.shape == (32, 17)
    assert window[16, 8] == 1
    assert window[0, 8].item() == pytest.approx(math.sin(math.pi / 2 * 0.5 / 8) ** 2, rel=1e-5)
    torch.testing.assert_close(window, window.flip(0).flip(1))


def test_one_pass_in_tiles_is_the_pass_over_the_whole_where_tiles_see_enough():
    network = nn.Conv2d(2, 3, 5, padding=2).double()
    z = noise(2, 2, 41, 30).double()
    with torch.no_grad():
        whole = network(z)
        made = blended(network, z, (16, 16), overlap=8, multiple=4)
        # A row of pixels at the border of a tile is told wrong there, and by little: its weight is the least of all.
        assert made.shape == whole.shape
        inside = nn.Conv2d(2, 3, 1).double()
        torch.testing.assert_close(blended(inside, z, (16, 16), overlap=8), inside(z))
    assert (made - whole).abs().mean() < 0.02 * whole.abs().mean()


@pytest.mark.parametrize(
    ("network", "grid"),
    [
        (UNet(3, 3, base=8, multipliers=(1, 2, 2), attention=(False,) * 3, head_channels=8), (1, 4)),
        (Patched(UNet(12, 12, base=8, multipliers=(1, 2), attention=(False,) * 2, head_channels=8), 2), (2, 4)),
        (DiT(3, 3, patch=4, width=16, depth=1, head_channels=8), (4, 4)),
        (nn.Conv2d(3, 3, 1), (1, 1)),
    ],
    ids=["U-Net", "on patches", "transformer", "convolution"],
)
def test_the_grid_that_a_network_works_on(network, grid):
    assert grid_of(network) == grid
