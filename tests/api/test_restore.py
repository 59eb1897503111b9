"""`inkwash restore`: the same measurements for every method, and a table of what each makes of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY
from torch import Tensor

import inkwash
from inkwash.api.restore import restore
from inkwash.cli import main
from inkwash.errors import WrongUse


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


def test_an_onnx_file_restores(discs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "half.onnx"
    torch.onnx.export(torch.nn.AvgPool2d(3, 1, 1), (torch.zeros(2, 3, 32, 32),), path, dynamo=True,
                      dynamic_shapes=({0: torch.export.Dim("batch")},))  # fmt: skip
    found = restore(discs, ["denoise"], [str(path)], out=tmp_path / "out", size=32, number=2)
    assert found.rows[1].method == str(path)
    assert found.rows[1].psnr.mean > found.rows[0].psnr.mean


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--operators", "denoise", "--methods", "magic"], "there is no method 'magic'"),
        (["--operators", "sharpen", "--methods", "tv"], "sharpen"),
        (["--operators", "denoise", "--methods", "nothing.onnx"], "no such file"),
        (["--operators", "denoise", "--methods", "no_module:f"], "no_module"),
        (["--operators", "denoise", "--methods", "json:nothing"], "nothing"),
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

    seen: list[Tensor] = []
    inner = module._strength

    def watched(way, asked, others, seed):  # type: ignore[no-untyped-def]
        seen.append(others)
        return inner(way, asked, others, seed)

    monkeypatch.setattr(module, "_strength", watched)
    restore(discs, ["denoise"], ["tv"], out=tmp_path / "out", size=32)
    test = inkwash.data.open_collection(discs).images("test", 32).batch(torch.arange(7))["image"]
    for one in seen[0]:
        assert float(np.abs((test - one).numpy()).max(axis=(1, 2, 3)).min()) > 0.1


def test_its_card_holds_what_restore_measures(dncnn: Path, discs: Path) -> None:
    for _ in range(2):  # what was there is measured anew
        page = inkwash.reproduce("dncnn", run=dncnn, data=discs)
    psnr, ssim = page.cards[0].measured
    assert (psnr.metric, ssim.metric) == ("PSNR (dB)", "SSIM")
    assert psnr.floor is not None
    assert psnr.command[1].startswith(f"inkwash restore {discs} --operators denoise:noise=25 --methods {dncnn}")
    assert (dncnn / "restored" / "report.html").is_file()
