"""What holds for every generator: pictures depend on seed, item and condition alone, and options are options."""

import pytest
import torch
from tiny_system import TINY

from inkwash import systems
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems import recipes
from inkwash.systems.generation.ddpm import DDPM, DDPMConfig
from inkwash.systems.synthesis.polyp_ddpm import PolypDDPM, PolypDDPMConfig
from inkwash.training.options import TrainOptions, parse

MASKS = torch.arange(16 * 16).reshape(1, 16, 16).repeat(5, 1, 1).add(torch.arange(5)[:, None, None] * 40) % 256 > 127


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 4), ("dpm++2m", 4), ("dpm++2m-sde", 4), ("edm", 16)])
def test_picture_i_is_the_same_in_every_batch(by_mask, sampler, steps):
    told = {"mask": MASKS.long()}
    alone = by_mask.generate(5, condition=told, steps=steps, sampler=sampler, seed=3, batch=1)
    for batch in (3, 16):
        together = by_mask.generate(5, condition=told, steps=steps, sampler=sampler, seed=3, batch=batch)
        assert (together - alone).abs().max() < 1e-5
    assert (alone[0] - alone[1]).abs().max() > 0.01


def test_a_share_of_the_items_is_that_part_of_all(by_class):
    told = {"label": torch.tensor([0, 1, 2])}
    whole = by_class.generate(7, condition=told, steps=3)
    parts = [by_class.generate(7, condition=told, steps=3, first=at, count=count) for at, count in ((0, 4), (4, 3))]
    assert (torch.cat(parts) - whole).abs().max() < 1e-5


def test_seeds_differ_and_zero_is_a_seed(ddpm):
    first, again, other = (ddpm.generate(1, steps=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01


def test_pictures_lie_in_range_and_have_the_shape_of_the_data(by_class):
    made = by_class.generate(2, condition={"label": torch.tensor([1])}, steps=3)
    assert made.shape == (2, 1, 16, 16)
    assert made.abs().max() <= 1


def test_conditions_change_the_picture(by_class, by_mask):
    cat, dog = (by_class.generate(1, condition={"label": torch.tensor([k])}, steps=2) for k in (0, 1))
    assert (cat - dog).abs().max() > 1e-3
    none, some = (by_mask.generate(1, condition={"mask": torch.full((1, 16, 16), k)}, steps=2) for k in (0, 1))
    assert (none - some).abs().max() > 1e-3


def test_guidance_changes_the_picture_and_one_is_neutral(by_class):
    told = {"label": torch.tensor([1])}
    plain = by_class.generate(1, condition=told, steps=2)
    assert torch.equal(by_class.generate(1, condition=told, steps=2, guidance=1.0), plain)
    assert (by_class.generate(1, condition=told, steps=2, guidance=4.0) - plain).abs().max() > 1e-3


def test_guidance_needs_a_model_trained_for_it():
    system = DDPM(DDPMConfig(**TINY, drop_condition=0.0), DataSpec(channels=1, size=(16, 16), classes=("a", "b")))
    with pytest.raises(WrongUse, match="drop_condition"):
        system.generate(1, condition={"label": torch.tensor([0])}, guidance=2.0)


@pytest.mark.parametrize("sampler", recipes.SOLVERS)
@pytest.mark.parametrize("grid", ["", *recipes.GRIDS])
def test_every_sampler_on_every_grid_ends_in_finite_pictures(ddpm, sampler, grid):
    name = f"{sampler}@{grid}" if grid else sampler
    assert ddpm.generate(1, steps=4, sampler=name).isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        *({"schedule": name, "predict": "v"} for name in recipes.SCHEDULES),
        *({"predict": name} for name in recipes.PARAMETERIZATIONS),
        *({"weighting": name} for name in recipes.WEIGHTINGS),
        *({"times": name} for name in recipes.TIMES),
        {"distance": "l1"},
        {"learned_variance": True},
        {"self_conditioning": True},
        {"shift": 2.0},
        {"patch": 1},
        {"patch": 4},
        {"dropout": 0.5},
    ],
    ids=str,
)
def test_every_option_trains_and_draws(options):
    torch.manual_seed(0)
    system = DDPM(DDPMConfig(**TINY, **options), DataSpec(channels=1, size=(16, 16)))
    terms = system.loss({"image": torch.rand(4, 1, 16, 16) * 2 - 1}, noise=Noise(0, range(4)))
    assert terms["loss"].shape == (4,)
    terms["loss"].mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in system.parameters())
    assert system.eval().generate(2, steps=4).isfinite().all()


def test_presets_are_what_the_papers_say():
    polyp = PolypDDPMConfig(preset="paper")
    assert (polyp.schedule, polyp.schedule_steps, polyp.predict, polyp.distance) == ("cosine", 250, "eps", "l1")
    assert (polyp.base, polyp.multipliers, polyp.blocks) == (64, (1, 1, 2, 2, 4, 4), 2)
    assert (polyp.attention, polyp.patch) == ((16,), 1)
    ddpm = DDPMConfig(preset="paper", base=64)
    assert (ddpm.schedule, ddpm.predict, ddpm.sampling_steps, ddpm.base) == ("linear", "eps", 1000, 64)


