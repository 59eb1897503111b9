"""Stable Diffusion's autoencoder, against diffusers itself, on a tiny random checkpoint in the real format."""

import json

import pytest
import torch
from tiny_vae import tiny_vae
from torch import nn

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.nets.adapters.autoencoder_kl import FrozenKL, load

diffusers = pytest.importorskip("diffusers")


@pytest.fixture
def folder(tmp_path):
    tiny_vae().save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_it_is_what_diffusers_computes(folder):
    ours, theirs = load(folder), diffusers.AutoencoderKL.from_pretrained(folder).eval()
    assert (ours.channels, ours.pictures, ours.factor) == (4, 3, 4)
    x = torch.randn(2, 3, 16, 24)
    code = ours.encode(x)
    with torch.no_grad():
        said = theirs.encode(x).latent_dist
        torch.testing.assert_close(code.mean, said.mean)
        torch.testing.assert_close(code.log_var, said.logvar)
        torch.testing.assert_close(ours.decode(code.mean, (16, 24)), theirs.decode(said.mean).sample)
    assert code.sample(Noise(0, [0, 1])).shape == (2, 4, *ours.size_of((16, 24)))


def test_one_channel_is_copied_and_any_size_is_filled_up(folder):
    vae = load(folder)
    x = torch.randn(1, 1, 13, 10)
    code = vae.encode(x).mean
    assert code.shape[2:] == vae.size_of((13, 10)) == (4, 3)
    assert torch.equal(vae.encode(x.expand(-1, 3, -1, -1)).mean, code)
    assert vae.decode(code, (13, 10)).shape == (1, 3, 13, 10)
    with pytest.raises(WrongUse, match="takes 3"):
        vae.encode(torch.randn(1, 2, 8, 8))


def test_it_is_never_trained_and_never_stored_but_moves(folder):
    holder = nn.ModuleDict({"vae": load(folder)})
    assert list(holder.parameters()) == []
    assert list(holder.state_dict()) == ["vae.fingerprint"]
    holder.train().double()
    code = holder["vae"].encode(torch.randn(1, 1, 8, 8).double())
    assert code.mean.dtype == torch.float64
    assert not code.mean.requires_grad


def test_another_autoencoder_is_refused(folder, tmp_path):
    tiny_vae(seed=1).save_pretrained(tmp_path / "other")
    kept = load(folder).state_dict()
    load(folder).load_state_dict(kept)
    with pytest.raises(WrongUse, match=r"other.*the folder that was used"):
        load(tmp_path / "other").load_state_dict(kept)


@pytest.mark.parametrize("options", [{}, {"use_quant_conv": False, "use_post_quant_conv": False}], ids=str)
def test_the_encoder_of_images_begins_as_the_autoencoders_mean(options):
    theirs = tiny_vae(**options)
    vae = FrozenKL(theirs)
    encoder = vae.image_encoder(3, dropout=0.2)
    x = torch.randn(2, 3, 12, 16)
    torch.testing.assert_close(encoder.eval()(x), 0.18215 * vae.encode(x).mean)
    assert encoder.train()(x).ne(encoder(x)).any()
    encoder(x).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert all(p.grad is None for p in theirs.parameters())


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_may_have_any_number_of_channels(channels):
    vae = FrozenKL(tiny_vae())
    made = vae.image_encoder(channels, dropout=0.0)(torch.randn(2, channels, 9, 16))
    assert made.shape == (2, 4, 3, 4)


def test_wrong_folders_say_what_would_be_right(folder, tmp_path):
    with pytest.raises(WrongUse, match="vae folder"):
        load(tmp_path)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(WrongUse, match="holds a UNet2DModel"):
        load(tmp_path / "unet")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WrongUse, match=str(folder)):
        load(folder)


def test_other_modules_are_refused():
    with pytest.raises(WrongUse, match="Linear"):
        FrozenKL(nn.Linear(1, 1))
    with pytest.raises(WrongUse, match="gives back the channels"):
        FrozenKL(tiny_vae(out_channels=1))
