"""The processes that train, draw or measure together: how they find one another, agree, and fail as one.

`torchrun` or `accelerate launch` starts them and says in the environment who they are; accelerate joins them, over NCCL
between GPUs and gloo between processors. Every function here that speaks of all processes is called by all of them, in
the same order; where there is one process only, nothing is sent.
"""

import atexit
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from jaxtyping import Shaped
from torch import Tensor, distributed

from inkwash.errors import Failed, WrongUse

WAIT = "INKWASH_WAIT"
MINUTES = 30.0
"""How long a process waits for the others before it gives up, where `INKWASH_WAIT` doesn't say."""

_TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_START = "start all processes with torchrun --nproc-per-node N -m inkwash ..."
_PLUGINS = ("FSDP", "DEEPSPEED", "MEGATRON_LM")

T = TypeVar("T")


def processes() -> PartialState:
    """The processes that were started together; one where nothing did.

    Raises:
        WrongUse: the environment says half of what it takes, or asks for a plugin of accelerate.
        Failed: the others did not come.
    """
    if PartialState._shared_state:
        return PartialState()
    _check(os.environ)
    wait = timedelta(minutes=_minutes(os.environ.get(WAIT)))
    try:
        with watched():
            state = PartialState(cpu=not torch.cuda.is_available(), timeout=wait)
    except Failed:
        PartialState._reset_state()
        raise
    if state.num_processes > 1:
        # gloo's threads that outlive the interpreter end the process with SIGABRT now and then.
        atexit.register(_part)
    return state


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _minutes(text: str | None) -> float:
    try:
        minutes = MINUTES if text is None else float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise WrongUse(f"{WAIT} is for how many minutes a process waits for the others, above 0, not {text!r}")
    return minutes


