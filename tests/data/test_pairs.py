"""Pictures measured and clean: how they are found, read, cut into tiles and moved."""

import csv

import numpy as np
import pytest
import torch

from inkwash.corruption.noise import Noise
from inkwash.data import Augment, open_collection
from inkwash.data.pairs import read_pairs
from inkwash.errors import WrongUse


def grey(seed, size=(24, 20)):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def folders(draw, tmp_path):
    for k in range(4):
        part = "test" if k == 3 else "train"
        draw(f"noisy/{part}/{k}.png", grey(k)), draw(f"clean/{part}/{k}.png", grey(100 + k))
    return tmp_path / "set"


def everything(images):
    return images.batch(torch.arange(len(images)))


def pixels(*seeds):
    return torch.stack([torch.from_numpy(grey(seed)) for seed in seeds])[:, None].float() / 127.5 - 1


def test_two_folders_are_pairs(folders):
    collection = open_collection(folders)
    assert collection.paired
    assert collection.given == {"train", "test"}
    assert collection.sizes("all") == [(24, 20)]
    assert "4, measured and clean" in str(collection.report())
    images = collection.images("train", (24, 20))
    assert images.spec.pairs
    batch = everything(images)
    torch.testing.assert_close(batch["image"], pixels(100, 101, 102))
    torch.testing.assert_close(batch["measured"], pixels(0, 1, 2))


@pytest.mark.parametrize(("measured", "clean"), [("noisy", "clean"), ("degraded", "gt"), ("Blurry", "Sharp")])
def test_folders_by_other_names(measured, clean):
    found = read_pairs([f"a/{clean}/1.png", f"a/{measured}/1.tif", f"{clean}/2.png"])
    assert [(item.image, item.measured) for item in found.items] == [(f"a/{clean}/1.png", f"a/{measured}/1.tif")]
    assert found.problems == [(f"{clean}/2.png", "is not among the measured ones")]


@pytest.mark.parametrize(
    "names", [["noisy/1.png", "clean/2.png"], ["noisy/1.png", "noisy/2.png"], ["noisy/1.png", "clean/1.png", "3.png"]]
)
def test_what_does_not_pair_is_something_else(names):
    assert read_pairs(names) is None


def test_a_list_names_both(draw, tmp_path):
    for k in range(3):
        draw(f"x/{k}.png", grey(k)), draw(f"y/{k}.png", grey(100 + k))
    rows = [["x/0.png", "y/0.png", "train"], ["x/1.png", "y/1.png", "test"], ["", "y/2.png", "test"]]
    with (tmp_path / "set" / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["noisy", "clean", "split"], *rows])
    collection = open_collection(tmp_path / "set", skip_bad=True)
    assert collection.found.columns == {"image": "clean", "measured": "noisy", "split": "split"}
    assert collection.found.problems == [("y/2.png", "has no measured picture: none is named")]
    torch.testing.assert_close(everything(collection.images("test", (24, 20)))["measured"], pixels(1))


def test_arrays_hold_both(tmp_path):
    arrays = {"clean": np.stack([grey(100), grey(101)]), "noisy": np.stack([grey(0), grey(1)])}
    np.savez(tmp_path / "pairs.npz", **arrays)
    batch = everything(open_collection(tmp_path / "pairs.npz").images("all", (24, 20)))
    torch.testing.assert_close(batch["measured"], pixels(0, 1))
    torch.testing.assert_close(batch["image"], pixels(100, 101))


def test_a_pair_of_two_sizes_is_bad(draw, folders):
    draw("noisy/train/0.png", grey(0, (24, 24)))
    with pytest.raises(WrongUse, match=r"noisy/train/0.png is 24 x 24 and the clean clean/train/0.png is 24 x 20"):
        open_collection(folders).images("train", 8)


def test_tiles_are_cut_and_not_shrunk(folders):
    batch = everything(open_collection(folders).images("test", (8, 10), fit="tiles"))
    # Neighbours overlap by 4 pixels, half of the shorter side.
    whole, measured = pixels(103), pixels(3)
    places = [(y, x) for y in (0, 4, 8, 12, 16) for x in (0, 6, 10)]
    assert len(batch["image"]) == len(places)
    for tile, seen, (y, x) in zip(batch["image"], batch["measured"], places, strict=True):
        torch.testing.assert_close(tile, whole[0, :, y : y + 8, x : x + 10])
        torch.testing.assert_close(seen, measured[0, :, y : y + 8, x : x + 10])
    with pytest.raises(WrongUse, match=r"0.png is 24 x 20, smaller than tiles of 25 x 25: give a smaller --size"):
        open_collection(folders).images("train", 25, fit="tiles")


def test_masks_are_cut_alike(draw, blob, tmp_path):
    draw("images/1.png", grey(1)), draw("masks/1.png", blob())
    batch = everything(open_collection(tmp_path / "set").images("all", 10, fit="tiles"))
    mask = torch.from_numpy(blob() > 0).long()
    torch.testing.assert_close(batch["mask"][0], mask[:10, :10])
    torch.testing.assert_close(batch["mask"][-1], mask[-10:, -10:])
    torch.testing.assert_close(batch["image"][-1], pixels(1)[0, :, -10:, -10:])


def test_the_cache_tells_tiles_from_whole_pictures(folders):
    made = [open_collection(folders).images("train", 10, fit=fit) for fit in ("tiles", "squash", "tiles")]
    assert made[0].fingerprint == made[2].fingerprint != made[1].fingerprint
    torch.testing.assert_close(everything(made[0]), everything(made[2]))


def test_both_are_moved_alike(folders):
    images = open_collection(folders).images("train", (24, 20))
    batch = everything(images)
    batch["measured"] = batch["image"] / 2
    moved = Augment(rotate=20, translate=0.1)(batch, Noise(0, range(3)))
    torch.testing.assert_close(moved["measured"], moved["image"] / 2)
    assert not torch.equal(moved["image"], batch["image"])
