"""Which scans, masks, channels, splits and patients are found in which folders."""

import json
import zipfile
from pathlib import Path
from shutil import copy

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from made_scans import PLANTED, affine, body, rotation, write_nifti, write_series
from PIL import Image
from pydicom.data import get_testdata_file

from inkwash.data import VolumeCollection, VolumeReport, open_collection
from inkwash.data.volumes import dicom_seg
from inkwash.data.volumes.dicom_header import read_header
from inkwash.data.volumes.opening import open_series
from inkwash.errors import WrongUse


def opened(path: Path, **options) -> VolumeCollection:
    collection = open_collection(path, **options)
    assert isinstance(collection, VolumeCollection)
    return collection


def report(path: Path) -> VolumeReport:
    return opened(path).report()


def problems(path: Path) -> dict[str, str]:
    return {p.name: p.reason for p in report(path).problems}


def pairs(folder: Path, images: str, masks: str, count=3, **options) -> Path:
    """Bodies and masks at names made of a number."""
    for seed in range(count):
        image, mask = body((12, 10, 8), seed)
        write_nifti(folder / images.format(seed), image, **options)
        write_nifti(folder / masks.format(seed), mask, **options)
    return folder


LAYOUTS = {
    "folders": ("images/{}.nii.gz", "labels/{}.nii.gz"),
    "folders of splits": ("train/images/{}.nii", "train/masks/{}.nii"),
    "names": ("{}.nii.gz", "{}_seg.nii.gz"),
    "a folder a patient": ("patient0{}/scan.nii.gz", "patient0{}/scan_mask.nii.gz"),
    "as nnU-Net calls them": ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    "packed and not": ("images/{}.nii.gz", "labels/{}.nii"),
}


@pytest.mark.parametrize(("images", "masks"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path, images, masks):
    found = report(pairs(tmp_path, images, masks))
    assert (found.volumes, found.masks, found.problems) == (3, 3, [])
    assert [c.value for c in found.mask_classes] == ["0", "1", "2"]
    counted = sum(np.bincount(body((12, 10, 8), seed)[1].ravel(), minlength=3) for seed in range(3))
    assert found.voxels == counted.tolist()
    assert found.sizes.median == (8, 10, 12)
    assert found.groups == (3 if "patient" in images else 0)


def test_a_zip_is_read_in_place(tmp_path):
    pairs(tmp_path / "set", *LAYOUTS["folders"])
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in (tmp_path / "set").rglob("*.nii.gz"):
            archive.write(file, file.relative_to(tmp_path / "set").as_posix())
    packed, plain = report(tmp_path / "set.zip"), report(tmp_path / "set")
    assert packed.model_dump(exclude={"path", "kind"}) == plain.model_dump(exclude={"path", "kind"})
    sets = [opened(tmp_path / name).images("all", 8) for name in ("set", "set.zip")]
    assert sets[0].fingerprint == sets[1].fingerprint


def test_a_list(tmp_path):
    pairs(tmp_path, "a/{}.nii.gz", "b/m{}.nii.gz")
    splits = ("train", "train", "test")
    rows = [f"a/{k}.nii.gz,b/m{k}.nii.gz,{split},p{k // 2}" for k, split in enumerate(splits)]
    rows.insert(0, "scan,mask,split,patient")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    found = report(tmp_path)
    assert (found.volumes, found.masks, found.groups) == (3, 3, 2)
    assert found.splits == {"train": 2, "test": 1}
    assert report(tmp_path / "list.csv").volumes == 3


def test_medical_segmentation_decathlon(tmp_path):
    pairs(tmp_path, "imagesTr/case_{}.nii.gz", "labelsTr/case_{}.nii.gz")
    write_nifti(tmp_path / "imagesTs/case_9.nii.gz", body((12, 10, 8), 9)[0])
    names = [f"case_{k}.nii.gz" for k in range(4)]
    said = {
        "name": "Body",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "shell", "2": "core"},
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
        "test": ["./imagesTs/case_9.nii.gz"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    found = report(tmp_path)
    assert (found.layout, found.volumes, found.unmasked) == ("Medical Segmentation Decathlon", 3, 1)
    assert problems(tmp_path) == {"imagesTr/case_3.nii.gz": "is named in dataset.json and does not exist"}
    assert [c.value for c in found.mask_classes] == ["background", "shell", "core"]
    assert found.modalities == ["CT"]
    # Hounsfield units keep their meaning: percentiles of what lies inside the masks, each scan counting alike.
    inside = [np.percentile(i[m > 0].astype(np.float32), np.linspace(0, 100, 201)) for i, m in
              (body((12, 10, 8), seed) for seed in range(3))]  # fmt: skip
    low, high = np.percentile(np.concatenate(inside), [0.5, 99.5])
    (rule,) = found.plan.intensity
    assert rule.rule == "fixed"
    assert (rule.low, rule.high) == pytest.approx((low, high), abs=0.5)


def test_nnunet_raw(tmp_path):
    for seed in range(3):
        image, mask = body((12, 10, 8), seed)
        for channel in range(2):
            write_nifti(tmp_path / f"imagesTr/body_{seed:03d}_{channel:04d}.nii.gz", image + 50 * channel)
        write_nifti(tmp_path / f"labelsTr/body_{seed:03d}.nii.gz", mask)
    write_nifti(tmp_path / "imagesTr/body_007_0000.nii.gz", image)
    write_nifti(tmp_path / "labelsTr/body_007.nii.gz", mask)
    said = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "shell": 1, "core": 2},
            "numTraining": 3, "file_ending": ".nii.gz"}  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    found = report(tmp_path)
    assert (found.layout, found.volumes, found.channels) == ("nnU-Net raw data", 3, 2)
    assert problems(tmp_path) == {"imagesTr/body_007_0000.nii.gz": "has the channels [0] of 2"}
    batch = opened(tmp_path, skip_bad=True).images("all", (8, 10, 12)).batch(torch.tensor([0]))
    assert batch["image"].shape == (1, 2, 8, 10, 12)


