"""ControlNet: begins at its prior bit for bit, moves nothing of it, learns the mask, and says what can't be a prior."""

import jaxtyping
import pytest
import torch
from disc_masks import discs, trained
from safetensors.torch import load_file
from tiny_prior import write_discs, write_prior
from tiny_system import randomised

import inkwash
from inkwash.cli import main
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.checkpointing import switch
from inkwash.nets.control import Controlled
from inkwash.nets.dit import DiT
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.sampling.cache import Cache
from inkwash.systems.synthesis.controlnet import ControlNet, ControlNetConfig
from inkwash.training import Run
from inkwash.training.options import parse

SPEC = DataSpec(channels=1, size=(16, 16), mask_classes=2)
MASKS = torch.stack([torch.arange(256).reshape(16, 16) // 16 < k for k in (4, 8, 12)]).long()


@pytest.fixture
def prior(tmp_path):
    """A generator, and where its run lies."""
    return write_prior(tmp_path / "prior"), tmp_path / "prior"


def controlled(folder, spec: DataSpec = SPEC, **options) -> ControlNet:
    torch.manual_seed(1)
    return ControlNet(parse(ControlNetConfig, {"prior": str(folder), "hint": 8, **options}), spec).eval()


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("grad", [False, True])
def test_the_network_begins_at_its_base_bit_for_bit(patch, grad):
    torch.manual_seed(0)
    cells = patch**2
    inner = UNet(
        3 * cells, 3 * cells, base=8, multipliers=(1, 2), attention=(False, True), head_channels=8, classes=2
    )
    base = randomised(inner if patch == 1 else Patched(inner, patch))
    z, t, image = torch.randn(3, 3, 15, 13), torch.tensor([7.0, 80.0, 900.0]), torch.rand(3, 4, 15, 13)
    label = torch.tensor([0, -1, 1])
    with torch.set_grad_enabled(grad):
        alone = base(z, t, label=label)
        network = Controlled(base, 4, width=8)
        assert alone.abs().max() > 1e-2
        assert torch.equal(network(z, t, image=image, label=label), alone)
        randomised(network.branch)
        told = network(z, t, image=image, label=label)
        assert (told - alone).abs().amax(dim=(1, 2, 3)).min() > 1e-4
        assert (told - network(z, t, image=image.flip(1), label=label)).abs().max() > 1e-4
        network.weigh(0.0)
        assert torch.equal(network(z, t, image=image, label=label), alone)


@pytest.mark.parametrize("grad", [False, True])
def test_it_compiles_whole(grad):
    base = Patched(UNet(4, 4, base=8, multipliers=(1, 2), attention=(False, True), head_channels=8), 2)
    network = randomised(Controlled(base, 2, width=4)).train(grad)
    z, t, image = torch.randn(2, 1, 8, 8), torch.tensor([7.0]), torch.rand(2, 2, 8, 8)
    torch._dynamo.reset()
    # The run-time type checks of the tests are no part of what a user compiles.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with torch.set_grad_enabled(grad):
            compiled = torch.compile(network, fullgraph=True, backend="eager")(z, t, image=image)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(compiled, network(z, t, image=image), rtol=0, atol=1e-5)


def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for on in (False, True):
        torch.manual_seed(0)
        base = UNet(1, 1, base=8, multipliers=(1, 2), attention=(False, True), head_channels=8)
        network = randomised(Controlled(base, 2, width=4)).train()
        switch(network, on)
        assert network.branch.checkpointing == network.base.checkpointing == on
        torch.manual_seed(0)
        network(torch.randn(2, 1, 8, 8), torch.tensor([7.0]), image=torch.rand(2, 2, 8, 8)).square().sum().backward()
        gradients.append([p.grad for p in network.branch.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_map_of_zeros_is_no_map_and_shapes_are_checked():
    network = randomised(Controlled(UNet(1, 1, base=8, multipliers=(1, 2), attention=(False, False)), 2, width=4))
    z, t = torch.randn(2, 1, 8, 8), torch.tensor([5.0])
    assert torch.equal(network(z, t), network(z, t, image=torch.zeros(2, 2, 8, 8)))
    with pytest.raises(WrongUse, match=r"the network takes \(2, 2, 8, 8\)"):
        network(z, t, image=torch.zeros(2, 3, 8, 8))
    with pytest.raises(WrongUse, match="a DiT has no encoder to copy"):
        Controlled(DiT(1, 1, width=16, depth=1, head_channels=8), 2, width=4)


def test_it_draws_as_its_prior_before_it_is_trained(prior):
    alone, folder = prior
    system = controlled(folder)
    assert (system.config.sampler, system.config.sampling_steps) == (alone.config.sampler, 4)
    made = system.generate(3, condition={"mask": MASKS}, seed=3)
    assert torch.equal(made, alone.generate(3, seed=3))
    randomised(system.denoiser.network.branch)
    steered = system.generate(3, condition={"mask": MASKS}, seed=3)
    assert (steered - made).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    # The mask is what is told apart.
    assert (system.generate(3, condition={"mask": 1 - MASKS}, seed=3) - steered).abs().max() > 1e-3
    half = system.generate(3, condition={"mask": MASKS}, seed=3, adapter_weight=0.5)
    assert (half - steered).abs().max() > 1e-4
    assert (half - made).abs().max() > 1e-4
    assert torch.equal(system.generate(3, condition={"mask": MASKS}, seed=3, adapter_weight=0.0), made)
    assert system.way(adapter_weight=0.5).told["adapter_weight"] == 0.5


@pytest.mark.parametrize("how", [{}, {"sampler": "ddpm"}, {"guidance": 2.0}, {"cache": "deep:2"}, {"tile": 8}], ids=str)
def test_picture_i_is_the_same_in_every_batch(prior, how):
    system = randomised(controlled(prior[1]))
    alone = system.generate(5, condition={"mask": MASKS}, seed=3, batch=1, **how)
    together = system.generate(5, condition={"mask": MASKS}, seed=3, batch=16, **how)
    assert (together - alone).abs().max() < 1e-5
    assert (alone[0] - alone[1]).abs().max() > 0.01


def test_a_cache_keeps_the_deep_part_of_the_base(prior):
    system = randomised(controlled(prior[1]))
    z, told = torch.randn(3, 1, 16, 16), system.condition({"mask": MASKS})
    with torch.no_grad():
        plain = system.denoiser(z, 0.6, **told).mean
        cached = Cache(deep=2).begin(system.denoiser)
        torch.testing.assert_close(cached(z, 0.6, **told).mean, plain, rtol=0, atol=1e-6)
        later = cached(z, 0.3, **told).mean
        assert (later - system.denoiser(z, 0.3, **told).mean).abs().max() > 1e-5


def test_only_the_branch_learns_and_drop_out_is_of_the_branch_alone(prior):
    system = controlled(prior[1]).train()
    network = system.denoiser.network
    assert not network.base.training
    assert network.branch.training
    batch = {"image": torch.rand(4, 1, 16, 16) * 2 - 1, "mask": MASKS[[0, 1, 2, 0]]}
    randomised(network.branch)
    system.loss(batch, noise=Noise(0, range(4)))["loss"].mean().backward()
    learned = {name for name, p in system.named_parameters() if p.grad is not None}
    assert learned == {name for name, _ in system.named_parameters() if ".branch." in name}
    assert all(p.grad.abs().max() > 0 for p in network.branch.parameters())


@pytest.mark.parametrize("options", [{"self_conditioning": True}, {"learned_variance": True}, {"patch": 1}], ids=str)
def test_priors_of_every_kind(tmp_path, options):
    alone = write_prior(tmp_path / "prior", **options)
    system = controlled(tmp_path / "prior")
    made = system.generate(3, condition={"mask": MASKS}, seed=1)
    assert torch.equal(made, alone.generate(3, seed=1))
    terms = system.loss({"image": made, "mask": MASKS}, noise=Noise(0, range(3)))
    assert terms["loss"].isfinite().all()


def test_priors_are_used_without_their_own_condition(tmp_path):
    spec = DataSpec(channels=1, size=(16, 16), classes=("cat", "dog"))
    for name, kind, told in (("class", "ddpm", spec), ("mask", "polyp-ddpm", SPEC)):
        alone = write_prior(tmp_path / name, system=kind, spec=told)
        made = controlled(tmp_path / name).generate(3, condition={"mask": MASKS}, seed=1)
        assert torch.equal(made, alone.generate(3, seed=1))
    write_prior(tmp_path / "always", spec=spec, drop_condition=0.0)
    with pytest.raises(WrongUse, match="never trained without a class"):
        controlled(tmp_path / "always")


@pytest.mark.parametrize("size", [(16, 16), (14, 18), (8, 8, 8)], ids=str)
def test_a_prior_of_codes_is_steered_in_its_codes(tmp_path, size):
    spec = DataSpec(channels=1, size=size)
    small = {"code_base": 8, "attention": (4,), "self_conditioning": True}
    alone = write_prior(tmp_path / "prior", system="ldm", spec=spec, **small)
    torch.manual_seed(1)
    masked = spec.model_copy(update={"mask_classes": 3})
    system = ControlNet(parse(ControlNetConfig, {"prior": str(tmp_path / "prior"), "hint": 8}), masked).eval()
    mask = torch.arange(3).reshape(3, *[1] * len(size)).expand(3, *size).contiguous()
    made = system.generate(3, condition={"mask": mask}, seed=1)
    assert made.shape == (3, 1, *size)
    assert torch.equal(made, alone.generate(3, seed=1))
    randomised(system.denoiser.network.branch)
    assert (system.generate(3, condition={"mask": mask}, seed=1) - made).abs().max() > 1e-4
    codes = {name: p.clone() for name, p in system.codes.named_parameters()}
    before = {name: b.clone() for name, b in system.codes.named_buffers()}
    system.train().loss({"image": made, "mask": mask}, noise=Noise(0, range(3)))["loss"].mean().backward()
    assert all(p.grad is None and torch.equal(p, codes[name]) for name, p in system.codes.named_parameters())
    assert all(torch.equal(b, before[name]) for name, b in system.codes.named_buffers())
    # The run holds the codes too.
    again = ControlNet(ControlNetConfig(**system.config.model_dump(mode="json")), masked).eval()
    again.load_state_dict(system.state_dict())
    assert torch.equal(again.generate(1, condition={"mask": mask}), system.eval().generate(1, condition={"mask": mask}))


@pytest.mark.slow
def test_the_mask_comes_to_matter(tmp_path):
    """A prior that draws discs anywhere draws them where the mask says; without the branch their contrast is 0."""
    image, mask = discs(64)
    prior = write_prior(tmp_path / "prior", data_std=0.5)
    trained(prior.train(), image[:48], mask[:48], steps=120, rate=5e-3)
    Run.open(tmp_path / "prior").save_weights(prior.state_dict())
    system = controlled(tmp_path / "prior", drop_condition=0.0).train()
    trained(system, image[:48], mask[:48], steps=120, rate=5e-3)
    asked = mask[48:]

    def contrast(weight: float) -> float:
        made = system.generate(16, condition={"mask": asked}, steps=6, adapter_weight=weight)[:, 0]
        return float(made[asked == 1].mean() - made[asked == 0].mean())

    # The data's own is 1.2; 1.04 and 0.02 with 150 steps where it was written.
    assert contrast(1.0) > 0.7
    assert abs(contrast(0.0)) < 0.2


def test_a_run_holds_its_prior(prior, tmp_path):
    alone, folder = prior
    data = write_discs(tmp_path / "discs.npz")
    run = inkwash.train(
        "controlnet", data, out=tmp_path / "run", steps=3, size=16, batch=4,
        set={"prior": str(folder), "hint": 8, "warmup": 0},
    )  # fmt: skip
    kept, theirs = load_file(run.weights), load_file(folder / "model.safetensors")
    assert all(torch.equal(kept[f"denoiser.network.base.{k.removeprefix('denoiser.network.')}"], v)
               for k, v in theirs.items() if k.startswith("denoiser.network."))
    before = inkwash.load(run.path).generate(2, condition={"mask": MASKS}, seed=2)
    folder.rename(tmp_path / "gone")
    system = inkwash.load(run.path)
    assert torch.equal(system.generate(2, condition={"mask": MASKS}, seed=2), before)
    assert (before - alone.generate(2, seed=2)).abs().max() > 0
    paths = inkwash.sample(run.path, 2, out=tmp_path / "made", condition=str(data), adapter_weight=0.5)
    assert len(paths) == 2
    again = inkwash.train("controlnet", data, out=run.path, steps=4, size=16, resume=True)
    assert again.metrics()[-1]["step"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "--set prior=RUN"),
        ({"prior": "nowhere"}, "nowhere does not exist"),
        ({"prior": "bundled:nothing"}, "bundled:nothing: no model of that name is bundled"),
    ],
)
def test_priors_that_are_none_are_one_line(tmp_path, capsys, options, said):
    data = write_discs(tmp_path / "discs.npz")
    set_ = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    words = ["train", "controlnet", str(data), "--out", str(tmp_path / "run"), "--steps", "1", "--size", "16", *set_]
    assert main(words) == 2
    *_, error = capsys.readouterr().err.strip().splitlines()  # where it is comes before
    assert said in error
    assert not (tmp_path / "run").exists()


def test_priors_of_other_pictures_are_refused(prior, tmp_path):
    _, folder = prior
    with pytest.raises(WrongUse, match="makes pictures of 1 channels, and these have 3"):
        controlled(folder, SPEC.model_copy(update={"channels": 3}))
    with pytest.raises(WrongUse, match="makes pictures of 16 pixels, and these have 32: train with --size 16"):
        controlled(folder, SPEC.model_copy(update={"size": (32, 32)}))
    with pytest.raises(WrongUse, match="images/ and masks/"):
        controlled(folder, SPEC.model_copy(update={"mask_classes": None}))
    with pytest.raises(WrongUse, match="nothing of the kind"):
        prior[0].generate(1, adapter_weight=0.5)
    with pytest.raises(WrongUse, match="0 or more"):
        controlled(folder).way(adapter_weight=-1.0)
