"""`inkwash.doctor`: what this machine has, what is installed, and what to install for what is missing."""

import os
import platform
import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import psutil
import torch
from pydantic import BaseModel

from inkwash.memory import machine
from inkwash.training.options import bf16

# What each optional part is for, by the name of its extra.
PURPOSES = {
    "adapters": "LoRA: small adapters beside a frozen generator, by peft",
    "bm3d": "BM3D, whose licence is for non-commercial use, beside other ways to restore",
    "diffusers": "networks and weights of diffusers and transformers",
    "export": "networks in ONNX Runtime, in float32 and in eight bits",
    "inception": "FID and KID in the features of the Inception network",
    "medical": "MONAI's networks",
    "restoration": "non-local means, total variation and wavelets beside other ways to restore",
    "tensorboard": "training curves in TensorBoard",
}


class Device(BaseModel):
    """Something that networks run on.

    Attributes:
        name: as torch calls it: "cpu", "cuda:0", "mps".
        model: the maker's name.
        memory_gib: in all.
        capability: vector instructions of a processor, compute capability of a GPU.
        bf16: whether bfloat16 is native. Where it isn't, it is many times slower than float32.
    """

    name: str
    model: str
    memory_gib: float
    capability: str
    bf16: bool


class Part(BaseModel):
    """An optional part: its packages with their versions, None for a missing one, and how to install it."""

    name: str
    purpose: str
    packages: dict[str, str | None]
    present: bool
    install: str


class Doctor(BaseModel):
    """The findings. Memory and disk are in GiB; `disk_free_gib` is that of the current folder.

    Attributes:
        memory_free_gib: what a process started here can take, control groups and `ulimit` respected: what `--memory`
            takes its shares of.
        memory_limited: whether a control group or `ulimit` allows less than the machine has.
    """

    inkwash: str
    python: str
    torch: str
    system: str
    cores: int
    memory_free_gib: float
    memory_limited: bool
    disk_free_gib: float
    devices: list[Device]
    parts: list[Part]

    def __str__(self) -> str:
        lines = [f"inkwash {self.inkwash}, torch {self.torch}, python {self.python}, {self.system}", ""]
        for device in self.devices:
            speed = "bf16 is native" if device.bf16 else "bf16 is slow here, float32 is used"
            lines.append(f"{device.name:<8} {device.model}, {device.capability}, {device.memory_gib:.1f} GiB; {speed}")
        lines.append(f"{'cores':<8} {self.cores}")
        why = " (a control group or ulimit allows no more)" if self.memory_limited else ""
        lines.append(
            f"{'free':<8} {self.memory_free_gib:.1f} GiB of memory{why}, {self.disk_free_gib:.1f} GiB of disk here"
        )
        lines += ["", "Optional parts"]
        for part in self.parts:
            found = ", ".join(f"{name} {number}" for name, number in part.packages.items())
            state = found if part.present else f"missing; {part.install}"
            lines.append(f"  {part.name:<12} {part.purpose}: {state}")
        return "\n".join(lines)


def doctor() -> Doctor:
    """Look at this machine and this installation."""
    installed, free = psutil.virtual_memory(), machine.free()
    return Doctor(
        inkwash=version("inkwash"),
        python=platform.python_version(),
        torch=torch.__version__,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory_free_gib=free / 2**30,
        memory_limited=free < 0.95 * installed.available,
        disk_free_gib=psutil.disk_usage(os.getcwd()).free / 2**30,
        devices=[_cpu(installed.total), *_accelerators(installed.total)],
        parts=[_part(name) for name in PURPOSES],
    )


def _cpu(memory: int) -> Device:
    return Device(
        name="cpu",
        model=_cpu_model(),
        memory_gib=memory / 2**30,
        capability=torch.backends.cpu.get_cpu_capability(),
        bf16=bf16("auto", torch.device("cpu")),
    )


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", listing.read_text(), re.MULTILINE) if listing.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()


def _accelerators(memory: int) -> list[Device]:
    devices = []
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        devices.append(
            Device(
                name=f"cuda:{index}",
                model=found.name,
                memory_gib=found.total_memory / 2**30,
                capability=f"compute capability {found.major}.{found.minor}",
                bf16=bf16("auto", torch.device("cuda", index)),
            )
        )
    if torch.backends.mps.is_available():
        devices.append(Device(name="mps", model="Apple GPU", memory_gib=memory / 2**30, capability="Metal", bf16=False))
    return devices


def _part(name: str) -> Part:
    packages = {package: _installed(package) for package in extras()[name]}
    return Part(
        name=name,
        purpose=PURPOSES[name],
        packages=packages,
        present=all(packages.values()),
        install=f'pip install "inkwash[{name}]"',
    )


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def extras() -> dict[str, tuple[str, ...]]:
    """The packages of every extra of Inkwash, as its own metadata has them."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(metadata("inkwash").get_all("Provides-Extra") or (), ())
    for requirement in requires("inkwash") or ():
        match = re.match(r"([\w.-]+).*;\s*extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if match:
            found[match[2]] += (match[1],)
    return found
