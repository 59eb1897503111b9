"""The run folder, and everything that can be wrong with one."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from standin import Squares, Tiny, begin

from inkwash.errors import Failed, WrongUse
from inkwash.training import Run, TrainOptions
from inkwash.training.tensorboard import writer


def said(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_what_is_created_is_opened(tmp_path: Path) -> None:
    system = Tiny()
    made = begin(tmp_path / "deep" / "run", system, Squares(), TrainOptions(steps=3, ema=(0.2,)))
    made.save_weights(system.state_dict())
    run = Run.open(made.path)
    assert run.manifest == made.manifest
    assert (run.system, run.config, run.spec) == ("tiny", {"width": 8}, Squares().spec)
    assert run.options == TrainOptions(steps=3, ema=(0.2,))
    other = Tiny()
    torch.nn.init.zeros_(other.network[0].weight)
    run.load_weights(other)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, system.state_dict()[name])
    assert run.samples.is_dir()


def test_tied_weights_are_saved_under_both_names(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", Tiny(), Squares(), TrainOptions(steps=1))
    shared = torch.arange(6.0).reshape(2, 3).T
    run.save_weights({"a": shared, "b": shared})
    assert all(torch.equal(tensor, shared) for tensor in load_file(run.weights).values())


def test_a_run_is_only_made_where_there_is_room(tmp_path: Path) -> None:
    def create(path: Path, **more: bool) -> Run:
        return begin(path, Tiny(), Squares(), TrainOptions(steps=1), **more)

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(WrongUse, match="is not empty and no run") as error:
        create(tmp_path)
    said(error)
    with pytest.raises(WrongUse, match="is a file"):
        create(tmp_path / "notes.txt")
    with pytest.raises(WrongUse, match="cannot be made"):
        create(tmp_path / "notes.txt" / "run")
    run = create(tmp_path / "run")
    (run.path / "mine.txt").write_text("kept")
    run.log({"step": 1})
    with pytest.raises(WrongUse, match="--resume continues it, --overwrite replaces it"):
        create(tmp_path / "run")
    assert create(tmp_path / "run", overwrite=True).metrics() == []
    assert (run.path / "mine.txt").read_text() == "kept"


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs the tests may be allowed to write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WrongUse, match="cannot be written: give a folder that can"):
        begin(tmp_path / "run", Tiny(), Squares(), TrainOptions(steps=1))


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = begin(tmp_path / "run", Tiny(), Squares(), TrainOptions(steps=1))
    made.save_weights(Tiny().state_dict())
    return made


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "last.ckpt", "run.pkl", "pytorch_model.bin"])
def test_a_pickle_is_never_opened(run: Run, tmp_path: Path, name: str) -> None:
    hit = tmp_path / "executed"
    bomb = (run.path if name == "model.safetensors" else tmp_path) / name
    torch.save(Bomb(hit), bomb)
    with pytest.raises(WrongUse) as error:
        Run.open(run.path if name == "model.safetensors" else bomb)
    assert name in said(error)
    bomb.write_bytes(pickle.dumps(Bomb(hit)))
    with pytest.raises(WrongUse):
        Run.open(run.path if name == "model.safetensors" else bomb)
    assert not hit.exists()
    # It would have gone off.
    pickle.loads(pickle.dumps(Bomb(hit)))
    assert hit.exists()


def rewrite(run: Run, **changes: Any) -> None:
    config = run.path / "config.yaml"
    content = yaml.safe_load(config.read_text()) | changes
    config.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": 99, "inkwash": "7.0"}, r"made by a newer Inkwash \(7.0, run format 99; this one reads up to 1\)"),
        ({"format": None}, "names no format"),
        ({"format": "one"}, "names no format"),
        ({"system": None}, "system: field required"),
        ({"colour": "red"}, "unknown option 'colour'"),
        ({"spec": {"channels": "many", "size": [8, 8]}}, "spec.channels = 'many'"),
        ({"options": {"steps": 0}}, "options.steps = 0"),
    ],
)
def test_a_config_that_is_not_ours(run: Run, changes: dict[str, Any], expected: str) -> None:
    rewrite(run, **changes)
    with pytest.raises(WrongUse, match=expected) as error:
        Run.open(run.path)
    assert str(run.path) in said(error)


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\x00", b"", b"- 1", b"!!python/object/apply:os.system ['x']"])
def test_a_config_that_is_no_config(run: Run, content: bytes) -> None:
    (run.path / "config.yaml").write_bytes(content)
    with pytest.raises(WrongUse, match=r"config\.yaml is not") as error:
        Run.open(run.path)
    said(error)


def test_a_run_that_is_half_there(run: Run, tmp_path: Path) -> None:
    whole = run.weights.read_bytes()
    for part in (b"", whole[:5], whole[:-1]):
        run.weights.write_bytes(part)
        with pytest.raises(WrongUse, match=r"model\.safetensors is cut short or no safetensors file") as error:
            Run.open(run.path)
        said(error)
    run.weights.unlink()
    with pytest.raises(WrongUse, match=r"has no model\.safetensors: it was copied in part"):
        Run.open(run.path)
    assert Run.resume(run.path).system == "tiny"
    (run.path / "config.yaml").unlink()
    with pytest.raises(WrongUse, match=r"is no run folder: it has no config\.yaml"):
        Run.open(run.path)
    with pytest.raises(WrongUse, match="does not exist"):
        Run.open(tmp_path / "elsewhere")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(WrongUse, match=r"a\.txt is a file"):
        Run.open(tmp_path / "a.txt")


def test_weights_of_another_system(run: Run) -> None:
    with pytest.raises(WrongUse, match=r"another model: network\.0\.bias is \(8,\) there, and \(9,\) here") as error:
        run.load_weights(Tiny(width=9))
    said(error)


def test_the_log_survives_a_kill_and_is_rewound(run: Run) -> None:
    for step in (10, 20, 30):
        run.log({"step": step, "loss": 1.0 / step})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    assert [row["step"] for row in run.metrics()] == [10, 20, 30]
    run.rewind(20)
    assert [row["step"] for row in run.metrics()] == [10, 20]
    run.log({"step": 30})
    assert [row["step"] for row in run.metrics()] == [10, 20, 30]
    (run.path / "metrics.jsonl").unlink()
    (run.path / "metrics.jsonl").mkdir()
    with pytest.raises(Failed, match=r"cannot write .*metrics\.jsonl: Is a directory"):
        run.log({"step": 50})


def test_the_card_says_what_must_be_known(run: Run) -> None:
    command = "inkwash train tiny DATA"
    run.write_card(command=command, paper="Ho et al. 2020", data_licence="CC-BY-4.0", metrics={"KID": 0.0123})
    text = (run.path / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license_name"] == "CC-BY-4.0"
    assert front["tags"] == ["diffusion", "tiny"]
    for word in (command, "Ho et al. 2020", "| KID | 0.0123 |", "fingerprint", "not for diagnosis"):
        assert word in " ".join(text.split())
    run.write_card(command=command)
    text = (run.path / "README.md").read_text()
    assert "licence: not stated" in text
    assert "Nothing was measured yet" in text


def test_tensorboard_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(WrongUse, match=r"pip install 'inkwash\[tensorboard\]'"):
        writer(tmp_path, 0)
