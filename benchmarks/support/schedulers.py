"""diffusers' schedulers: the settings that a user can choose, and a loop over one as its pipelines have it."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
_NAMES = ("linspace", "leading", "trailing")
_SPACINGS: dict[str, dict[str, Any]] = {name: {"timestep_spacing": name} for name in _NAMES}
_SIGMAS: dict[str, dict[str, Any]] = {name: {f"use_{name}_sigmas": True} for name in ("karras", "exponential")}
_GRIDS = {**_SPACINGS, **_SIGMAS}
_TRAILING = {"trailing": _SPACINGS["trailing"]}
_BETAS = {"beta_start": 1e-4, "beta_end": 0.02}

# Name: class, its own options, the grids it can be told of. Deterministic ones; what it isn't told is its default.
# Tried once on both schedules at 5, 8 and 10 evaluations and never among the ten best, so not run again: Euler's method
# in the scheduler of that name (it is DDIM), Heun and KDPM2 on other grids (over 0.3), beta-distributed grids (over 0.3
# or an error), UniPC's bh1 (NaN).
SETTINGS: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
    "DDIM": ("DDIMScheduler", {"clip_sample": False}, _SPACINGS),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}, _SPACINGS),
    "Heun": ("HeunDiscreteScheduler", _BETAS, _TRAILING),
    "KDPM2": ("KDPM2DiscreteScheduler", _BETAS, _TRAILING),
    "LMS": ("LMSDiscreteScheduler", {}, _GRIDS),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"solver_order": 2}, {**_GRIDS, "lu": {"use_lu_lambdas": True}}),
    "DPM++ 2M Heun": ("DPMSolverMultistepScheduler", {"solver_order": 2, "solver_type": "heun"}, _SPACINGS),
    "DPM++ 3M": ("DPMSolverMultistepScheduler", {"solver_order": 3}, _GRIDS),
    "DPM 2M": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        _SPACINGS,
    ),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", {"solver_order": 2, "lower_order_final": True}, {"own grid": {}}),
    "DPM++ 3S": ("DPMSolverSinglestepScheduler", {"solver_order": 3, "lower_order_final": True}, {"own grid": {}}),
    "UniPC-2": ("UniPCMultistepScheduler", {"solver_order": 2}, _GRIDS),
    "UniPC-3": ("UniPCMultistepScheduler", {"solver_order": 3}, _GRIDS),
    "DEIS-2": ("DEISMultistepScheduler", {"solver_order": 2}, _GRIDS),
    "DEIS-3": ("DEISMultistepScheduler", {"solver_order": 3}, _GRIDS),
}

# The diffusers scheduler that does what a solver of `recipes.SOLVERS` does; those that have none are left out.
COUNTERPARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow-heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "dpm++1": ("DPMSolverMultistepScheduler", {"solver_order": 1}),
    "dpm++2s": ("DPMSolverSinglestepScheduler", {"solver_order": 2, "lower_order_final": True}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {"solver_order": 2}),
    "dpm++3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpm++3m-damped": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpm++2m-sde": ("DPMSolverMultistepScheduler", {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {"solver_order": 2}),
    "unipc3": ("UniPCMultistepScheduler", {"solver_order": 3}),
    "deis": ("DEISMultistepScheduler", {"solver_order": 2}),
    "exp-ab3": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
}

Predict = Callable[[Tensor, Any, float], Tensor]


def make(kind: str, **options: Any) -> Any:
    """A scheduler by the name of its class."""
    import diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(diffusers, kind)(**options)


def settings(schedule: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every deterministic solver and grid of diffusers, as `"UniPC-2 leading"` and what makes it."""
    for name, (kind, own, grids) in SETTINGS.items():
        for grid, chosen in grids.items():
            options = {"beta_schedule": BETAS[schedule], **own, **chosen}
            yield f"{name} {grid}", lambda kind=kind, options=options: make(kind, **options)


def evaluated(make_scheduler: Callable[[], Any], budget: int) -> int:
    """The most steps that evaluate the network no more than `budget` times; 0 where there are none."""
    for steps in range(budget, 0, -1):
        scheduler = make_scheduler()
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) <= budget:
            return steps
    return 0


def draw(scheduler: Any, steps: int, z: Tensor, predict: Predict) -> Tensor:
    """A pipeline's loop from standard normal `z`.

    Args:
        predict: `(scaled z, timestep, sigma / alpha) -> noise`; the level is the scheduler's own, which between the
            entries of the table is not exactly that of the timestep it announces.
    """
    scheduler.set_timesteps(steps)
    levels = _levels(scheduler)
    z = z * scheduler.init_noise_sigma
    for index, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(z, t)
        z = scheduler.step(predict(scaled, t, levels[index]), t, z, return_dict=False)[0]
    return z


def _levels(scheduler: Any) -> list[float]:
    """sigma / alpha at each evaluation."""
    count = len(scheduler.timesteps)
    kind = type(scheduler).__name__
    if kind not in ("DDIMScheduler", "PNDMScheduler", "KDPM2DiscreteScheduler"):
        return [float(s) for s in scheduler.sigmas[:count]]
    table = scheduler.alphas_cumprod.double().numpy()
    logs = np.log((1 - table) / table) / 2
    times = [float(t) for t in scheduler.timesteps]
    return np.exp(np.interp(times, np.arange(len(logs)), logs)).tolist()


def exact(believe: Callable[[Tensor, float, float], Tensor]) -> Predict:
    """The noise from an exact posterior mean `believe(z, alpha, sigma)`, `z` variance preserving."""

    def predict(z: Tensor, _: Any, level: float) -> Tensor:
        alpha = (1 + level**2) ** -0.5
        return (z - alpha * believe(z, alpha, level * alpha)) / (level * alpha)

    return predict
