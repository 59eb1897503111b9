"""Whether that which the reading list says runs is really there."""

import importlib

from inkwash import systems
from inkwash.api.plain import plain
from inkwash.errors import WrongUse, unknown
from inkwash.evaluation import table
from inkwash.evaluation.segmentation import table as masks
from inkwash.reading import Runs
from inkwash.systems import recipes
from inkwash.training.options import TrainOptions, parse


def verify(run: Runs) -> None:
    """Raises `WrongUse` where `run` names something that is not there.

    Of a command only the words before the options are judged here; the command line judges the rest.
    """
    if run.kind == "system":
        systems.get(run.name)
    elif run.kind == "sampler" and run.name not in recipes.SOLVERS:
        raise unknown("sampler", run.name, recipes.SOLVERS)
    elif run.kind == "metric" and run.name not in (*table.METRICS, *masks.METRICS):
        raise unknown("metric", run.name, (*table.METRICS, *masks.METRICS))
    elif run.kind == "set":
        _verify_option(run.name)
    elif run.kind == "code":
        locate(run.name)
    elif run.kind == "command" and not run.name.startswith("inkwash "):
        raise WrongUse(f"a command begins with inkwash, not {run.name!r}")


def locate(name: str) -> object:
    """The object that `module:object.attribute` names; `WrongUse` where there is none."""
    module, _, path = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise WrongUse(f"there is no {name}: {error}") from None
    return found


def _verify_option(said: str) -> None:
    """Every system may have options of its own; those of `ddpm` and of the training are what entries can name."""
    name, equals, value = said.partition("=")
    if not equals:
        raise WrongUse(f"an option is name=value, not {said!r}")
    config = systems.get("ddpm").Config
    if name in config.model_fields:
        made = plain(getattr(parse(config, {name: value}), name))
    else:
        made = plain(getattr(parse(TrainOptions, {"steps": 1, name: value}), name))
    if made != value:
        raise WrongUse(f"{said} is written {name}={made}")
