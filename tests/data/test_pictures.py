"""Every mode a picture may be stored in becomes the numbers that it means."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.data import open_collection
from inkwash.data.picture import Unreadable, centre, decode, resize

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(data: bytes) -> np.ndarray:
    return decode(data).pixels[..., 0]


def test_grey_keeps_its_numbers():
    assert (grey(encoded(Image.fromarray(RAMP))) == RAMP).all()


def test_one_bit_is_black_and_white():
    bits = RAMP % 2 == 0
    assert (grey(encoded(Image.fromarray(bits))) == 255 * bits).all()


def test_sixteen_bits_keep_their_numbers():
    deep = RAMP.astype(np.uint16) * 257
    picture = decode(encoded(Image.fromarray(deep)))
    assert picture.pixels.dtype == np.uint16
    assert (picture.pixels[..., 0] == deep).all()


@pytest.mark.parametrize(("values", "kind"), [(RAMP / np.float32(255), "TIFF"), (RAMP.astype(np.int32) - 100, "TIFF")])
def test_tiff_keeps_floats_and_negative_numbers(values, kind):
    picture = decode(encoded(Image.fromarray(values), kind))
    assert picture.pixels.dtype == values.dtype
    assert (picture.pixels[..., 0] == values).all()


def test_palette_becomes_its_colours():
    image = Image.fromarray(RAMP % 2).convert("P")
    image.putdata([0, 1] * 128)
    image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    pixels = decode(encoded(image)).pixels
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[0, 1].tolist() == [0, 0, 255]


def test_alpha_is_composited_on_black_and_dropped_from_masks():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, 51
    data = encoded(Image.fromarray(rgba))
    assert decode(data).pixels[0, 0].tolist() == [40, 0, 0]  # 200 * 51 / 255
    assert decode(data, mask=True).pixels[0, 0].tolist() == [200, 0, 0]
    grey_alpha = np.stack([np.full((4, 4), 200), np.full((4, 4), 51)], axis=2).astype(np.uint8)
    assert decode(encoded(Image.fromarray(grey_alpha, "LA"))).pixels[0, 0].tolist() == [40]


def test_cmyk_becomes_rgb():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode(encoded(cmyk, "TIFF")).pixels[0, 0].tolist()
    assert red == [255, 0, 0]


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: to be turned clockwise by a quarter
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:, :8] = 255
    upright = decode(encoded(Image.fromarray(stored), "JPEG", exif=exif, quality=95)).pixels
    assert upright.shape == (16, 8, 3)
    assert upright[:8].mean() > 250
    assert upright[8:].mean() < 5


def test_several_pages_give_the_first():
    pages = [Image.new("L", (8, 8), value) for value in (10, 20, 30)]
    picture = decode(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert picture.pages == 3
    assert (picture.pixels == 10).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_a_grey_picture_stored_in_colour_is_grey(kind):
    image = Image.fromarray(np.repeat(RAMP[..., None], 3, axis=2))
    assert decode(encoded(image, kind)).grey
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    assert not decode(encoded(red, kind)).grey


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_file_is_unreadable(kind, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(Unreadable):
        decode(data[: int(len(data) * keep)])


def test_shrinking_averages_and_growing_repeats():
    halves = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((8, 8), np.uint8))
    assert (resize(halves, (1, 1), Image.Resampling.BOX) == 128).all()
    assert (resize(halves, (32, 32), Image.Resampling.BOX)[:16, :16] == 0).all()


def test_the_centre_has_the_aspect_ratio_asked_for():
    pixels = np.arange(100 * 60).reshape(100, 60)
    assert (centre(pixels, (8, 8)) == pixels[20:80]).all()
    assert (centre(pixels, (5, 10)) == pixels[35:65]).all()
    assert (centre(pixels, (50, 30)) == pixels).all()


def images(path, size, **options):
    chosen = open_collection(path).images("all", size, **options)
    return chosen.batch(torch.arange(len(chosen)))["image"]


def test_eight_bits_span_minus_one_to_one(draw):
    path = draw("ramp.png", RAMP).parent
    expected = torch.from_numpy(RAMP.astype(np.float32)) / 127.5 - 1
    assert torch.allclose(images(path, 16)[0, 0], expected, atol=1e-6)


def test_twelve_bits_in_sixteen_use_the_maximum_of_the_collection(draw):
    for k, top in enumerate((4095, 1000)):
        deep = np.linspace(0, top, 256).astype(np.uint16).reshape(16, 16)
        path = draw(f"{k}.png", deep).parent
    batch = images(path, 16)
    assert batch[0].max() == 1
    assert batch[0].min() == batch[1].min() == -1
    assert batch[1].max() == pytest.approx(2 * 1000 / 4095 - 1, abs=2e-5)  # half a step of 16 bits is 1.5e-5


def test_floats_and_negative_numbers_use_the_range_of_the_collection(draw):
    for k, (low, high) in enumerate(((-1000, 500), (0, 1000))):
        path = draw(f"{k}.tif", np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)).parent
    batch = images(path, 16)
    assert batch[0].min() == -1
    assert batch[0].max() == pytest.approx(0.5, abs=2e-5)
    assert batch[1].min() == pytest.approx(0, abs=2e-5)
    assert batch[1].max() == 1


def test_floats_between_zero_and_one_are_not_stretched(draw):
    path = draw("a.tif", np.full((16, 16), 0.25, np.float32)).parent
    assert images(path, 16).mean() == pytest.approx(-0.5, abs=2e-5)


def test_channels_by_majority_or_as_asked(draw):
    for k in range(3):
        path = draw(f"grey{k}.png", RAMP + np.uint8(k)).parent
    draw("colour.png", 1)
    assert images(path, 8).shape == (4, 1, 8, 8)
    assert images(path, 8, channels=3).shape == (4, 3, 8, 8)
    draw("b.png", 2), draw("c.png", 3), draw("d.png", 4)
    assert images(path, 8).shape == (7, 3, 8, 8)


def test_colour_to_grey_is_luminance(draw):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    batch = images(draw("red.png", red).parent, 8, channels=1)
    assert batch.mean() == pytest.approx(2 * 76 / 255 - 1)  # round(0.299 * 255) = 76


def test_squash_keeps_everything_and_crop_keeps_shapes(draw):
    stripes = np.zeros((20, 60), np.uint8)
    stripes[:, :20] = 255  # the left third
    path = draw("wide.png", stripes).parent
    assert images(path, 20).mean() == pytest.approx(-1 / 3, abs=0.05)
    assert images(path, 20, fit="crop").max() == -1  # the middle third is black
