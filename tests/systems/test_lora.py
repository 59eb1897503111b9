"""LoRA: begins at its prior bit for bit, learns adapters alone, is what peft makes of it, and needs its prior."""

import json

import jaxtyping
import pytest
import torch
from disc_masks import trained
from safetensors.torch import load_file
from tiny_prior import write_discs, write_prior
from tiny_system import randomised

import inkwash
from inkwash.api.backends import prepare
from inkwash.cli import main
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.dit import DiT
from inkwash.nets.low_rank import LowRank, targets
from inkwash.nets.unet import UNet
from inkwash.systems.distillation.student import embeddings
from inkwash.systems.generation.ddpm import DDPM
from inkwash.systems.generation.lora import LoRA, LoRAConfig
from inkwash.systems.synthesis.seg_guided import SegGuided
from inkwash.training.options import parse

peft = pytest.importorskip("peft")

SPEC = DataSpec(channels=1, size=(16, 16))


@pytest.fixture
def prior(tmp_path):
    """A generator, and where its run lies."""
    return write_prior(tmp_path / "prior"), tmp_path / "prior"


def adapted(folder, spec: DataSpec = SPEC, *, drawn: bool = False, **options) -> LoRA:
    """The adapters of a prior, with `drawn` no longer those that do nothing."""
    torch.manual_seed(1)
    system = LoRA(parse(LoRAConfig, {"prior": str(folder), "rank": 2, **options}), spec).eval()
    return randomised(system) if drawn else system


@pytest.mark.parametrize("convolutions", [True, False])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_the_network_begins_at_what_it_was_and_merges_to_what_it_is(spatial, convolutions):
    torch.manual_seed(0)
    base = randomised(
        UNet(2, 2, spatial=spatial, base=8, multipliers=(1, 2), attention=(False, True), head_channels=8, context=5)
    )
    z, t, context = torch.randn(2, 2, *[7] * spatial), torch.tensor([3.0, 700.0]), torch.randn(2, 4, 5)
    with torch.no_grad():
        before = base(z, t, context=context)
        network = LowRank(base, rank=3, alpha=6.0, convolutions=convolutions, name="the base")
        assert torch.equal(network(z, t, context=context), before)
        randomised(network)
        after = network(z, t, context=context)
        assert (after - before).abs().max() > 1e-3
        merged = network.merged()
        assert not any("lora" in name for name, _ in merged.named_parameters())
        torch.testing.assert_close(merged(z, t, context=context), after, rtol=0, atol=2e-6)
        network.weigh(0.0)
        assert torch.equal(network(z, t, context=context), before)
        network.weigh(0.5)
        torch.testing.assert_close(network.merged()(z, t, context=context), network(z, t, context=context),
                                   rtol=0, atol=2e-6)  # fmt: skip


def test_what_is_adapted():
    unet = UNet(1, 1, base=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_channels=8)
    attention = targets(unet, convolutions=False)
    assert {name.rpartition(".")[2] for name in attention} == {"qkv", "out"}
    assert len(attention) == 2 * 4  # one on the way down, one in the middle, two on the way up
    everything = targets(unet, convolutions=True)
    assert set(attention) < set(everything)
    # Upsampling reads the weight of its convolution.
    left_out = {name for name, m in unet.named_modules() if isinstance(m, torch.nn.Conv2d)} - set(everything)
    assert left_out == {"up.2.conv"}
    assert targets(DiT(1, 1, width=16, depth=2, head_channels=8), convolutions=False)
    plain = UNet(1, 1, base=8, multipliers=(1,), attention=(False,))
    with pytest.raises(WrongUse, match="convolutions=true"):
        LowRank(plain, rank=2, alpha=2.0, convolutions=False, name="it")


