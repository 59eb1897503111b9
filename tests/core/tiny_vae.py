"""A tiny random AutoencoderKL of diffusers, with every branch awake."""

import torch


def tiny_vae(*, seed=0, **options):
    import diffusers

    torch.manual_seed(seed)
    vae = diffusers.AutoencoderKL(
        **{
            "block_out_channels": (8, 8, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "latent_channels": 4,
            "norm_num_groups": 4,
            "sample_size": 16,
            **options,
        }
    )
    return vae.eval()
