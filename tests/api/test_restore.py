"""`inkwash restore`: the same measurements for every method, and a table of what each makes of them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from tiny_run import TINY
from torch import Tensor

import inkwash
from inkwash.api.restore import restore
from inkwash.cli import main
from inkwash.errors import WrongUse
from inkwash.operators.base import Operator
from inkwash.operators.mask import Masked
from inkwash.operators.mask import half as left_half


@pytest.fixture(scope="module")
def prior(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("priors") / "ddpm"
    inkwash.train("ddpm", discs, out=out, steps=12, size=32, batch=4, set=TINY)
    return out


@pytest.fixture(scope="module")
def dncnn(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learned") / "dncnn"
    inkwash.train("dncnn", discs, out=out, steps=12, size=32, batch=4, set={"layers": 3, "base": 8})
    assert any((out / "samples").iterdir())
    return out


def half(y: Tensor) -> Tensor:
    """A method of the user's own."""
    return y / 2


def left(shape: tuple[int, ...]) -> Operator:
    """An operator of the user's own."""
    return Masked(shape, left_half(shape))


def wide(shape: tuple[int, ...]) -> Operator:
    """One for other images than those that it is asked for."""
    return Masked((*shape[:-1], 48), left_half((*shape[:-1], 48)))


def test_a_table_of_operators_and_methods(prior: Path, dncnn: Path, discs: Path, tmp_path: Path) -> None:
    methods = ["tv", f"diffpir@{prior}", str(dncnn), f"{__file__}:half"]
    operators = ["denoise:noise=25", "sr:factor=2"]
    found = restore(discs, operators, methods, out=tmp_path / "out", size=32, number=3, steps=3)
    rows = {(row.operator.partition(":")[0], row.method): row for row in found.rows}
    assert next(iter(rows)) == ("denoise", "none")
    assert rows["denoise", "none"].gain.mean == 0
    assert rows["denoise", "tv"].psnr.mean > rows["denoise", "none"].psnr.mean
    assert rows["denoise", "tv"].strength is not None
    assert rows["denoise", f"diffpir@{prior}"].evaluations == 12
    assert rows["denoise", f"diffpir@{prior}"].psnr_draw is not None
    assert rows["denoise", str(dncnn)].evaluations == 1
    assert ("sr", str(dncnn)) not in rows
    assert any(f"{dncnn} on sr" in line for line in found.skipped)
    assert any("half on sr" in line for line in found.skipped)
    for row in found.rows:
        assert row.psnr.low <= row.psnr.mean <= row.psnr.high
    out = tmp_path / "out"
    assert len(list(csv.reader((out / "table.csv").open()))) == len(found.rows) + 1
    assert (out / "table.md").read_text().count("\n") == len(found.rows) + 2
    assert json.loads((out / "table.json").read_text())["images"].startswith("3 images of 3 x 32 x 32, split 'test'")
    assert "data:image/png" in (out / "report.html").read_text()


def test_noise_is_the_one_that_was_asked_for(discs: Path, tmp_path: Path) -> None:
    found = restore(discs, ["denoise:noise=25"], ["tv"], out=tmp_path / "out", size=32)
    # 20 log10(255 / 25) = 20.17 decibels where nothing is clipped, and a little more where it is.
    assert 20.0 < found.rows[0].psnr.mean < 20.8


def test_a_picture_that_is_the_same_to_the_bit_does_not_make_the_mean_infinite(discs: Path, tmp_path: Path) -> None:
    found = inkwash.restore(discs, ["denoise:noise=0"], ["none"], out=tmp_path / "out", size=16, number=2)
    assert found.rows[0].psnr.mean == found.rows[0].psnr.high == 100.0


def test_an_operator_of_the_users_own(prior: Path, discs: Path, tmp_path: Path) -> None:
    asked = [f"{__file__}:left,noise=10", "inpaint:hide=half,noise=10"]
    found = restore(discs, asked, ["linear", f"ddrm@{prior}"], out=tmp_path / "out", size=32, number=2, steps=2)
    own, ours = ([row for row in found.rows if row.operator == operator] for operator in asked)
    assert len(own) == 3
    assert [row.psnr for row in own] == [row.psnr for row in ours]


