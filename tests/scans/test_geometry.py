"""Grids and turns, with nibabel and SimpleITK as referees."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from made_scans import affine, body, rotation, write_nifti
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from inkwash.data.picture import Unreadable
from inkwash.data.volumes.geometry import Grid, Turn
from inkwash.data.volumes.opening import open_volume

TURNS = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "all mirrored": -np.eye(3),
    "oblique": rotation(0.3, -0.2, 0.5),
    "axes exchanged": np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]]),
    "exchanged and oblique": rotation(0.2, 0.1, -0.3) @ np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("orientation", ["SPL", "PIL", "LIP", "RAS"])
def test_a_turn_moves_voxels_as_nibabel_does_and_keeps_them_in_place(turn, orientation, tmp_path):
    image, _ = body((9, 8, 7))
    path = write_nifti(tmp_path / "x.nii", image, affine((0.9, 1.3, 2.5), turn))
    volume, original = open_volume([path]), nibabel.load(path)
    move = Turn.to(volume.grid, orientation)
    turned, grid = move(volume.read()[0]), move.grid(volume.grid)

    moves = ornt_transform(io_orientation(original.affine), axcodes2ornt(tuple(orientation)))
    theirs = original.as_reoriented(moves)
    assert np.array_equal(turned, theirs.get_fdata())
    np.testing.assert_allclose(grid.affine, theirs.affine, atol=1e-5)
    assert grid.orientation == orientation
    assert np.array_equal(move.back(turned), volume.read()[0])


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_world_coordinates_are_those_of_simpleitk(turn, tmp_path):
    path = write_nifti(tmp_path / "x.nii.gz", body((9, 8, 7))[0], affine((0.9, 1.3, 2.5), turn))
    grid, image = open_volume([path]).grid, sitk.ReadImage(str(path))
    for d, h, w in [(0, 0, 0), (6, 7, 8), (2, 5, 1)]:
        lps = image.TransformIndexToPhysicalPoint((w, h, d))
        np.testing.assert_allclose(grid.world(np.array([d, h, w], float)), np.array(lps) * [-1, -1, 1], atol=1e-4)
    assert grid.spacing == pytest.approx(image.GetSpacing()[::-1], abs=1e-5)


def test_the_same_grid_in_another_order_is_found():
    at = affine((1, 1.2, 3), rotation(0.1, 0.2, 0.3))
    grid = Grid((7, 8, 9), at[:, [2, 1, 0, 3]])
    move = Turn((2, 0, 1), (True, False, True))
    found = Turn.between(move.grid(grid), grid)
    array = np.arange(7 * 8 * 9).reshape(7, 8, 9)
    assert found is not None
    assert np.array_equal(found(move(array)), array)


@pytest.mark.parametrize(
    "other",
    [
        Grid((7, 8, 9), affine((1, 1, 1), origin=(0, 0, 0.2))),
        Grid((7, 8, 9), affine((1, 1, 1.05), origin=(0, 0, 0))),
        Grid((7, 8, 8), affine((1, 1, 1), origin=(0, 0, 0))),
        Grid((7, 8, 9), affine((1, 1, 1), rotation(0.1, 0, 0), origin=(0, 0, 0))),
    ],
    ids=["moved", "coarser", "smaller", "turned"],
)
def test_another_grid_is_another_grid(other):
    assert Turn.between(other, Grid((7, 8, 9), affine((1, 1, 1), origin=(0, 0, 0)))) is None


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "no volume"),
        (affine(turn=np.array([[1.0, 1, 0], [0, 0, 1], [0, 0, 0]])), "no volume"),
    ],
)
def test_an_affine_of_nothing(at, words):
    with pytest.raises(Unreadable, match=words):
        Grid((2, 2, 2), at)
