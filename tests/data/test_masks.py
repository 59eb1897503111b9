"""Masks become classes by one table for the whole collection, and keep their shapes when they shrink."""

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.data import open_collection
from inkwash.data.mask import MaskTable, codes, count, shrink
from inkwash.data.picture import Picture, Unreadable

RED, GREEN, BLACK = (1 << 24) + 0xFF0000, (1 << 24) + 0x00FF00, 1 << 24


def masks(path, size=(24, 20)):
    chosen = open_collection(path).images("all", size)
    return chosen.batch(torch.arange(len(chosen)))["mask"], chosen.spec.mask_classes


@pytest.mark.parametrize(("values", "classes"), [
    ((0, 255), (0, 1)), ((0, 1), (0, 1)), ((0, 1, 2, 3), (0, 1, 2, 3)), ((0, 128, 255), (0, 1, 2)), ((0, 7), (0, 1)),
])
def test_values_become_classes_in_order(draw, tmp_path, values, classes):
    stripes = np.repeat(np.array(values, np.uint8), 20).reshape(-1, 20).repeat(24 // len(values), axis=0)
    draw("images/a.png", 1, size=stripes.shape), draw("masks/a.png", stripes)
    mask, number = masks(tmp_path / "set", stripes.shape)
    assert number == len(classes)
    assert mask[0, :, 0].unique_consecutive().tolist() == list(classes)


def test_the_table_is_that_of_the_collection_not_of_the_picture(draw, blob, tmp_path):
    for k, value in enumerate((128, 255)):
        draw(f"images/{k}.png", k), draw(f"masks/{k}.png", blob(value))
    mask, number = masks(tmp_path / "set")
    assert number == 3
    assert [m.max().item() for m in mask] == [1, 2]


def test_a_mask_that_is_full_is_not_background(draw, tmp_path):
    draw("images/a.png", 1), draw("masks/a.png", np.full((24, 20), 255, np.uint8))
    mask, number = masks(tmp_path / "set")
    assert (mask == 1).all()
    assert number == 2


def test_one_bit_masks(draw, blob, tmp_path):
    draw("images/a.png", 1), draw("masks/a.png", blob() > 0)
    mask, _ = masks(tmp_path / "set")
    assert torch.equal(mask[0] == 1, torch.from_numpy(blob() > 0))


def test_lossy_masks_are_cut_in_the_middle(draw, tmp_path):
    disc = np.hypot(*np.mgrid[-40:40, -40:40]) < 25
    draw("images/a.png", 1, size=(80, 80)), draw("masks/a.jpg", (disc * 255).astype(np.uint8), quality=60)
    mask, number = masks(tmp_path / "set", (80, 80))
    assert number == 2
    assert ((mask[0] == 1).numpy() != disc).mean() < 0.01  # the lossy rim
    report = open_collection(tmp_path / "set").report()
    assert any("cut at 128" in w for w in report.warnings)
    assert [c.value for c in report.mask_classes] == ["< 128", ">= 128"]


@pytest.mark.parametrize(("counts", "rule"), [
    ({0: 90, 1: 5, 2: 3, 253: 2, 254: 9, 255: 60}, "threshold"),  # a JPEG of high quality
    ({0: 90, 1: 5, 255: 3}, "values"),  # 255 is often "ignore"
    ({0: 90, 1: 5, 2: 5, 255: 3}, "values"),
    ({0: 90, 85: 5, 170: 5, 255: 3}, "values"),
    ({0: 1, 1: 1, 2: 1, 3: 90}, "values"),
    (dict.fromkeys(range(200), 10), "instances"),
    ({0: 900, 255: 500} | dict.fromkeys(range(1, 255), 1), "threshold"),
])
def test_the_rule_is_told_from_the_values(counts, rule):
    assert MaskTable.of(counts).rule == rule


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbered_objects_are_one_class(draw, tmp_path, dtype):
    objects = np.kron(np.arange(64).reshape(8, 8), np.ones((3, 3))).astype(dtype)
    objects = objects * (5 if dtype is np.uint16 else 1)
    draw("images/a.png", 1, size=objects.shape), draw("masks/a.png", objects)
    mask, number = masks(tmp_path / "set", objects.shape)
    assert number == 2
    assert torch.equal(mask[0] == 1, torch.from_numpy(objects > 0))
    assert any("number the objects" in w for w in open_collection(tmp_path / "set").report().warnings)


def test_colours_become_classes_whatever_the_palette_says(draw, tmp_path):
    """Two palettes that number the same colours differently."""
    for k, order in enumerate(((0, 1, 2), (2, 1, 0))):
        image = Image.new("P", (20, 24))
        colours = [(0, 0, 0), (0, 255, 0), (255, 0, 0)]
        image.putpalette([v for i in order for v in colours[i]])
        image.paste(order.index(1), (0, 0, 10, 12))
        image.paste(order.index(2), (10, 12, 20, 24))
        image.paste(order.index(0), (10, 0, 20, 12))
        image.paste(order.index(0), (0, 12, 10, 24))
        draw(f"images/{k}.png", k)
        (tmp_path / "set/masks").mkdir(exist_ok=True)
        image.save(tmp_path / f"set/masks/{k}.png")
    mask, number = masks(tmp_path / "set")
    assert number == 3
    assert torch.equal(mask[0], mask[1])
    assert mask[0, 0, 0] == 1  # #00ff00 before #ff0000
    assert mask[0, -1, -1] == 2
    written = [c.value for c in open_collection(tmp_path / "set").report().mask_classes]
    assert written == ["#000000", "#00ff00", "#ff0000"]


def test_black_in_grey_masks_is_the_black_of_coloured_ones():
    table = MaskTable.of({0: 100, RED: 5, BLACK: 7})
    assert table.classes == 2
    assert table(np.array([[0, BLACK, RED]], np.int32)).tolist() == [[0, 0, 1]]
    assert table.share({0: 100, RED: 5, BLACK: 7}) == [107, 5]


def test_more_colours_than_classes_are_refused():
    with pytest.raises(Unreadable, match="hold 41 colours together"):
        MaskTable.of({(1 << 24) + k: 1 for k in range(1, 41)})


def test_codes_count_every_pixel():
    pixels = np.array([[[0], [3]], [[3], [300]]], np.uint16)
    assert count(codes(Picture(pixels, "I;16"))) == {0: 1, 3: 2, 300: 1}
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 0], [255, 0, 0]]], np.uint8)
    assert count(codes(Picture(colours, "RGB"))) == {BLACK: 1, RED: 2, GREEN: 1}