def test_it_draws_as_its_prior_before_it_is_trained(prior):
    alone, folder = prior
    system = adapted(folder)
    assert (system.config.sampler, system.config.sampling_steps) == (alone.config.sampler, 4)
    before = alone.generate(3, seed=3)
    assert torch.equal(system.generate(3, seed=3), before)
    randomised(system)
    after = system.generate(3, seed=3)
    assert (after - before).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    half = system.generate(3, seed=3, adapter_weight=0.5)
    assert (half - after).abs().max() > 1e-4
    assert torch.equal(system.generate(3, seed=3, adapter_weight=0.0), before)


@pytest.mark.parametrize("how", [{}, {"sampler": "ddpm"}, {"cache": "deep:2"}, {"tile": 8}], ids=str)
def test_picture_i_is_the_same_in_every_batch(prior, how):
    system = adapted(prior[1], drawn=True)
    alone = system.generate(5, seed=3, batch=1, **how)
    assert (system.generate(5, seed=3, batch=16, **how) - alone).abs().max() < 1e-5
    assert (alone[0] - alone[1]).abs().max() > 0.01


def test_what_peft_makes_of_the_exported_adapters_is_the_same(prior, tmp_path):
    system = adapted(prior[1], drawn=True)
    system.export(tmp_path / "adapters")
    assert {path.name for path in (tmp_path / "adapters").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())["r"] == 2
    network = prior[0].denoiser.network
    theirs = peft.PeftModel.from_pretrained(network, tmp_path / "adapters").eval()
    z, t = torch.randn(2, 1, 16, 16), torch.tensor([400.0])
    with torch.no_grad():
        ours = system.denoiser.network(z, t)
        torch.testing.assert_close(theirs(z, t), ours, rtol=0, atol=1e-6)
        torch.testing.assert_close(theirs.merge_and_unload()(z, t), ours, rtol=0, atol=2e-6)


def test_merged_it_is_a_generator_of_the_kind_of_the_prior(prior):
    system = adapted(prior[1], drawn=True)
    merged = system.merge()
    assert type(merged) is DDPM
    assert merged.state_dict().keys() == prior[0].state_dict().keys()
    torch.testing.assert_close(merged.generate(3, seed=1), system.generate(3, seed=1), rtol=0, atol=1e-5)


