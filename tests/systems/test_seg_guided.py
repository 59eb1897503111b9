"""SegGuidedDiff: classes are left out for each image on its own, and what is left is followed."""

import pytest
import torch
from tiny_system import TINY

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.systems.synthesis.polyp_ddpm import PolypDDPM
from inkwash.systems.synthesis.seg_guided import SegGuided, SegGuidedConfig

SPEC = DataSpec(channels=1, size=(16, 16), mask_classes=4)
# A stripe of each class.
MASK = torch.arange(4).repeat_interleave(4).expand(16, 16)


@pytest.fixture
def system() -> SegGuided:
    torch.manual_seed(0)
    return SegGuided(SegGuidedConfig(**TINY), SPEC)


def test_all_subsets_of_the_classes_are_alike(system: SegGuided) -> None:
    made = system.ablated(MASK.expand(8000, 16, 16), Noise(0, range(8000)))
    there = torch.stack([(made == k).flatten(1).any(dim=1) for k in range(1, 4)], dim=1)
    counts = (there.long() @ torch.tensor([1, 2, 4])).bincount(minlength=8)
    # Each of eight has a chance of 1 / 8: 1000 of 8000, with a standard deviation of 29.6.
    assert int((counts - 1000).abs().max()) < 5 * 30


def test_what_is_left_out_becomes_background_and_the_rest_stays(system: SegGuided) -> None:
    made = system.ablated(MASK.expand(50, 16, 16), Noise(0, range(50)))
    assert bool(((made == MASK) | (made == 0)).all())


def test_subsets_depend_on_the_item_alone(system: SegGuided) -> None:
    whole = system.ablated(MASK.expand(6, 16, 16), Noise(0, range(6)))
    torch.testing.assert_close(system.ablated(MASK[None], Noise(0, [4])), whole[4:5])


def test_without_ablation_the_loss_is_that_of_polyp_ddpm() -> None:
    torch.manual_seed(0)
    plain = SegGuided(SegGuidedConfig(**TINY, ablate=0.0), SPEC)
    torch.manual_seed(0)
    other = PolypDDPM(PolypDDPM.Config(**TINY), SPEC)
    batch = {"image": torch.rand(3, 1, 16, 16) * 2 - 1, "mask": MASK.expand(3, 16, 16)}
    torch.testing.assert_close(plain.loss(batch, noise=Noise(0, range(3))), other.loss(batch, noise=Noise(0, range(3))))
    ablated = SegGuided(SegGuidedConfig(**TINY), SPEC)
    ablated.load_state_dict(plain.state_dict())
    found = ablated.loss(batch, noise=Noise(0, range(3)))["loss"]
    # Networks start at zero and say nothing yet, whatever they are told: what differs is what they are told.
    assert found.shape == (3,)
    told = ablated.condition({"mask": ablated.ablated(batch["mask"], Noise(0, range(3)))})["image"]
    assert not torch.equal(told, plain.condition(batch)["image"])


@pytest.mark.slow
def test_a_part_of_a_map_is_followed() -> None:
    """Bright where the map says class 1, dark where it says 2; each is followed when the other is left out."""
    torch.manual_seed(0)
    spec = DataSpec(channels=1, size=(16, 16), mask_classes=3)
    system = SegGuided(SegGuidedConfig(**{**TINY, "base": 16}, data_std=0.6), spec)
    optimiser = torch.optim.Adam(system.parameters(), 2e-3)

    def batch(items: range) -> dict[str, torch.Tensor]:
        place = (Noise(1, items).uniform((2,), "place") * 10).long()
        mask = torch.zeros(len(items), 16, 16, dtype=torch.int64)
        for i, (a, b) in enumerate(place.tolist()):
            mask[i, a : a + 5, :6], mask[i, b : b + 5, 9:15] = 1, 2
        image = torch.where(mask == 1, 0.9, torch.where(mask == 2, -0.9, 0.0))
        return {"image": image[:, None] + 0.05 * Noise(2, items).normal((1, 16, 16), "x"), "mask": mask}

    for step in range(400):
        items = range(16 * step, 16 * step + 16)
        system.loss(batch(items), noise=Noise(0, items))["loss"].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    system.eval()
    full = batch(range(10**6, 10**6 + 16))["mask"]
    for k, sign in ((1, 1.0), (2, -1.0)):
        part = torch.where(full == k, full, 0)
        drawn = system.generate(16, condition={"mask": part}, steps=10)[:, 0]
        assert float(sign * drawn[part == k].mean()) > 0.6
        assert float(sign * drawn[full == 0].mean()) < 0.3