def test_presets_of_every_system_train_with_valid_options():
    for name in systems.names():
        for options in systems.get(name).training_presets.values():
            kept = {k: v for k, v in options.items() if k in TrainOptions.model_fields}
            assert parse(TrainOptions, {"steps": 1, **kept})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"sampler": "dpmpp"}, "known: "),
        ({"sampler": "ddim@karas"}, "did you mean 'karras'"),
        ({"preset": "papr"}, "did you mean 'paper'"),
        ({"predict": "noise"}, "predict"),
        ({"drop_condition": 1.5}, "drop_condition"),
        ({"multipliers": "1,x"}, "multipliers"),
        ({"multiplier": 2}, "did you mean 'multipliers'"),
    ],
    ids=str,
)
def test_wrong_options_say_what_would_be_right(options, said):
    with pytest.raises(WrongUse, match=said):
        parse(DDPMConfig, options)


def test_a_system_knows_only_what_it_is_told():
    """Masks are nothing to a system that draws from noise, nor labels to one that draws from masks."""
    spec = DataSpec(channels=1, size=(16, 16), classes=("a", "b"), mask_classes=2)
    ddpm, polyp = DDPM(DDPMConfig(**TINY), spec), PolypDDPM(PolypDDPMConfig(**TINY), spec)
    assert (ddpm.spec.classes, ddpm.spec.mask_classes) == (("a", "b"), None)
    assert (polyp.spec.classes, polyp.spec.mask_classes) == (None, 2)


def test_mask_systems_refuse_data_without_masks():
    with pytest.raises(WrongUse, match="images/ and masks/"):
        PolypDDPM(PolypDDPMConfig(**TINY), DataSpec(channels=3, size=(16, 16)))


def test_too_few_evaluations_are_refused(ddpm):
    with pytest.raises(WrongUse, match="at least"):
        ddpm.generate(1, steps=1, sampler="heun")


def test_systems_are_found_by_name_and_task():
    segmenters = ["dynunet", "ensemdiff", "hidiff", "ldseg", "medsegdiff", "sdseg", "unet", "zero-shot"]
    restorers = ["dncnn", "i2sb", "ir-sde", "noise2void", "sr3"]
    synthesis = ["controlnet", "ldm", "polyp-ddpm", "seg-guided"]
    assert systems.names() == sorted(["ddpm", "lora", "anoddpm", *synthesis, *restorers, *segmenters])
    assert systems.names(task="synthesis") == synthesis
    assert systems.names(task="restoration") == restorers
    assert systems.names(task="segmentation") == segmenters
    with pytest.raises(WrongUse, match="did you mean 'polyp-ddpm'"):
        systems.get("polyp_ddpm")


def test_tiles_are_a_way_to_draw(by_mask):
    told = {"mask": MASKS.long()}
    whole = by_mask.generate(3, condition=told, steps=3)
    assert torch.equal(by_mask.generate(3, condition=told, steps=3, tile=16), whole)
    way = by_mask.way(steps=3, tile=8)
    assert (way.tile, way.overlap) == (8, 2)
    assert str(way).endswith("in tiles of 8 that overlap by 2")
    assert (by_mask.way(**way.told).tile, by_mask.way(**way.told).overlap) == (8, 2)
    assert by_mask.way(steps=3, tile=16).told == by_mask.way(steps=3).told
    made = by_mask.generate(3, condition=told, steps=3, tile=8, overlap=4)
    assert (made - whole).abs().max() > 1e-4
    alone = by_mask.generate(3, condition=told, steps=3, tile=8, overlap=4, batch=1)
    torch.testing.assert_close(made, alone, rtol=0, atol=1e-5)


def test_pictures_larger_than_any_that_were_trained_on(ddpm):
    """A network of convolutions takes any size; on tiles of its own size it takes no more memory for it."""
    ddpm.spec = ddpm.spec.model_copy(update={"size": (40, 28)})
    shapes = []
    ddpm.denoiser.network.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    assert ddpm.generate(2, steps=2, tile=16).shape == (2, 3, 40, 28)
    assert set(shapes) == {(2, 3, 16, 16)}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tile": 7}, "a side of 2 pixels or a multiple of it with this model, not 7"),
        ({"tile": 0}, "not 0"),
        ({"tile": 8, "overlap": 8}, "overlap by 0 to 7 pixels, not 8"),
        ({"overlap": 2}, "say their side as well"),
        ({"tile": 8, "cache": "deep:2"}, "cache deep:2 keeps what the network saw last, another tile"),
    ],
    ids=str,
)
def test_tiles_that_cannot_be_are_refused(ddpm, how, said):
    with pytest.raises(WrongUse, match=said):
        ddpm.way(**how)


def test_it_learns_where_the_mask_says():
    """Discs brighter than their ground, at random places: after a minute's fraction the drawn ones follow new masks.

    The baseline is a picture that ignores its mask: contrast 0. The data's own contrast is 1.0.
    """
    torch.manual_seed(0)
    places = torch.rand(256, 2) * 12 + 2
    grid = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij"))
    mask = ((grid[None] - places[:, :, None, None]).square().sum(1) < 12).long()
    image = (mask - 0.5)[:, None] + 0.1 * torch.randn(256, 1, 16, 16)
    spec = DataSpec(channels=1, size=(16, 16), mask_classes=2)
    system = PolypDDPM(PolypDDPMConfig(base=16, multipliers=(1, 2), attention=()), spec)
    optimizer = torch.optim.AdamW(system.parameters(), 3e-3, fused=True)
    for step in range(150):
        items = torch.arange(step * 16, step * 16 + 16)
        chosen = items % 192
        loss = system.loss({"image": image[chosen], "mask": mask[chosen]}, noise=Noise(0, items))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    asked = mask[192:224]
    made = system.eval().generate(32, condition={"mask": asked}, steps=8)[:, 0]
    contrast = made[asked == 1].mean() - made[asked == 0].mean()
    assert contrast > 0.7
