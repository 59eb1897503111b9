"""Small systems that build in no time."""

import pytest
import torch
from tiny_system import TINY, randomised

from inkwash.data.spec import DataSpec
from inkwash.systems.generation.ddpm import DDPM, DDPMConfig
from inkwash.systems.synthesis.polyp_ddpm import PolypDDPM, PolypDDPMConfig


@pytest.fixture
def ddpm():
    torch.manual_seed(0)
    return randomised(DDPM(DDPMConfig(**TINY), DataSpec(channels=3, size=(16, 16))))


@pytest.fixture
def by_class():
    torch.manual_seed(0)
    return randomised(DDPM(DDPMConfig(**TINY), DataSpec(channels=1, size=(16, 16), classes=("cat", "dog", "eel"))))


@pytest.fixture
def by_mask():
    torch.manual_seed(0)
    return randomised(PolypDDPM(PolypDDPMConfig(**TINY), DataSpec(channels=3, size=(16, 16), mask_classes=2)))
