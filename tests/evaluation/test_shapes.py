"""Pieces, thickness, raggedness and the rest, of shapes that one can draw by hand."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from inkwash.evaluation.segmentation.shapes import shapes


def discs(*places, side=64, dimensions=2):
    """A mask with balls, each `(centre along all axes, radius, class)`."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(side)) for _ in range(dimensions)], indexing="ij"))
    mask = torch.zeros((side,) * dimensions, dtype=torch.long)
    for centre, radius, kind in places:
        mask[(grid - centre).square().sum(dim=0) < radius**2] = kind
    return mask


@pytest.mark.parametrize("radius", [8, 16, 24])
def test_a_disc_is_round_and_as_thick_as_it_is_wide(radius):
    found = shapes(discs((31.5, radius, 1))[None], 2)
    # Crofton's mean over directions has an error of 5 % for a circle seen along two axes alone.
    assert found.thickness == pytest.approx(2 * radius, rel=0.06)
    assert found.raggedness == pytest.approx(1.0, abs=0.06)
    assert (found.pieces, found.empty, found.fixed) == (1, 0, pytest.approx(1.0))


def test_a_ball_is_round_too():
    found = shapes(discs((15.5, 11, 1), side=32, dimensions=3)[None], 2)
    assert found.thickness == pytest.approx(22, rel=0.06)
    assert found.raggedness == pytest.approx(1.0, abs=0.06)


def test_a_vessel_is_thin_and_ragged():
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[:, 30:33, :] = 1  # from border to border: its two long sides are all of its boundary
    found = shapes(mask, 2)
    assert found.thickness == pytest.approx(4 * 3 * 64 / (2 * 64 * np.pi / 4))
    assert found.raggedness > 2


def pieces(mask):
    """Components of the graph of neighbouring foreground pixels."""
    place = np.arange(mask.size).reshape(mask.shape)
    both = [(mask[1:] & mask[:-1], place[1:], place[:-1]), (mask[:, 1:] & mask[:, :-1], place[:, 1:], place[:, :-1])]
    ends = [np.concatenate([part[k][part[0]] for part in both]) for k in (1, 2)]
    graph = coo_array((np.ones(len(ends[0])), tuple(ends)), shape=(mask.size,) * 2)
    label = connected_components(graph, directed=False)[1]
    return len(np.unique(label[mask.ravel()]))


def test_pieces_are_those_of_the_graph_of_neighbours_and_never_join_across_masks():
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(6, 24, 24, generator=generator) < 0.4).long()
    mask[2] = 0
    counted = [pieces(one.bool().numpy()) for one in mask]
    found = shapes(mask, 2)
    assert found.pieces == pytest.approx(sum(counted) / 5)
    assert found.empty == pytest.approx(1 / 6)
    assert found.least == 0
    assert found.most == pytest.approx(mask.double().flatten(1).mean(dim=1).max().item())


def test_classes_that_touch_are_pieces_of_their_own():
    mask = torch.zeros(1, 16, 16, dtype=torch.long)
    mask[:, 4:8, 4:12], mask[:, 8:12, 4:12] = 1, 2
    found = shapes(mask, 3)
    assert found.pieces == 2
    assert found.shares == pytest.approx([1 - 64 / 256, 32 / 256, 32 / 256])


def test_a_large_piece_counts_by_its_size():
    large, both = discs((40.0, 16, 1)), discs((40.0, 16, 1), (8.0, 3, 1))
    apart = shapes(both[None], 2)
    assert apart.pieces == 2
    assert shapes(large[None], 2).thickness - 3 < apart.thickness < shapes(large[None], 2).thickness


def test_what_the_mean_mask_knows():
    generator = torch.Generator().manual_seed(0)
    by_chance = (torch.rand(400, 16, 16, generator=generator) < 0.5).long()
    # The mean of 400 masks explains a 400th of independent pixels.
    assert shapes(by_chance, 2).fixed == pytest.approx(1 / 400, abs=2e-4)
    assert shapes(by_chance[:1].expand(5, -1, -1), 2).fixed == pytest.approx(1.0)


def test_a_mask_without_a_boundary_is_as_thick_as_the_picture():
    found = shapes(torch.ones(1, 8, 12, dtype=torch.long), 2)
    assert (found.thickness, found.raggedness, found.pieces) == (12, 1, 1)
