"""What a user may hand in that can't be used: each gets one line that says what, where, and what would be right."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.data import open_collection
from inkwash.errors import Failed, WrongUse


def write(path, data=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refuse(path, message, **options):
    """Opening raises exactly this one line."""
    with pytest.raises(WrongUse) as caught:
        open_collection(path, **options)
    assert str(caught.value) == message
    assert "\n" not in message


# --- a path that is no collection


def test_missing_path(tmp_path):
    refuse(tmp_path / "no", f"{tmp_path}/no: no such file or folder")


def test_empty_folder(tmp_path):
    refuse(tmp_path, f"{tmp_path}: holds no pictures: it is empty")


def test_folder_of_other_things(tmp_path):
    for name in ("a.txt", "b.txt", "c.tar.gz"):
        write(tmp_path / name, "x")
    refuse(tmp_path, f"{tmp_path}: holds no pictures: 2 of .txt, 1 of .tar.gz")


def test_unknown_kind(tmp_path):
    path = write(tmp_path / "a.xyz", "x")
    refuse(path, f"{path}: is of no kind that can be read: give a folder, a .zip, a .npz or a .csv list")


def test_single_picture(draw):
    path = draw("a.png")
    refuse(path, f"{path}: is a single picture: give the folder that holds it")


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_broken_zip(tmp_path, data):
    path = write(tmp_path / "a.zip", data)
    refuse(path, f"{path}: is damaged or no zip archive")


def test_truncated_zip(draw, pack):
    draw("a.png")
    path = pack()
    path.write_bytes(path.read_bytes()[:-40])
    refuse(path, f"{path}: is damaged or no zip archive")


def test_empty_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    refuse(tmp_path / "a.zip", f"{tmp_path}/a.zip: holds no pictures: it is empty")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04"])
def test_broken_npz(tmp_path, data):
    path = write(tmp_path / "a.npz", data)
    refuse(path, f"{path}: is damaged or no .npz")


def test_pickle_in_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.array([{"bomb": 1}], dtype=object))
    refuse(path, f"{path}: holds pickled objects, which are never loaded: save plain arrays")


def test_npz_without_pictures(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, weights=np.zeros((3, 4)))
    refuse(path, f"{path}: no array holds pictures (N, H, W[, C]) such as `images`: it holds weights (3, 4)")


def test_medmnist_of_two_lengths(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train_images=np.zeros((3, 8, 8), np.uint8), train_labels=np.zeros((2, 1), np.uint8))
    refuse(path, f"{path}: train_images holds 3 and train_labels 2 items")


def test_npz_bomb(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((64, 512, 512), np.uint8))
    memory = type("Memory", (), {"available": 1 << 20})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    refuse(path, f"{path}: unpacks to 0.0 GiB, more than the free memory")


def test_list_without_pictures(tmp_path):
    path = write(tmp_path / "a.csv", "name,age\nann,3\n")
    refuse(path, f"{path}: no column names pictures: a list has a header line and a column `image` of file names")


def test_empty_list(tmp_path):
    path = write(tmp_path / "a.csv", "")
    refuse(path, f"{path}: no column names pictures: a list has a header line and a column `image` of file names")


def test_list_in_another_coding(tmp_path):
    path = write(tmp_path / "a.csv", "image\nü.png\n".encode("latin-1"))
    refuse(path, f"{tmp_path}: a.csv is not UTF-8 text: save the list as UTF-8")


def test_two_lists(draw, tmp_path):
    draw("a.png")
    for name in ("x.csv", "y.csv"):
        write(tmp_path / "set" / name, "image\na.png\n")
    refuse(tmp_path / "set", f"{tmp_path}/set: several lists name pictures (x.csv, y.csv): keep one, or give its path")


def test_columns_without_a_list(draw):
    root = draw("a.png").parent
    refuse(root, f"{root}: columns were named, and there is no list of pictures in it", columns={"image": "x"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    refuse(tmp_path / "locked", f"{tmp_path}/locked: may not be read (permission denied)")


def test_no_permission_for_a_zip(draw, pack, monkeypatch):
    draw("a.png")
    path = pack()

    def refused(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refused)
    refuse(path, f"{path}: may not be read (no permission)")


# --- single files that can't be used: (file, its bytes, why); a sound picture lies beside each


def noise_png():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb():
    """A PNG of a few bytes that declares 60000 x 60000 pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of(value):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.float32)).save(file, "TIFF")
    return file.getvalue()


