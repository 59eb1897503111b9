"""Batches, and a cache that can only ever save time."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from inkwash.data import cache, open_collection
from inkwash.data.source import Folder
from inkwash.errors import Failed


@pytest.fixture
def folder(draw, blob, tmp_path):
    for k in range(6):
        draw(f"images/{'ab'[k % 2]}/{k}.png", k), draw(f"masks/{'ab'[k % 2]}/{k}.png", blob())
    return tmp_path / "set"


@pytest.fixture
def reads(monkeypatch):
    """The names of the pictures that were decoded."""
    names = []
    decode = Folder.picture

    def counted(self, name, *, mask=False):
        names.append(name)
        return decode(self, name, mask=mask)

    monkeypatch.setattr(Folder, "picture", counted)
    return names


def open_set(path, size=16, **options):
    return open_collection(path).images("all", size, **options)


def everything(images):
    return images.batch(torch.arange(len(images)))


def equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def files():
    return sorted(p.relative_to(cache.home()).as_posix() for p in cache.home().rglob("*") if p.is_file())


def test_a_batch_is_what_the_contract_says(folder):
    images = open_set(folder, (16, 12))
    batch = images.batch(torch.tensor([5, 0, 0]))
    assert {k: (v.dtype, tuple(v.shape)) for k, v in batch.items()} == {
        "image": (torch.float32, (3, 3, 16, 12)), "mask": (torch.int64, (3, 16, 12)), "label": (torch.int64, (3,)),
    }  # fmt: skip
    assert batch["image"].abs().max() <= 1
    assert batch["label"].tolist() == [1, 0, 0]
    assert torch.equal(batch["image"][1], batch["image"][2])
    assert images.names[5] == "images/b/5.png"
    assert images.spec.model_dump() == {"channels": 3, "size": (16, 12), "classes": ("a", "b"), "mask_classes": 2}


def test_a_batch_may_be_written_on(folder):
    images = open_set(folder)
    first = everything(images)["image"].clone()
    everything(images)["image"].zero_()
    assert torch.equal(everything(images)["image"], first)


def test_the_cache_gives_what_decoding_gives(folder, reads):
    fresh = everything(open_set(folder))
    assert len(reads) == 24  # each picture and mask once to look at, once to decode
    reads.clear()
    again = open_set(folder)
    assert list(again.prepare()) == []
    equal(everything(again), fresh)
    assert reads == []


def test_a_changed_picture_is_decoded_anew(folder, draw, reads):
    first = open_set(folder)
    before = everything(first)["image"]
    draw("images/a/0.png", 77)
    reads.clear()
    second = open_set(folder)
    after = everything(second)["image"]
    assert first.fingerprint != second.fingerprint
    assert [not torch.equal(a, b) for a, b in zip(after, before, strict=True)] == [True] + [False] * 5
    assert reads.count("images/a/0.png") == 2
    assert reads.count("images/a/2.png") == 1  # looked at before, by its content


def test_every_choice_is_part_of_the_fingerprint(folder):
    sets = [open_set(folder), open_set(folder, 12), open_set(folder, channels=1), open_set(folder, fit="crop")]
    assert len({s.fingerprint for s in sets}) == 4
    assert open_set(folder).fingerprint == sets[0].fingerprint


def test_preparing_says_where_it_is(folder):
    assert list(open_collection(folder).scan()) == [1, 2, 3, 4, 5, 6]
    assert list(open_set(folder).prepare()) == [1, 2, 3, 4, 5, 6]


def test_stopped_half_way_nothing_is_left(folder):
    images = open_set(folder)
    kept = files()
    preparing = images.prepare()
    next(preparing)
    preparing.close()
    assert files() == kept
    assert list(images.prepare()) == [1, 2, 3, 4, 5, 6]


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def damage_text(path):
    path.write_text("not an array")


def damage_shape(path):
    np.save(path, np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("damage", [damage_cut, damage_text, damage_shape, Path.unlink])
def test_a_damaged_cache_is_made_again(folder, damage):
    fresh = everything(open_set(folder))
    (stored,) = cache.home().rglob("images.npy")
    damage(stored)
    equal(everything(open_set(folder)), fresh)
    assert list(open_set(folder).prepare()) == []


def test_a_damaged_survey_is_made_again(folder):
    report = open_collection(folder).report()
    for file in (cache.home() / "surveys").iterdir():
        file.write_text('{"x True": 3}')
    assert open_collection(folder).report() == report


def test_large_sets_are_mapped_not_loaded(folder, monkeypatch):
    fresh = everything(open_set(folder))
    monkeypatch.setattr("inkwash.data.imageset.ImageSet._fits", lambda _self: False)
    images = open_set(folder)
    equal(everything(images), fresh)
    assert isinstance(images._images, np.memmap)


def test_mapped_pictures_leave_memory_with_their_batch(folder, monkeypatch):
    monkeypatch.setattr("inkwash.data.imageset.ImageSet._fits", lambda _self: False)
    images = open_set(folder)
    everything(images)

    def mapped():
        """Bytes of the pictures' file that this process holds."""
        text = Path("/proc/self/smaps").read_text()
        return sum(int(kb) for kb in re.findall(r"images\.npy\n(?:.*\n)*?Rss:\s+(\d+) kB", text))

    assert mapped() == 0
    assert images._images.sum() > 0
    assert mapped() > 0
    images.batch(torch.arange(len(images)))
    assert mapped() == 0


def test_room_decides_what_is_mapped(folder):
    for room, kind in ((10**9, np.ndarray), (10, np.memmap)):
        images = open_set(folder)
        list(images.prepare(room))
        assert type(images._images) is kind


def test_two_at_once_agree(folder):
    first, second = open_set(folder), open_set(folder)
    one, two = first.prepare(), second.prepare()
    next(one), next(two)
    assert (len(list(one)), len(list(two))) == (5, 5)
    equal(everything(first), everything(second))
    assert [f for f in files() if "draft" in f] == []


@pytest.mark.parametrize("where", ["mkdtemp", "posix_fallocate"])
def test_without_room_on_disk_the_set_stays_in_memory(folder, monkeypatch, where):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    fresh = everything(open_set(folder, 12))
    monkeypatch.setattr("tempfile.mkdtemp" if where == "mkdtemp" else "os.posix_fallocate", full)
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["XDG_CACHE_HOME"] + "/other")
    equal(everything(open_set(folder, 12)), fresh)
    assert not [f for f in files() if f.endswith(".npy")]
    monkeypatch.setattr("inkwash.data.imageset.ImageSet._fits", lambda _self: False)
    with pytest.raises(Failed) as caught:
        everything(open_set(folder, 12))
    home = cache.home()
    assert str(caught.value) == (
        f"{home}: no room for the decoded pictures (no space left on device): set XDG_CACHE_HOME to a larger disk"
    )


def test_a_cache_that_is_a_file(folder, monkeypatch, tmp_path):
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "occupied"))
    assert everything(open_set(folder))["image"].shape == (6, 3, 16, 16)


def test_pictures_without_a_class_are_labelled_none(draw, tmp_path):
    rows = [f"{draw(f'{k}.png', k).name},{label}" for k, label in enumerate(["x", "", "y", "x", "y"])]
    (tmp_path / "set/index.csv").write_text("\n".join(["image,class", *rows]))
    assert everything(open_set(tmp_path / "set"))["label"].tolist() == [0, -1, 1, 0, 1]