def test_a_description_of_something_else_is_left_alone(tmp_path):
    pairs(tmp_path, *LAYOUTS["folders"])
    (tmp_path / "dataset.json").write_text('{"name": "mine"}')
    assert report(tmp_path).volumes == 3
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(WrongUse, match=r"dataset.json is no valid JSON"):
        open_collection(tmp_path)


class TestDicom:
    def case(self, folder: Path, seed: int, **attributes) -> tuple[list[Path], np.ndarray]:
        image, mask = body((12, 10, 8), seed)
        return write_series(folder, image, affine((1, 1, 2.5), np.diag([-1.0, -1, 1])), **attributes), mask

    def test_masks_as_segmentations(self, tmp_path):
        for seed in range(2):
            paths, mask = self.case(tmp_path / f"case{seed}", seed, PatientID=f"PID-77-4242-{seed}")
            scan = open_series([read_header(path) for path in paths])
            classes = np.ascontiguousarray(mask.T)
            dicom_seg.write(tmp_path / f"case{seed}" / "seg.dcm", scan, classes, ("", "a", "b"), "x")
        found = report(tmp_path)
        assert (found.volumes, found.masks, found.groups, found.problems) == (2, 2, 2, [])
        assert found.voxels == sum(np.bincount(body((12, 10, 8), s)[1].ravel(), minlength=3) for s in range(2)).tolist()
        assert found.modalities == ["CT"]
        assert not any(planted in str(found).lower() for planted in PLANTED if planted not in str(tmp_path).lower())

    def test_masks_as_nifti_beside_folders_of_slices(self, tmp_path):
        for seed in range(2):
            _, mask = self.case(tmp_path / "images" / f"case{seed}", seed)
            write_nifti(tmp_path / "masks" / f"case{seed}.nii.gz", mask, affine((1, 1, 2.5), np.diag([-1.0, -1, 1])))
        found = report(tmp_path)
        assert (found.volumes, found.masks, found.problems) == (2, 2, [])

    def test_two_series_in_one_folder_are_two_scans(self, tmp_path):
        for seed in range(2):
            self.case(tmp_path, seed, name=f"{seed}-{{:04d}}.dcm")
        assert report(tmp_path).volumes == 2

    def test_other_objects_are_passed_over(self, tmp_path):
        self.case(tmp_path, 0)
        for name in ("test-SR", "rtplan"):
            copy(get_testdata_file(f"{name}.dcm"), tmp_path)
        found = report(tmp_path)
        assert (found.volumes, found.problems) == (1, [])

    def test_bad_files_are_named_without_the_names_of_patients(self, tmp_path):
        paths, _ = self.case(tmp_path / "Quillfeather", 0)
        (tmp_path / "Quillfeather" / "Ottoline.dcm").write_text("a text")
        data = pydicom.dcmread(paths[3])
        data.PixelData = data.PixelData[:100]
        data.save_as(paths[3])
        found = problems(tmp_path)
        assert sorted(found.values()) == ["has pixels that are damaged or cut short", "is damaged or no DICOM file"]
        assert not any(planted in name.lower() for name in found for planted in PLANTED)