BAD = {
    "empty": ("z.png", b"", "is empty (0 bytes)"),
    "text": ("z.png", b"this is a note, not a picture\n", "is text, not a picture"),
    "html saved as a jpeg": ("z.jpg", "<html>404 – nicht gefunden</html>".encode(), "is text, not a picture"),
    "other bytes": ("z.png", bytes(range(256)), "is no picture Pillow knows"),
    "truncated png": ("z.png", noise_png()[:2000], "is damaged or cut short"),
    "header only": ("z.png", noise_png()[:30], "is damaged or cut short"),
    "flipped bits": ("z.png", noise_png()[:900] + b"\0" * 40 + noise_png()[940:], "is damaged or cut short"),
    "decompression bomb": ("z.png", bomb(), "unpacks to more pixels than is safe (a decompression bomb?)"),
    "nan": ("z.tif", tiff_of(np.nan), "holds values that are not finite (NaN or infinity)"),
    "infinity": ("z.tif", tiff_of(np.inf), "holds values that are not finite (NaN or infinity)"),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_bad_file(draw, pack, tmp_path, case, zipped):
    name, data, reason = BAD[case]
    draw("a.png", 1)
    write(tmp_path / "set" / name, data)
    path = pack() if zipped else tmp_path / "set"
    collection = open_collection(path)
    report = collection.report()
    assert (report.pictures, report.left_out) == (1, 1)
    assert [(p.name, p.reason) for p in report.problems] == [(name, reason)]
    with pytest.raises(WrongUse) as caught:
        collection.images("train", 8)
    assert str(caught.value) == f"{path}: 1 bad file: {name} {reason}; mend them, or leave them out with --skip-bad"
    skipped = open_collection(path, skip_bad=True).images("train", 8)
    assert skipped.names == ("a.png",)
    assert skipped.batch(torch.tensor([0]))["image"].isfinite().all()


def problems(path):
    return {p.name: p.reason for p in open_collection(path).report().problems}


def test_mask_of_another_size(draw, blob, tmp_path):
    draw("images/a.png", 1), draw("masks/a.png", blob(size=(20, 24)))
    assert problems(tmp_path / "set") == {"masks/a.png": "is 20 x 24 and its picture images/a.png is 24 x 20"}


def test_missing_partners(draw, blob, tmp_path):
    draw("images/a.png", 1), draw("masks/a.png", blob())
    draw("images/b.png", 2), draw("masks/c.png", blob())
    assert problems(tmp_path / "set") == {
        "images/b.png": "has no mask", "masks/c.png": "is a mask without a picture",
    }


def test_two_masks_for_one_picture(draw, blob, tmp_path):
    draw("images/a.png", 1), draw("masks/a.png", blob()), draw("masks/a.bmp", blob())
    assert problems(tmp_path / "set") == {"masks/a.png": "is a second mask beside masks/a.bmp"}


def test_a_broken_mask_takes_its_picture_along(draw, blob, tmp_path):
    draw("images/a.png", 1), draw("masks/a.png", blob()), draw("images/b.png", 2)
    write(tmp_path / "set/masks/b.png", "text")
    assert problems(tmp_path / "set") == {"masks/b.png": "is text, not a picture"}
    assert open_collection(tmp_path / "set", skip_bad=True).images("all", 8).names == ("images/a.png",)


def test_a_photograph_as_a_mask(draw, tmp_path):
    draw("images/a.png", 1), draw("masks/a.png", 2)
    reason = problems(tmp_path / "set")["masks/a.png"]
    assert reason == "holds 480 colours: a mask has one colour for each class"


@pytest.mark.parametrize(("values", "reason"), [
    (np.full((24, 20), -1, np.int32), "holds negative numbers: the classes of a mask count from 0"),
    (np.full((24, 20), 1.5, np.float32), "holds fractions: a mask has one whole number for each class"),
])
def test_numbers_that_are_no_classes(draw, tmp_path, values, reason):
    draw("images/a.png", 1), draw("masks/a.tif", values)
    assert problems(tmp_path / "set") == {"masks/a.tif": reason}


def test_masks_of_too_many_colours_together(draw, tmp_path):
    for k in range(2):
        colours = np.zeros((24, 20, 3), np.uint8)
        colours[0, :, 0], colours[0, :, 1] = np.arange(1, 21), k + 1
        draw(f"images/{k}.png", k), draw(f"masks/{k}.png", colours)
    with pytest.raises(WrongUse) as caught:
        open_collection(tmp_path / "set").report()
    assert str(caught.value) == (
        f"{tmp_path}/set: its masks hold 41 colours together: a mask has one colour for each class"
    )


def test_a_list_with_masks_and_one_without(draw, blob, tmp_path):
    draw("a.png", 1), draw("b.png", 2), draw("m.png", blob())
    write(tmp_path / "set/train.csv", "image,mask\na.png,m.png\n")
    write(tmp_path / "set/test.csv", "image\nb.png\n")
    assert problems(tmp_path / "set") == {"b.png": "has no mask"}


def test_a_file_that_breaks_after_it_was_looked_at(draw, tmp_path):
    path = draw("a.png", 1)
    images = open_collection(tmp_path / "set").images("train", 8)
    path.write_bytes(b"")
    with pytest.raises(Failed, match=r"a.png: it or its mask is empty \(0 bytes\), and was sound when looked at"):
        images.batch(torch.tensor([0]))


def test_rows_of_a_list(draw, tmp_path):
    draw("a.png", 1), draw("a_m.png", np.zeros((24, 20), np.uint8))
    rows = ["a.png,a_m.png,train", "b.png,a_m.png,train", "a.png,b_m.png,train", ",a_m.png,test", "a.png,a_m.png,7"]
    write(tmp_path / "set/index.csv", "\n".join(["image,mask,split", *rows, "a.png,,test"]))
    assert open_collection(tmp_path / "set").found.problems == [
        ("b.png", "does not exist"),
        ("a.png", "has no mask: b_m.png does not exist"),
        ("index.csv, line 5", "names no image"),
        ("a.png", "is in split '7', which is not train, val or test"),
        ("a.png", "has no mask"),
    ]


def test_volumes_are_named_as_such(draw, tmp_path):
    draw("a.png", 1), write(tmp_path / "set/b.nii.gz", b"x")
    write(tmp_path / "set/index.csv", "image\na.png\nb.nii.gz\n")
    assert problems(tmp_path / "set") == {"b.nii.gz": "is a volume or DICOM file: only 2-D pictures are read"}


def test_a_file_without_permission(draw, tmp_path, monkeypatch):
    draw("a.png", 1), draw("b.png", 2)
    read = type(tmp_path).read_bytes

    def refused(path):
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(type(tmp_path), "read_bytes", refused)
    assert problems(tmp_path / "set") == {"b.png": "may not be read (no permission)"}


def test_a_file_that_vanishes(draw, tmp_path):
    draw("a.png", 1)
    gone = draw("b.png", 2)
    collection = open_collection(tmp_path / "set")
    gone.unlink()
    assert [(p.name, p.reason) for p in collection.report().problems] == [("b.png", "does not exist")]


def test_nan_in_arrays(tmp_path):
    images = np.zeros((3, 8, 8), np.float32)
    images[1, 0, 0] = np.nan
    np.savez(tmp_path / "a.npz", images=images)
    assert problems(tmp_path / "a.npz") == {"images[1]": "holds values that are not finite (NaN or infinity)"}


# --- inside of a zip


def test_names_that_lead_out_of_a_zip(draw, pack, tmp_path):
    inside = draw("a.png", 1).read_bytes()
    path = pack()
    names = ["../up.png", "/etc/root.png", "x/../../y.png", "..\\win.png", "C:/win.png"]
    with zipfile.ZipFile(path, "a") as archive:
        for name in names:
            archive.writestr(name, inside)
    assert problems(path) == dict.fromkeys(names, "has a name that leads out of the archive")


def test_a_zip_bomb_is_not_unpacked(draw, pack, monkeypatch):
    draw("a.png", 1)
    path = pack()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * (1 << 22))
    monkeypatch.setattr("inkwash.data.source._LARGEST", 1 << 20)
    assert problems(path) == {"bomb.png": "unpacks to 0.0 GiB (a zip bomb?)"}


