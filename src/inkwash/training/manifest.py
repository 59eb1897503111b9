"""What `config.yaml` in a run folder says, and whether it can be believed."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.training.options import TrainOptions, parse

FORMAT = 1
_PICKLED = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"})


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

    def to_yaml(self) -> str:
        """The text of `config.yaml`."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def read(path: Path) -> Manifest:
    """The manifest of the run folder `path`.

    Raises:
        WrongUse: there is none, it is not valid, or a newer version made it.
    """
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
    return parse(Manifest, content, where=str(config))
