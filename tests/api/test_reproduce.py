"""A system measured, and the figures beside those of its paper."""

import functools
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY

import inkwash
from inkwash.api import reproduce as module
from inkwash.api.evaluate import evaluating, measuring
from inkwash.api.references import references
from inkwash.errors import WrongUse
from inkwash.reading import Card, shelf
from inkwash.reading.source import Located
from inkwash.training import Run


@pytest.fixture
def _quick(monkeypatch):
    """A segmenter of a few steps: what is measured here is not the point."""
    monkeypatch.setattr("inkwash.api.evaluate.measuring", functools.partial(measuring, segmenter_steps=5))
    monkeypatch.setattr(module, "evaluating", functools.partial(evaluating, n=8, steps=2))


@pytest.mark.usefixtures("_quick")
def test_a_finished_run_is_measured_and_its_card_written(run: Path, discs: Path, tmp_path: Path) -> None:
    page = inkwash.reproduce("polyp-ddpm", run=run, data=discs, cards=tmp_path)
    card = Located(run / "card.yaml").into(Card)
    assert page.cards == [card]
    assert card.claims == shelf().get("polyp-ddpm").claims
    assert {measured.metric for measured in card.measured} >= {"FID", "mask faithfulness"}
    measured = card.measured[0]
    assert measured.command == [Run.open(run).manifest.data["command"], f"inkwash evaluate {run} {discs} --seed 0"]
    assert f"{discs}, 8 of split " in measured.data
    assert all(f"{claim.value:g}" in str(page) for claim in card.claims)
    assert Located(tmp_path / "polyp-ddpm.yaml").into(Card) == card


@pytest.mark.usefixtures("_quick")
def test_a_card_keeps_the_figures_that_are_not_measured_anew(run: Path, discs: Path, tmp_path: Path) -> None:
    inkwash.reproduce("polyp-ddpm", run=run, data=discs, cards=tmp_path)
    path = tmp_path / "polyp-ddpm.yaml"
    old = yaml.safe_load(path.read_text(encoding="utf-8"))
    count = len(old["measured"])
    kept = {**old["measured"][0], "data": "other data", "value": 0.125}
    path.write_text(yaml.safe_dump({**old, "measured": [*old["measured"], kept]}, allow_unicode=True), encoding="utf-8")
    inkwash.reproduce("polyp-ddpm", run=run, data=discs, cards=tmp_path)
    again = Located(path).into(Card)
    assert len(again.measured) == count + 1
    assert [m.value for m in again.measured if m.data == "other data"] == [0.125]


@pytest.mark.usefixtures("_quick")
def test_training_comes_first_where_no_run_is_given(discs: Path, tmp_path: Path) -> None:
    told = [f"{name}={value}" for name, value in TINY.items()]
    page = inkwash.reproduce("polyp-ddpm", minutes=0.02, data=discs, out=tmp_path / "new", size=32, set=told)
    assert "--minutes 0.02" in page.cards[0].measured[0].command[0]
    assert (tmp_path / "new" / "card.yaml").is_file()


def test_what_does_not_fit_is_refused_before_anything_is_trained(run: Path, discs: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="is a run of polyp-ddpm, not of ddpm"):
        inkwash.reproduce("ddpm", run=run, data=discs)
    with pytest.raises(WrongUse, match="takes neither --out nor --set"):
        inkwash.reproduce("polyp-ddpm", run=run, out=tmp_path / "x", data=discs)
    with pytest.raises(WrongUse, match="is no folder"):
        inkwash.reproduce("polyp-ddpm", run=run, data=discs, cards=tmp_path / "none")
    with pytest.raises(WrongUse, match="unknown system"):
        inkwash.reproduce("polyp", data=discs)


def test_a_model_card_cites_the_papers_behind_what_it_used(run: Path) -> None:
    cited = [entry.key for entry in references(Run.open(run), ["FID"])]
    assert cited[0] == "polyp-ddpm"
    assert {"iddpm", "dpm-solver-pp", "cfg", "fid", "edm2"} <= set(cited)
    assert not {"min-snr", "edm", "ddim", "kid"} & set(cited)
    text = (run / "README.md").read_text(encoding="utf-8")
    assert "## References" in text
    assert "https://arxiv.org/abs/2402.04031" in text
