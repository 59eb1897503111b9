"""What `inkwash data` says, of made-up folders, of the bundled pack, and of real packs where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.data import Report, bundled, open_collection
from inkwash.errors import WrongUse

SHARED = Path(__file__).parents[3] / "shared/data/medical"


def test_everything_is_counted(draw, blob, tmp_path):
    for k in range(6):
        draw(f"images/{'ab'[k % 2]}/{k}.png", k, size=(30 + k, 20))
        draw(f"masks/{'ab'[k % 2]}/{k}.png", blob(size=(30 + k, 20)) * (k > 0))
    draw("images/a/9.png", 9)
    report = open_collection(tmp_path / "set").report()
    assert report.model_dump(exclude={"path", "warnings", "mask_classes"}) == {
        "kind": "folder", "layout": "pictures and masks in folders of their own, a folder for each class",
        "columns": {}, "unused": [], "pictures": 6, "left_out": 1,
        "sizes": {"min": (30, 20), "median": (32, 20), "max": (35, 20)},
        "modes": {"RGB": 6}, "channels": 3, "bits": 8, "classes": {"a": 3, "b": 3}, "masks": 6, "empty_masks": 1,
        "splits": {"train": 6}, "split_rule": "all in train: 6 different pictures are too few to split", "groups": 0,
        "duplicates": [], "near_duplicates": [], "annotators": 1, "measured": 0, "captions": 0,
        "problems": [{"name": "images/a/9.png", "reason": "has no mask"}],
        "trains": [
            "ddpm: unconditional", "ddpm: class-conditional (2 classes)", "polyp-ddpm: mask-to-image (2 mask classes)",
            "unet, ensemdiff and other segmenters: image-to-mask (2 mask classes)",
        ],
    }  # fmt: skip
    share = 5 * 12 * 10 / sum((30 + k) * 20 for k in range(6))
    assert [c.value for c in report.mask_classes] == ["0", "255"]
    assert report.mask_classes[1].share == pytest.approx(share)
    assert Report.model_validate(json.loads(report.model_dump_json())) == report


def test_the_text_says_the_same(draw, blob, tmp_path):
    for k in range(3):
        draw(f"images/{k}.png", k), draw(f"masks/{k}.png", blob())
    (tmp_path / "set/images/x.png").write_text("text")
    (tmp_path / "set/masks/x.png").write_bytes(b"")
    assert str(open_collection(tmp_path / "set").report()).splitlines() == [
        f"{tmp_path}/set",
        "  what          folder: pictures and masks in folders of their own",
        "  pictures      3, and 1 bad",
        "  size          24 x 20",
        "  modes         RGB 3",
        "  read as       colour, 8 bits",
        "  masks         3, 0 of them empty",
        "  mask classes  0: 0 (75.00%), 1: 255 (25.00%)",
        "  splits        train 3 (all in train: 3 different pictures are too few to split)",
        "  trains        ddpm: unconditional",
        "                polyp-ddpm: mask-to-image (2 mask classes)",
        "                unet, ensemdiff and other segmenters: image-to-mask (2 mask classes)",
        "  look at       3 pictures are few: a model will remember them rather than learn from them",
        "  bad files     images/x.png is text, not a picture",
    ]


def test_warnings(draw, tmp_path):
    pages = [Image.new("L", (9, 9), value) for value in (10, 20)]
    (tmp_path / "set/images").mkdir(parents=True)
    pages[0].save(tmp_path / "set/images/a.tif", save_all=True, append_images=pages[1:])
    draw("masks/a.png", np.zeros((9, 9), np.uint8))
    draw("images/b.png", 1), draw("masks/b.png", np.zeros((24, 20), np.uint8))
    report = open_collection(tmp_path / "set").report()
    assert report.warnings == [
        "all masks are empty",
        "1 files hold several pages or frames: the first of each is read",
        "1 pictures are coloured among others that are not",
        "2 pictures are few: a model will remember them rather than learn from them",
        "the smallest picture has 9 x 9 pixels",
    ]
    assert report.trains == ["ddpm: unconditional"]


def test_the_bundled_retina_pack():
    """It is sound, and its masks lie on the vessels: those are darker than their surroundings in green."""
    collection = open_collection(bundled("retina"))
    report = collection.report()
    assert report.problems == []
    assert report.splits["train"] > 500
    assert report.splits["test"] > 200
    assert report.groups == 14
    assert not [w for w in report.warnings if "more than one split" in w]
    assert 0.05 < report.mask_classes[1].share < 0.25
    assert bundled("retina").stat().st_size < 5e6
    assert "CC BY 4.0" in (bundled("retina").parent / "ATTRIBUTION.md").read_text()
    batch = collection.images("test", 128).batch(torch.arange(0, 200, 5))
    green = batch["image"][:, 1]
    around = torch.nn.functional.avg_pool2d(green[:, None], 21, 1, 10, count_include_pad=False)[:, 0]

    def darkness(mask):
        return (around - green)[mask == 1].mean().item()

    here = darkness(batch["mask"])
    assert here > 0.03
    for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)):
        assert darkness(batch["mask"].roll(shift, (1, 2))) < 0.8 * here


def test_an_unknown_pack():
    with pytest.raises(WrongUse, match="unknown bundled pack 'retinas': did you mean 'retina'"):
        bundled("retinas")


@pytest.mark.skipif(not SHARED.exists(), reason="the shared packs are not at hand")
@pytest.mark.parametrize(("pack", "pictures", "channels", "mask_classes", "classes"), [
    ("retina_disc_cup_drishti/data.zip", 101, 3, 3, 0),
    ("retina_vessel_drive/data.zip", 40, 3, 2, 0),
    ("ultrasound_busi/data.zip", 95, 1, 2, 3),
    ("nuclei_dsb2018/data.zip", 200, 1, 2, 0),
    ("medmnist/breastmnist_trainval.npz", 624, 1, 0, 2),
    ("polyp_kvasir_seg/tiny64.npz", 96, 3, 2, 0),
    ("mri_cardiac_acdc/data.npz", 298, 1, 4, 0),
])
def test_real_packs(pack, pictures, channels, mask_classes, classes):
    report = open_collection(SHARED / pack).report()
    assert report.problems == []
    assert (report.pictures, report.channels, len(report.mask_classes), len(report.classes)) == (
        pictures, channels, mask_classes, classes,
    )  # fmt: skip
