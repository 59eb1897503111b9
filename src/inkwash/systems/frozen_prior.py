"""A trained generator that another stands on and never changes: what may be one, and what is taken from it."""

from typing import Any

from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems.base import Generator
from inkwash.systems.kept_run import KeptRun


def asked(value: Any) -> KeptRun | None:
    """What an option `prior` says, for validators: a run folder or `bundled:NAME` read, and what was read before."""
    if value is None or isinstance(value, KeptRun):
        return value
    if isinstance(value, dict):
        return KeptRun(**value)
    kept = KeptRun.of(str(value), Generator, "a prior is a generator")
    if kept.config.get("student", "none") != "none":
        raise WrongUse(f"{value} is a student of few steps: give the run that it was distilled from as prior")
    return kept


def taken(kept: KeptRun, *names: str) -> dict[str, Any]:
    """The options of these names that the prior has."""
    return {name: kept.config[name] for name in names if name in kept.config}


def needed(prior: KeptRun | None, spec: DataSpec, *, system: str) -> KeptRun:
    """The prior, where it makes pictures like these.

    Raises:
        WrongUse: there is none, or its pictures have other channels or another size.
    """
    if prior is None:
        raise WrongUse(f"{system} stands on a trained generator: --set prior=RUN, its run folder, or bundled:NAME")
    theirs = prior.spec
    for what, has, wanted, hint in (
        ("channels", spec.channels, theirs.channels, "take a prior of such pictures"),
        ("pixels", _sides(spec), _sides(theirs), f"train with --size {_sides(theirs).replace(' x ', ',')}"),
    ):
        if has != wanted:
            raise WrongUse(f"the prior {prior.run} makes pictures of {wanted} {what}, and these have {has}: {hint}")
    return prior


def _sides(spec: DataSpec) -> str:
    sides = spec.size[:1] if len(set(spec.size)) == 1 and len(spec.size) == 2 else spec.size
    return " x ".join(map(str, sides))
