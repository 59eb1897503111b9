"""Train the bundled feature network: `python scripts/train_features.py PACKS [--minutes 5] [--seed 0]`.

PACKS is a folder with the openly licensed packs named in `SOURCES`. What is learned is made from the pictures
themselves, and each part of it is something that a distance between sets of pictures should feel:

- which picture a crop is from (Dosovitskiy et al., "Discriminative unsupervised feature learning", NeurIPS 2014)
  and which group of pictures that one belongs to: content;
- by how many quarter turns it is rotated (Gidaris, Singh & Komodakis, ICLR 2018): layout;
- what was done to it and how strongly: blur, noise, contrast, colour cast, shuffled patches, a pasted piece,
  a warp, a checkerboard: quality.

Writes `features.safetensors` and its model card `features.md`.
"""

import argparse
import csv
import datetime
import io
import platform
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.evaluation.features import WEIGHTS, Compact

SOURCES = {
    "retina_vessel_chasedb1": ("CHASE_DB1: Fraz et al., IEEE TBME 2012", "CC BY 4.0"),
    "retina_dr_grading_idrid": ("IDRiD, disease grading: Porwal et al., Data 2018", "CC BY 4.0"),
    "retina_lesions_idrid": ("IDRiD, segmentation: Porwal et al., Data 2018", "CC BY 4.0"),
    "cxr_lungs_shenzhen": ("Shenzhen chest X-rays: Jaeger et al., QIMS 2014 (NLM)", "CC0 1.0"),
    "medmnist": ("BreastMNIST, PneumoniaMNIST: Yang et al., Scientific Data 2023", "CC BY 4.0"),
}
KINDS = ("none", "blur", "noise", "contrast", "colour cast", "shuffled patches", "pasted piece", "warp", "checkerboard")
SIDE, SIZE = 96, Compact.size