def test_two_channels_are_no_mask():
    with pytest.raises(Unreadable, match="has 2 channels"):
        codes(Picture(np.zeros((4, 4, 2), np.uint8), "array uint8"))


def test_fractions_of_one_are_scaled():
    halves = np.array([[[0.0], [0.5], [1.0]]], np.float32)
    assert codes(Picture(halves, "F")).tolist() == [[0, 128, 255]]


def test_shrinking_takes_the_largest_class():
    block = np.array([[0, 0, 2, 2], [0, 1, 2, 1], [1, 1, 0, 0], [1, 0, 0, 2]], np.uint8)
    assert shrink(block, (2, 2), 3).tolist() == [[0, 2], [1, 0]]
    assert shrink(block, (8, 8), 3)[::2, ::2].tolist() == block.tolist()


def test_shrinking_never_invents_a_class():
    """Interpolating the numbers would make 1 of 0 and 2 at every rim."""
    two = np.where(np.hypot(*np.mgrid[-32:32, -32:32]) < 20, 2, 0).astype(np.uint8)
    assert set(np.unique(shrink(two, (13, 13), 3))) == {0, 2}


def test_images_and_masks_shrink_alike(draw, tmp_path):
    """A picture that is its own mask stays so, whatever the size and the fit."""
    disc = np.where(np.hypot(*np.mgrid[-30:30, -45:45]) < 25, 255, 0).astype(np.uint8)
    draw("images/a.png", disc), draw("masks/a.png", disc)
    collection = open_collection(tmp_path / "set")
    for fit in ("squash", "crop"):
        batch = collection.images("all", 20, fit=fit).batch(torch.tensor([0]))
        differ = (batch["image"][0, 0] > 0) != (batch["mask"][0] == 1)
        assert differ.sum() <= 8  # Lanczos overshoots at the rim; a shift of one pixel would be about 30
        assert 0 < batch["mask"].float().mean() < 1
