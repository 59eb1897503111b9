"""Segmenters on the way from training to a card: moments, previews, evaluation, reproduction."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_run import TINY

import inkwash
from inkwash import systems
from inkwash.api.given import AUGMENTS
from inkwash.api.segmenting import segmenting
from inkwash.api.train import _moments
from inkwash.data import open_collection
from inkwash.errors import WrongUse
from inkwash.evaluation.segmentation.table import METRICS
from inkwash.evaluation.segmentation.views import extremes
from inkwash.reading import Card
from inkwash.reading.source import Located
from inkwash.systems import masks
from inkwash.systems.segmentation.ensemdiff import EnsemDiff
from inkwash.systems.segmentation.unet import UNetSegmenter
from inkwash.training import Run, TrainOptions

SYSTEMS = ("unet", "ensemdiff")


@pytest.fixture(scope="module")
def trained(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("segmenters")
    for name in SYSTEMS:
        more = {"preview_every": "8 steps", **({"sampling_steps": 2, "draws": 1} if name == "ensemdiff" else {})}
        inkwash.train(name, discs, out=root / name, steps=8, size=32, batch=4, set={**TINY, **more})
    return {name: root / name for name in SYSTEMS}


def test_moments_are_those_of_what_is_diffused(discs: Path):
    images = open_collection(discs).images("train", 32)
    batch = images.batch(torch.arange(len(images)))
    encoded = masks.encode(batch["mask"], 2).double()
    assert _moments(EnsemDiff, images)["data_mean"] == pytest.approx(encoded.mean().item(), abs=1e-6)
    assert _moments(EnsemDiff, images)["data_std"] == pytest.approx(encoded.std().item(), abs=1e-6)
    assert _moments(UNetSegmenter, images)["data_mean"] == pytest.approx(batch["image"].mean().item(), abs=1e-6)


def test_a_run_holds_the_moments_of_the_masks(trained, discs: Path):
    images = open_collection(discs).images("train", 32)
    config = Run.open(trained["ensemdiff"]).config
    assert config["data_mean"] == _moments(EnsemDiff, images)["data_mean"] < -0.5


@pytest.mark.parametrize("name", SYSTEMS)
def test_previews_show_image_truth_and_what_was_found(trained, name: str):
    picture = Image.open(trained[name] / "samples" / "step-0000008.png")
    # Six rows of five pictures of 32 pixels, 2 apart.
    assert picture.size == (5 * 34 - 2, 6 * 34 - 2)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_metric_is_measured_beside_its_floor(trained, discs: Path, name: str):
    run = trained[name]
    found = inkwash.evaluate(run, discs)
    held = len(open_collection(discs).images("test", 32))
    assert found.count == held == len(found.cases)
    assert {m.name for m in found.metrics} == set(METRICS) - {"GED"}
    dice = found.metrics[0]
    assert dice.low <= dice.value <= dice.high
    assert dice.floor is not None
    mean = [case["Dice"] for case in found.cases.values()]
    assert dice.value == pytest.approx(sum(mean) / len(mean))
    assert found.evaluations == (1 if name == "unet" else 2)
    assert found.parameters == sum(p.numel() for p in inkwash.load(run).parameters())
    assert json.loads((run / "evaluation.json").read_text())["system"] == name
    assert "| Dice |" in (run / "README.md").read_text()
    page = (run / "report.html").read_text()
    assert "Best, median and worst cases" in page
    assert page.count("<figcaption>best: ") == page.count("<figcaption>worst: ") == min(4, held // 3)
    assert "Dice" in str(found)
    assert "0.95" not in str(found.metrics[0].about)


def test_more_draws_and_how_they_merge(trained, discs: Path):
    told = {"n": 4, "draws": 3, "merge": "staple", "steps": 1, "sampler": "ddim"}
    several = inkwash.evaluate(trained["ensemdiff"], discs, **told)
    assert (several.count, several.draws, several.evaluations) == (4, 3, 3)
    assert "3 draws merged by staple" in several.how
    again = inkwash.evaluate(trained["ensemdiff"], discs, **told, batch=3)
    assert [m.value for m in again.metrics] == pytest.approx([m.value for m in several.metrics], abs=1e-5)


def test_a_case_is_the_same_in_any_selection(trained, discs: Path):
    system, images = inkwash.load(trained["ensemdiff"]), open_collection(discs).images("test", 32)
    *_, whole = segmenting(system, images, torch.arange(6), draws=2)
    *_, part = segmenting(system, images, torch.tensor([1, 4]), draws=2)
    assert part.result.cases.names == (images.names[1], images.names[4])
    brier = whole.result.cases.values["Brier"][[1, 4]]
    torch.testing.assert_close(part.result.cases.values["Brier"], brier, atol=1e-5, rtol=0)


def test_several_annotators_are_measured_as_a_distribution(trained, tmp_path: Path, discs: Path):
    for i in range(24):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
        Image.open(discs / "images" / f"{i:02d}.png").save(tmp_path / "images" / f"{i:02d}.png")
        mask = Image.open(discs / "masks" / f"{i:02d}.png")
        mask.save(tmp_path / "masks" / f"{i:02d}_1.png")
        mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "masks" / f"{i:02d}_2.png")
    found = inkwash.evaluate(trained["ensemdiff"], tmp_path, draws=2)
    assert [m.name for m in found.metrics][-1] == "GED"
    assert 0 <= found.metrics[-1].value <= 2


def test_reproduce_writes_a_card_of_a_segmenter(trained, discs: Path, tmp_path: Path):
    page = inkwash.reproduce("unet", run=trained["unet"], data=discs, cards=tmp_path)
    card = Located(tmp_path / "unet.yaml").into(Card)
    assert page.cards == [card]
    assert {m.metric for m in card.measured} >= {"Dice", "HD95", "ECE"}
    assert all(m.command[1].startswith("inkwash evaluate ") for m in card.measured)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"guidance": 2.0}, "--guidance says nothing here: .* finds masks"),
        ({"backend": "onnx"}, "--backend says nothing here"),
        ({"network": "compact"}, "--network says nothing here"),
        ({"n": 0}, "-n is how many of the"),
        ({"n": 99}, "-n is how many of the"),
        ({"draws": 0}, "at least 1, not 0"),
        ({"merge": "median"}, "unknown merge 'median'"),
        ({"sampler": "ddimm"}, "did you mean 'ddim'"),
        ({"batch": 0}, "--batch is how many"),
    ],
    ids=str,
)
def test_what_says_nothing_here_is_refused(trained, discs: Path, told, said: str):
    with pytest.raises(WrongUse, match=said):
        inkwash.evaluate(trained["ensemdiff"], discs, **told)


def test_draws_are_not_for_runs_that_make_pictures(run: Path, discs: Path):
    with pytest.raises(WrongUse, match=r"--draws says nothing here: .* makes pictures"):
        inkwash.evaluate(run, discs, draws=3)


def test_data_of_other_classes_does_not_fit(trained, draw_classes: Path):
    with pytest.raises(WrongUse, match="has 3 mask classes, and unet was trained with 2"):
        inkwash.evaluate(trained["unet"], draw_classes)


@pytest.fixture
def draw_classes(tmp_path: Path, discs: Path) -> Path:
    for part in ("images", "masks"):
        (tmp_path / "three" / part).mkdir(parents=True)
    for i in range(12):
        Image.open(discs / "images" / f"{i:02d}.png").save(tmp_path / "three/images" / f"{i:02d}.png")
        mask = Image.open(discs / "masks" / f"{i:02d}.png").point(lambda v: v // 255)
        mask.paste(2, (0, 0, 4, 4))
        mask.save(tmp_path / "three/masks" / f"{i:02d}.png")
    return tmp_path / "three"


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9, 40])
def test_extremes_are_different_cases_in_order(count: int):
    values = torch.arange(count).double() / 7
    chosen = extremes(torch.cat([values, torch.tensor([torch.nan]).double()]))
    places = [i for _, i in chosen]
    assert len(set(places)) == len(places) == min(count, 9 if count >= 9 else 3)
    assert all(i < count for i in places)
    assert places == sorted(places, reverse=True)
    if count:
        assert chosen[0] == ("best", count - 1)
    if count > 1:
        assert chosen[-1] == ("worst", 0)


@pytest.mark.parametrize("name", systems.names())
def test_no_option_of_a_system_is_one_of_the_training_or_the_augmentation_too(name: str):
    config = systems.get(name).Config.model_fields
    assert not set(config) & {*TrainOptions.model_fields, *AUGMENTS}
