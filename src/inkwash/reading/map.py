"""The reading list as one picture: what stands in it, which lines join it, and the page that shows it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from inkwash.errors import unknown
from inkwash.reading.language import WORDS, Language
from inkwash.reading.map_schema import Branch, FieldMap, Line, Part, Reading, Relation, Run, Spot, System, Trainable
from inkwash.reading.map_words import AROUND, MAP_WORDS, PARTS
from inkwash.reading.schema import Entry, Node, Runs, Text
from inkwash.reading.shelf import Shelf

Commands = Callable[[Runs], list[str]]

_HERE = Path(__file__).parent
_SCRIPTS = ("map_model.js", "map_panel.js", "map_lines.js", "map.js")
_SHARED = (
    *("survey", "paper", "tool", "tutorial", "notebook", "medical", "added", "others"),
    *("changes", "run it", "from python", "uncovered", "tree", "missing", "stands on", "stood on"),
)

# Which part of a diffusion model a thing that runs belongs to. What is named nowhere lies around the model.
_OF_OPTION = {
    "schedule": "corruption",
    "shift": "corruption",
    "predict": "denoiser",
    "weighting": "denoiser",
    "times": "denoiser",
    "self_conditioning": "denoiser",
    "learned_variance": "denoiser",
    "patch": "denoiser",
    "sampler": "sampler",
    "guidance": "condition",
    "drop_condition": "condition",
}
_PIECES = ("system", "sampler", "set", "metric", "command", "code")
_OF_MODULE = {  # the first that fits
    "inkwash.corruption": "corruption",
    "inkwash.denoise": "denoiser",
    "inkwash.nets": "denoiser",
    "inkwash.sampling.guidance": "condition",
    "inkwash.sampling": "sampler",
}


def build(shelf: Shelf, systems: Sequence[Trainable], commands: Commands) -> FieldMap:
    """The picture of everything on `shelf`.

    Args:
        commands: what to type for something that runs.

    Raises:
        WrongUse: the list says that a system runs which is not among `systems`.
    """
    said = {str(run): run for entry in shelf.entries.values() for run in shelf.runs(entry)}
    known = {system.name for system in systems}
    for run in said.values():
        if run.kind == "system" and run.name not in known:
            raise unknown("system", run.name, known)
    spots = [
        *_entries(shelf),
        *_families(shelf),
        *(Part(id=f"part:{name}", column="part", label=WORDS[name], about=about) for name, about in PARTS.items()),
        Part(id="part:around", column="part", label=MAP_WORDS["around"], about=AROUND),
        *_pieces(said.values()),
        *(_system(system, shelf) for system in systems),
    ]
    runs = {name: Run(spot=_spot(run), commands=commands(run)) for name, run in said.items()}
    lines = dict.fromkeys([*_lines_of_entries(shelf), *_lines_of_runs(said.values(), systems)])
    return FieldMap(spots=spots, lines=[Line(source=a, target=b, relation=how) for a, b, how in lines], runs=runs)


def page(field: FieldMap, language: Language, version: str) -> str:
    """The picture as one HTML page that needs nothing beside itself; it opens in `language` and holds both.

    Args:
        version: of what runs the commands.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # `tojson` writes <, > and & as \u003c and so on, so that no text can end the script that it stands in.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    words = {name: text.model_dump() for name, text in {**{k: WORDS[k] for k in _SHARED}, **MAP_WORDS}.items()}
    data = {**field.model_dump(mode="json"), "words": words, "language": language}
    return environment.get_template("map.html.j2").render(
        data=data,
        language=language,
        version=version,
        style=_inlined("map.css"),
        scripts=[_inlined(name) for name in _SCRIPTS],
    )


