import json
from importlib.metadata import version

import torch

import inkwash as package
from inkwash.api import doctor as module
from inkwash.api.doctor import PURPOSES, Doctor, doctor, extras
from inkwash.memory import machine


def test_what_it_finds_is_what_is_there():
    found = doctor()
    assert found.inkwash == version("inkwash") == package.__version__
    assert found.torch == torch.__version__
    assert found.devices[0].name == "cpu"
    assert len(found.devices) == 1 + torch.cuda.device_count() + torch.backends.mps.is_available()
    assert 0 < found.memory_free_gib <= found.devices[0].memory_gib


def test_memory_is_what_a_control_group_leaves(monkeypatch):
    assert not doctor().memory_limited
    monkeypatch.setattr(machine, "group_room", lambda: machine.Room(3 * 2**30, 2**30))
    found = doctor()
    assert found.memory_free_gib == 1.0
    assert found.memory_limited
    assert "free     1.0 GiB of memory (a control group or ulimit allows no more), " in str(found)


def test_bf16_is_native_where_onednn_says_so_and_never_on_avx2():
    cpu = doctor().devices[0]
    assert not (cpu.capability == "AVX2" and cpu.bf16)


def test_every_extra_for_users_has_a_purpose():
    assert PURPOSES.keys() == extras().keys() - {"all", "test", "lint", "docs"}
    assert all(extras()[name] for name in PURPOSES)


def test_a_missing_part_comes_with_its_cure(monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda package: None if package == "monai" else "1.0")
    found = doctor()
    parts = {part.name: part for part in found.parts}
    assert not parts["medical"].present
    assert parts["tensorboard"].present
    assert 'pip install "inkwash[medical]"' in str(found)
    assert "tensorboard 1.0" in str(found)


def test_json_is_the_whole_report(inkwash):
    said = inkwash("doctor", "--json")
    assert said.code == 0
    assert Doctor(**json.loads(said.out)).torch == torch.__version__
    assert inkwash("doctor").out.startswith("inkwash ")