def test_faster_convolutions_give_the_same(prior, monkeypatch, tmp_path):
    """Those of the frozen network may be replaced, the thin ones beside them not: peft reads their weights."""
    monkeypatch.setenv("INKWASH_CACHE", str(tmp_path / "cache"))
    write_prior(tmp_path / "wide", base=32)
    system = adapted(tmp_path / "wide", drawn=True, rank=8)
    plain = system.generate(2, seed=1)
    prepare(system, tmp_path / "wide")
    torch.testing.assert_close(system.generate(2, seed=1), plain, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_an_exported_network_has_its_adapters_in_it_and_weighs_them_no_more(prior, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    data = write_discs(tmp_path / "discs.npz")
    run = inkwash.train(
        "lora", data, out=tmp_path / "run", steps=3, size=16, batch=4, set={"prior": str(prior[1]), "warmup": 0}
    )
    # The run-time type checks of the tests are no part of what is traced.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        inkwash.export(run.path)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    plain, exported = inkwash.load(run.path), prepare(inkwash.load(run.path), run.path, "onnx")
    with torch.no_grad():
        torch.testing.assert_close(exported.generate(2, seed=1), plain.generate(2, seed=1), rtol=0, atol=1e-3)
        with pytest.raises(WrongUse, match="the exported network has it at 1"):
            exported.generate(1, adapter_weight=0.5)


def test_only_adapters_learn_and_only_they_are_kept(prior):
    system = adapted(prior[1]).train()
    randomised(system.denoiser.network).train()
    system.loss({"image": torch.rand(4, 1, 16, 16) * 2 - 1}, noise=Noise(0, range(4)))["loss"].mean().backward()
    learned = {name for name, p in system.named_parameters() if p.requires_grad}
    assert learned == {name for name, p in system.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    kept = set(system.state_dict())
    assert learned < kept
    assert not {name for name in kept - learned if "network" in name and "fingerprint" not in name}
    assert all(".lora_" in name for name in learned)


def test_a_state_comes_back_and_one_of_another_prior_does_not(prior, tmp_path):
    system = adapted(prior[1], drawn=True)
    state = system.state_dict()
    other = adapted(prior[1])
    other.load_state_dict(state)
    assert torch.equal(other.generate(2, seed=1), system.generate(2, seed=1))
    write_prior(tmp_path / "other", dropout=0.1, patch=1)
    write_prior(tmp_path / "changed")
    changed = load_file(tmp_path / "changed" / "model.safetensors")
    name = next(name for name in changed if name.endswith("enter.weight"))
    changed[name] = changed[name] + 1e-6
    inkwash.training.Run.open(tmp_path / "changed").save_weights(changed)
    with pytest.raises(WrongUse, match="its weights have changed since"):
        adapted(tmp_path / "changed").load_state_dict(state)


def test_a_run_is_small_and_needs_its_prior(prior, tmp_path, capsys, monkeypatch):
    alone, folder = prior
    data = write_discs(tmp_path / "discs.npz")
    monkeypatch.chdir(tmp_path)
    run = inkwash.train(
        "lora", data, out=tmp_path / "run", steps=3, size=16, batch=4,
        set={"prior": "prior", "rank": 2, "warmup": 0, "convolutions": False},
    )  # fmt: skip
    assert run.weights.stat().st_size < (folder / "model.safetensors").stat().st_size / 4
    assert all(".lora_" in name or "fingerprint" in name for name in load_file(run.weights) if ".network." in name)
    # Wherever one is.
    monkeypatch.chdir("/")
    system = inkwash.load(run.path)
    before = system.generate(2, seed=2)
    assert (before - alone.generate(2, seed=2)).abs().max() > 0
    assert len(inkwash.sample(run.path, 2, out=tmp_path / "made", adapter_weight=1.5)) == 2
    again = inkwash.train("lora", data, out=run.path, steps=4, size=16, resume=True)
    assert again.metrics()[-1]["step"] == 4

    def refused(said: str) -> None:
        assert main(["sample", str(run.path), "-n", "1", "--out", str(tmp_path / "none")]) == 2
        *_, error = capsys.readouterr().err.strip().splitlines()
        assert said in error
        assert not (tmp_path / "none").exists()

    state = load_file(folder / "model.safetensors")
    name = next(iter(state))
    inkwash.training.Run.open(folder).save_weights({**state, name: state[name] + 1})
    refused("its weights have changed since")
    folder.rename(tmp_path / "gone")
    refused(f"{folder} does not exist")


def test_a_handful_of_pictures_is_learned(prior):
    """Of a prior that knows nothing of them: bright below, dark above."""
    image = torch.where(torch.arange(16)[:, None] < 8, -0.8, 0.8).expand(6, 1, 16, 16) + 0.05 * torch.randn(
        6, 1, 16, 16, generator=torch.Generator().manual_seed(0)
    )
    system = adapted(prior[1], rank=4).train()
    trained(system, image, torch.zeros(6, 16, 16), steps=100, rate=2e-2)

    def gap(weight: float) -> float:
        made = system.generate(8, steps=6, seed=1, adapter_weight=weight)
        return float(made[..., 8:, :].mean() - made[..., :8, :].mean())

    assert gap(1.0) > 0.8
    assert abs(gap(0.0)) < 0.4


def test_priors_that_are_told_something_tell_their_adapters(tmp_path):
    masks = SPEC.model_copy(update={"mask_classes": 2})
    write_prior(tmp_path / "mask", system="seg-guided", spec=masks)
    system = adapted(tmp_path / "mask", masks, drawn=True)
    assert isinstance(system.prior, SegGuided)
    assert (system.told, system.spec.mask_classes) == (("mask",), 2)
    batch = {"image": torch.zeros(2, 1, 16, 16), "mask": torch.ones(2, 16, 16, dtype=torch.long)}
    assert system.loss(batch, noise=Noise(0, range(2)))["loss"].isfinite().all()
    assert system.known(masks.model_copy(update={"classes": ("a",)})) == system.spec
    some, none = (system.generate(1, condition={"mask": torch.full((1, 16, 16), k)}) for k in (1, 0))
    assert (some - none).abs().max() > 1e-4
    named = SPEC.model_copy(update={"classes": ("cat", "dog")})
    write_prior(tmp_path / "class", spec=named)
    system = adapted(tmp_path / "class", SPEC, drawn=True)
    cat, dog = (system.generate(1, condition={"label": torch.tensor([k])}) for k in (0, 1))
    assert (cat - dog).abs().max() > 1e-4
    with pytest.raises(WrongUse, match="knows the classes cat, dog, and these are of eel"):
        adapted(tmp_path / "class", SPEC.model_copy(update={"classes": ("eel",)}))
    with pytest.raises(WrongUse, match="is told 2 mask classes, and these are 3"):
        adapted(tmp_path / "mask", SPEC.model_copy(update={"mask_classes": 3}))


def test_a_prior_of_codes_is_adapted_in_its_codes(tmp_path):
    small = {"code_base": 8, "attention": (4,)}
    masks = SPEC.model_copy(update={"mask_classes": 2})
    alone = write_prior(tmp_path / "prior", system="ldm", spec=masks, mask_base=8, **small)
    system, mask = adapted(tmp_path / "prior", masks), torch.ones(2, 16, 16, dtype=torch.long)
    made = system.generate(2, condition={"mask": mask}, seed=1)
    assert torch.equal(made, alone.generate(2, condition={"mask": mask}, seed=1))
    assert all(".lora_" in name or "fingerprint" in name for name in system.state_dict() if "network" in name)
    assert not any("codes" in name for name in system.state_dict())
    randomised(system).train()
    assert not system.prior.codes.training
    system.loss({"image": made, "mask": mask}, noise=Noise(0, range(2)))["loss"].mean().backward()
    assert all((p.grad is not None) == (".lora_" in name) for name, p in system.named_parameters())
    assert all(p.grad is None for p in system.prior.codes.parameters())
    state = system.eval().state_dict()
    assert (system.generate(2, condition={"mask": mask}, seed=1) - made).abs().max() > 1e-4
    double = system.double()
    assert all(p.dtype == torch.float64 for p in (*double.prior.codes.parameters(), *double.parameters()))
    # Its autoencoder is a part of what they were learned on.
    changed = load_file(tmp_path / "prior" / "model.safetensors")
    name = next(name for name in changed if name.startswith("codes") and changed[name].ndim > 1)
    inkwash.training.Run.open(tmp_path / "prior").save_weights({**changed, name: changed[name] + 1e-6})
    with pytest.raises(WrongUse, match="its weights have changed since"):
        adapted(tmp_path / "prior", masks).load_state_dict(state)


def test_what_cannot_be_adapted_is_one_line(prior, tmp_path, monkeypatch):
    _, folder = prior
    with pytest.raises(WrongUse, match="--set prior=RUN"):
        LoRA(LoRAConfig(), SPEC)
    with pytest.raises(WrongUse, match="makes pictures of 16 pixels, and these have 32: train with --size 16"):
        adapted(folder, SPEC.model_copy(update={"size": (32, 32)}))
    with pytest.raises(WrongUse, match="nowhere does not exist"):
        parse(LoRAConfig, {"prior": "nowhere"})
    with pytest.raises(WrongUse, match="can't be told the length of a step"):
        embeddings(adapted(folder).denoiser)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(WrongUse, match=r"pip install 'inkwash\[adapters\]'"):
        adapted(folder)
