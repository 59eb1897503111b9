"""From a run to a student, through the public functions: a student is a run like any other."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from foreign_system import Foreign
from PIL import Image
from safetensors.torch import load_file

import inkwash
from inkwash import systems
from inkwash.api.distil import distilling
from inkwash.api.distillation import facts
from inkwash.api.references import references
from inkwash.cli import main
from inkwash.denoise.shortcut import ShortcutDenoiser
from inkwash.errors import Failed, WrongUse
from inkwash.sampling.consistency import Consistency
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.shortcut import Shortcut
from inkwash.systems import recipes
from inkwash.training import Run, TrainOptions

SOLVERS = {"progressive": DDIM, "consistency": Consistency, "consistency-training": Consistency, "shortcut": Shortcut}
QUICK = {"learning_rate": 1e-3, "checkpoint_every": "2 steps", "log_every": 1, "precision": "fp32"}


@pytest.fixture(scope="session")
def students(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student of two evaluations by each method."""
    root = tmp_path_factory.mktemp("students")
    for method in recipes.METHODS:
        inkwash.distil(run, steps=2, out=root / method, method=method, updates=8, batch=4, set=QUICK)
    return {method: root / method for method in recipes.METHODS}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", recipes.METHODS)
def test_a_student_is_a_run_that_draws_in_its_few_steps(students, discs: Path, tmp_path: Path, method: str) -> None:
    student = students[method]
    system = inkwash.load(student)
    way = system.way()
    assert (way.steps, type(way.solver), len(way.grid)) == (2, SOLVERS[method], 2)
    if method != "progressive":
        assert system.way(steps=4).solver == way.solver, "its own solver in any number of steps"
    assert isinstance(system.denoiser, ShortcutDenoiser) == (method == "shortcut")
    assert not [name for name in weights(student) if "teacher" in name or "apart" in name]
    drawn = inkwash.sample(student, 2, out=tmp_path / "drawn", condition=str(discs))
    facts = Image.open(drawn[0]).text
    assert (facts["steps"], facts["sampler"]) == ("2", recipes.METHODS[method].sampler)
    assert np.asarray(Image.open(drawn[0])).std() > 0
    assert (student / "samples").is_dir(), "previews"


@pytest.mark.parametrize("method", recipes.METHODS)
def test_its_folder_says_what_it_is_and_how_it_was_made(students, run: Path, discs: Path, method: str) -> None:
    student = Run.open(students[method])
    manifest = yaml.safe_load((student.path / "config.yaml").read_text())
    assert manifest["system"] == "polyp-ddpm"
    assert manifest["config"]["student"] == recipes.METHODS[method].student
    assert manifest["data"]["path"] == str(discs)
    made = facts(student)
    assert (made.teacher, made.method, made.steps, made.guidance, made.updates) == (str(run), method, 2, 1.0, 8)
    card = (student.path / "README.md").read_text(encoding="utf-8")
    made_by = f"distilled from the run {run} by the method {method}"
    assert f"A student that draws an image in 2 evaluations of the network, {made_by}" in card
    assert recipes.METHODS[method].paper in card
    assert manifest["data"]["command"] in card
    assert "'method':" not in card, "the facts are told in words"


def test_a_student_draws_only_as_it_learned_to(students) -> None:
    for method, steps, words in (("progressive", 1, "learned to draw in 2"), ("progressive", 4, "learned to draw in 2"),
                                 ("shortcut", 1, "learned steps of 1/2 and shorter")):  # fmt: skip
        with pytest.raises(WrongUse, match=words):
            inkwash.load(students[method]).way(steps=steps)
    assert inkwash.load(students["consistency"]).way(steps=1).steps == 1


def test_the_rounds_of_progressive_distillation_are_runs_of_their_own(students) -> None:
    student = students["progressive"]
    assert sorted(path.name for path in (student / "rounds").iterdir()) == ["4", "8"]
    for count in (8, 4):
        between = student / "rounds" / str(count)
        assert inkwash.load(between).way().steps == count
        assert not (between / "checkpoints").exists(), "a round that is over needs none"
        assert f"draws an image in {count} evaluations" in (between / "README.md").read_text()
    updates = [len(Run.open(student / "rounds" / str(count)).metrics()) for count in (8, 4)]
    assert (*updates, len(Run.open(student).metrics())) == (2, 2, 4), "shares of 1, 1 and 2 of 8"


@pytest.mark.parametrize("method", ["progressive", "shortcut"])
def test_its_command_makes_it_again(students, tmp_path: Path, method: str) -> None:
    words = shlex.split(facts_command(students[method]))
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert main(words[1:]) == 0
    assert same(students[method], tmp_path / "again")


def facts_command(run: Path) -> str:
    return str(Run.open(run).manifest.data["command"])


