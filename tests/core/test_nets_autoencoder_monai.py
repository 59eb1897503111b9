"""MONAI's autoencoder behind ours: the same numbers, any size, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from inkwash.errors import WrongUse
from inkwash.nets.adapters.monai_autoencoder import FrozenMonaiKL, load

nets = pytest.importorskip("monai.networks.nets")


def told(spatial, **options):
    return {
        "spatial_dims": spatial, "in_channels": 1, "out_channels": 1, "channels": [8, 8, 16], "latent_channels": 3,
        "num_res_blocks": 1, "norm_num_groups": 4, "attention_levels": [False] * 3, **options,
    }  # fmt: skip


def written(folder, spatial, *, seed=0, **options):
    """The weights of a tiny random autoencoder and its arguments beside them."""
    torch.manual_seed(seed)
    vae = nets.AutoencoderKL(**told(spatial, **options))
    save_file(vae.state_dict(), folder / "vae.safetensors")
    (folder / "vae.json").write_text(json.dumps({"_target_": "monai.networks.nets.AutoencoderKL", **told(spatial)}))
    return folder / "vae.safetensors", vae.eval()


@pytest.mark.parametrize("spatial", [2, 3])
def test_codes_and_pictures_are_monais(tmp_path, spatial):
    path, vae = written(tmp_path, spatial)
    frozen = load(path)
    assert (frozen.spatial, frozen.channels, frozen.pictures, frozen.factor) == (spatial, 3, 1, 4)
    x = torch.randn(2, 1, *[8] * spatial)
    code = frozen.encode(x)
    with torch.no_grad():
        mean, std = vae.encode(x)
        torch.testing.assert_close(code.mean, mean)
        torch.testing.assert_close((code.log_var / 2).exp(), std)
        torch.testing.assert_close(frozen.decode(mean, (8,) * spatial), vae.decode(mean))
    odd = (9, 6, 5)[:spatial]
    z = frozen.encode(torch.randn(1, 1, *odd)).mean
    assert tuple(z.shape[2:]) == frozen.size_of(odd)
    assert frozen.decode(z, odd).shape == (1, 1, *odd)


def test_its_weights_are_in_no_state_and_others_are_refused(tmp_path):
    frozen = load(written(tmp_path, 2)[0])
    kept = frozen.state_dict()
    assert list(kept) == ["fingerprint"]
    assert list(frozen.parameters()) == []
    with pytest.raises(WrongUse, match="not the weights it was trained with"):
        load(written(tmp_path, 2, seed=1)[0]).load_state_dict(kept)


def test_what_is_no_such_autoencoder_is_refused(tmp_path):
    path, vae = written(tmp_path, 2)
    with pytest.raises(WrongUse, match="no such file"):
        load(tmp_path / "other.safetensors")
    (tmp_path / "vae.json").write_text(json.dumps({"_target_": "VQVAE"}))
    with pytest.raises(WrongUse, match="describes a VQVAE"):
        load(path)
    (tmp_path / "vae.json").write_text(json.dumps(told(2, latent_channels=2)))
    with pytest.raises(WrongUse, match=r"vae.json these are no weights"):
        load(path)
    (tmp_path / "vae.json").unlink()
    with pytest.raises(WrongUse, match=r"vae.json beside it must hold"):
        load(path)
    with pytest.raises(WrongUse, match="is Linear"):
        FrozenMonaiKL(torch.nn.Linear(1, 1))
    with pytest.raises(WrongUse, match="takes 1 channels and gives 2"):
        FrozenMonaiKL(nets.AutoencoderKL(**told(2, out_channels=2)))
    with pytest.raises(WrongUse, match="a picture of 2 channels"):
        FrozenMonaiKL(vae).encode(torch.zeros(1, 2, 8, 8))
