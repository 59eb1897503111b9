"""Captions: words, numbers, and where captions are found."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inkwash.data import open_collection
from inkwash.data.captions import LONGEST, Captions, words_of
from inkwash.errors import WrongUse


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8), value, np.uint8)
    pixels[value % 8] = 255
    Image.fromarray(pixels).save(path)


def test_words():
    assert words_of("A red apple, don't  eat_it!") == ["a", "red", "apple", ",", "don't", "eat", "it", "!"]
    assert words_of("ÄPFEL 12mm") == ["äpfel", "12mm"]
    assert words_of("左肺结节 2cm。") == ["左", "肺", "结", "节", "2cm", "。"]
    assert words_of("  ") == []


def test_numbers_of_words_come_back_as_the_words():
    texts = ["a red disc", "a blue disc on the left", "a disc"]
    told = Captions.of(texts)
    assert told.words[:2] == ("a", "disc")
    assert told.length == 6
    for text in texts:
        numbers = told.tokens(text)
        assert len(numbers) == 6
        assert [told.words[k] for k in numbers if k >= 0] == text.split()
        assert numbers == sorted(numbers, key=lambda k: k < 0)
    assert told.tokens("a green disc") == [0, len(told.words), 1, -1, -1, -1]
    assert told.tokens("") == [-1] * 6
    assert told.strangers("a green, green disc") == ["green", ","]
    assert Captions.of(["x " * 1000]).length == LONGEST


@pytest.mark.parametrize("packed", [False, True])
def test_captions_lie_beside_pictures(tmp_path, packed):
    folder = tmp_path / "data"
    for i in range(8):
        picture(folder / f"{i}.png", 10 * i)
        (folder / f"{i}.txt").write_text(f"number {i}\n", encoding="utf-8")
    (folder / "7.txt").unlink()
    (folder / "notes.txt").write_text("not of a picture")
    if packed:
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
    collection = open_collection(tmp_path / "data.zip" if packed else folder)
    report = collection.report()
    assert report.captions == 7
    assert "captions      7" in str(report)
    assert any(line.startswith("ldm: text-to-image") for line in report.trains)
    images = collection.images("all", 8)
    words = images.spec.captions
    assert images.captions[:2] == ("number 0", "number 1")
    batch = images.batch(torch.tensor([3, 7]))
    assert batch["caption"].tolist() == [words.tokens("number 3"), [-1, -1]]
    assert batch["caption"].dtype == torch.int64


def test_captions_in_a_list_and_the_words_of_the_training_split(tmp_path):
    rows = ["image,caption,split"]
    for i in range(6):
        picture(tmp_path / f"{i}.png", 10 * i)
        rows.append(f'{i}.png,"a disc, {"seen" if i < 4 else "kept"}",{"train" if i < 4 else "test"}')
    (tmp_path / "list.csv").write_text("\n".join(rows))
    collection = open_collection(tmp_path)
    assert collection.report().columns == {"image": "image", "caption": "caption", "split": "split"}
    train, test = collection.images("train", 8), collection.images("test", 8)
    assert train.spec == test.spec
    assert set(train.spec.captions.words) == {"a", "disc", ",", "seen"}
    assert test.batch(torch.tensor([0]))["caption"][0, -1] == len(train.spec.captions.words)
    assert len({train.fingerprint, test.fingerprint}) == 2


def test_captions_among_arrays(tmp_path):
    pictures = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    np.savez(tmp_path / "a.npz", images=pictures, captions=np.array(["one", "two", "three", "four"]))
    images = open_collection(tmp_path / "a.npz").images("all", 8)
    assert images.captions == ("one", "two", "three", "four")


def test_a_caption_changes_the_fingerprint_of_the_data(tmp_path):
    found = []
    for text in ("one", "two", None):
        folder = tmp_path / str(text)
        picture(folder / "a.png", 3)
        if text:
            (folder / "a.txt").write_text(text)
        found.append(open_collection(folder).images("all", 8).fingerprint)
    assert len(set(found)) == 3


def test_boxes_are_no_captions_and_what_cannot_be_read_is_said(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png", 10 * i)
        (tmp_path / f"{i}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    assert open_collection(tmp_path).images("all", 8).spec.captions is None
    (tmp_path / "0.txt").write_text("a word")
    (tmp_path / "1.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(WrongUse, match=r"1.txt is no caption in UTF-8"):
        open_collection(tmp_path).images("all", 8)
