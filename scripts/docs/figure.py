"""The picture of the page on the three words: exact walks from noise to data that takes two values, or nearly."""

from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.colors import LinearSegmentedColormap, to_rgba

from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import GaussianMixture
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import walk

# Light and dark: ink, wash, accent.
COLOURS = {"light": ("#1f1c18", "#8a8478", "#b23a2e"), "dark": ("#e9e3d6", "#8f887a", "#e0685a")}


def draw(folder: Path) -> None:
    """Write `walks-light.svg` and `walks-dark.svg`: density, walks of DDIM, and what is believed at the start."""
    denoiser = GaussianMixture(torch.tensor([0.35, 0.65]), torch.tensor([[-1.0], [0.8]]), Cosine(), std=0.12)
    noise = Noise(seed=3, items=range(14))
    z = denoiser.corruption.prior((1,), noise=noise, dtype=torch.float64)
    steps = list(walk(denoiser, DDIM(), Grid.uniform(60), z, noise=noise))
    times = [1.0, *(step.s for step in steps)]
    paths = torch.stack([z, *(step.z for step in steps)])[..., 0].numpy()
    t, x = np.linspace(0.004, 1.0, 160), np.linspace(-2.6, 2.6, 220)
    places = torch.tensor(x)[:, None]
    density = np.array([denoiser.log_prob(places, float(now)).exp().numpy() for now in t])
    density /= density.max(axis=1, keepdims=True)
    for theme, (ink, wash, accent) in COLOURS.items():
        with matplotlib.rc_context({"svg.hashsalt": "inkwash", "font.size": 11, "axes.edgecolor": wash}):
            figure, axes = pyplot.subplots(figsize=(8.4, 3.4))
            tones = LinearSegmentedColormap.from_list("wash", [to_rgba(ink, 0.0), to_rgba(ink, 0.5)])
            extent = (0.0, 1.0, x[0], x[-1])
            axes.imshow(density.T, extent=extent, origin="lower", aspect="auto", cmap=tones, interpolation="bilinear")
            axes.plot(times, paths, color=ink, linewidth=0.8, alpha=0.75)
            axes.plot(times, paths[:, 2], color=accent, linewidth=1.8)
            axes.plot(times[:: len(steps)], paths[:: len(steps), 2], "o", color=accent, markersize=5, clip_on=False)
            axes.set(xlim=(0, 1), ylim=(-2.6, 2.6), xticks=[0, 1], yticks=[])
            axes.set_xticklabels(["$t = 0$", "$t = 1$"])
            axes.tick_params(colors=wash, length=0)
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            path = folder / f"walks-{theme}.svg"
            figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
            pyplot.close(figure)