def test_a_member_whose_bytes_are_wrong(draw, pack):
    data = draw("a.png", 1).read_bytes()
    draw("b.png", 2)
    path = pack()
    whole = path.read_bytes()
    at = whole.index(data) + len(data) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert problems(path) == {"a.png": "is damaged inside the archive"}


def test_an_encrypted_member(draw, pack):
    draw("a.png", 1), draw("b.png", 2)
    path = pack()
    whole = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(signature) + offset] |= 1
    path.write_bytes(whole)
    assert problems(path) == {"a.png": "is encrypted"}


# --- what may be asked of a sound collection


@pytest.mark.parametrize(("arguments", "message"), [
    (("trian", 8), "unknown split 'trian': did you mean 'train'? known: all, test, train, val"),
    (("val", 8), "{}: no pictures in split 'val': train 1"),
    (("train", 0), "a picture's size is one positive number or (height, width), not 0"),
    (("train", (8, 8, 8)), "a picture's size is one positive number or (height, width), not (8, 8, 8)"),
])
def test_images_of_wrong_arguments(draw, arguments, message):
    root = draw("a.png", 1).parent
    with pytest.raises(WrongUse) as caught:
        open_collection(root).images(*arguments)
    assert str(caught.value) == message.format(root)


def test_channels_that_cannot_be_had(draw, tmp_path):
    root = draw("a.png", 1).parent
    with pytest.raises(WrongUse, match="its pictures have 3 channels and can't be read with 2"):
        open_collection(root).images("train", 8, channels=2)


def test_only_bad_files(tmp_path):
    write(tmp_path / "set/a.png", "text")
    with pytest.raises(WrongUse, match="no pictures in split 'train': there are no good pictures at all"):
        open_collection(tmp_path / "set", skip_bad=True).images("train", 8)
    assert "no pictures" not in str(open_collection(tmp_path / "set").report())


def test_many_bad_files_are_one_line(tmp_path):
    for k in range(9):
        write(tmp_path / f"set/{k}.png", "text")
    with pytest.raises(WrongUse) as caught:
        open_collection(tmp_path / "set").images("train", 8)
    assert "9 bad files: 0.png is text, not a picture; 1.png" in str(caught.value)
    assert "; and 6 more; mend them" in str(caught.value)
    assert "\n" not in str(caught.value)