def read(packs: Path) -> list[tuple[Image.Image, str, bool]]:
    """Every picture with the group it belongs to and whether it is held out."""
    found = []
    for pack, group in (("retina_dr_grading_idrid", "dr_grade"), ("cxr_lungs_shenzhen", "tb"),
                        ("retina_vessel_chasedb1", None), ("retina_lesions_idrid", None)):
        with zipfile.ZipFile(packs / pack / "data.zip") as archive:
            for row in csv.DictReader(io.StringIO(archive.read("index.csv").decode())):
                image = Image.open(io.BytesIO(archive.read(row["image"]))).convert("RGB")
                held = row["split"] == "test"
                found.append((image, f"{pack} {row[group]}" if group else pack, held))
                if group is None:  # large pictures: their quarters are pictures of their own
                    w, h = image.size
                    for x, y in ((0, 0), (w // 2, 0), (0, h // 2), (w // 2, h // 2)):
                        found.append((image.crop((x, y, x + w // 2, y + h // 2)), f"{pack} quarter", held))
    for file in sorted((packs / "medmnist").glob("*.npz")):
        arrays = np.load(file)
        for split in ("train", "val"):
            for image, label in zip(arrays[f"{split}_images"], arrays[f"{split}_labels"].ravel()):
                found.append((Image.fromarray(image).convert("RGB"), f"{file.stem} {label}", split == "val"))
    return found


def stack(images: list[Image.Image]) -> Tensor:
    pixels = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for image in images]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def crop(images: Tensor, noise: Noise) -> Tensor:
    """A random part of each picture, 0.6 to 1 of its side, mirrored half of the time, in [-1, 1]."""
    u = noise.uniform((4,), "crop")
    side = 0.6 + 0.4 * u[:, 0]
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = side * torch.where(u[:, 3] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = side
    theta[:, :, 2] = (2 * u[:, 1:3] - 1) * (1 - side[:, None])
    grid = F.affine_grid(theta, [len(images), 3, SIZE, SIZE], align_corners=False)
    return F.grid_sample(images.float() / 127.5 - 1, grid, padding_mode="reflection", align_corners=False)


def distort(x: Tensor, kind: str, amount: Tensor, noise: Noise) -> Tensor:
    """Do `kind` to every picture, as strongly as its `amount` in (0, 1]."""
    n, a = len(x), amount.reshape(-1, 1, 1, 1)
    if kind == "blur":
        fy, fx = torch.fft.fftfreq(SIZE), torch.fft.rfftfreq(SIZE)
        response = torch.exp(-2 * (torch.pi * (0.4 + 2.6 * a)) ** 2 * (fy[:, None] ** 2 + fx**2))
        return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=(SIZE, SIZE))
    if kind == "noise":
        return x + (0.04 + 0.4 * a) * noise.normal((3, SIZE, SIZE), "noise")
    if kind == "contrast":
        sign = torch.where(noise.uniform((1, 1, 1), "sign") < 0.5, -1.0, 1.0)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        return ((x - mean) * torch.exp(sign * (0.2 + 0.9 * a)) + mean).clamp(-1, 1)
    if kind == "colour cast":
        return (x + (0.1 + 0.5 * a) * (2 * noise.uniform((3, 1, 1), "cast") - 1)).clamp(-1, 1)
    if kind == "shuffled patches":
        side = SIZE // 8
        patches = F.unfold(x, side, stride=side)
        order = (torch.arange(64.0) + (2 + 62 * amount[:, None]) * noise.uniform((64,), "order")).argsort(dim=1)
        return F.fold(patches.gather(2, order[:, None].expand_as(patches)), SIZE, side, stride=side)
    if kind == "pasted piece":
        u = noise.uniform((2, 1, 1), "piece") * (1 - 0.7 * amount.sqrt().reshape(-1, 1, 1, 1))
        place = torch.arange(SIZE) / SIZE
        inside = (place >= u) & (place < u + 0.7 * amount.sqrt().reshape(-1, 1, 1, 1))
        return torch.where((inside[:, 0, :, :].mT & inside[:, 1, :, :])[:, None], x.roll(1, dims=0), x)
    if kind == "warp":
        coarse = (0.03 + 0.17 * a) * noise.normal((2, 5, 5), "warp")
        field = F.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        still = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 3, SIZE, SIZE], align_corners=False)
        return F.grid_sample(x, still + field, padding_mode="reflection", align_corners=False)
    if kind == "checkerboard":
        i = torch.arange(SIZE)
        return x + (0.03 + 0.2 * a) * (1 - 2 * ((i[:, None] + i) % 2))
    return x


def exercise(images: Tensor, seed: int, items: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A batch of crops, rotated and distorted, and what was done to each."""
    noise = Noise(seed, items)
    u = noise.uniform((3,), "exercise")
    truth = {"turns": (4 * u[:, 0]).long(), "kind": (len(KINDS) * u[:, 1]).long()}
    truth["amount"] = torch.where(truth["kind"] == 0, 0.0, u[:, 2])
    x = crop(images, noise)
    for turns in range(4):
        x = torch.where((truth["turns"] == turns).reshape(-1, 1, 1, 1), x.rot90(turns, (2, 3)), x)
    out = x.clone()
    for number, kind in enumerate(KINDS):
        chosen = truth["kind"] == number
        if chosen.any():
            out[chosen] = distort(x[chosen], kind, truth["amount"][chosen], Noise(seed, items[chosen]))
    return out, truth


class Heads(nn.Module):
    """What is asked of the features; thrown away afterwards."""

    def __init__(self, features: int, pictures: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.picture, self.group = nn.Linear(features, pictures), nn.Linear(features, groups)
        self.turns, self.kind, self.amount = (nn.Linear(features, k) for k in (4, len(KINDS), 1))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        f = self.norm(features)
        asked = {"picture": self.picture, "group": self.group, "turns": self.turns, "kind": self.kind}
        return {name: head(f) for name, head in asked.items()} | {"amount": self.amount(f)[:, 0]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled feature network.")
    parser.add_argument("packs", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int, help="instead of --minutes: exactly so many, which repeats exactly")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()

    pictures = read(options.packs)
    names = sorted({group for _, group, _ in pictures})
    sets = {}
    for held in (False, True):
        part = [p for p in pictures if p[2] == held]
        sets[held] = stack([p[0] for p in part]), torch.tensor([names.index(p[1]) for p in part])
    images, groups = sets[False]

    torch.manual_seed(options.seed)
    network = Compact(weights=None).to(memory_format=torch.channels_last)
    heads = Heads(network.num_features, len(images), len(names))
    parameters = [*network.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.02)
    started, step, done = time.monotonic(), 0, 0.0
    while done < 1.0:
        items = torch.arange(step * options.batch, (step + 1) * options.batch)
        chosen = (Noise(options.seed, items).uniform((), "which") * len(images)).long()
        x, truth = exercise(images[chosen], options.seed, items)
        truth |= {"picture": chosen, "group": groups[chosen]}
        guess = heads(network.pooled(x))
        losses = {name: F.cross_entropy(guess[name], truth[name]) for name in ("picture", "group", "turns", "kind")}
        losses["amount"] = 10 * F.mse_loss(guess["amount"], truth["amount"])
        optimiser.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 50) * (1 - done) ** 0.5
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        step += 1
        done = step / options.steps if options.steps else (time.monotonic() - started) / (60 * options.minutes)
        if step % 20 == 0:
            print(f"step {step} ({done:.0%}) " + " ".join(f"{k} {v.item():.2f}" for k, v in losses.items()), flush=True)
    seconds = time.process_time()

    network.eval(), heads.eval()
    with torch.no_grad():
        clean = images.float() / 127.5 - 1
        features = torch.cat([network.pooled(part) for part in clean.split(256)])
        network.centre.copy_(features.mean(0))
        network.spread.copy_(features.std(0).clamp_min(1e-3))

        held, held_groups = (part.repeat(4, *[1] * (part.ndim - 1)) for part in sets[True])
        x, truth = exercise(held, options.seed + 1, torch.arange(len(held)))
        truth["group"] = held_groups
        guesses = [heads(network.pooled(part)) for part in x.split(256)]
        guess = {name: torch.cat([g[name] for g in guesses]) for name in guesses[0]}
        scores = {k: (guess[k].argmax(1) == truth[k]).float().mean().item() for k in ("group", "turns", "kind")}
        amount = torch.corrcoef(torch.stack([guess["amount"], truth["amount"]]))[0, 1].item()

    options.out.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, options.out, metadata={"network": "inkwash compact feature network", "seed": str(options.seed)})
    packs = "\n".join(f"- {title}, {licence}" for title, licence in SOURCES.values())
    options.out.with_suffix(".md").write_text(f"""\
# The compact feature network

Turns a picture into {network.num_features} numbers. Inkwash measures FID, KID, precision, recall, density, coverage
and memorisation between these, always, with nothing to download.

**What it is not.** Not Inception-v3: its distances are not comparable with published FIDs, only with other distances
measured by these same weights. It saw fundus photographs, chest X-rays and breast ultrasound; for other pictures it
is a network of general texture and layout. It is not a diagnostic model.

**What goes in.** Pictures in [-1, 1], one or three channels, any size: grey is repeated, resized to 64 x 64 by an
anti-aliased bilinear filter in floating point, never rounded to 8 bits. Out come the spatial means of four depths
({", ".join(map(str, network.widths))} channels), each standardised over the clean training pictures.

**Data** ({len(images)} training pictures, {len(sets[True][0])} held out by the packs' own splits):

{packs}

**Task.** From a random crop, rotated and distorted: which training picture it is, which of {len(names)} groups that
belongs to, the quarter turns, the distortion and its amount (from {", ".join(KINDS[:5])},
{", ".join(KINDS[5:])}). The heads are not kept.

**Measured on held-out pictures**, four exercises of each (chance in brackets): group {scores["group"]:.1%}
({1 / len(names):.1%}), turns {scores["turns"]:.1%} (25.0%), distortion {scores["kind"]:.1%} ({1 / len(KINDS):.1%});
correlation of the amount {amount:.2f}. Some IDRiD photographs are in both of its packs, so a few were seen.

**Made by** `python scripts/train_features.py PACKS --steps {step} --batch {options.batch} --seed {options.seed}`:
{seconds:.0f} s of one thread, {platform.machine()}, PyTorch {torch.__version__}, {datetime.date.today()}.

**Licence.** The weights are Apache-2.0, like the library; the pictures, which are not included, are their owners'.
""")
    print(options.out, {**scores, "amount": amount}, f"{options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
