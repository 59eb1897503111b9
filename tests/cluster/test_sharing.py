"""Drawing and measuring shared among processes: the pictures and the figures are those of one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from launched import errors, finish, outputs, torchrun
from PIL import Image

import inkwash


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))}


def same_pictures(first: Path, second: Path) -> None:
    """Files hold 8 bits: where another number of pictures is computed at a time, rounding may turn one of them."""
    one, other = pixels(first), pixels(second)
    assert one.keys() == other.keys()
    for name, picture in one.items():
        assert np.abs(picture - other[name]).max() <= 1, name


@pytest.fixture(scope="module")
def five(run: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures by one process."""
    out = tmp_path_factory.mktemp("alone") / "pictures"
    inkwash.sample(run, 5, out=out, condition=str(discs), steps=3, seed=2)
    return out


@pytest.mark.law
@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_pictures_do_not_depend_on_the_number_of_processes(
    run: Path, discs: Path, five: Path, tmp_path: Path, processes: int
) -> None:
    words = ["sample", run, "-n", 5, "--out", tmp_path / "new", "--condition", discs, "--steps", 3, "--seed", 2]
    finish(torchrun("-m", "inkwash", *words, processes=processes, logs=tmp_path / "logs"))
    same_pictures(five, tmp_path / "new")
    assert outputs(tmp_path / "logs") == [[str(tmp_path / "new")], *[[]] * (processes - 1)]
    assert [bool(lines) for lines in errors(tmp_path / "logs")] == [True, *[False] * (processes - 1)]


@pytest.mark.law
@pytest.mark.slow
def test_more_processes_than_pictures(run: Path, discs: Path, five: Path, tmp_path: Path) -> None:
    words = ["sample", run, "-n", 2, "--out", tmp_path / "new", "--condition", discs, "--steps", 3, "--seed", 2]
    finish(torchrun("-m", "inkwash", *words, processes=3))
    (tmp_path / "two").mkdir()
    for name in ("00000.png", "00001.png"):
        shutil.copy(five / name, tmp_path / "two")
    same_pictures(tmp_path / "two", tmp_path / "new")


@pytest.mark.law
def test_a_set_can_be_drawn_in_parts(run: Path, discs: Path, five: Path, tmp_path: Path) -> None:
    """As the tasks of an array do: each its own part, numbered as in the whole."""
    for first, count in ((0, 3), (3, 2)):
        out = tmp_path / str(first)
        paths = inkwash.sample(run, count, first=first, out=out, condition=str(discs), steps=3, seed=2)
        assert [path.name for path in paths] == [f"{first + i:05d}.png" for i in range(count)]
    (tmp_path / "all").mkdir()
    for part in ("0", "3"):
        for path in (tmp_path / part).iterdir():
            shutil.move(path, tmp_path / "all")
    same_pictures(five, tmp_path / "all")


@pytest.mark.law
@pytest.mark.slow
def test_figures_do_not_depend_on_the_number_of_processes(run: Path, discs: Path, tmp_path: Path) -> None:
    """9 pictures by two processes; FID is a distance of covariances, in which the rounding of a picture remains."""
    copies = [Path(shutil.copytree(run, tmp_path / name)) for name in ("one", "two")]
    words = ["evaluate", copies[1], discs, "-n", 7, "--steps", 2, "--json"]
    finish(torchrun("-m", "inkwash", *words, logs=tmp_path / "logs"))
    inkwash.evaluate(copies[0], discs, n=7, steps=2)
    one, two = (json.loads((copy / "evaluation.json").read_text(encoding="utf-8")) for copy in copies)
    said, others = outputs(tmp_path / "logs")
    assert json.loads("\n".join(said)) == two
    assert others == []
    different = {"run", "seconds_per_image", "metrics"}
    assert {k: v for k, v in one.items() if k not in different} == {k: v for k, v in two.items() if k not in different}
    for first, second in zip(one["metrics"], two["metrics"], strict=True):
        assert first["name"] == second["name"]
        for figure in ("value", "low", "high", "floor", "ceiling"):
            assert (first[figure] is None) == (second[figure] is None)
            if first[figure] is not None:
                assert second[figure] == pytest.approx(first[figure], rel=1e-3, abs=1e-4), (first["name"], figure)
    assert (copies[1] / "report.html").is_file()
    assert "| FID |" in (copies[1] / "README.md").read_text(encoding="utf-8")
