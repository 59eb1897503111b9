"""Volumes that a generator draws: trained on scans, written as NIfTI where scans lie; and what is refused."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import inkwash
from inkwash.errors import WrongUse

SMALL = {"base": 8, "code_base": 8, "mask_base": 8, "attention": "", "log_every": 1}


@pytest.fixture(scope="module")
def drawing(bodies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "ldm"
    inkwash.train("ldm", bodies, out=out, steps=3, size=(12, 16, 20), batch=2, set=SMALL)
    return out


def test_volumes_are_drawn_from_masks_of_scans(drawing: Path, tmp_path: Path):
    assert sorted(path.suffix for path in (drawing / "samples").iterdir()) == [".png"]
    system = inkwash.load(drawing)
    mask = torch.randint(0, system.spec.mask_classes, (2, 12, 16, 20))
    drawn = system.generate(2, condition={"mask": mask}, steps=2)
    assert drawn.shape == (2, 1, 12, 16, 20)


def test_they_are_written_with_the_spacing_that_was_learned(bodies: Path, tmp_path: Path):
    run = tmp_path / "run"
    inkwash.train("ldm", bodies, out=run, steps=2, size=(12, 16, 20), batch=2, set={**SMALL, "condition": "none"})
    paths = inkwash.sample(run, 2, out=tmp_path / "drawn", steps=2)
    assert [path.name for path in paths] == ["00000.nii.gz", "00001.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["00000.nii.gz", "00001.nii.gz"]
    images = [nibabel.load(path) for path in paths]
    expected = inkwash.load(run).generate(2, steps=2)
    for image, wanted in zip(images, expected, strict=True):
        np.testing.assert_allclose(image.get_fdata(dtype=np.float32).T, wanted[0].numpy(), atol=1e-6)
        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
        np.testing.assert_allclose(image.header.get_zooms(), (1.0, 1.0, 1.5), atol=0.01)
    assert "system ldm" in images[0].header["descrip"].tobytes().decode()
    with pytest.raises(WrongUse, match="in 3 dimensions: pictures are evaluated"):
        inkwash.evaluate(run, bodies)


def test_masks_of_scans_are_told_on_the_command_line(bodies: Path, tmp_path: Path):
    run, few = tmp_path / "run", {"base": 8, "multipliers": (1, 2), "attention": "", "log_every": 1}
    inkwash.train("seg-guided", bodies, out=run, steps=2, size=(12, 16, 20), batch=2, set=few)
    paths = inkwash.sample(run, 2, out=tmp_path / "drawn", condition=str(bodies), steps=2)
    assert nibabel.load(paths[0]).shape == (20, 16, 12)
    (tmp_path / "masks").mkdir()
    Image.new("L", (16, 16), 1).save(tmp_path / "masks" / "mask.png")
    with pytest.raises(WrongUse, match="draws volumes from masks of volumes"):
        inkwash.sample(run, 1, out=tmp_path / "none", condition=str(tmp_path / "masks"), steps=2)
    with pytest.raises(WrongUse, match="no such file"):
        inkwash.sample(run, 1, out=tmp_path / "none", condition=str(tmp_path / "nowhere"), steps=2)


def test_volumes_without_a_condition_from_voxels(bodies: Path, tmp_path: Path):
    few = {"base": 8, "multipliers": (1, 2), "attention": "", "log_every": 1}
    inkwash.train("ddpm", bodies, out=tmp_path / "run", steps=2, size=(12, 16, 20), batch=2, set=few)
    assert len(inkwash.sample(tmp_path / "run", 1, out=tmp_path / "drawn", steps=2)) == 1
