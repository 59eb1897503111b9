"""How the weights of a training lie in its processes: whole in each, or shared among them.

`Whole` has all the weights in every process, and takes the mean of the gradients (`DistributedDataParallel`, Li et al.
2020). `Sharded` has a share of each tensor in every process, and with it of its gradient, of the optimizer's state and
of the averages; the weights of a block are put together when it is their turn (stage 3 of ZeRO, Rajbhandari et al.
2020; torch's `fully_shard`, after Zhao et al. 2023). Both follow the path of one process, up to the order of summation.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import cast

import torch
from accelerate import DistributedType
from jaxtyping import Float, Shaped
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.nets.dit import DiT
from inkwash.nets.unet import Stage, UNet
from inkwash.training.contract import Batch, Trainable
from inkwash.training.ema import Averages
from inkwash.training.processes import processes, total

Layout = Callable[[Tensor], Tensor]


class Objective(nn.Module):
    """The loss as a forward pass, which is what distributed training wraps."""

    def __init__(self, system: nn.Module) -> None:
        super().__init__()
        self.system = system

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        return cast(Trainable, self.system).loss(batch, noise=noise)


class Whole:
    """All the weights in every process.

    Args:
        system: is moved to the device.
        layout: the memory format of a weight.
        compile: whether the networks are compiled.

    Attributes:
        system: what is trained.
        parameters: what the optimizer of this process moves: the trained parameters of `system`, in their order.
    """

    def __init__(self, system: nn.Module, *, layout: Layout, compile: bool) -> None:
        group = processes()
        self.system = system.to(group.device)
        for parameter in system.parameters():
            parameter.data = layout(parameter.data)
        for network in networks(system) if compile else ():
            network.compile()
        self.objective: nn.Module = Objective(system)
        if group.num_processes > 1:
            gpu = [group.device] if group.device.type == "cuda" else None
            self.objective = DistributedDataParallel(self.objective, device_ids=gpu)
        self.parameters = [p for p in system.parameters() if p.requires_grad]

    def one_pass(self, *, last: bool) -> AbstractContextManager[None]:
        """What a pass forward and back stands in; only the last of a step sends its gradient to the others."""
        spread = isinstance(self.objective, DistributedDataParallel)
        return cast(DistributedDataParallel, self.objective).no_sync() if spread and not last else nullcontext()

    def gradient_norm(self) -> Float[Tensor, ""]:
        """Of the mean over the processes; after it the gradients lie at `parameters`."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return nn.utils.get_total_norm(gradients, foreach=True)

    def whole(self, index: int, share: Tensor) -> Tensor:
        """A tensor that belongs to `parameters[index]`, as one that belongs to the parameter of `system`."""
        return share

    def share(self, index: int, whole: Tensor) -> Tensor:
        """The inverse of `whole`."""
        return whole

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors of `system`, or as of `whole`: all of each in the first process, None in the others."""
        return dict(tensors) if processes().is_main_process else None

    @torch.no_grad()
    def put(self, place: Tensor, whole: Tensor) -> None:
        """Overwrite a tensor of `system`, this process's share of it, with the one that is given whole."""
        place.copy_(whole)

    @contextmanager
    def shown(self, averages: Averages, std: float | None) -> Iterator[None]:
        """Inside, the system as it will be used: in evaluation mode, with the average `std`, or raw where None."""
        self.system.eval()
        with nullcontext() if std is None else averages.applied(std):
            yield
        self.system.train()

    def finish(self, averages: Averages, std: float | None) -> None:
        """The system as it will be used, from now on."""
        if std is not None:
            averages.apply(std)
        self.system.eval()