def _inlined(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _entries(shelf: Shelf) -> Iterable[Reading]:
    for entry in sorted(shelf.entries.values(), key=lambda entry: (entry.year, entry.kind != "paper")):
        survey = entry.kind == "survey"
        tree = shelf.trees.get(entry.key)
        leaves = tree.leaves() if tree else []
        yield Reading(
            **entry.model_dump(
                include={"kind", "title", "authors", "year", "venue", "url", "arxiv", "topics", "medical", "builds_on"}
            ),
            id=entry.key,
            column="survey" if survey else "paper",
            label=entry.title if survey else entry.key,
            within=None if survey else f"topic:{entry.topics[0]}",
            status=shelf.status(entry),
            share=(sum(bool(leaf.runs) for leaf in leaves), len(leaves)) if leaves else None,
            added=entry.seed is None,
            summary=entry.summary,
            changes=entry.changes,
            runs=[str(run) for run in entry.runs],
            uncovered=entry.uncovered,
            tree=[_branch(node) for node in tree.nodes] if tree else [],
        )


def _branch(node: Node) -> Branch:
    return Branch(
        en=node.en,
        zh=node.zh,
        children=[_branch(child) for child in node.children],
        reads=node.reads,
        runs=[str(run) for run in node.runs],
        missing=node.missing,
    )


def _families(shelf: Shelf) -> Iterable[Spot]:
    for topic in shelf.topics.values():
        states = [shelf.status(e) for e in shelf.entries.values() if e.kind != "survey" and topic.key in e.topics]
        running = sum(state != "none" for state in states)
        yield Spot(
            id=f"topic:{topic.key}",
            column="family",
            label=Text(en=topic.en, zh=topic.zh),
            status="none" if not running else "whole" if set(states) == {"whole"} else "part",
            share=(running, len(states)),
        )


def _spot(run: Runs) -> str:
    """Whole command lines share the spot of their verb."""
    return f"command:{' '.join(run.name.split()[:2])}" if run.kind == "command" else str(run)


def _pieces(said: Iterable[Runs]) -> Iterable[Spot]:
    runs = {_spot(run): run for run in sorted(said, key=_place) if run.kind != "system"}
    names = Counter(map(_short, runs.values()))
    for spot, run in runs.items():
        name, module = _short(run), run.name.partition(":")[0].rpartition(".")[2]
        label = f"{module}.{name}" if names[name] > 1 and run.kind == "code" else name
        yield Spot(id=spot, column="piece", label=label, within=f"part:{_part(run)}")


def _short(run: Runs) -> str:
    return _spot(run).rpartition(":")[2]


def _place(run: Runs) -> tuple[int, int]:
    """What one types comes before what one imports; the values of an option stand together."""
    option = run.name.partition("=")[0]
    return _PIECES.index(run.kind), [*_OF_OPTION, option].index(option)


def _part(run: Runs) -> str:
    if run.kind == "sampler":
        return "sampler"
    if run.kind == "set":
        return _OF_OPTION.get(run.name.partition("=")[0], "around")
    if run.kind == "code":
        return next((part for module, part in _OF_MODULE.items() if run.name.startswith(module)), "around")
    return "around"


def _system(system: Trainable, shelf: Shelf) -> System:
    topic = shelf.topics.get(system.task)
    return System(
        id=f"system:{system.name}",
        column="system",
        label=system.name,
        title=system.title,
        task=Text(en=topic.en, zh=topic.zh) if topic else system.task,
        commands=system.commands,
    )


def _lines_of_entries(shelf: Shelf) -> Iterable[tuple[str, str, Relation]]:
    for entry in shelf.entries.values():
        yield from ((entry.key, f"topic:{topic}", "topic") for topic in entry.topics)
        yield from ((entry.key, key, "builds_on") for key in entry.builds_on)
        yield from ((entry.key, f"part:{change.part}", "changes") for change in entry.changes)
        yield from ((entry.key, _spot(run), "runs") for run in shelf.runs(entry))
        yield from ((entry.key, key, "reads") for key in _reads(shelf, entry))


def _reads(shelf: Shelf, survey: Entry) -> Iterable[str]:
    tree = shelf.trees.get(survey.key)
    # A survey may stand in its own tree.
    return (key for leaf in (tree.leaves() if tree else []) for key in leaf.reads if key != survey.key)


def _lines_of_runs(said: Iterable[Runs], systems: Sequence[Trainable]) -> Iterable[tuple[str, str, Relation]]:
    for run in said:
        if run.kind == "system":
            continue
        yield _spot(run), f"part:{_part(run)}", "part"
        yield from ((_spot(run), f"system:{system.name}", "takes") for system in systems if str(run) in system.takes)
