"""What can be asked of a training, and what is said to a wrong wish."""

from typing import Any

import pytest
import torch

from inkwash.errors import WrongUse
from inkwash.training.options import TrainOptions, bf16, cadence, parse


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "say how long"),
        ({"steps": 0}, "steps = 0"),
        ({"minutes": -1}, "minutes = -1"),
        ({"minutes": float("inf")}, "minutes = inf"),
        ({"steps": 1, "batch": 0}, "batch = 0"),
        ({"steps": 1, "batch": 6, "accumulation": 4}, "a batch of 6 does not divide into 4"),
        ({"steps": 1, "learning_rate": float("nan")}, "learning_rate = nan"),
        ({"steps": 1, "decay": "cosin"}, "decay = 'cosin'"),
        ({"steps": 1, "betas": (0.9, 1.0)}, "betas.1 = 1.0"),
        ({"steps": 1, "ema": (0.3,)}, "ema.0 = 0.3"),
        ({"steps": 1, "ema": (0.1, 0.1)}, "all different"),
        ({"steps": 1, "ema": (), "snapshots": 2}, "ema lists none"),
        ({"steps": 1, "checkpoint_every": "often"}, "write '500 steps'"),
        ({"steps": 1, "checkpoint_every": 0}, "write '500 steps'"),
        ({"steps": 1, "precision": "fp16"}, "precision = 'fp16'"),
        ({"steps": 1, "learning_rat": 1}, "did you mean 'learning_rate'?"),
    ],
)
def test_a_wrong_option_gets_one_line_that_names_it(values: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongUse) as caught:
        parse(TrainOptions, values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cadences() -> None:
    inf = float("inf")
    assert cadence(TrainOptions(steps=1, checkpoint_every=500).checkpoint_every) == (500, inf)
    assert cadence("1 step") == (1, inf)
    assert cadence("30 seconds") == (None, 30.0)
    assert cadence("0.5 minutes") == (None, 30.0)


@pytest.mark.parametrize("native", [False, True])
def test_bf16_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    cpu = torch.device("cpu")
    assert bf16("auto", cpu) is native
    assert bf16("auto", cpu, spatial=3) is False
    assert bf16("fp32", cpu) is False
    if native:
        assert bf16("bf16", cpu) is True
        assert bf16("bf16", cpu, spatial=3) is True
    else:
        with pytest.raises(WrongUse, match=r"precision = 'bf16'.*use precision=auto"):
            bf16("bf16", cpu)