class Sharded(Whole):
    """A share of every weight in each process: the rows of a tensor, in order, as equal in number as they can be.

    What is trained is a copy. The system that was handed in waits on the host of the first process, whole, and is given
    the weights when it is shown; in the others it is emptied.

    Args:
        bf16: put blocks together in bf16, which is half the traffic, and add gradients up in float32.

    Raises:
        WrongUse: a parameter is a single number.
    """

    def __init__(self, system: nn.Module, *, bf16: bool, compile: bool) -> None:
        for name, parameter in system.named_parameters():
            if parameter.ndim == 0:
                raise WrongUse(f"shard = true: {name} is a single number and has no rows to share: train without it")
        group = processes()
        self.system = deepcopy(system.cpu())
        self._handed_in = system if group.is_main_process else system.to("meta")
        self.mesh = init_device_mesh(group.device.type, (group.num_processes,))
        halved = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        policy = halved if bf16 else MixedPrecisionPolicy()
        self.objective = Objective(self.system)
        parts = units(self.system)
        # What is compiled may not have parts within it whose weights come and go.
        for compiled in (parts or networks(self.system)) if compile else ():
            compiled.compile()
        for unit in [*parts, self.objective]:
            for parameter in unit.parameters():
                if not isinstance(parameter, DTensor):
                    parameter.data = parameter.data.to(group.device).contiguous()
                    distributed.broadcast(parameter.data, 0)
            fully_shard(unit, mesh=self.mesh, mp_policy=policy)
        # The optimizer and the averages know nothing of shares: these are plain tensors.
        self._owners = [p for p in self.system.parameters() if p.requires_grad]
        self.parameters = [nn.Parameter(cast(DTensor, p).to_local()) for p in self._owners]
        kept = self.system.state_dict()
        self._buffers = [buffer for name, buffer in self.system.named_buffers() if name in kept]

    def one_pass(self, *, last: bool) -> AbstractContextManager[None]:
        cast(FSDPModule, self.objective).set_requires_gradient_sync(last)
        for buffer in self._buffers:
            distributed.broadcast(buffer, 0)
        return nullcontext()

    def gradient_norm(self) -> Float[Tensor, ""]:
        for owner, parameter in zip(self._owners, self.parameters):
            parameter.grad = None if owner.grad is None else cast(DTensor, owner.grad).to_local()
            owner.grad = None
        return total(super().gradient_norm().double().square()[None])[0].sqrt().float()

    def whole(self, index: int, share: Shaped[Tensor, "mine ..."]) -> Shaped[Tensor, "rows ..."]:
        owner = self._owners[index]
        return DTensor.from_local(
            share, self.mesh, (Shard(0),), run_check=False, shape=owner.shape, stride=owner.stride()
        )

    def share(self, index: int, whole: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "mine ..."]:
        return self._rows(whole).clone()

    def _rows(self, whole: Tensor) -> Tensor:
        count = -(-len(whole) // self.mesh.size())
        first = count * self.mesh.get_rank()
        return whole[first : first + count]

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if processes().is_main_process:
                found[name] = full.detach().cpu()
        return found if processes().is_main_process else None

    @torch.no_grad()
    def put(self, place: Tensor, whole: Tensor) -> None:
        if isinstance(place, DTensor):
            place.to_local().copy_(self._rows(whole))
        else:
            place.copy_(whole)

    @contextmanager
    def shown(self, averages: Averages, std: float | None) -> Iterator[None]:
        self.finish(averages, std)
        yield
        self._handed_in.train()
        if processes().is_main_process:
            self._handed_in.cpu()

    def finish(self, averages: Averages, std: float | None) -> None:
        state = self.gather(self.system.state_dict() if std is None else averages.state(std))
        if state is not None:
            self._handed_in.load_state_dict(state)
            self._handed_in.to(processes().device)
        self._handed_in.eval()


def distribute(system: nn.Module, *, shard: bool, layout: Layout, bf16: bool, compile: bool) -> Whole:
    """How `system` is trained by the processes that there are. One process has nothing to share.

    Raises:
        WrongUse: accelerate was told to distribute the training in a way of its own.
    """
    group = processes()
    kind = group.distributed_type
    if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise WrongUse(f"training by {kind.value} is not known here: launch plain processes with torchrun")
    if shard and group.num_processes > 1:
        return Sharded(system, bf16=bf16, compile=compile)
    return Whole(system, layout=layout, compile=compile)


def networks(system: nn.Module) -> list[nn.Module]:
    """The networks of the denoisers."""
    return [network for module in system.modules() if isinstance(module, Denoiser) for network in module.children()]


def units(system: nn.Module) -> list[nn.Module]:
    """The parts of our networks whose weights are put together at a time; what is left is put together for the pass.

    The product that all modulations come from is a third of a transformer, so it is a part too.
    """
    found: list[nn.Module] = []
    for module in system.modules():
        if isinstance(module, UNet):
            stages = [part for part in (*module.down, *module.middle, *module.up) if isinstance(part, Stage)]
            found += [*stages, module.modulation]
        elif isinstance(module, DiT):
            found += [*module.blocks, module.modulation]
    return found
