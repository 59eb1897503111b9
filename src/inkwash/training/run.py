"""The run folder: what a training writes, what everything else reads, what people share.

`config.yaml`, `model.safetensors` (the averaged weights), `metrics.jsonl`, `README.md` (the model card), `samples/`,
`checkpoints/`, `snapshots/`. Files are replaced whole. Nothing is ever unpickled.
"""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from inkwash.atomic import sweep, write_tensors, write_text
from inkwash.data.spec import DataSpec
from inkwash.errors import Failed, WrongUse
from inkwash.training.card import card
from inkwash.training.checkpoint import load_state
from inkwash.training.manifest import FORMAT, Manifest, read
from inkwash.training.options import TrainOptions
from inkwash.training.processes import by_first

_PARTS = (
    "config.yaml", "model.safetensors", "metrics.jsonl", "README.md", "sampling.yaml", "evaluation.json", "report.html"
)  # fmt: skip
_FOLDERS = ("samples", "checkpoints", "snapshots", "tensorboard", "export", "rounds")


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

        With several processes all call it: the first makes the folder, which the others need not see.

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

        def begin() -> None:
            _make_room(path, overwrite)
            run._write_manifest()

        by_first(begin)
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
        return cls(path, read(path))

    @property
    def system(self) -> str:
        """The system's name."""
        return self.manifest.system

    @property
    def config(self) -> dict[str, Any]:
        """The system's options."""
        return self.manifest.config

    @property
    def student(self) -> str:
        """What distillation made of it: "none" of a run that was trained."""
        return str(self.config.get("student", "none"))

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
        load_state(module, load_file(self.weights), self.weights)

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

    def write_card(
        self,
        *,
        command: str,
        title: str = "",
        paper: str = "",
        origin: str = "",
        data_licence: str | None = None,
        metrics: Mapping[str, float] | None = None,
        references: Sequence[str] = (),
    ) -> None:
        """Write the model card, `README.md`. The arguments are those of `card`."""
        text = card(
            self.manifest,
            command=command,
            title=title,
            paper=paper,
            origin=origin,
            data_licence=data_licence,
            metrics=metrics,
            references=references,
        )
        write_text(self.path / "README.md", text)

    def _write_manifest(self) -> None:
        write_text(self.path / "config.yaml", self.manifest.to_yaml())


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
