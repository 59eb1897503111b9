"""The stream of images."""

import pytest
import torch

from inkwash.training.order import Order


def test_every_epoch_is_a_permutation_and_no_two_are_alike() -> None:
    images = Order(50, seed=1)(torch.arange(150)).reshape(3, 50)
    for epoch in images:
        assert sorted(epoch.tolist()) == list(range(50))
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], Order(50, seed=2)(torch.arange(50)))


def test_the_stream_does_not_depend_on_how_it_is_cut() -> None:
    order = Order(7, seed=0)
    whole = order(torch.arange(60))
    for size in (1, 4, 20):
        assert torch.equal(torch.cat([Order(7, seed=0)(part) for part in torch.arange(60).split(size)]), whole)
    assert torch.equal(order(torch.arange(59, -1, -1)), whole.flip(0))


def test_every_image_is_equally_likely_at_every_place() -> None:
    """Chi-squared over 2000 epochs of 8 images: 49 degrees of freedom, five standard deviations."""
    images = Order(8, seed=3)(torch.arange(16000)).reshape(2000, 8)
    counts = torch.nn.functional.one_hot(images, 8).sum(0).double()
    chi = ((counts - 250) ** 2 / 250).sum().item()
    assert chi == pytest.approx(49, abs=5 * (2 * 49) ** 0.5)