class TestMasks:
    def one(self, folder: Path, mask: np.ndarray, at=None, image=None) -> dict[str, str]:
        write_nifti(folder / "images/a.nii.gz", body((12, 10, 8))[0] if image is None else image)
        write_nifti(folder / "labels/a.nii.gz", mask, at)
        return problems(folder)

    def test_another_orientation_of_the_same_grid_is_turned(self, tmp_path):
        mask = body((12, 10, 8))[1]
        turned = nibabel.Nifti1Image(mask, affine()).as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
        assert self.one(tmp_path, np.asarray(turned.dataobj), turned.affine) == {}
        batch = opened(tmp_path).images("all", (8, 10, 12)).batch(torch.tensor([0]))
        # The scan is RAS, and seen from the feet, the front and the right.
        assert np.array_equal(batch["mask"][0].numpy(), mask.T[:, ::-1, ::-1])

    @pytest.mark.parametrize(
        ("mask", "at", "words"),
        [
            (np.zeros((12, 10, 7)), None, "lies elsewhere than its scan: 7 x 10 x 12 voxels"),
            (np.zeros((12, 10, 8)), affine(origin=(0, 0, 0)), "mm apart"),
            (np.zeros((12, 10, 8)), affine(turn=rotation(0.1, 0, 0)), "mm apart"),
            (np.full((12, 10, 8), 0.5), None, "holds fractions"),
            (np.full((12, 10, 8), -1.0), None, "holds negative"),
            (np.zeros((12, 10, 8, 2)), None, "has 2 channels: a mask has one"),
        ],
    )
    def test_what_is_no_mask_of_the_scan_is_said(self, tmp_path, mask, at, words):
        found = self.one(tmp_path, mask.astype(np.float32), at)
        assert list(found) == ["images/a.nii.gz"]
        assert found["images/a.nii.gz"].startswith("has a mask that ")
        assert words in found["images/a.nii.gz"]

    def test_any_numbers_are_classes(self, tmp_path):
        mask = body((12, 10, 8))[1].astype(np.int16)
        assert self.one(tmp_path, np.choose(mask, [0, 205, 1024]).astype(np.int16)) == {}
        assert [c.value for c in report(tmp_path).mask_classes] == ["0", "205", "1024"]

    def test_many_numbers_count_objects(self, tmp_path):
        assert self.one(tmp_path, np.arange(960).reshape(12, 10, 8).astype(np.int32)) == {}
        found = report(tmp_path)
        assert len(found.mask_classes) == 2
        assert any("count objects" in warning for warning in found.warnings)

    def test_a_scan_without_a_mask_among_others(self, tmp_path):
        pairs(tmp_path, *LAYOUTS["folders"])
        (tmp_path / "labels/1.nii.gz").unlink()
        found = report(tmp_path)
        assert (found.volumes, found.unmasked, found.problems) == (2, 1, [])


BAD = {
    "empty": (lambda p: p.write_bytes(b""), "is empty (0 bytes)"),
    "text": (lambda p: p.write_text("no scan\n" * 99), "is text, not a volume"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:400]), "is damaged, cut short or no NIfTI file"),
}


@pytest.mark.parametrize(("damage", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_and_can_be_left_out(tmp_path, damage, reason):
    pairs(tmp_path, *LAYOUTS["folders"])
    damage(tmp_path / "images/1.nii.gz")
    assert problems(tmp_path) == {"images/1.nii.gz": reason}
    with pytest.raises(WrongUse, match=r"1 bad scan: images/1.nii.gz is .*--skip-bad"):
        opened(tmp_path).images("train", 8)
    assert len(opened(tmp_path, skip_bad=True).images("train", 16)) == 2


def test_an_encrypted_zip_is_said(tmp_path):
    pairs(tmp_path / "set", *LAYOUTS["folders"], count=1)
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "set").rglob("*.nii.gz"):
            archive.write(file, file.relative_to(tmp_path / "set").as_posix())
    raw = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(mark)
        while at >= 0:
            raw[at + offset] |= 1
            at = raw.find(mark, at + 4)
    path.write_bytes(bytes(raw))
    assert problems(path) == {"images/0.nii.gz": "is encrypted"}


def test_more_pictures_than_scans_are_pictures(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", body((12, 10, 8))[0])
    for k in range(2):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{k}.png")
    assert not isinstance(open_collection(tmp_path), VolumeCollection)