@pytest.mark.parametrize("method", recipes.METHODS)
@pytest.mark.parametrize("stop", [1, 4])
def test_a_stopped_distillation_ends_where_an_uninterrupted_one_does(
    students, run: Path, tmp_path: Path, method: str, stop: int
) -> None:
    """Left in the middle of the first round or of a later one, and gone on with by `resume`."""
    how = {"steps": 2, "out": tmp_path / "run"}
    job = distilling(run, **how, method=method, updates=8, batch=4, set=QUICK)
    done = 0
    for report in job:
        if report.stage.startswith("distilling"):
            done += 1
        if done == stop:
            break
    job.close()
    if method == "progressive":
        with pytest.raises(WrongUse, match="has no model"):
            Run.open(tmp_path / "run")
    inkwash.distil(run, **how, resume=True)
    assert same(students[method], tmp_path / "run")
    # Again, and nothing happens.
    inkwash.distil(run, **how, resume=True)
    assert same(students[method], tmp_path / "run")


def test_a_distillation_goes_on_as_it_began(students, run: Path, tmp_path: Path) -> None:
    student = shutil.copytree(students["consistency"], tmp_path / "student")
    before = {path: path.read_bytes() for path in student.rglob("*") if path.is_file()}
    for wrong, words in (
        ({"steps": 1}, "was begun with --steps 2 and goes on with that, not with 1"),
        ({"method": "shortcut"}, "was begun with --method consistency"),
        ({"guidance": 2.0}, r"was begun with --guidance 1\.0"),
        ({"updates": 20}, "leave out --updates"),
        ({"set": {"levels": 3}}, "leave out --updates, --minutes and --set"),
    ):
        with pytest.raises(WrongUse, match=words):
            inkwash.distil(run, **{"steps": 2, "out": student, "resume": True, **wrong})
    with pytest.raises(WrongUse, match="is no student that inkwash distil began"):
        inkwash.distil(student, steps=2, out=run, resume=True)
    other = shutil.copytree(run, tmp_path / "other")
    shutil.copy(student / "model.safetensors", other / "model.safetensors")
    with pytest.raises(WrongUse, match="was begun from other weights"):
        inkwash.distil(other, steps=2, out=student, resume=True)
    with pytest.raises(WrongUse, match="is a student: inkwash distil with --resume"):
        inkwash.train("polyp-ddpm", "x", out=student, resume=True)
    assert before == {path: path.read_bytes() for path in student.rglob("*") if path.is_file()}


def test_a_failure_keeps_the_last_good_checkpoint(run: Path, tmp_path: Path) -> None:
    """A learning rate at which everything blows up, and the message names it."""
    with pytest.raises(Failed, match="try a lower learning_rate"):
        inkwash.distil(
            run, steps=2, out=tmp_path / "run", method="shortcut", updates=40, batch=4,
            set={**QUICK, "learning_rate": 1e20, "clip": None, "warmup": 0},
        )  # fmt: skip
    assert list((tmp_path / "run" / "checkpoints").glob("*.json"))


def test_guidance_is_folded_in(run: Path, tmp_path: Path) -> None:
    """The student is told its condition always, can't be guided again, and differs from one without guidance."""
    how = {"steps": 2, "method": "progressive", "updates": 3, "batch": 4}
    guided = inkwash.distil(run, out=tmp_path / "guided", guidance=3.0, set={"start": 4, **QUICK}, **how)
    plain = inkwash.distil(run, out=tmp_path / "plain", set={"start": 4, **QUICK}, **how)
    assert (guided.config["drop_condition"], plain.config["drop_condition"]) == (0.0, 0.1)
    assert guided.config["guidance"] == 1.0
    assert not same(guided.path, plain.path)
    assert "its guidance of 3 folded in" in (guided.path / "README.md").read_text()
    with pytest.raises(WrongUse, match=r"guidance 3\.0 needs a model"):
        inkwash.load(guided.path).way(guidance=3.0)


def test_minutes_are_shared_out_too(run: Path, tmp_path: Path) -> None:
    made = inkwash.distil(run, steps=2, out=tmp_path / "run", minutes=0.02, batch=4, set={"start": 8, **QUICK})
    assert made.options.minutes == pytest.approx(0.02 * 2 / 3)
    assert Run.open(tmp_path / "run" / "rounds" / "4").options.minutes == pytest.approx(0.02 / 3)
    assert "--minutes 0.02" in facts_command(made.path)


