"""The diffusion-model literature, made runnable: read it, train it, sample it, compare it fairly.

    import inkwash

    run = inkwash.train("polyp-ddpm", "polyps/", out="runs/polyp", minutes=10)
    inkwash.sample("runs/polyp", 16, condition="polyps/masks", out="new/")

The names below are loaded when they are first used, so importing Inkwash is instant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkwash import (
        corruption,
        data,
        denoise,
        errors,
        evaluation,
        nets,
        operators,
        reading,
        sampling,
        systems,
        training,
    )
    from inkwash.api.analyse import analyse
    from inkwash.api.anomaly import anomaly
    from inkwash.api.augment import augment
    from inkwash.api.catalogue import catalogue
    from inkwash.api.cite import cite
    from inkwash.api.compare import compare
    from inkwash.api.demo import demo
    from inkwash.api.describe import describe
    from inkwash.api.distil import distil
    from inkwash.api.doctor import doctor
    from inkwash.api.edit import edit
    from inkwash.api.evaluate import evaluate
    from inkwash.api.export import export
    from inkwash.api.field_map import field_map
    from inkwash.api.pareto import pareto
    from inkwash.api.predict import predict
    from inkwash.api.reading_list import reading_list
    from inkwash.api.reproduce import reproduce
    from inkwash.api.restore import restore
    from inkwash.api.restoring import restore_files
    from inkwash.api.runs import load
    from inkwash.api.sample import sample
    from inkwash.api.show import show
    from inkwash.api.train import train
    from inkwash.api.tune import tune

    __version__: str

_FUNCTIONS = {
    "analyse": "analyse",
    "anomaly": "anomaly",
    "augment": "augment",
    "catalogue": "catalogue",
    "cite": "cite",
    "compare": "compare",
    "demo": "demo",
    "describe": "describe",
    "distil": "distil",
    "doctor": "doctor",
    "edit": "edit",
    "evaluate": "evaluate",
    "export": "export",
    "field_map": "field_map",
    "load": "runs",
    "pareto": "pareto",
    "predict": "predict",
    "reading_list": "reading_list",
    "reproduce": "reproduce",
    "restore": "restore",
    "restore_files": "restoring",
    "sample": "sample",
    "show": "show",
    "train": "train",
    "tune": "tune",
}
_FLOORS = (
    "corruption",
    "data",
    "denoise",
    "errors",
    "evaluation",
    "nets",
    "operators",
    "reading",
    "sampling",
    "systems",
    "training",
)

__all__ = [
    "analyse",
    "anomaly",
    "augment",
    "catalogue",
    "cite",
    "compare",
    "corruption",
    "data",
    "demo",
    "denoise",
    "describe",
    "distil",
    "doctor",
    "edit",
    "errors",
    "evaluate",
    "evaluation",
    "export",
    "field_map",
    "load",
    "nets",
    "operators",
    "pareto",
    "predict",
    "reading",
    "reading_list",
    "reproduce",
    "restore",
    "restore_files",
    "sample",
    "sampling",
    "show",
    "systems",
    "train",
    "training",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"inkwash.api.{_FUNCTIONS[name]}"), name)
    if name in _FLOORS:
        return importlib.import_module(f"inkwash.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("inkwash")
    raise AttributeError(f"module 'inkwash' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
