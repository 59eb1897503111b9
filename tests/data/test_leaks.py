"""What must not lie on both sides of a split is found and named."""

import numpy as np
import pytest
from PIL import Image

from inkwash.data import open_collection
from inkwash.data.leaks import Sample, described, families, leaks
from inkwash.data.likeness import BITS, difference_hash, near_pairs, volume_hash


def scene(seed: int, side: int = 96) -> np.ndarray:
    """A smooth coloured picture, unlike any of another seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def sample(name: str, pixels: np.ndarray, group: str | None = None) -> Sample:
    return Sample(name, group, str(hash(pixels.tobytes())), difference_hash(pixels))


def bits(code: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(code, np.uint8))


def test_the_hash_says_where_the_picture_gets_darker_to_the_right():
    ramp = np.tile(np.arange(17, dtype=np.uint8), (16, 1))[..., None]
    assert bits(difference_hash(ramp)).sum() == 0
    assert bits(difference_hash(ramp[:, ::-1])).sum() == BITS
    stripes = np.tile(np.array([9, 0] * 8 + [9], np.uint8), (16, 1))[..., None]
    assert bits(difference_hash(stripes)).reshape(16, 16)[0].tolist() == [1, 0] * 8
    assert bits(difference_hash(np.full((40, 30, 3), 7, np.uint8))).sum() == 0


@pytest.mark.parametrize("change", [
    lambda x: np.asarray(Image.fromarray(x).resize((61, 83), Image.Resampling.LANCZOS)),
    lambda x: (0.6 * x + 40).astype(np.uint8),
    lambda x: (x.astype(np.float32) + np.random.default_rng(0).normal(0, 3, x.shape)).clip(0, 255).astype(np.uint8),
    lambda x: x.astype(np.uint16) * 257,
    lambda x: np.asarray(Image.fromarray(x).convert("L"))[..., None].astype(np.float32) / 255,
], ids=["resized", "paler", "noisy", "16 bits", "grey"])  # fmt: skip
def test_a_changed_picture_is_near_and_another_is_not(change):
    first = [difference_hash(scene(seed)) for seed in range(20)]
    second = [difference_hash(change(scene(seed))) for seed in range(20)]
    assert {(i, j) for i, j, _ in near_pairs(first, second)} == {(i, i) for i in range(20)}


def test_distances_are_those_of_a_loop(monkeypatch):
    monkeypatch.setattr("inkwash.data.likeness._BLOCK", 50)
    codes = [difference_hash(scene(seed)) for seed in range(8)]
    flipped = [bits(codes[i % 8]) for i in range(12)]
    for i, code in enumerate(flipped):
        code[: 2 * i] ^= 1
    others = [np.packbits(code).tobytes() for code in flipped]
    expected = [
        (i, j, int((bits(a) != bits(b)).sum()))
        for i, a in enumerate(codes) for j, b in enumerate(others) if (bits(a) != bits(b)).sum() <= 12
    ]  # fmt: skip
    assert near_pairs(codes, others) == sorted(expected)
    assert len(expected) >= 7
    within = near_pairs([*codes, others[1]])
    assert within == [(1, 8, 2)]


def test_small_things_on_flat_ground_are_not_mistaken_for_one_another():
    y, x = np.mgrid[:64, :64]
    discs = [
        (255.0 * ((y - a) ** 2 + (x - b) ** 2 < 30)).astype(np.uint8)[..., None] for a in (12, 30, 50) for b in (12, 34)
    ]
    assert near_pairs([difference_hash(disc) for disc in discs]) == []


def test_volumes_are_near_where_every_middle_slice_is():
    random = np.random.default_rng(0)
    volumes = [np.stack([scene(10 * k + d, 32)[..., 0] for d in range(32)]).astype(np.float32) for k in range(3)]
    again = volumes[1] + random.normal(0, 2, volumes[1].shape).astype(np.float32)
    other = volumes[2].copy()
    other[:, :, 16] = volumes[0][:, :, 16]
    first = [volume_hash(v) for v in volumes]
    assert len(first[0]) == 96
    assert [(i, j) for i, j, _ in near_pairs(first, [volume_hash(again), volume_hash(other)])] == [(1, 0)]
    assert near_pairs(first, [difference_hash(scene(0))]) == []


def test_patients_files_and_near_duplicates_are_named():
    train = [sample("a.png", scene(0), "p1"), sample("b.png", scene(1), "p2"), sample("c.png", scene(2), "p2")]
    pale = (0.7 * scene(1)).astype(np.uint8)
    test = [sample("x.png", scene(5), "p2"), sample("y.png", scene(0), "p3"), sample("z.png", pale, "p4")]
    found = leaks(train, test)
    assert [(leak.kind, leak.first, leak.second) for leak in found] == [
        ("patient", "b.png", "x.png"), ("same", "a.png", "y.png"), ("near", "b.png", "z.png"),
    ]  # fmt: skip
    text = described(found)
    assert "1 patients or groups on both sides: b.png and x.png (both of p2)" in text
    assert "a.png and y.png (the same bytes)" in text
    assert "of 256 bits of their difference hashes differ" in text
    assert [leak.kind for leak in leaks(train, test, patients=False)] == ["same", "near"]
    assert leaks(train[:1], test[:1]) == []


def test_only_the_first_are_named_and_the_rest_counted():
    found = leaks([sample(f"{i}", scene(i)) for i in range(7)], [sample(f"again {i}", scene(i)) for i in range(7)])
    assert "7 files with the very same bytes on both sides: 0 and again 0" in described(found)
    assert described(found).endswith("; and 4 more")


def test_a_family_is_all_that_leads_from_one_to_another():
    pale = (0.7 * scene(1)).astype(np.uint8)
    several = [
        sample("a", scene(0), "p1"), sample("b", scene(1), "p1"), sample("c", pale), sample("d", scene(3)),
        sample("e", scene(3)), sample("f", scene(4)),
    ]  # fmt: skip
    a, b, c, d, e, f = families(several)
    assert a == b == c
    assert d == e
    assert len({a, d, f}) == 3
    assert families(several[::-1]) == [f, e, d, c, b, a]


def test_the_report_tells_of_near_duplicates_across_the_split(draw, tmp_path):
    for k in range(4):
        draw(f"train/{k}.png", scene(k))
        draw(f"test/{k}.png", scene(k + 10))
    draw("test/pale.png", (0.7 * scene(2)).astype(np.uint8))
    report = open_collection(tmp_path / "set").report()
    assert report.near_duplicates == [("train/2.png", "test/pale.png")]
    assert any("1 pairs of pictures in different splits are nearly the same" in w for w in report.warnings)


def test_patients_are_found_in_the_names_of_files(draw, tmp_path):
    for k in range(12):
        draw(f"patient{k // 2:02d}_slice{k % 2}.png", k)
    collection = open_collection(tmp_path / "set")
    assert collection.report().groups == 6
    assert "patients by the names of files" in collection.report().layout
    assert {sample.group for sample in collection.samples()} == {f"patient {k}" for k in range(6)}


@pytest.mark.parametrize("names", [["case_1", "case_2", "case_3"], ["patient1_a", "patient1_b", "other"]], ids=str)
def test_names_that_tell_nothing_of_patients_make_no_groups(draw, tmp_path, names):
    for k, name in enumerate(names):
        draw(f"{name}.png", k)
    assert open_collection(tmp_path / "set").report().groups == 0


def test_pictures_can_be_divided_otherwise(draw, tmp_path):
    for k in range(12):
        draw(f"{k:02d}.png", k)
    whole = open_collection(tmp_path / "set")
    halves = whole.divided(["train", "test", ""] * 4, "in turn")
    assert halves.report().splits == {"train": 4, "test": 4}
    assert halves.report().split_rule == "in turn"
    assert halves.images("train", 8).names == ("00.png", "03.png", "06.png", "09.png")
    assert [s.name for s in halves.samples("test")] == ["01.png", "04.png", "07.png", "10.png"]
    assert sum(whole.report().splits.values()) == 12