def test_a_student_can_be_measured(students, discs: Path) -> None:
    evaluation = inkwash.evaluate(students["shortcut"], discs, n=6, segmenter_steps=3)
    assert (evaluation.steps, evaluation.sampler) == (2, "shortcut@uniform")
    assert "distilled from the run" in (students["shortcut"] / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_shortcut_student_can_be_exported(students, discs: Path, tmp_path: Path) -> None:
    """In a process of its own: shapes that are checked as it runs can't be traced."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = shutil.copytree(students["shortcut"], tmp_path / "run")
    draw = ["sample", run, "-n", "2", "--out", tmp_path / "new", "--condition", discs, "--backend", "onnx"]
    said = ""
    for words in (["export", run], draw):
        command = [sys.executable, "-m", "inkwash", *map(str, words)]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    assert "inputs z, t, vector, image" in said


def test_a_student_is_not_tuned(students) -> None:
    with pytest.raises(WrongUse, match="is a student, whose few steps are learned"):
        inkwash.tune(students["consistency"], steps=[2])


def test_its_card_cites_the_paper_of_the_method(students) -> None:
    keys = {"progressive": "progressive-distillation", "consistency": "consistency-models",
            "consistency-training": "improved-consistency", "shortcut": "shortcut-models"}  # fmt: skip
    for method, key in keys.items():
        assert key in [entry.key for entry in references(Run.open(students[method]))]


def test_overwriting_a_student_leaves_nothing_of_it(students, run: Path, discs: Path, tmp_path: Path) -> None:
    """Not the way it is drawn from either: the run that takes its place has its own."""
    place = shutil.copytree(students["progressive"], tmp_path / "run")
    inkwash.train("polyp-ddpm", discs, out=place, steps=1, size=32, batch=2, overwrite=True,
                  set={"base": 8, "multipliers": "1,2", "attention": "8"})  # fmt: skip
    assert not (place / "rounds").exists()
    assert inkwash.load(place).way().steps == 20


def test_options_of_a_training_are_those_of_the_method_unless_said(run: Path, tmp_path: Path) -> None:
    teacher = Run.open(run)
    made = inkwash.distil(run, steps=4, out=tmp_path / "a", method="progressive", updates=1, set={"start": 8})
    own = recipes.METHODS["progressive"]
    assert (made.options.decay, made.options.warmup, made.options.ema) == ("linear", 0, ())
    assert made.options.learning_rate == pytest.approx(teacher.options.learning_rate * own.pace)
    assert made.options.batch == teacher.options.batch
    assert TrainOptions(steps=1).decay != "linear"
    again = Run.open(made.path).manifest.data
    assert again["augment"] == teacher.manifest.data["augment"]


def test_somebody_else_s_generator_is_distilled_like_ours(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {**systems._points(), "foreign": SimpleNamespace(load=lambda: Foreign)}
    monkeypatch.setattr(systems, "_points", lambda: points)
    inkwash.train("foreign", discs, out=tmp_path / "run", steps=2, size=16, batch=4)
    for method in ("progressive", "consistency", "consistency-training"):
        made = inkwash.distil(tmp_path / "run", steps=2, out=tmp_path / method, method=method, updates=4, batch=4)
        assert made.system == "foreign"
        way = inkwash.load(made.path).way()
        assert (way.steps, type(way.solver)) == (2, SOLVERS[method])
        assert len(inkwash.sample(made.path, 1, out=tmp_path / f"{method}-new")) == 1
    with pytest.raises(WrongUse, match="a Plain can't be told the length of a step"):
        inkwash.distil(tmp_path / "run", steps=2, out=tmp_path / "shortcut", method="shortcut", updates=4, batch=4)
    assert not (tmp_path / "shortcut").exists()


@pytest.mark.slow
def test_two_processes_make_the_student_of_one(students, run: Path, tmp_path: Path) -> None:
    """All rounds of it. Sums are taken in another order, which AdamW makes a step of where a gradient is nearly 0."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "inkwash"]
    words = shlex.split(facts_command(students["progressive"]))[1:]
    words[words.index("--out") + 1] = str(tmp_path / "two")
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], env=alone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for place in ("rounds/8", "rounds/4", "."):
        one, two = weights(students["progressive"] / place), weights(tmp_path / "two" / place)
        assert one.keys() == two.keys()
        rate, updates = 1e-3, 8
        assert all((one[name] - two[name]).abs().max() <= 2 * rate * updates for name in one)
        apart = torch.cat([(one[name] - two[name]).flatten().abs() for name in one])
        assert apart.median() < 1e-5


def test_students_are_weighed_against_their_teacher(students, run: Path, discs: Path, tmp_path: Path) -> None:
    teacher = shutil.copytree(run, tmp_path / "run")
    found = inkwash.pareto(
        teacher, discs, number=16, steps=(2, 4), samplers=("ddim",), caches=(), batch=8, store=False,
        students=[students["progressive"], students["shortcut"]],
    )  # fmt: skip
    drawn = {(setting.run, setting.sampler, setting.steps) for setting in found.settings}
    assert drawn == {
        (str(teacher), "ddim", 2), (str(teacher), "ddim", 4),
        (str(students["progressive"]), "ddim@uniform", 2),
        *((str(students["shortcut"]), "shortcut@uniform", steps) for steps in (2, 4, 8)),
    }  # fmt: skip
    page = Path(found.report).read_text(encoding="utf-8")
    assert "shortcut@uniform" in page
    with pytest.raises(WrongUse, match="is not a student of"):
        inkwash.pareto(teacher, discs, students=[run], out=tmp_path / "page")
