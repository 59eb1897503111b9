"""A picture is on the same side wherever it lies and whatever it is called; a patient is on one side."""

import csv
import shutil
from collections import defaultdict

import numpy as np
import pytest

from inkwash.data import open_collection
from inkwash.data.item import Item
from inkwash.data.split import assign


def splits(path):
    """Split of each picture by its bytes."""
    survey = open_collection(path)._looked()
    return {image.digest: split for image, split in zip(survey.images, survey.splits, strict=True)}


def test_stable_under_moving_and_renaming(draw, pack, tmp_path):
    for k in range(40):
        root = draw(f"{k}.png", k, size=(4, 4)).parent
    before = splits(root)
    assert set(before.values()) == {"train", "val", "test"}
    assert splits(pack()) == before
    moved = tmp_path / "elsewhere"
    (moved / "deep").mkdir(parents=True)
    for k, file in enumerate(sorted(root.iterdir(), reverse=True)):
        shutil.copy(file, moved / "deep" / f"renamed{k:03d}.png")
    assert splits(moved) == before


def test_a_new_picture_moves_no_other(draw):
    for k in range(30):
        root = draw(f"{k}.png", k, size=(4, 4)).parent
    before = splits(root)
    draw("new.png", 99, size=(4, 4))
    after = splits(root)
    assert {k: after[k] for k in before} == before


def test_shares_are_eighty_ten_ten():
    digests = [f"{k:032x}" for k in range(5000)]
    got, rule = assign([Item(str(k)) for k in range(5000)], digests)
    # Five standard errors of a share of 0.8 and 0.1 among 5000.
    assert abs(got.count("train") / 5000 - 0.8) < 0.029
    assert abs(got.count("val") / 5000 - 0.1) < 0.022
    assert abs(got.count("test") / 5000 - 0.1) < 0.022
    assert rule == "80/10/10 by the hash of the content"


def test_the_same_picture_twice_is_on_one_side(draw):
    for k in range(20):
        draw(f"a{k}.png", k, size=(4, 4))
        root = draw(f"b{k}.png", k, size=(4, 4)).parent
    report = open_collection(root).report()
    assert len(report.splits) > 1
    assert report.duplicates == []


@pytest.mark.parametrize("column", ["patient", "patient_id", "Subject ID", "group", "PatientID"])
def test_a_group_is_never_on_two_sides(draw, tmp_path, column):
    rows = [[draw(f"{k}.png", k, size=(4, 4)).name, f"p{k % 15}"] for k in range(90)]
    with (tmp_path / "set/index.csv").open("w") as file:
        csv.writer(file).writerows([["image", column], *rows])
    survey = open_collection(tmp_path / "set")._looked()
    sides = defaultdict(set)
    for item, split in zip(survey.items, survey.splits, strict=True):
        sides[item.group].add(split)
    assert len(sides) == 15
    assert all(len(s) == 1 for s in sides.values())
    assert len(set.union(*sides.values())) > 1
    assert open_collection(tmp_path / "set").report().groups == 15


def test_patients_of_folders_are_never_on_two_sides(draw):
    for k in range(60):
        root = draw(f"patient_{k % 12}/{k}.png", k, size=(4, 4)).parents[1]
    survey = open_collection(root)._looked()
    assert len({(i.group, s) for i, s in zip(survey.items, survey.splits, strict=True)}) == 12


def test_few_pictures_are_not_split(draw):
    for k in range(9):
        root = draw(f"{k}.png", k).parent
    report = open_collection(root).report()
    assert report.splits == {"train": 9}
    assert report.split_rule == "all in train: 9 different pictures are too few to split"


@pytest.mark.parametrize(("names", "expected"), [
    (("train", "val", "test"), {"train": 2, "val": 2, "test": 2}),
    (("Training", "VALID", "Testing"), {"train": 2, "val": 2, "test": 2}),
    (("train", "test"), {"train": 2, "test": 2}),
])
def test_given_folders_are_taken(draw, tmp_path, names, expected):
    for n, name in enumerate(names):
        draw(f"{name}/a.png", 2 * n), draw(f"{name}/b.png", 2 * n + 1)
    report = open_collection(tmp_path / "set").report()
    assert report.splits == expected
    assert report.split_rule == "as the collection gives them"
    chosen = open_collection(tmp_path / "set").images("test", 8)
    assert chosen.names == (f"{names[-1]}/a.png", f"{names[-1]}/b.png")


def test_one_picture_in_two_given_splits_is_said(draw, tmp_path):
    draw("train/a.png", 1), draw("test/b.png", 1), draw("test/c.png", 2)
    report = open_collection(tmp_path / "set").report()
    assert report.duplicates == [["test/b.png", "train/a.png"]]
    assert "1 pictures lie in more than one split, for example test/b.png = train/a.png" in report.warnings


def test_a_patient_in_two_given_splits_is_said(draw, tmp_path):
    rows = [[draw(f"{k}.png", k).name, "p1", ["train", "test"][k % 2]] for k in range(4)]
    with (tmp_path / "set/index.csv").open("w") as file:
        csv.writer(file).writerows([["image", "patient", "split"], *rows])
    assert "1 groups lie in more than one split, for example p1" in open_collection(tmp_path / "set").report().warnings


@pytest.mark.parametrize(("values", "expected"), [
    ([0, 0, 1], {"train": 2, "test": 1}), ([0, 1, 2], {"train": 1, "val": 1, "test": 1}),
    (["train", "val", "val"], {"train": 1, "val": 2}),
])
def test_splits_of_arrays(tmp_path, values, expected):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, split=np.array(values))
    assert open_collection(tmp_path / "a.npz").report().splits == expected
