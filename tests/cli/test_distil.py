"""`inkwash distil`: what it hands over, and what a user can get wrong: one line, exit code 2, nothing written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import inkwash as library
from inkwash import systems
from inkwash.api.progress import Progress
from inkwash.cli import main

TINY = {"base": 8, "blocks": 1, "multipliers": [1, 1], "attention": []}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pictures`, `pairs` of pictures and masks, and runs on them: `noise`, `masks`, and the student `student`."""
    root, random = tmp_path_factory.mktemp("distil"), np.random.default_rng(0)
    for folder in ("pictures", "pairs/images", "pairs/masks"):
        (root / folder).mkdir(parents=True)
        for i in range(6):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            mask = np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[:, None].repeat(16, axis=1)
            Image.fromarray(mask if folder.endswith("masks") else pixels).save(root / folder / f"{i}.png")
    train = {"steps": 2, "size": 16, "batch": 2}
    library.train("ddpm", root / "pictures", out=root / "noise", set=TINY, **train)
    library.train("polyp-ddpm", root / "pairs", out=root / "masks", set=TINY, **train)
    library.distil(root / "masks", steps=4, out=root / "student", updates=1, batch=2, set={"start": 8})
    return root


@pytest.fixture
def changed(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """`changed("noise", predict="eps")`: a copy of a run with other options in its `config.yaml`."""

    def copy(run: str, **options: object) -> Path:
        made = Path(shutil.copytree(root / run, tmp_path / "changed"))
        manifest = yaml.safe_load((made / "config.yaml").read_text())
        manifest["config"].update(options)
        (made / "config.yaml").write_text(yaml.safe_dump(manifest))
        return made

    return copy


@pytest.fixture
def refused(inkwash, tmp_path: Path) -> Callable[..., None]:
    """`refused("--steps", 0, run=..., words="...")`: one line with the words, and no folder of a student."""

    def check(*more: object, run: Path, words: str, data: Path | None = None) -> None:
        out = tmp_path / "out"
        argv = {"--steps": "2", "--out": out, "--updates": "8", **dict(zip(more[::2], more[1::2], strict=True))}
        words_said = (w for pair in argv.items() if pair[1] is not None for w in pair)
        said = inkwash("distil", run, *([data] if data else []), *words_said)
        assert said.code == 2, said
        assert said.out == ""
        complaints = [line for line in said.err.splitlines() if line.startswith("inkwash: ")]
        assert len(complaints) == 1, said.err
        assert said.err.splitlines()[-1] == complaints[0]
        assert words.lower() in complaints[0].lower()
        assert not out.exists(), "something was written"

    return check


def test_it_hands_over_what_was_asked(inkwash, stand_in) -> None:
    asked: dict[str, object] = {}

    def distilling(*args: object, **options: object) -> list[Progress]:
        asked.update(options, args=args)
        return [Progress("distilling", 1, 1)]

    stand_in("distil", distilling=distilling)
    line = "distil r data --steps 2 --out s --method shortcut --updates 7 --guidance 2.5 --batch 4 --seed 9"
    said = inkwash(*line.split(), "--set", "a=1", "b=2", "--resume", "--overwrite", "--skip-bad")
    assert (said.code, said.out) == (0, "s\n")
    assert asked == {
        "args": (Path("r"), Path("data")),
        "steps": 2,
        "out": Path("s"),
        "method": "shortcut",
        "updates": 7,
        "minutes": None,
        "guidance": 2.5,
        "batch": 4,
        "seed": 9,
        "set": ("a=1", "b=2"),
        "resume": True,
        "overwrite": True,
        "skip_bad": True,
    }
    inkwash("distil", "r", "--steps", "1", "--out", "s", "--minutes", "1.5")
    assert (asked["args"], asked["minutes"], asked["method"], asked["set"]) == ((Path("r"), None), 1.5, None, ())


def test_the_steps_and_the_folder_have_to_be_said(inkwash) -> None:
    assert "--steps requires an argument" in inkwash("distil", "r", "--out", "s").err
    assert "--out requires an argument" in inkwash("distil", "r", "--steps", "2").err
    assert "'2.5' is not a whole number" in inkwash("distil", "r", "--steps", "2.5", "--out", "s").err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--steps", "0"], "at least 1, not 0"),
        (["--steps", "-2"], "at least 1, not -2"),
        (["--steps", "20"], "draws in 20 evaluations already: a student has fewer, not 20"),
        (["--steps", "64"], "draws in 20 evaluations already"),
        (["--method", "progresive"], "did you mean 'progressive'"),
        (["--method", "dmd"], "known: consistency, consistency-training, progressive, shortcut"),
        (["--updates", "0"], "--updates is at least 1 a round, and there are 3 of them, not 0"),
        (["--updates", "2"], "and there are 3 of them, not 2"),
        (["--updates", None, "--minutes", "0"], "minutes"),
        (["--updates", None, "--minutes", "nan"], "minutes"),
        (["--batch", "0"], "batch"),
        (["--guidance", "nan"], "--guidance is a weight, 0 or more, not nan"),
        (["--guidance", "-1"], "not -1"),
        (["--set", "start=12"], "start=12: for a student of 2 steps it is 2 times a power of two: 4, 8, 16"),
        (["--set", "start=many"], "start"),
        (["--set", "weight=snr"], "weight"),
        (["--set", "levels=18"], "unknown option 'levels'"),
        (["--set", "steps=3"], "unknown option 'steps'"),
        (["--set", "base=16"], "unknown option 'base'"),
        (["--set", "learning_rate=-1"], "learning_rate"),
        (["--set", "shard=true"], "shard = true is for inkwash train"),
        (["--set", "memory=2GB"], "memory = 2GB is for inkwash train: here accumulation=2 halves"),
        (["--set", "rotate=left"], "rotate"),
        (["--set", "start"], "key=value"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(filter(None, value)),
)
def test_what_cannot_be(refused, root: Path, more: list[str | None], words: str) -> None:
    refused(*more, run=root / "masks", words=words)


@pytest.mark.parametrize(
    ("method", "option", "words"),
    [
        ("consistency", "levels=1", "levels"),
        ("consistency-training", "last=25", "no power of two times first"),
        ("shortcut", "finest=100", "finest=100: for a student of 2 steps"),
        ("shortcut", "every=1", "every"),
    ],
)
def test_options_of_the_other_methods(refused, root: Path, method: str, option: str, words: str) -> None:
    refused("--method", method, "--set", option, run=root / "masks", words=words)


def test_how_long_has_to_be_said(inkwash, root: Path, tmp_path: Path) -> None:
    said = inkwash("distil", root / "masks", "--steps", "2", "--out", tmp_path / "out")
    assert (said.code, said.err) == (2, "inkwash: say how long to distil: --updates or --minutes\n")
    assert not (tmp_path / "out").exists()


# The run.


def test_a_student_of_a_student(refused, root: Path) -> None:
    refused(run=root / "student", words=f"is a student itself: distil the run that it was made from, {root / 'masks'}")


def test_a_run_that_predicts_the_noise(refused, changed) -> None:
    refused(run=changed("noise", predict="eps"), words="predicts the noise")


def test_a_run_that_predicts_the_noise_where_nothing_is_left(refused, changed) -> None:
    refused(run=changed("noise", predict="eps", schedule="zero-snr"), words="a predicted noise does not determine it")


def test_a_run_that_looks_back(refused, changed, root: Path) -> None:
    run = changed("noise")
    set = {**TINY, "self_conditioning": True}
    library.train("ddpm", root / "pictures", out=run, steps=1, size=16, batch=2, set=set, overwrite=True)
    refused(run=run, words="is shown its previous estimate")


def test_a_run_that_is_no_generator(refused, root: Path, changed, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = systems.get("ddpm")

    class Segmenter(systems.base.System):  # type: ignore[name-defined]
        name, task, Config = "segmenter", "segmentation", kind.Config

        def __init__(self, config, spec) -> None:  # type: ignore[no-untyped-def]
            super().__init__(config, spec)
            self.denoiser = kind(config, spec).denoiser

        def loss(self, batch, *, noise):  # type: ignore[no-untyped-def]
            return {}

    monkeypatch.setattr(systems, "get", lambda name: Segmenter)
    refused(run=root / "noise", words="does segmentation and makes no images")


def test_a_run_that_is_not_there(refused, root: Path) -> None:
    refused(run=root / "nowhere", words="nowhere")
    refused(run=root / "pictures", words="no run folder")


def test_guidance_that_the_run_was_not_made_for(refused, root: Path, changed) -> None:
    refused("--guidance", "2", run=root / "noise", words="without labels, masks or captions")
    refused("--guidance", "2", run=changed("masks", drop_condition=0.0), words="guidance 2.0 needs a model")


# The data and the folder.


def test_data_of_another_kind(refused, root: Path) -> None:
    refused(run=root / "masks", data=root / "pictures", words="is not the kind of data")
    refused(run=root / "masks", data=root / "nowhere", words="nowhere")


def test_masks_of_other_codes(refused, root: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(root / "pairs", tmp_path / "other"))
    for path in (other / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 255 * 7).save(path)
    refused(run=root / "masks", data=other, words="mask classes of the same codes")


def test_the_data_of_the_run_are_gone(refused, changed) -> None:
    run = changed("noise")
    manifest = yaml.safe_load((run / "config.yaml").read_text())
    manifest["data"]["path"] = "moved/away"
    (run / "config.yaml").write_text(yaml.safe_dump(manifest))
    refused(run=run, words="moved/away")


def test_the_folder_is_taken(inkwash, root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for out, words in ((mine, "is not empty"), (root / "noise", "is not empty"), (root / "masks", "the teacher's own")):
        before = sorted(path for path in Path(out).rglob("*"))
        for more in ((), ("--overwrite",)) if out != root / "noise" else ((),):
            said = inkwash("distil", root / "masks", "--steps", "2", "--out", out, "--updates", "8", *more)
            assert said.code == 2
            assert words in said.err or "no run" in said.err
        assert sorted(path for path in Path(out).rglob("*")) == before
    said = inkwash("distil", root / "masks", "--steps", "2", "--out", mine / "thesis.txt" / "out", "--updates", "8")
    assert said.code == 2
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_there_is_nothing_to_go_on_with(inkwash, root: Path, tmp_path: Path) -> None:
    said = inkwash("distil", root / "masks", "--steps", "2", "--out", tmp_path / "none", "--resume")
    assert said.code == 2
    assert "does not exist" in said.err


def test_a_student_is_not_what_train_makes(inkwash, root: Path, tmp_path: Path) -> None:
    argv = ["train", "ddpm", root / "pictures", "--out", tmp_path / "out", "--steps", "1", "--set", "student=shortcut"]
    said = inkwash(*argv)
    assert said.code == 2
    assert "inkwash distil makes a student of it" in said.err
    assert not (tmp_path / "out").exists()


def test_it_goes_all_the_way_from_the_command_line(root: Path, tmp_path: Path) -> None:
    argv = ["distil", root / "masks", root / "pairs", "--steps", "1", "--out", tmp_path / "out", "--method", "shortcut"]
    assert main([str(word) for word in [*argv, "--updates", "2", "--batch", "4", "--set", "ema=0.1", "finest=4"]]) == 0
    assert main(["sample", str(tmp_path / "out"), "-n", "1", "--out", str(tmp_path / "new"),
                 "--condition", str(root / "pairs")]) == 0  # fmt: skip
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["00000.png"]
