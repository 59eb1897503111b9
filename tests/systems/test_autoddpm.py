"""AutoDDPM where healthy images are normal: the map is the block that was pasted in, and the rest stays."""

import pytest
import torch
from flat_images import SIDE, Healthy, answer, lesions
from tiny_system import TINY
from torch import Tensor

from inkwash.data.spec import DataSpec
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.systems.restoration.anoddpm import AnoDDPM, AnoDDPMConfig
from inkwash.systems.restoration.anomaly import Anomaly, partial
from inkwash.systems.restoration.autoddpm import autoddpm


@pytest.fixture(scope="module")
def given() -> tuple[Tensor, Tensor]:
    return lesions(8)


@pytest.fixture(scope="module")
def found(given: tuple[Tensor, Tensor]) -> Anomaly:
    return answer(autoddpm(Healthy(), given[0]))


def test_the_map_is_the_block(given: tuple[Tensor, Tensor], found: Anomaly) -> None:
    _, mask = given
    marked = found.map > 0.1
    assert bool(marked[mask].all())
    assert not bool(marked[~mask].any())
    # It is as high as the block is bright.
    assert float(found.map[mask].mean()) == pytest.approx(0.7, abs=0.12)
    assert float(found.score[4:].min()) > 10 * float(found.score[:4].max())


def test_what_is_healthy_is_left_as_it_is(given: tuple[Tensor, Tensor], found: Anomaly) -> None:
    x, mask = given
    near = torch.nn.functional.max_pool2d(mask[:, None].float(), 5, stride=1, padding=2) > 0
    assert torch.equal(found.healthy[4:][~near[4:]], x[4:][~near[4:]])
    assert float((found.healthy[:4] != x[:4]).float().mean()) < 0.05
    # Without stitching it is not.
    plain = answer(partial(Healthy(), x, strength=0.2, draws=1))
    assert float((plain.healthy - x)[~near].abs().mean()) > 0.02


def test_the_block_is_filled_as_its_surroundings_say(given: tuple[Tensor, Tensor], found: Anomaly) -> None:
    """The exact posterior of what is behind the block, given all that is not beside it."""
    x, mask = given
    exact = Healthy().denoiser
    assert isinstance(exact, GaussianMixture)
    for i in (4, 6):
        hidden = torch.nn.functional.max_pool2d(mask[i, None].float(), 5, stride=1, padding=2)[0] > 0
        rows = torch.eye(SIDE * SIDE)[~hidden.flatten()]
        mean, covariance = exact.given(rows, x[i].flatten()[~hidden.flatten()], 0.0).moments()
        inside = mask[i].flatten()
        off = found.healthy[i].flatten()[inside] - mean[inside]
        std = float(covariance.diagonal()[inside].mean().sqrt())
        # A draw and not the mean: each pixel within four deviations, all together by about one.
        assert float(off.abs().max()) < 4 * std
        assert float(off.square().mean().sqrt()) == pytest.approx(std, rel=0.5)


def test_evaluations_and_progress_are_counted(given: tuple[Tensor, Tensor]) -> None:
    steps = list(autoddpm(Healthy(), given[0][:2], steps=12))
    *walked, (index, total, last) = steps
    assert [i for i, _, _ in walked] == list(range(total))
    assert index == total - 1
    assert last is not None
    assert last.evaluations == total


def test_an_image_depends_on_its_own_number(given: tuple[Tensor, Tensor]) -> None:
    whole = answer(autoddpm(Healthy(), given[0][:6], steps=8))
    alone = answer(autoddpm(Healthy(), given[0][5:6], steps=8, first=5))
    torch.testing.assert_close(whole.map[5:], alone.map, rtol=0, atol=1e-5)


def test_what_has_no_meaning_is_refused(given: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(WrongUse, match="at least 8"):
        list(autoddpm(Healthy(), given[0], steps=4))
    simplex = AnoDDPM(AnoDDPMConfig(**TINY), DataSpec(channels=1, size=(SIDE, SIDE)))
    with pytest.raises(WrongUse, match="noise=gaussian"):
        list(autoddpm(simplex, given[0]))
