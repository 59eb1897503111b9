"""Each verb hands over exactly what was asked, and prints what comes back."""

import json
from pathlib import Path

from pydantic import BaseModel

from inkwash.api.progress import Progress


class Answer(BaseModel):
    dice: float = 0.5

    def __str__(self) -> str:
        return f"dice {self.dice}"


class Job:
    """A public iterator that remembers what it was called with."""

    def __init__(self, result=None):
        self.result, self.args, self.options = result, None, None

    def __call__(self, *args, **options):
        self.args, self.options = args, options
        return iter([Progress("work", 1, 2), Progress("work", 2, 2, result=self.result)])


def test_train(inkwash, stand_in):
    job = Job()
    stand_in("train", training=job)
    line = "train ddpm a.zip --out r --steps 7 --size 32 --batch 4 --seed 9 --config c.yaml --set a=1 b=2 --set c=3"
    said = inkwash(*line.split(), "--memory", "4GB", "--resume", "--overwrite", "--skip-bad", "--fit", "crop")
    assert (said.code, said.out) == (0, "r\n")
    assert job.args == ("ddpm", Path("a.zip"))
    assert job.options == {
        "out": Path("r"),
        "steps": 7,
        "minutes": None,
        "size": 32,
        "fit": "crop",
        "slices": None,
        "batch": 4,
        "seed": 9,
        "memory": "4GB",
        "config": Path("c.yaml"),
        "set": ("a=1", "b=2", "c=3"),
        "resume": True,
        "overwrite": True,
        "skip_bad": True,
    }


def test_train_leaves_what_is_not_said_to_the_function(inkwash, stand_in):
    job = Job()
    stand_in("train", training=job)
    inkwash("train", "ddpm", "a", "--out", "r", "--minutes", "1.5")
    assert job.options["minutes"] == 1.5
    assert job.options["steps"] is None
    assert job.options["batch"] is None
    assert job.options["set"] == ()
    assert not job.options["resume"]
    assert not job.options["skip_bad"]


def test_sample(inkwash, stand_in):
    job = Job()
    stand_in("sample", sampling=job)
    line = "sample r -n 5 --out o --steps 8 --sampler ddim@karras --guidance 2.5 --seed 3 --condition polyp --batch 2"
    line += " --first 40"
    said = inkwash(*line.split(), *["--interval", "0.2", "0.8", "--cache", "deep:3+guidance:2", "--backend", "onnx"],
                   *["--memory", "3.5GiB", "--tile", "64", "--overlap", "16", "--adapter-weight", "0.5"])
    assert (said.code, said.out) == (0, "o\n")
    assert job.args == (Path("r"), 5)
    assert job.options == {
        "out": Path("o"),
        "steps": 8,
        "sampler": "ddim@karras",
        "guidance": 2.5,
        "interval": (0.2, 0.8),
        "cache": "deep:3+guidance:2",
        "backend": "onnx",
        "memory": "3.5GiB",
        "tile": 64,
        "overlap": 16,
        "adapter_weight": 0.5,
        "seed": 3,
        "condition": "polyp",
        "first": 40,
        "batch": 2,
    }


def test_evaluate_prints_text_or_one_json_document(inkwash, stand_in):
    job = Job(Answer())
    stand_in("evaluate", evaluating=job)
    assert inkwash("evaluate", "r", "p").out == "dice 0.5\n"
    said = inkwash("evaluate", "r", "p", "--json")
    assert json.loads(said.out) == {"dice": 0.5}
    assert job.args == (Path("r"), Path("p"))
    assert "work  2/2" in said.err


def test_evaluate_hands_over_how_to_draw(inkwash, stand_in):
    job = Job(Answer())
    stand_in("evaluate", evaluating=job)
    line = "evaluate r p -n 9 --steps 8 --sampler ddim --guidance 2 --seed 3 --batch 4 --network inception-v3"
    inkwash(*line.split(), "--memory", "80%", "--skip-bad", "--mask-free")
    assert job.options == {
        "mask_free": True,
        "n": 9,
        "steps": 8,
        "sampler": "ddim",
        "guidance": 2.0,
        "interval": None,
        "cache": None,
        "backend": None,
        "memory": "80%",
        "tile": None,
        "overlap": None,
        "adapter_weight": None,
        "seed": 3,
        "batch": 4,
        "network": "inception-v3",
        "draws": None,
        "merge": None,
        "skip_bad": True,
    }


