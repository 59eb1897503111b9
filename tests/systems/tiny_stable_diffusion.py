"""A tiny random Stable Diffusion in the format of diffusers: U-Net, autoencoder, text encoder and tokenizer."""

import json
from pathlib import Path

import torch


def write_stable_diffusion(folder: Path, *, seed: int = 0) -> Path:
    import diffusers
    import transformers

    torch.manual_seed(seed)
    unet = diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn1.to_q" in name or "attn1.to_k" in name:
                parameter.mul_(2)  # random weights would attend to everything alike
    unet.save_pretrained(folder / "unet")
    diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokens = folder / "tokenizer"
    tokens.mkdir()
    (tokens / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (tokens / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(tokens / "vocab.json"), str(tokens / "merges.txt")).save_pretrained(tokens)
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=9,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder
