"""Folders, zips, lists and arrays: what is the picture, its mask, its class, its split and its patient."""

import csv
import zipfile

import numpy as np
import pytest
import torch

from inkwash.data import open_collection
from inkwash.errors import WrongUse


def found(path, **options):
    return {i.image: (i.mask, i.label, i.split, i.group) for i in open_collection(path, **options).found.items}


def test_pictures_at_any_depth(draw):
    draw("a.png", 1), draw("deep/er/b.jpg", 2)
    root = draw("deep/c.PNG", 3).parents[1]
    draw(".hidden/d.png", 4)
    assert list(found(root)) == ["a.png", "deep/c.PNG", "deep/er/b.jpg"]


def test_a_folder_for_each_class(draw):
    for k, name in enumerate(["x/benign/1.png", "x/benign/2.png", "x/malignant/1.png", "x/malignant/3.png"]):
        root = draw(name, k).parents[2]
    assert [v[1] for v in found(root).values()] == ["benign", "benign", "malignant", "malignant"]
    chosen = open_collection(root).images("all", 8)
    assert chosen.spec.classes == ("benign", "malignant")
    assert chosen.batch(torch.tensor([3, 0]))["label"].tolist() == [1, 0]


def test_a_class_may_be_called_mask(draw):
    for k, name in enumerate(["mask/1.png", "mask/2.png", "nothing/3.png", "nothing/4.png"]):
        root = draw(name, k).parents[1]
    assert [v[:2] for v in found(root).values()] == [(None, "mask")] * 2 + [(None, "nothing")] * 2


def test_numbered_classes_are_in_order_of_size(draw):
    for k, label in enumerate(["10", "9", "10", "9", "2", "2"]):
        root = draw(f"{label}/{k}.png", k).parents[1]
    assert open_collection(root).images("all", 8).spec.classes == ("2", "9", "10")


def test_patient_folders_are_groups(draw):
    for k in range(24):
        root = draw(f"patient{k // 2:02d}/{k}.png", k).parents[1]
    items = found(root)
    assert items["patient03/6.png"] == (None, None, None, "patient03")


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("imgs", "labels"),
        ("train/images", "train/annotations"),
        ("images/train", "masks/train"),
        ("", "vessels"),
        ("images", "1st_manual"),
        ("x/images", "x/Ground_Truth"),
    ],
)
def test_masks_in_a_folder_of_their_own(draw, blob, tmp_path, images, masks):
    for k in range(2):
        draw(f"{images}/{k}.jpg".lstrip("/"), k)
        draw(f"{masks}/{k}.png", blob())
    split = "train" if "train" in images else None
    expected = {f"{images}/{k}.jpg".lstrip("/"): (f"{masks}/{k}.png", None, split, None) for k in range(2)}
    assert found(tmp_path / "set") == expected


@pytest.mark.parametrize("suffix", ["_mask", "_seg", "_label", "_gt", "_1stHO", "_segmentation", "-mask", "_manual1"])
def test_masks_told_by_their_suffix(draw, blob, suffix):
    draw("a.png", 1), draw(f"a{suffix}.png", blob())
    root = draw("b.png", 2).parent
    draw(f"b{suffix}.png", blob())
    assert {k: v[0] for k, v in found(root).items()} == {"a.png": f"a{suffix}.png", "b.png": f"b{suffix}.png"}


def test_the_names_of_drive_pair(draw, blob, tmp_path):
    draw("training/images/21_training.tif", 1), draw("training/1st_manual/21_manual1.gif", blob())
    draw("test/images/01_test.tif", 2), draw("test/1st_manual/01_manual1.gif", blob())
    items = found(tmp_path / "set")
    assert items["training/images/21_training.tif"] == ("training/1st_manual/21_manual1.gif", None, "train", None)
    assert items["test/images/01_test.tif"] == ("test/1st_manual/01_manual1.gif", None, "test", None)


def test_equal_names_in_two_splits_keep_their_own_masks(draw, blob, tmp_path):
    for part in ("train", "test"):
        draw(f"{part}/images/1.png", len(part)), draw(f"{part}/masks/1.png", blob())
    draw("train/images/2.png", 7), draw("test/masks/2.png", blob())
    collection = open_collection(tmp_path / "set")
    assert {i.image: i.mask for i in collection.found.items} == {
        "train/images/1.png": "train/masks/1.png",
        "test/images/1.png": "test/masks/1.png",
    }
    assert collection.found.problems == [
        ("train/images/2.png", "has no mask"),
        ("test/masks/2.png", "is a mask without a picture"),
    ]


