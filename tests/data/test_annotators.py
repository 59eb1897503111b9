"""Several masks of one picture: found in every layout, trained on one by one, kept together for measuring."""

import numpy as np
import pytest
import torch

from inkwash.data import open_collection


def stripe(k: int) -> np.ndarray:
    mask = np.zeros((24, 20), np.uint8)
    mask[k : k + 6] = 255
    return mask


@pytest.mark.parametrize(
    "name", ["masks/{}_{}.png", "masks/{}-rater{}.png", "masks/{}_mask{}.png", "images/{}_mask_{}.png"]
)
def test_numbered_masks_are_those_of_several_annotators(draw, tmp_path, name):
    for k in range(3):
        draw(f"images/p{k}.png", k)
        for rater in (1, 2, 3)[: 3 - (k == 0)]:
            draw(name.format(f"p{k}", rater), stripe(3 * k + rater))
    collection = open_collection(tmp_path / "set")
    report = collection.report()
    assert (report.pictures, report.masks, report.annotators, report.problems) == (3, 3, 3, [])
    assert "up to 3 annotators" in report.layout
    every = collection.images("all", (24, 20))
    assert len(every) == 3
    batch = every.batch(torch.arange(3))["mask"]
    for k in range(3):
        masks = every.annotations(k)
        assert torch.equal(masks[0], batch[k])
        assert [(m > 0).nonzero()[0, 0].item() for m in masks] == [3 * k + r for r in (1, 2, 3)][: 3 - (k == 0)]


def test_a_mask_without_a_number_is_the_first(draw, tmp_path):
    for k in range(2):
        draw(f"images/{k}.png", k)
        draw(f"masks/{k}.png", stripe(1)), draw(f"masks/{k}_2.png", stripe(9))
    masks = open_collection(tmp_path / "set").images("all", (24, 20)).annotations(0)
    assert [(m > 0).nonzero()[0, 0].item() for m in masks] == [1, 9]


def test_a_single_numbered_mask_belongs_to_a_picture_of_that_name_only(draw, tmp_path):
    draw("images/1.png", 0), draw("masks/1.png", stripe(1))
    draw("masks/12.png", stripe(2)), draw("masks/2_1.png", stripe(2))
    report = open_collection(tmp_path / "set").report()
    assert report.annotators == 1
    assert {p.name for p in report.problems} == {"masks/12.png", "masks/2_1.png"}


def test_training_sees_the_mask_of_each_annotator(draw, tmp_path):
    for k in range(4):
        split = "train" if k < 3 else "test"
        draw(f"{split}/images/{k}.png", k)
        for rater in (1, 2):
            draw(f"{split}/masks/{k}_{rater}.png", stripe(rater * 4))
    collection = open_collection(tmp_path / "set")
    train, test = (collection.images(split, (24, 20)) for split in ("train", "test"))
    assert (len(train), len(test)) == (6, 1)
    assert train.names == tuple(f"train/images/{k}.png" for k in (0, 0, 1, 1, 2, 2))
    tops = train.batch(torch.arange(6))["mask"].flatten(1).argmax(dim=1) // 20
    assert tops.tolist() == [4, 8] * 3
    assert len(test.annotations(0)) == 2
    assert len(train.annotations(0)) == 1


def test_the_content_of_every_mask_is_in_the_fingerprint(draw, tmp_path):
    draw("images/0.png", 0), draw("masks/0_1.png", stripe(1)), draw("masks/0_2.png", stripe(2))
    before = open_collection(tmp_path / "set").images("all", 8).fingerprint
    draw("masks/0_2.png", stripe(3))
    assert open_collection(tmp_path / "set").images("all", 8).fingerprint != before


def test_lists_and_arrays(draw, tmp_path):
    for k in range(3):
        draw(f"{k}.png", k), draw(f"{k}a.png", stripe(1)), draw(f"{k}b.png", stripe(5 + k))
    rows = ["image,mask_1,mask_2", "0.png,0a.png,0b.png", "1.png,1a.png,1b.png", "2.png,2a.png,"]
    (tmp_path / "set/list.csv").write_text("\n".join(rows))
    listed = open_collection(tmp_path / "set")
    assert listed.report().columns == {"image": "image", "mask": "mask_1", "mask 2": "mask_2"}
    images = listed.images("all", (24, 20))
    assert [len(images.annotations(k)) for k in range(3)] == [2, 2, 1]
    path = tmp_path / "set.npz"
    masks = {f"masks_{r}": np.stack([stripe(r + k) for k in range(3)]) for r in (1, 2, 3)}
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (3, 24, 20, 3), dtype=np.uint8), **masks)
    arrays = open_collection(path).images("all", (24, 20))
    assert arrays.annotations(1).shape == (3, 24, 20)
    assert [(m > 0).nonzero()[0, 0].item() for m in arrays.annotations(1)] == [2, 3, 4]


def test_a_bad_mask_of_any_annotator_is_a_bad_item(draw, tmp_path):
    for k in range(2):
        draw(f"images/{k}.png", k)
        draw(f"masks/{k}_1.png", stripe(1)), draw(f"masks/{k}_2.png", stripe(2)[: 24 - 4 * k])
    report = open_collection(tmp_path / "set").report()
    assert report.pictures == 1
    assert [(p.name, p.reason) for p in report.problems] == [
        ("masks/1_2.png", "is 20 x 20 and its picture images/1.png is 24 x 20")
    ]
