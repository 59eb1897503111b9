"""The run folder: what a training writes, what everything else reads, what people share.

`config.yaml`, `model.safetensors` (the averaged weights), `metrics.jsonl`, `README.md` (the model card), `samples/`,
`checkpoints/`, `snapshots/`. Files are replaced whole. Nothing is ever unpickled.
"""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from inkwash.data.spec import DataSpec
from inkwash.errors import Failed, WrongUse
from inkwash.training.atomic import sweep, write_tensors, write_text
from inkwash.training.options import TrainOptions, parse

FORMAT = 1
_PICKLED = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"})
_PARTS = ("config.yaml", "model.safetensors", "metrics.jsonl", "README.md", "report.html")
_FOLDERS = ("samples", "checkpoints", "snapshots", "tensorboard")


class Manifest(BaseModel):
    """What `config.yaml` says.

    Attributes:
        format: of the run folder; `FORMAT` is the newest this version reads.
        inkwash, torch: the versions that trained it.
        system, config: the system's name and its options.
        spec: the data the system was made for.
        data: where the data lay and which it was: `path`, `fingerprint` and what else is worth telling.
        options: how it was trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    inkwash: str
    torch: str
    system: str
    config: dict[str, Any]
    spec: DataSpec
    data: dict[str, Any]
    options: TrainOptions


class Run:
    """A run folder. Made by `create`, `open` and `resume`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        system: str,
        config: BaseModel,
        spec: DataSpec,
        data: Mapping[str, Any],
        options: TrainOptions,
        overwrite: bool = False,
    ) -> "Run":
        """Begin a run in a new or empty folder.

        With several processes all call it: the first makes the folder.

        Args:
            overwrite: remove the run that is there. Only what a run consists of is removed.

        Raises:
            WrongUse: something is there already, or the folder cannot be written.
        """
        path = Path(path)
        manifest = Manifest(
            format=FORMAT,
            inkwash=importlib.metadata.version("inkwash"),
            torch=torch.__version__,
            system=system,
            config=config.model_dump(mode="json"),
            spec=spec,
            data=dict(data),
            options=options,
        )
        run = cls(path, manifest)
        processes = PartialState(cpu=not torch.cuda.is_available())
        if processes.is_main_process:
            _make_room(path, overwrite)
            run._write_manifest()
        processes.wait_for_everyone()
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """A trained run.

        Raises:
            WrongUse: it is no run folder, made by a newer version, or only half there.
        """
        run = cls.resume(path)
        if not run.weights.exists():
            raise WrongUse(f"{path} has no model.safetensors: it was copied in part, or its training hardly began")
        _check_whole(run.weights)
        return run

    @classmethod
    def resume(cls, path: str | Path) -> "Run":
        """A run whose training may not have got as far as a model. Errors as of `open`."""
        path = Path(path)
        if path.is_file():
            if path.suffix in _PICKLED:
                raise WrongUse(f"{path} is a pickled checkpoint, which could run any program and is never opened: "
                               "give the run folder")
            raise WrongUse(f"{path} is a file: give the run folder that holds config.yaml")
        if not path.is_dir():
            raise WrongUse(f"{path} does not exist: give a run folder, as inkwash train --out makes it")
        config = path / "config.yaml"
        if not config.is_file():
            raise WrongUse(f"{path} is no run folder: it has no config.yaml")
        try:
            content = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise WrongUse(f"{config} is not valid YAML: {str(error).splitlines()[0]}") from None
        except OSError as error:
            raise WrongUse(f"{config} cannot be read: {error.strerror}") from None
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise WrongUse(f"{config} is not the config.yaml of a run: it names no format")
        if content["format"] > FORMAT:
            raise WrongUse(
                f"{path} was made by a newer Inkwash ({content.get('inkwash', 'unknown')}, run format "
                f"{content['format']}; this one reads up to {FORMAT}): upgrade inkwash"
            )
        return cls(path, parse(Manifest, content, where=str(config)))

    @property
    def system(self) -> str:
        """The system's name."""
        return self.manifest.system

    @property
    def config(self) -> dict[str, Any]:
        """The system's options."""
        return self.manifest.config

    @property
    def spec(self) -> DataSpec:
        """The data the system was made for."""
        return self.manifest.spec

    @property
    def options(self) -> TrainOptions:
        """How it was trained."""
        return self.manifest.options

    @property
    def weights(self) -> Path:
        """`model.safetensors`."""
        return self.path / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """Where the kept averages lie."""
        return self.path / "snapshots"

    @property
    def samples(self) -> Path:
        """Where previews and samples go; made when asked for."""
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        return folder

    def load_weights(self, module: nn.Module) -> None:
        """Put `model.safetensors` into `module`.

        Raises:
            WrongUse: the file is missing, damaged, or of another module.
        """
        _check_whole(self.weights)
        tensors = load_file(self.weights)
        expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if wrong:
            name = wrong[0]
            raise WrongUse(
                f"{self.weights} does not fit its config.yaml: {name} is {found.get(name, 'missing')}, "
                f"the system has {expected.get(name, 'no such tensor')} ({len(wrong)} tensors differ)"
            )
        module.load_state_dict(tensors)

    def save_weights(self, state: dict[str, Tensor]) -> None:
        """Write `model.safetensors`."""
        write_tensors(self.weights, state)

    def renew(self, options: TrainOptions) -> None:
        """Write down that the training goes on with these options."""
        self.manifest = self.manifest.model_copy(update={"options": options})
        self._write_manifest()

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row to `metrics.jsonl`."""
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise Failed(f"cannot write {path}: {error.strerror}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, oldest first; a last line that a kill cut short is left out."""
        path = self.path / "metrics.jsonl"
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`, and what a killed process left half-written."""
        sweep(self.path)
        kept = [row for row in self.metrics() if row["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    def _write_manifest(self) -> None:
        text = yaml.safe_dump(self.manifest.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_text(self.path / "config.yaml", text)


def _make_room(path: Path, overwrite: bool) -> None:
    """An empty folder at `path`, or an error."""
    if path.exists() and not path.is_dir():
        raise WrongUse(f"{path} is a file: give a new folder for the run")
    if path.is_dir() and any(path.iterdir()):
        if not (path / "config.yaml").exists():
            raise WrongUse(f"{path} is not empty and no run: give a new folder")
        if not overwrite:
            raise WrongUse(f"{path} holds a run already: --resume continues it, --overwrite replaces it")
        for name in _PARTS:
            (path / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(path / name, ignore_errors=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUse(f"{path} cannot be made: {error.strerror}: give a folder that can be written") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise WrongUse(f"{path} cannot be written: give a folder that can")


def _check_whole(path: Path) -> None:
    """Raises `WrongUse` where the header and the length of a file are not those of a safetensors file."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except FileNotFoundError:
        raise WrongUse(f"{path} is missing: copy the whole run folder") from None
    except (SafetensorError, OSError) as error:
        raise WrongUse(f"{path} is cut short or no safetensors file ({error}): copy it again") from None