def _check(environment: Mapping[str, str]) -> None:
    """Raises `WrongUse` where processes would wait for others that never come, or take themselves for the only one."""
    for plugin in _PLUGINS:
        if environment.get(f"ACCELERATE_USE_{plugin}", "").lower() in ("1", "true"):
            raise WrongUse(
                f"accelerate's {plugin} settings are not used here: launch plain processes "
                "(torchrun, or accelerate launch --multi_gpu); --set shard=true shares the weights among them"
            )
    told = {name: environment[name] for name in _TOLD if environment.get(name, "") != ""}
    if told.get("WORLD_SIZE", "1") == "1" and told.get("RANK", "0") == "0" and "LOCAL_RANK" not in told:
        return
    missing = [name for name in _TOLD if name not in told]
    if missing:
        said = ", ".join(f"{name}={value}" for name, value in told.items())
        raise WrongUse(f"the environment has {said} but not {', '.join(missing)}: {_START}, or unset them all")
    numbers = {name: told[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not all(value.isdecimal() for value in numbers.values()) or int(told["RANK"]) >= int(told["WORLD_SIZE"]):
        said = ", ".join(f"{name}={value}" for name, value in numbers.items())
        raise WrongUse(f"the environment has {said}, and ranks count from 0 to WORLD_SIZE - 1: {_START}")
    gpus = torch.cuda.device_count()
    if gpus and int(told["LOCAL_RANK"]) >= gpus:
        raise WrongUse(f"there are more processes on this host than its {gpus} GPUs: --nproc-per-node {gpus} at most")


@contextmanager
def watched() -> Iterator[None]:
    """What torch says when another process is gone becomes one line.

    Raises:
        Failed: another process ended, or did not answer within the time that is waited.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, Failed) or not _lost(error):
            raise
        words = str(error).split("] ", 1)[-1].split(". ")[0].splitlines()[0]
        raise Failed(
            f"another process ended or does not answer ({words}): its own output says why; nobody waits longer than "
            f"{WAIT} = {_minutes(os.environ.get(WAIT)):g} minutes"
        ) from error


def _lost(error: RuntimeError) -> bool:
    # gloo says it with a plain RuntimeError.
    return isinstance(error, distributed.DistError) or "gloo/" in str(error)


def by_first(work: Callable[[], T]) -> T:
    """`work()`, done by the first process alone; all of them get its result, or raise its error."""
    group = processes()
    if group.num_processes == 1:
        return work()
    told: list[Any] = [None, None]
    if group.is_main_process:
        try:
            told[0] = work()
        except (WrongUse, Failed) as error:
            told[1] = error
    with watched():
        distributed.broadcast_object_list(told, 0)
    if told[1] is not None:
        raise told[1]
    result: T = told[0]
    return result


def from_all(value: T) -> list[T]:
    """What each process says, in their order."""
    group = processes()
    if group.num_processes == 1:
        return [value]
    said: list[Any] = [None] * group.num_processes
    with watched():
        distributed.all_gather_object(said, value)
    return said


@contextmanager
def together() -> Iterator[None]:
    """What is not right in one process stops all of them at the end of the block, each with a line.

    In the block no process speaks to another: one that failed would leave the others waiting for an answer. They have
    found one another when it begins, so each has its own GPU in it.
    """
    processes()
    own: WrongUse | Failed | None = None
    try:
        yield
    except (WrongUse, Failed) as error:
        own = error
    for rank, error in enumerate(from_all(own)):
        if error is not None:
            raise own or type(error)(f"process {rank}: {error}")


def check_same(values: Mapping[str, Any]) -> None:
    """Raises `WrongUse` in all processes where a value is not the same in all."""
    first, *others = from_all(values)
    for rank, other in enumerate(others, start=1):
        for name, value in first.items():
            if other[name] != value:
                raise WrongUse(
                    f"process {rank} has {name} = {other[name]!r} and process 0 has {value!r}: every host needs the "
                    "same data, and every process the same command"
                )


def share(count: int, rank: int | None = None) -> tuple[int, int]:
    """The first of a process's share of `count` items, and how many it has: shares differ by one at most.

    Args:
        rank: which process; this one by default.
    """
    group = processes()
    each, rest = divmod(count, group.num_processes)
    rank = group.process_index if rank is None else rank
    return rank * each + min(rank, rest), each + (rank < rest)


def join(rows: Shaped[Tensor, "mine ..."], count: int) -> Shaped[Tensor, "count ..."] | None:
    """The shares of all processes one after the other, on the host of the first; None in the others.

    Args:
        rows: this process's `share` of `count`; none where it has no share.
    """
    group = processes()
    if group.num_processes == 1:
        return rows
    most = -(-count // group.num_processes)
    # Every share as long as the longest, as the processes must send alike.
    padded = rows.new_zeros((most, *rows.shape[1:]))
    padded[: len(rows)] = rows
    padded = padded.to(group.device)
    parts = [torch.empty_like(padded) for _ in range(group.num_processes)] if group.is_main_process else None
    with watched():
        distributed.gather(padded, parts, 0)
    if parts is None:
        return None
    each, rest = divmod(count, group.num_processes)
    return torch.cat([part[: each + (rank < rest)].to(rows.device) for rank, part in enumerate(parts)])


def tell(tensors: Mapping[str, Tensor] | None) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the first process, one after the other, in all of them; what the others hand in is not looked at.

    In the others they lie on the device, one at a time, so that none needs room for all.
    """
    group = processes()
    mine = dict(tensors or {})
    if group.num_processes == 1:
        yield from mine.items()
        return
    kinds = by_first(lambda: {name: (tensor.shape, tensor.dtype) for name, tensor in mine.items()})
    for name, (shape, dtype) in kinds.items():
        if group.is_main_process:
            tensor = mine[name].to(group.device).contiguous()
        else:
            tensor = torch.empty(shape, dtype=dtype, device=group.device)
        with watched():
            distributed.broadcast(tensor, 0)
        yield name, tensor


def total(values: Shaped[Tensor, "n"]) -> Shaped[Tensor, "n"]:
    """The sums over all processes."""
    if processes().num_processes > 1:
        with watched():
            distributed.all_reduce(values)
    return values