def test_an_onnx_file_restores(discs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "half.onnx"
    torch.onnx.export(torch.nn.AvgPool2d(3, 1, 1), (torch.zeros(2, 3, 32, 32),), path, dynamo=True,
                      dynamic_shapes=({0: torch.export.Dim("batch")},))  # fmt: skip
    found = restore(discs, ["denoise"], [str(path)], out=tmp_path / "out", size=32, number=2)
    assert found.rows[1].method == str(path)
    assert found.rows[1].psnr.mean > found.rows[0].psnr.mean


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Waves, clean and as they were measured: brighter noise than any operator simulates, 5 of each in two splits."""
    rows, columns = np.mgrid[:40, :36]
    rng = np.random.default_rng(0)
    for k in range(10):
        part = "test" if k < 5 else "train"
        clean = 120 + 60 * np.sin(rows / (4 + k / 2)) * np.cos(columns / 6)
        for folder, pixels in (("clean", clean), ("noisy", clean + rng.normal(0, 30, clean.shape))):
            path = tmp_path / "pairs" / folder / part / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path / "pairs"


def test_pairs_are_restored_as_they_were_measured(pairs: Path, dncnn: Path, tmp_path: Path) -> None:
    made = tmp_path / "dncnn"
    inkwash.train("dncnn", pairs, out=made, steps=6, size=16, fit="tiles", batch=4,
                  set={"layers": 3, "base": 8, "operator": "measured"})  # fmt: skip
    found = restore(pairs, [], ["median", "gaussian", "tv", str(made)], out=tmp_path / "out")
    assert found.images.startswith("5 images of 1 x 40 x 36, split 'test'")
    assert "strengths chosen on 4 images of another split" in found.images
    assert "--size" not in found.command
    rows = {row.method: row for row in found.rows}
    assert {row.operator for row in found.rows} == {"measured"}
    measured = [np.asarray(Image.open(pairs / "noisy" / "test" / f"{k}.png"), float) for k in range(5)]
    clean = [np.asarray(Image.open(pairs / "clean" / "test" / f"{k}.png"), float) for k in range(5)]
    levels = [20 * np.log10(255 / np.sqrt(np.mean((a - b) ** 2))) for a, b in zip(measured, clean, strict=True)]
    assert rows["none"].psnr.mean == pytest.approx(np.mean(levels), abs=1e-3)
    smooth = [ndimage.gaussian_filter(one, 1.5) for one in measured]
    levels = [20 * np.log10(255 / np.sqrt(np.mean((a - b) ** 2))) for a, b in zip(smooth, clean, strict=True)]
    assert rows["gaussian"].psnr.mean == pytest.approx(np.mean(levels), abs=1e-3)
    assert rows["gaussian"].strength is rows["median"].strength is None
    assert rows["tv"].psnr.mean > rows["none"].psnr.mean + 4
    assert rows["tv"].strength is not None


def test_pairs_are_cut_and_not_shrunk(pairs: Path, tmp_path: Path) -> None:
    found = restore(pairs, ["measured", "denoise:noise=30"], ["median"], out=tmp_path / "out", size=16)
    plain = {row.operator: row.psnr.mean for row in found.rows if row.method == "none"}
    # Shrunk, the measured ones would be far less noisy than those that are simulated.
    assert plain["measured"] == pytest.approx(plain["denoise:noise=30"], abs=0.5)
    assert found.images.startswith("80 images of 1 x 16 x 16")


def test_the_level_that_is_told_is_chosen_on_other_pairs(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One estimate for each picture, whose multiple is the weight: the classical one is then 1."""
    import inkwash.systems.restoration.classical as module

    told: list[tuple[float, float]] = []
    inner = module._tv
    tv = replace(module.CLASSICAL["tv"], run=lambda o, y, std, s: told.append((std, s)) or inner(o, y, std, s))
    monkeypatch.setitem(module.CLASSICAL, "tv", tv)
    row = restore(pairs, [], ["tv"], out=tmp_path / "out").rows[1]
    assert len(told) == 7 * 4 + 5
    assert {strength for _, strength in told} == {1.0}
    last = [std for std, _ in told[-5:]]
    assert len(set(last)) > 1
    assert np.mean(last) == pytest.approx(row.strength * 60 / 255, rel=0.1)


def test_a_prior_restores_pairs_of_any_size(pairs: Path, tmp_path: Path) -> None:
    prior = tmp_path / "prior"
    inkwash.train("ddpm", pairs, out=prior, steps=2, size=16, fit="tiles", batch=4, set=TINY)
    methods = [f"one-step@{prior}", f"ddrm@{prior}"]
    found = restore(pairs, [], methods, out=tmp_path / "out", number=1, steps=2, draws=2)
    _, one, several = found.rows
    assert one.strength is not None
    assert several.strength is not None
    # There is one posterior mean, and nothing to draw.
    assert (one.evaluations, several.evaluations) == (1, 4)
    assert one.psnr_draw is None
    assert several.psnr_draw is not None


def test_a_column_of_lpips_where_there_are_weights(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = restore(pairs, [], ["median"], out=tmp_path / "without")
    assert "LPIPS" not in (tmp_path / "without" / "table.md").read_text()
    assert [line for line in without.skipped if "no LPIPS: " in line] == without.skipped
    assert "<li>no LPIPS: " in (tmp_path / "without" / "report.html").read_text()
    monkeypatch.setattr("inkwash.evaluation.lpips.missing", lambda shape: None)
    monkeypatch.setattr("inkwash.evaluation.lpips.lpips", lambda found, true: torch.linspace(0.1, 0.3, 5).double())
    found = restore(pairs, [], ["median"], out=tmp_path / "with")
    assert found.skipped == []
    assert [row.lpips.mean for row in found.rows] == pytest.approx([0.2, 0.2])
    table = (tmp_path / "with" / "table.md").read_text().splitlines()
    assert table[0].endswith("| LPIPS |")
    assert {line.count("|") for line in table} == {12}
    assert "LPIPS" in (tmp_path / "with" / "report.html").read_text()
    assert "LPIPS" in str(found)


def test_data_without_pairs_holds_nothing_measured(discs: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="holds no pairs of measured and clean pictures: two folders"):
        restore(discs, ["measured"], ["tv"], out=tmp_path / "out")
    with pytest.raises(WrongUse, match="holds clean pictures: say how they are measured"):
        restore(discs, [], ["tv"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whole_pictures_share_a_size(pairs: Path, tmp_path: Path) -> None:
    for folder in ("clean", "noisy"):
        path = pairs / folder / "test" / "0.png"
        Image.open(path).crop((0, 0, 30, 30)).save(path)
    with pytest.raises(WrongUse, match=r"2 sizes \(30 x 30, 40 x 36\): cut them into tiles of one, --size 128"):
        restore(pairs, [], ["tv"], out=tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--operators", "denoise", "--methods", "magic"], "there is no method 'magic'"),
        (["--operators", "sharpen", "--methods", "tv"], "sharpen"),
        (["--operators", "denoise", "--methods", "nothing.onnx"], "no such file"),
        (["--operators", "denoise", "--methods", "no_module:f"], "no_module"),
        (["--operators", "denoise", "--methods", "json:nothing"], "nothing"),
        (["--operators", "json:nothing", "--methods", "tv"], "nothing"),
        (["--operators", "json:dumps", "--methods", "tv"], "json:dumps made a str of a shape, not an operator"),
        (["--operators", f"{__file__}:wide", "--methods", "tv"], "and made an operator for (3, 64, 48)"),
        (["--operators", f"{__file__}:left,share=2", "--methods", "tv"], "comes noise=5 or peak=30, and nothing else"),
        (["--operators", f"{__file__}:left,noise=x", "--methods", "tv"], "noise and peak are numbers"),
        (["--operators", "denoise", "--methods", "magic@RUN"], "magic"),
        (["--operators", "denoise", "--methods", "ddrm@missing"], "missing"),
    ],
)
def test_wrong_words(
    discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    out = tmp_path / "out"
    assert main(["restore", str(discs), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert not out.exists()


def test_evaluate_says_how_a_restorer_is_measured(dncnn: Path, discs: Path) -> None:
    with pytest.raises(WrongUse, match=r"inkwash restore .* --operators denoise:noise=25 --methods"):
        inkwash.evaluate(dncnn, discs)


def test_strengths_are_not_chosen_on_what_is_measured(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import inkwash.api.restore as module

    seen: list[dict[str, Tensor]] = []
    inner = module._strength

    def watched(way, asked, others, seed):  # type: ignore[no-untyped-def]
        seen.append(others)
        return inner(way, asked, others, seed)

    monkeypatch.setattr(module, "_strength", watched)
    restore(discs, ["denoise"], ["tv"], out=tmp_path / "out", size=32)
    test = inkwash.data.open_collection(discs).images("test", 32).batch(torch.arange(7))["image"]
    for one in seen[0]["image"]:
        assert float(np.abs((test - one).numpy()).max(axis=(1, 2, 3)).min()) > 0.1


def test_its_card_holds_what_restore_measures(dncnn: Path, discs: Path) -> None:
    for _ in range(2):  # what was there is measured anew
        page = inkwash.reproduce("dncnn", run=dncnn, data=discs)
    psnr, ssim = page.cards[0].measured
    assert (psnr.metric, ssim.metric) == ("PSNR (dB)", "SSIM")
    assert psnr.floor is not None
    assert psnr.command[1].startswith(f"inkwash restore {discs} --operators denoise:noise=25 --methods {dncnn}")
    assert (dncnn / "restored" / "report.html").is_file()
