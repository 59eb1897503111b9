"""A network on patches: folding loses nothing, in any number of dimensions and at any size."""

import pytest
import torch
from torch import nn

from inkwash.nets.patched import Patched


class Seen(nn.Module):
    """Gives back what it is given, and remembers the shapes."""

    def forward(self, z, t, *, image=None):
        self.shapes = tuple(z.shape), None if image is None else tuple(image.shape)
        return z


@pytest.mark.parametrize("size", [(8,), (8, 6), (4, 6, 8), (7,), (7, 5), (3, 5, 7), (1, 9), (1, 1, 2)], ids=str)
@pytest.mark.parametrize("patch", [2, 4])
def test_nothing_is_lost(size, patch):
    z, image = torch.randn(2, 3, *size), torch.randn(2, 2, *size)
    inner = Seen()
    assert torch.equal(Patched(inner, patch)(z, torch.zeros(1), image=image), z)
    folded = tuple(-(-side // patch) for side in size)
    assert inner.shapes == ((2, 3 * patch ** len(size), *folded), (2, 2 * patch ** len(size), *folded))


def test_a_patch_becomes_the_channels_of_one_place():
    z = torch.arange(16.0).reshape(1, 1, 4, 4)
    inner = Seen()
    inner.forward = lambda z, t, image=None: z * torch.tensor([1.0, 0, 0, 0]).reshape(1, 4, 1, 1)
    kept = Patched(inner, 2)(z, torch.zeros(1))[0, 0]
    assert kept.nonzero().tolist() == [[0, 2], [2, 0], [2, 2]]  # and [0, 0], which is 0
    volume = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    inner.forward = lambda z, t, image=None: z * torch.eye(8)[0].reshape(1, 8, 1, 1, 1)
    kept = Patched(inner, 2)(volume, torch.zeros(1))[0, 0]
    assert torch.equal(kept[::2, ::2, ::2], volume[0, 0, ::2, ::2, ::2])
    assert kept.count_nonzero() == 7


def test_odd_sides_are_filled_up_with_their_mirror():
    z = torch.arange(5.0).reshape(1, 1, 5)
    inner = Seen()
    inner.forward = lambda z, t, image=None: setattr(inner, "z", z) or z
    Patched(inner, 2)(z, torch.zeros(1))
    assert inner.z[0].tolist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 3.0]]
