"""The model card of a run: what it was trained on, how, how good it is, and what it is not for."""

from collections.abc import Mapping, Sequence

import yaml

from inkwash.training.manifest import Manifest

_USE = """\
Research, teaching and method comparison. The images it makes are synthetic.

Not a medical device: not for diagnosis, treatment, or any decision about a patient. Its images share the population,
the scanners and the biases of the data above, and no others. A generative model can reproduce images it was trained
on; compare samples with their nearest training images (`inkwash evaluate`) before sharing them, and share the model
only where the licence of the data allows it."""

# What has a place of its own in the card.
_ELSEWHERE = ("command", "licence", "distilled")


def card(
    manifest: Manifest,
    *,
    command: str,
    title: str = "",
    paper: str = "",
    origin: str = "",
    data_licence: str | None = None,
    metrics: Mapping[str, float] | None = None,
    references: Sequence[str] = (),
) -> str:
    """The card as Markdown, with the front matter model hubs read.

    Args:
        command: what trains this model again.
        title: the system's full name.
        paper: how its paper is cited.
        origin: what it was made from, where that was another run, as the words of a paragraph.
        data_licence: of the data it was trained on; a model carries its terms. None when nobody said.
        metrics: name and value of what was measured.
        references: the papers behind the parts, a line each.
    """
    front = {
        "library_name": "inkwash",
        "license": "other",
        "license_name": data_licence or "unknown",
        "tags": ["diffusion", manifest.system],
    }
    spec, data = manifest.spec, manifest.data
    shape = f"{spec.channels} x {' x '.join(map(str, spec.size))}"
    told = "".join(f"- {k}: {v}\n" for k, v in data.items() if v is not None and k not in _ELSEWHERE)
    licence = data_licence or "not stated; find out before sharing the model"
    table = "".join(f"| {name} | {value:.4g} |\n" for name, value in (metrics or {}).items())
    measured = f"| metric | value |\n|---|---|\n{table}" if table else "Nothing was measured yet: `inkwash evaluate`.\n"
    cited = "\n## References\n\n" + "".join(f"- {line}\n" for line in references) if references else ""
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"
        f"# {title or manifest.system}\n\n"
        f"Trained with Inkwash {manifest.inkwash} (PyTorch {manifest.torch}).{' ' + paper if paper else ''}\n\n"
        f"{origin + chr(10) * 2 if origin else ''}"
        f"## Data\n\n{told}- images: {shape}\n- licence: {licence}\n\n"
        f"## Training\n\n```\n{command}\n```\n\nThe options are in `config.yaml`, the course in `metrics.jsonl`.\n\n"
        f"## Measured\n\n{measured}\n"
        f"## Intended use and limits\n\n{_USE}\n"
        f"{cited}"
    )
