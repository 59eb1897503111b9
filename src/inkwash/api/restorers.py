"""What restores in a comparison, by the words of the command line.

`bm3d` is a classical method; `diffpir@RUN` a posterior sampler with a run as its prior; `RUN` a run that restores, or a
prior with the default sampler; `model.onnx` and `module:function` are the user's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.api.describe import BUNDLED
from inkwash.api.runs import load
from inkwash.errors import Failed, WrongUse
from inkwash.systems.base import Generator
from inkwash.systems.restoration.classical import CLASSICAL
from inkwash.systems.restoration.measurements import Measurement
from inkwash.systems.restoration.methods import METHODS, method
from inkwash.systems.restoration.own import function
from inkwash.systems.restoration.restorer import Restoration, restore
from inkwash.systems.restoration.supervised import Supervised

Run = Callable[[Measurement, Float[Tensor, "b ..."], int, float], Restoration]
STRENGTHS = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0)


@dataclass(frozen=True)
class Restorer:
    """Something that restores.

    Attributes:
        name: what it is called in tables.
        run: `run(measurement, y, first, strength) -> Restoration`; `first` is the number of the first image.
        tuned: whether `strength` is worth choosing.
        told: whether another level of noise, where it is told one, is another result.
        trial: the same as `run` and cheaper, to choose on; None where it is `run`.
    """

    name: str
    run: Run
    tuned: bool = False
    told: bool = False
    trial: Run | None = None


def restorer(text: str, *, draws: int, steps: int | None, seed: int) -> Restorer:
    """The restorer that a word means.

    Raises:
        WrongUse: there is none.
    """
    if text in CLASSICAL:
        found = CLASSICAL[text]
        return Restorer(
            text, lambda m, y, _, s: Restoration(found.restore(m, y, s)[:, None], 0), found.tuned, found.told
        )
    by, at, run = text.rpartition("@")
    if at or Path(text).is_dir() or text.startswith(BUNDLED):
        return _of_run(text, by, run, draws=draws, steps=steps, seed=seed)
    if text.endswith(".onnx"):
        return Restorer(text, _own(_of_onnx(text), text))
    if ":" in text:
        return Restorer(text, _own(function(text), text))
    raise WrongUse(
        f"there is no method {text!r}: a classical one ({', '.join(CLASSICAL)}), SAMPLER@RUN with a sampler of "
        f"{', '.join(METHODS)}, a file.onnx, or module:function"
    )


def _of_run(text: str, by: str, run: str, **how: Any) -> Restorer:
    """A run that restores, or one that a posterior sampler takes as its prior."""
    if by:
        method(by)
    system = load(run)
    if isinstance(system, Supervised):
        if by:
            raise WrongUse(f"{text}: {run} is a run of {system.name}, which restores by itself: leave {by}@ out")
        learned = system
        return Restorer(text, lambda m, y, first, _: learned.restore(m, y, first=first, **how))
    if not isinstance(system, Generator):
        raise WrongUse(f"{run} is a run of {system.name}, which does {system.task} and restores nothing")
    prior, by = system, by or "diffpir"

    def drawn(draws: int) -> Run:
        return lambda m, y, first, s: restore(prior, m, y, by=by, first=first, **{**how, "draws": draws, "strength": s})

    sampler = method(by)
    full = drawn(how["draws"] if sampler.random else 1)
    return Restorer(text, full, tuned=sampler.weighted, told=True, trial=drawn(1))


def _own(cleaned: Callable[[Tensor], Any], name: str) -> Run:
    """Of a function that takes `(B, C, *spatial)` in [-1, 1] and returns such."""

    def run(measurement: Measurement, y: Tensor, _: int, __: float) -> Restoration:
        found = torch.as_tensor(np.asarray(cleaned(y))).float()
        wanted = (len(y), *measurement.operator.shape)
        if tuple(found.shape) != wanted:
            raise WrongUse(f"{name} made {tuple(found.shape)} of {tuple(y.shape)}, and the images are {wanted}")
        return Restoration(found.clamp(-1, 1)[:, None], 1)

    return run


def _of_onnx(path: str) -> Callable[[Tensor], Any]:
    if not Path(path).is_file():
        raise WrongUse(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError:
        raise Failed("ONNX files need onnxruntime: pip install 'inkwash[export]'") from None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own, one for each cause
        raise WrongUse(f"{path} is no ONNX model that runs: {str(error).splitlines()[0]}") from None
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise WrongUse(f"{path} takes {len(inputs)} inputs ({names}): a restorer takes the measurement alone")
    return lambda y: session.run(None, {inputs[0].name: y.numpy()})[0]