def test_evaluate_hands_over_how_masks_are_found(inkwash, stand_in):
    job = Job(Answer())
    stand_in("evaluate", evaluating=job)
    inkwash("evaluate", "r", "p", "--draws", "5", "--merge", "staple")
    assert (job.options["draws"], job.options["merge"], job.options["network"]) == (5, "staple", None)


def test_export_writes_float32_unless_only_int8_is_said(inkwash, stand_in):
    job = Job(Answer())
    stand_in("export", exporting=job)
    for flags, expected in (("", (True, False)), ("--onnx", (True, False)), ("--int8", (False, True))):
        assert inkwash("export", "r", *flags.split()).out == "dice 0.5\n"
        assert (job.options["onnx"], job.options["int8"]) == expected
    inkwash(*["export", "r", "--onnx", "--int8", "--floor", "25", "--condition", "m", "--seed", "4"])
    assert job.options == {"onnx": True, "int8": True, "floor": 25.0, "condition": "m", "seed": 4}


def test_data(inkwash, stand_in):
    job = Job(Answer())
    stand_in("describe", describing=job)
    assert json.loads(inkwash("data", "p", "--json").out) == {"dice": 0.5}
    assert inkwash("data", "p").out == "dice 0.5\n"
    assert job.args == (Path("p"),)


def test_demo_prints_the_report_last(inkwash, stand_in):
    job = Job()
    stand_in("demo", demonstrating=job)
    assert inkwash("demo").out == "runs/demo/report.html\n"
    assert job.options == {"out": Path("runs/demo")}
    assert inkwash("demo", "--out", "x").out.splitlines()[-1] == "x/report.html"


def test_no_verb_has_a_negated_flag(inkwash):
    assert inkwash("data", "p", "--no-json").code == 2


def test_analyse(inkwash, stand_in):
    job = Job(Answer())
    stand_in("analyse", analysing=job)
    line = "analyse d --out o --steps 30 --size 48,32 --slices axial --batch 8 --seed 2 --set predict=eps base=16"
    said = inkwash(*line.split(), "--skip-bad", "--json")
    assert json.loads(said.out) == {"dice": 0.5}
    assert job.args == (Path("d"),)
    assert job.options == {
        "out": Path("o"),
        "minutes": None,
        "steps": 30,
        "size": (48, 32),
        "slices": "axial",
        "batch": 8,
        "seed": 2,
        "set": ("predict=eps", "base=16"),
        "skip_bad": True,
    }
    assert inkwash("analyse", "d", "--out", "o", "--minutes", "0.5").out == "dice 0.5\n"
    assert (job.options["minutes"], job.options["size"], job.options["slices"]) == (0.5, 64, None)


def test_compare(inkwash, stand_in):
    job = Job(Answer())
    stand_in("compare", comparing=job)
    line = "compare d --systems a,b,c --out o --minutes 2 --folds 3 --seeds 2 --cross e --baseline b --size 48 "
    line += "--slices axial --batch 8 --draws 5 --set base=8 a.x=1 --set y=2 --skip-bad --json"
    said = inkwash(*line.split())
    assert json.loads(said.out) == {"dice": 0.5}
    assert job.args == (Path("d"), ["a", "b", "c"])
    assert job.options == {
        "out": Path("o"),
        "minutes": 2.0,
        "steps": None,
        "folds": 3,
        "seeds": 2,
        "cross": Path("e"),
        "baseline": "b",
        "size": 48,
        "slices": "axial",
        "batch": 8,
        "draws": 5,
        "set": ("base=8", "a.x=1", "y=2"),
        "skip_bad": True,
    }
    assert inkwash("compare", "d", "--systems", "a,b", "--out", "o").out == "dice 0.5\n"
