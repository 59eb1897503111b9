"""Scans to train on: how they are turned, resampled, scaled and cut."""

import math

import numpy as np
import pytest
import torch
from made_scans import affine, body, rotation, write_nifti

from inkwash.data import VolumeCollection, open_collection
from inkwash.data.volumes import volumeset
from inkwash.data.volumes.geometry import Grid, Turn
from inkwash.data.volumes.resample import Axis
from inkwash.errors import WrongUse


def opened(path) -> VolumeCollection:
    collection = open_collection(path)
    assert isinstance(collection, VolumeCollection)
    return collection


def write(folder, seed: int, shape=(24, 20, 16), at=None, image=None) -> tuple[np.ndarray, np.ndarray]:
    made, mask = body(shape, seed)
    image = made if image is None else image
    write_nifti(folder / f"images/{seed:02d}.nii.gz", image, at)
    write_nifti(folder / f"labels/{seed:02d}.nii.gz", mask, at)
    return image, mask


def everything(images) -> dict[str, torch.Tensor]:
    return images.batch(torch.arange(len(images)))


def test_a_scan_at_its_own_spacing_is_itself(tmp_path):
    image, mask = write(tmp_path, 0, at=affine((1, 1, 1.5), np.diag([-1.0, -1.0, 1.0])))
    images = opened(tmp_path).images("all", (16, 20, 24))
    batch = everything(images)
    low, high = np.percentile(image.astype(np.float32), [0.5, 99.5])
    expected = ((image.T - low) / (high - low)).clip(0, 1) * 2 - 1
    assert batch["image"].shape == (1, 1, 16, 20, 24)
    # 16 bits a voxel.
    np.testing.assert_allclose(batch["image"][0, 0].numpy(), expected, atol=2 / 65535)
    assert np.array_equal(batch["mask"][0].numpy(), mask.T)
    assert images.spec.model_dump() == {"channels": 1, "size": (16, 20, 24), "classes": None, "mask_classes": 3}


@pytest.mark.parametrize("turn", [None, rotation(0.2, 0.1, -0.3), np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])])
def test_all_orientations_are_turned_to_one(tmp_path, turn):
    """The same body on grids of any orientation trains the same network."""
    image, mask = body((20, 20, 20))
    write_nifti(tmp_path / "images/0.nii.gz", image, affine(turn=np.diag([-1.0, -1.0, 1.0])))
    write_nifti(tmp_path / "labels/0.nii.gz", mask, affine(turn=np.diag([-1.0, -1.0, 1.0])))
    upright = everything(opened(tmp_path).images("all", 20))
    grid = open_collection(tmp_path)._looked().facts[0].grid
    target = affine(turn=turn)[:, [2, 1, 0, 3]]
    move = Turn.to(Grid((20, 20, 20), target), grid.orientation)
    other = tmp_path / "other"
    turned = [np.ascontiguousarray(move.back(array.T).T) for array in (image, mask)]
    write_nifti(other / "images/0.nii.gz", turned[0], affine(turn=turn))
    write_nifti(other / "labels/0.nii.gz", turned[1], affine(turn=turn))
    batch = everything(opened(other).images("all", 20))
    assert torch.equal(batch["image"], upright["image"])
    assert torch.equal(batch["mask"], upright["mask"])


def test_spacings_are_brought_to_their_median(tmp_path):
    for seed, spacing in enumerate([(1, 1, 1), (1, 1, 2), (2, 1, 2)]):
        write(tmp_path, seed, at=affine(spacing))
    images = opened(tmp_path).images("all", 8)
    assert images.plan.spacing == (2, 1, 1)
    shapes = [images._recipe.whole(fact)[0] for fact in images._facts]
    assert shapes == [(8, 20, 24), (16, 20, 24), (16, 20, 48)]


def test_masks_keep_their_size_and_place_when_resampled(tmp_path):
    _, mask = write(tmp_path, 0, at=affine((1, 1, 1)))
    fine = volumeset._nearest(mask.T, tuple(Axis.spaced(n, 1.0, 0.5) for n in (16, 20, 24)), 3)
    assert fine.shape == (32, 40, 48)
    for k in (1, 2):
        # Corners of a voxel are given to the class with the larger share: bodies of few voxels lose some.
        assert (fine == k).sum() / 8 == pytest.approx((mask == k).sum(), rel=0.05)
        middle = [np.argwhere(m == k).mean(0) for m in (mask.T, fine)]
        np.testing.assert_allclose(middle[1], middle[0] * 2 + 0.5, atol=0.1)
    coarse = volumeset._nearest(fine, tuple(Axis.spaced(n, 0.5, 1.0) for n in (32, 40, 48)), 3)
    assert (coarse == mask.T).mean() > 0.99


def test_patches_cover_every_voxel_and_every_third_shows_the_foreground(tmp_path):
    write(tmp_path, 0)
    images = opened(tmp_path).images("train", (8, 10, 10))
    grid, more = images._recipe.patches(images._facts[0])
    assert len(images) == len(grid) + more
    assert more == math.ceil(len(grid) / 2)
    seen = np.zeros((16, 20, 24), int)
    for d, h, w in grid:
        seen[d : d + 8, h : h + 10, w : w + 10] += 1
    assert seen.min() >= 1
    centred = images.batch(torch.arange(len(grid), len(images)))["mask"]
    assert (centred.flatten(1) > 0).any(dim=1).all()
    assert {1, 2} <= set(centred.unique().tolist())
    assert len(opened(tmp_path).images("all", (8, 10, 10))) == len(grid)