def test_classes_and_flat_masks(draw, blob, tmp_path):
    for k, label in enumerate("aabb"):
        draw(f"images/{label}/{k}.png", k), draw(f"masks/{k}.png", blob())
    assert found(tmp_path / "set")["images/b/2.png"] == ("masks/2.png", "b", None, None)


def table(path, rows, header, delimiter=",", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_list_names_everything(draw, blob, tmp_path, delimiter, encoding):
    draw("i/a.png", 1), draw("m/a.png", blob()), draw("i/b.png", 2), draw("m/b.png", blob())
    rows = [
        ["1", "i/a.png", "m/a.png", "train", "cat", "p1"],
        ["2", "./i/b.png", "m\\b.png", "Validation", "dog", "p2"],
    ]
    table(tmp_path / "set/list.csv", rows, ["id", "image", "mask", "split", "class", "patient_id"], delimiter, encoding)
    expected = {"i/a.png": ("m/a.png", "cat", "train", "p1"), "i/b.png": ("m/b.png", "dog", "val", "p2")}
    assert found(tmp_path / "set") == expected
    assert found(tmp_path / "set/list.csv") == expected


@pytest.mark.parametrize("header", ["image", "img", "filename", "ImageName", "image_path", "photo"])
@pytest.mark.parametrize("masks", ["mask", "vessel", "label", "segmentation_path", "disc"])
def test_synonyms_of_columns(draw, blob, tmp_path, header, masks):
    draw("a.png", 1), draw("a_m.png", blob())
    table(tmp_path / "set/index.csv", [["a.png", "a_m.png"]], [header, masks])
    assert found(tmp_path / "set") == {"a.png": ("a_m.png", None, None, None)}


def test_a_list_may_leave_out_endings(draw, tmp_path):
    for k, name in enumerate(["ISIC_1", "ISIC_2", "ISIC_3", "ISIC_4"]):
        draw(f"pictures/{name}.jpg", k)
    rows = [["ISIC_1", "nv"], ["ISIC_2", "mel"], ["ISIC_3", "nv"], ["ISIC_4", "mel"]]
    table(tmp_path / "set/meta.csv", rows, ["image_id", "dx"])
    assert found(tmp_path / "set")["pictures/ISIC_2.jpg"] == (None, "mel", None, None)


def test_lists_called_train_and_test_are_one(draw, tmp_path):
    draw("a.png", 1), draw("b.png", 2)
    table(tmp_path / "set/train.csv", [["a.png"]], ["image"])
    table(tmp_path / "set/test.csv", [["b.png"]], ["image"])
    assert {k: v[2] for k, v in found(tmp_path / "set").items()} == {"a.png": "train", "b.png": "test"}


def test_what_was_chosen_is_said_and_can_be_changed(draw, tmp_path):
    draw("before.png", 1), draw("after.png", 2)
    path = table(tmp_path / "set/index.csv", [["before.png", "after.png"]], ["before", "after"])
    collection = open_collection(path)
    assert collection.found.columns == {"image": "before"}
    remark = "index.csv: none of the columns before, after is called image: 'before' was taken"
    assert remark in collection.found.remarks
    assert list(found(path, columns={"image": "after"})) == ["after.png"]
    with pytest.raises(WrongUse, match=r"index.csv has no column 'dirty' for the image: columns: before, after"):
        open_collection(path, columns={"image": "dirty"})
    with pytest.raises(WrongUse, match="unknown role of a column 'imge': did you mean 'image'"):
        open_collection(path, columns={"imge": "after"})


def test_names_of_classes_are_preferred_to_numbers(draw, tmp_path):
    rows = [[draw(f"{k}.png", k).name, k % 2, "ab"[k % 2]] for k in range(4)]
    table(tmp_path / "set/index.csv", rows, ["image", "cls", "cls_name"])
    collection = open_collection(tmp_path / "set")
    assert collection.found.columns["label"] == "cls_name"
    assert not [r for r in collection.found.remarks if "could be" in r]


def test_two_kinds_of_classes_are_said(draw, tmp_path):
    rows = [[draw(f"{k}.png", k).name, "ab"[k % 2], "xy"[k // 2]] for k in range(4)]
    table(tmp_path / "set/index.csv", rows, ["image", "class", "diagnosis"])
    collection = open_collection(tmp_path / "set")
    assert "index.csv: the classes could be class, diagnosis: 'class' was taken" in collection.found.remarks


def test_a_group_that_the_split_cuts_through_is_no_patient(draw, tmp_path):
    rows = [[draw(f"{k}.png", k).name, ["train", "test"][k % 2], "glaucoma"] for k in range(4)]
    table(tmp_path / "set/index.csv", rows, ["image", "split", "group"])
    collection = open_collection(tmp_path / "set")
    assert "group" not in collection.found.columns
    assert any("cuts through it" in r for r in collection.found.remarks)


def same_batch(first, second, size=8):
    a, b = (open_collection(p).images("all", size) for p in (first, second))
    at = torch.arange(len(a))
    assert len(a) == len(b)
    for key, value in a.batch(at).items():
        assert torch.equal(value, b.batch(at)[key])
    assert a.fingerprint == b.fingerprint


def test_a_zip_is_the_folder(draw, blob, pack, tmp_path):
    for k in range(3):
        draw(f"images/{k}.png", k), draw(f"masks/{k}.png", blob())
    same_batch(tmp_path / "set", pack())


def test_a_zip_with_a_folder_and_a_list_inside(draw, pack, tmp_path):
    draw("top/pictures/a.png", 1)
    table(tmp_path / "set/top/index.csv", [["pictures/a.png"]], ["image"])
    assert list(found(pack())) == ["top/pictures/a.png"]


def test_nothing_is_unpacked(draw, pack, tmp_path, monkeypatch):
    draw("a.png", 1)
    path = pack()
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    before = sorted(tmp_path.rglob("*"))
    open_collection(path).report()
    assert sorted(tmp_path.rglob("*")) == before


def test_medmnist(tmp_path):
    draw = np.random.default_rng(0).integers
    arrays = {}
    for part, n in (("train", 6), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = draw(0, 256, (n, 28, 28, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(n, dtype=np.uint8)[:, None] % 3
    np.savez(tmp_path / "bloodmnist.npz", **arrays)
    collection = open_collection(tmp_path / "bloodmnist.npz")
    report = collection.report()
    assert report.splits == {"train": 6, "val": 2, "test": 3}
    assert report.classes == {"0": 4, "1": 4, "2": 3}
    batch = collection.images("train", 28).batch(torch.arange(6))
    expected = torch.from_numpy(arrays["train_images"]).permute(0, 3, 1, 2) / 127.5 - 1
    assert torch.allclose(batch["image"], expected, atol=1e-6)
    assert batch["label"].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("zipped", [False, True])
def test_plain_arrays(tmp_path, zipped):
    draw = np.random.default_rng(0).integers
    arrays = {
        "images": draw(0, 256, (6, 2, 16, 16), dtype=np.uint8), "masks": draw(0, 3, (6, 16, 16), dtype=np.uint8),
        "labels": np.array([0, 1, 0, 1, 0, 1]), "split": np.array([0, 0, 0, 0, 1, 1], np.uint8),
        "patient": np.array([1, 1, 2, 2, 3, 3]),
    }  # fmt: skip
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays)
    if zipped:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.write(path, "inside/set.npz")
        path = tmp_path / "set.zip"
    collection = open_collection(path)
    assert collection.found.columns == {
        "image": "images",
        "mask": "masks",
        "label": "labels",
        "split": "split",
        "group": "patient",
    }
    chosen = collection.images("test", 16)
    batch = chosen.batch(torch.arange(2))
    assert torch.allclose(batch["image"], torch.from_numpy(arrays["images"][4:]) / 127.5 - 1, atol=1e-6)
    assert torch.equal(batch["mask"], torch.from_numpy(arrays["masks"][4:]).long())
    assert batch["label"].tolist() == [0, 1]
    assert chosen.spec.model_dump() == {"channels": 2, "size": (16, 16), "classes": ("0", "1"), "mask_classes": 3}


def test_labels_for_each_pixel_are_masks(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 16, 16), np.uint8), labels=np.ones((3, 16, 16), np.uint8))
    assert open_collection(tmp_path / "a.npz").found.columns == {"image": "images", "mask": "labels"}


def test_a_link_that_leads_back_does_not_hang(draw):
    root = draw("a.png", 1).parent
    (root / "again").symlink_to(root, target_is_directory=True)
    assert list(found(root)) == ["a.png"]
