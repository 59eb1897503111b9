"""The masks of scans in noise: their patches, or their slices."""

from pathlib import Path

import pytest

import inkwash
from inkwash.errors import WrongUse


def test_patches_and_slices_of_scans_are_looked_at(bodies: Path, tmp_path: Path):
    whole = inkwash.analyse(bodies, out=tmp_path / "whole", size=16)
    flat = inkwash.analyse(bodies, out=tmp_path / "flat", size=24, slices="axial")
    assert (whole.size, flat.size) == ((16, 16, 16), (24, 24))
    assert whole.classes == flat.classes == 3
    assert len(whole.shapes.shares) == 3
    # Of the same bodies a cube of a voxel's neighbours tells more than a square of a pixel's.
    assert whole.half < flat.half
    assert "--slices axial" in flat.command


def test_nothing_is_trained_on_scans(bodies: Path, tmp_path: Path):
    with pytest.raises(WrongUse, match="holds scans"):
        inkwash.analyse(bodies, out=tmp_path / "new", size=16, steps=2)
    assert not (tmp_path / "new").exists()
