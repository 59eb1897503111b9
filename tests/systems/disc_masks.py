"""Discs to be found: pictures whose masks are known, and how well masks are found."""

import torch

from inkwash.corruption.noise import Noise


def discs(count, size=(16, 16), *, classes=2, channels=1, seed=0):
    """Noisy pictures in about [-1, 1] with a disc of each foreground class, and their class maps."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(side)) for side in size], indexing="ij"))
    sides = torch.tensor(size)
    mask = torch.zeros(count, *size, dtype=torch.long)
    image = torch.full((count, channels, *size), -0.6)
    for k in range(1, classes):
        places = (torch.rand(count, len(size), generator=generator) * 0.7 + 0.15) * sides
        away = (grid - places.reshape(count, len(size), *[1] * len(size))).square().sum(dim=1)
        inside = away < (0.22 * min(size)) ** 2
        mask[inside] = k
        image = torch.where(inside[:, None], -0.6 + 1.2 * k / (classes - 1), image)
    return image + 0.3 * torch.randn(image.shape, generator=generator), mask


def trained(system, image, mask, *, steps, batch=16, rate=3e-3, seed=0):
    """The system after so many steps of AdamW on these items, in evaluation mode."""
    optimizer = torch.optim.AdamW(system.parameters(), rate)
    for step in range(steps):
        items = torch.arange(step * batch, step * batch + batch)
        chosen = items % len(image)
        loss = system.loss({"image": image[chosen], "mask": mask[chosen]}, noise=Noise(seed, items))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 1.0)
        optimizer.step()
    return system.eval()


def dice(found, mask, classes=2):
    """The mean over items and foreground classes."""
    scores = []
    for k in range(1, classes):
        a, b = (found == k).flatten(1), (mask == k).flatten(1)
        scores.append(2 * (a & b).sum(dim=1) / (a.sum(dim=1) + b.sum(dim=1)).clamp_min(1))
    return torch.stack(scores).mean().item()