def test_a_patch_is_that_part_of_the_scan(tmp_path):
    write(tmp_path, 0, at=affine((1, 1, 1.5), np.diag([-1.0, -1.0, 1.0])))
    collection = opened(tmp_path)
    whole = everything(collection.images("all", (16, 20, 24)))
    images = collection.images("train", (8, 10, 10))
    batch = everything(images)
    for index, start in enumerate(np.concatenate(images._arrays["start"]).tolist()):
        d, h, w = (slice(s, s + n) for s, n in zip(start, (8, 10, 10), strict=True))
        assert torch.equal(batch["image"][index], whole["image"][0, :, d, h, w])
        assert torch.equal(batch["mask"][index], whole["mask"][0, d, h, w])


def test_small_scans_are_filled_up_with_black(tmp_path):
    _, mask = write(tmp_path, 0, shape=(10, 9, 8), at=affine((1, 1, 1), np.diag([-1.0, -1.0, 1.0])))
    batch = everything(opened(tmp_path).images("all", 16))
    inside = (slice(4, 12), slice(3, 12), slice(3, 13))
    assert np.array_equal(batch["mask"][0][inside].numpy(), mask.T)
    outside = torch.ones(16, 16, 16, dtype=torch.bool)
    outside[inside] = False
    assert (batch["image"][0, 0][outside] == -1).all()
    assert (batch["mask"][0][outside] == 0).all()


@pytest.mark.parametrize(("plane", "axes"), [("axial", (0, 1, 2)), ("coronal", (1, 0, 2)), ("sagittal", (2, 0, 1))])
def test_slices(tmp_path, plane, axes):
    _, mask = write(tmp_path, 0, shape=(20, 20, 20), at=affine((1, 1, 1), np.diag([-1.0, -1.0, 1.0])))
    images = opened(tmp_path).images("all", 20, slices=plane)
    batch = everything(images)
    assert batch["image"].shape == (20, 1, 20, 20)
    expected = mask.T.transpose(axes)  # from (feet to head, front to back, right to left)
    if plane != "axial":
        expected = expected[:, ::-1]  # the head is up
    assert np.array_equal(batch["mask"].numpy(), expected)
    assert images.spec.size == (20, 20)


def test_splits_follow_the_scan_and_the_plan_the_training_scans(tmp_path):
    for seed in range(12):
        bright = body((12, 10, 8), seed)[0] - 2000 * (seed % 2)
        write(tmp_path, seed, (12, 10, 8), affine((1, 1, 1 + seed / 10)), image=bright)
    collection = opened(tmp_path)
    splits = collection.report().splits
    assert sum(splits.values()) == 12
    assert len(splits) > 1
    sets = {split: collection.images(split, 8) for split in splits}
    assert len({images.plan.model_dump_json() for images in sets.values()}) == 1
    names = [set(images.names) for images in sets.values()]
    assert not names[0] & names[1]
    seen = collection._looked()
    steps = [f.grid.spacing[0] for f, s in zip(seen.facts, seen.splits, strict=True) if s == "train"]
    assert sets["train"].plan.spacing[0] == pytest.approx(np.median(steps))


def test_another_models_plan_is_taken(tmp_path):
    write(tmp_path, 0, at=affine((1, 1, 1)))
    collection = opened(tmp_path)
    own = collection.images("all", 8)
    collection.plan = own.plan.model_copy(update={"spacing": (2.0, 2.0, 2.0)})
    assert collection.images("all", 8).plan == collection.plan
    assert collection.images("all", 8).fingerprint != own.fingerprint


def test_the_cache_is_used_and_made_again_where_it_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path, 0)
    first = opened(tmp_path).images("all", 8)
    assert list(first.prepare()) == [1]
    before = everything(first)
    again = opened(tmp_path).images("all", 8)
    assert list(again.prepare()) == []
    assert torch.equal(everything(again)["image"], before["image"])
    (damaged,) = (tmp_path / "cache").rglob("*-mask.npy")
    damaged.write_bytes(b"x")
    mended = opened(tmp_path).images("all", 8)
    assert list(mended.prepare()) == [1]
    assert torch.equal(everything(mended)["mask"], before["mask"])
    assert not list((tmp_path / "cache" / "inkwash" / "volumes").glob(".draft*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (8, 8)}, "the size of a patch is one number or depth,height,width, not 8,8"),
        ({"size": (8, 8, 8), "slices": "axial"}, "the size of a slice is one number or height,width"),
        ({"size": 0}, "the size of a patch"),
        ({"size": 8, "slices": "axal"}, "unknown plane 'axal': did you mean 'axial'"),
        ({"size": 8, "channels": 3}, "its scans have 1 channels and can't be read with 3"),
        ({"size": 8, "split": "tset"}, "unknown split"),
    ],
)
def test_wrong_use(tmp_path, options, words):
    write(tmp_path, 0)
    with pytest.raises(WrongUse, match=words):
        opened(tmp_path).images(**{"split": "all", **options})
