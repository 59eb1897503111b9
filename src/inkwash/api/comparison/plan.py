"""What is compared and how, kept in `plan.json`: a comparison that goes on must be the one that was begun."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from inkwash import systems
from inkwash.api.folder import empty_folder
from inkwash.api.given import AUGMENTS, augmentation, of, pairs
from inkwash.api.plain import plain
from inkwash.atomic import write_text
from inkwash.data.augment import Augment
from inkwash.data.volumes.plan import Plane, plane_of
from inkwash.errors import WrongUse, unknown
from inkwash.systems.segmenter import Segmenter
from inkwash.training.options import TrainOptions, parse

NAME = "plan.json"
# What is the same for all systems, and has a flag or is said without a system's name.
_FLAGS = ("steps", "minutes", "batch", "seed")
_ANEW = "say the same again, or give a new --out"
# A preview would cost a slow sampler more of its time than a fast one.
_OWN = {"preview_every": "null", "checkpoint_every": "1 minutes"}


class Plan(BaseModel):
    """A comparison.

    Attributes:
        data: the fingerprint of the images, the masks and their splits; `cross` of the other data set.
        systems: by name, the options that only that one was given, as "key=value".
        shared: those that all were given, augmentation included.
        size: of images or slices, or of patches of scans; `slices` is the plane in which scans are read as pictures.
        draws: masks drawn for an image; None leaves it to each system.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    inkwash: str
    data: str
    cross: str | None
    steps: int | None
    minutes: float | None
    size: int | tuple[int, ...]
    slices: Plane | None = None
    batch: int
    folds: int
    seeds: int
    draws: int | None
    shared: tuple[str, ...]
    systems: dict[str, tuple[str, ...]]

    def options(self, system: str) -> list[str]:
        """What `inkwash train` is told with `--set` for a system."""
        return [*self.shared, *self.systems[system]]

    def begin(self, out: Path) -> None:
        """Begin in a new folder, or go on in one that holds the same comparison; more systems may be added.

        Raises:
            WrongUse: the folder holds something else, or another comparison.
        """
        path = out / NAME
        kept = self
        if path.is_file():
            old = _read(path)
            self._check_same(old, out)
            kept = self.model_copy(update={"systems": {**old.systems, **self.systems}})
            if kept == old:
                return
        else:
            empty_folder(out)
        write_text(path, kept.model_dump_json(indent=2) + "\n")

    def _check_same(self, old: "Plan", out: Path) -> None:
        mine, theirs = ({k: v for k, v in plan.model_dump().items() if k != "systems"} for plan in (self, old))
        for name, value in mine.items():
            if value != theirs[name]:
                was, now = _words(name, theirs[name]), _words(name, value)
                raise WrongUse(f"{out} holds a comparison with {was}, not {now}: {_ANEW}")
        for name, options in self.systems.items():
            if old.systems.get(name, options) != options:
                was, now = (" ".join(some) or "no options of its own" for some in (old.systems[name], options))
                raise WrongUse(f"{out} holds {name} with {was}, not with {now}: {_ANEW}")


def planned(
    names: Sequence[str],
    given: Mapping[str, Any] | Sequence[str],
    *,
    steps: int | None,
    minutes: float | None,
    size: int | tuple[int, ...],
    slices: str | None = None,
    batch: int,
    folds: int,
    seeds: int,
    draws: int | None,
) -> Plan:
    """The plan that was asked for, its data not looked at yet.

    Args:
        given: options as "key=value" for all systems, "system.key=value" for one.

    Raises:
        WrongUse: something in it can't be done.
    """
    if len(set(names)) != len(names) or len(names) < 2:
        raise WrongUse(f"--systems are two or more different ones, a,b,c, not {','.join(names) or 'none'}")
    if (steps is None) == (minutes is None):
        raise WrongUse("say how long each system is trained: --minutes or --steps, one of them")
    for name, value in {"folds": folds, "seeds": seeds, "draws": 1 if draws is None else draws}.items():
        if value < 1:
            raise WrongUse(f"--{name} is at least 1, not {value}")
    kinds = {name: systems.get(name) for name in names}
    for name, kind in kinds.items():
        if not issubclass(kind, Segmenter):
            raise WrongUse(f"{name} does {kind.task}: compared are {', '.join(systems.names('segmentation'))}")
    texts = [f"{key}={plain(value)}" for key, value in given.items()] if isinstance(given, Mapping) else list(given)
    own: dict[str, list[str]] = {name: [] for name in names}
    shared: list[str] = []
    for text in texts:
        name, dot, rest = text.partition("=")[0].partition(".")
        if not dot:
            shared.append(text)
        elif name not in own:
            raise unknown("system in --set", name, names)
        elif rest in (*_FLAGS, *AUGMENTS):
            raise WrongUse(f"{rest} is the same for all systems: give it without the name of {name}")
        else:
            own[name].append(text.partition(".")[2])
    told = pairs(shared)
    for flag in _FLAGS:
        if flag in told:
            raise WrongUse(f"{flag} is the same for all systems: {_instead(flag)}")
    moved = augmentation({k: v for k, v in told.items() if k in AUGMENTS})
    # Said in full, so that no system trains with an augmentation of its own.
    every = {**_OWN, **{k: plain(v) for k, v in {**asdict(Augment()), **asdict(moved)}.items()}}
    shared = [f"{key}={value}" for key, value in every.items() if key not in told or key in AUGMENTS]
    shared += [f"{key}={plain(value)}" for key, value in told.items() if key not in AUGMENTS]
    plan = Plan(
        inkwash=version("inkwash"),
        data="",
        cross=None,
        steps=steps,
        minutes=minutes,
        size=size,
        slices=plane_of(slices),
        batch=batch,
        folds=folds,
        seeds=seeds,
        draws=draws,
        shared=tuple(shared),
        systems={name: tuple(options) for name, options in own.items()},
    )
    for name, kind in kinds.items():
        _check(name, kind, plan)
    return plan


def _check(name: str, kind: type[Any], plan: Plan) -> None:
    """Raises `WrongUse` now for what its training would refuse later."""
    told = pairs(plan.options(name))
    known = {*kind.Config.model_fields, *TrainOptions.model_fields, *AUGMENTS}
    for key in told:
        if key not in known:
            raise unknown(f"option of {name}", key, known)
    suited = kind.training_presets.get(str(told.get("preset", "quick")), {})
    wanted = {**of(TrainOptions, suited), **of(TrainOptions, told)}
    budget = {"steps": plan.steps, "minutes": plan.minutes, "batch": plan.batch}
    parse(TrainOptions, {**wanted, **budget}, where=name)
    parse(kind.Config, of(kind.Config, told), where=name)


def _instead(flag: str) -> str:
    return "--seeds says how many there are" if flag == "seed" else f"give --{flag}"


def _words(name: str, value: Any) -> str:
    if name in ("data", "cross"):
        which = "data" if name == "data" else "--cross data"
        return f"other {which} ({value})" if value else f"no {which}"
    if name == "shared":
        return " ".join(value)
    return f"Inkwash {value}" if name == "inkwash" else f"{name} {'not said' if value is None else plain(value)}"


def _read(path: Path) -> Plan:
    try:
        return Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        raise WrongUse(f"{path} is not the plan of a comparison: give a new --out") from None
