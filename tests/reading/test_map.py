"""The map: complete, in both languages, safe to open, and it can be walked from a survey to a command."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from inkwash import systems
from inkwash.api.field_map import field_map, trainable
from inkwash.api.runnable import commands
from inkwash.cli.map import field_map as verb
from inkwash.errors import WrongUse
from inkwash.reading import Shelf, shelf
from inkwash.reading.map import build, page
from inkwash.reading.map_schema import FieldMap, Trainable

SOURCES = Path(__file__).parents[2] / "src" / "inkwash" / "reading"
LIMIT = 1_500_000
HAN = re.compile(r"[\u4e00-\u9fff]")
WICKED = "</script><script>alert(1)</script><!-- & \u2028 ' \" {{ 7 * 7 }}"

LOADS = ["code:inkwash.nets.adapters.diffusers:load", "code:inkwash.nets.adapters.guided_diffusion:load"]


def entry(key: str, **said: object) -> dict[str, object]:
    return {
        "key": key,
        "kind": "paper",
        "title": f"The {key}",
        "authors": ["A. One", "others"],
        "year": 2020,
        "venue": "Somewhere",
        "publication": "conference",
        "url": f"https://example.org/{key}",
        "topics": ["graphs"],
        "summary": {"en": "One sentence. Another.", "zh": "一句话。又一句。"},
        "uncovered": {"en": "The rest.", "zh": "其余部分。"},
        **said,
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A survey, three papers and a tool, one of them with a title that means harm."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(SOURCES / "topics.yaml", home)
    entries = [
        entry("a-survey", kind="survey", title="A Survey"),
        entry("wicked", title=WICKED, runs=["sampler:ddim", "set:predict=v", "code:inkwash.nets.dit:DiT", *LOADS]),
        entry("runs", runs=["system:ddpm", "command:inkwash data PATH"], uncovered=None, builds_on=["wicked"]),
        entry("not-yet", changes=[{"part": "condition", "en": "A mask.", "zh": "掩膜。"}], topics=["video", "graphs"]),
        entry("a-tool", kind="tool", runs=["command:inkwash data PATH --json"]),
    ]
    leaves = [
        {"en": "One", "zh": "其一", "reads": ["runs", "a-survey"], "runs": ["system:ddpm", "metric:FID"]},
        {"en": "Two", "zh": "其二", "missing": {"en": "all of it", "zh": "全部"}},
    ]
    tree = {"survey": "a-survey", "nodes": [{"en": "All", "zh": "全部", "children": leaves}]}
    (home / "list.yaml").write_text(yaml.safe_dump({"entries": entries}, allow_unicode=True), encoding="utf-8")
    (home / "trees").mkdir()
    (home / "trees" / "a-survey.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return Shelf(home)


@pytest.fixture(scope="module", params=["small", "bundled"])
def home(request: pytest.FixtureRequest) -> Shelf:
    return request.getfixturevalue("small") if request.param == "small" else shelf()


@pytest.fixture(scope="module")
def field(home: Shelf) -> FieldMap:
    return build(home, trainable(home), commands)


def lines(field: FieldMap) -> set[tuple[str, str, str]]:
    return {(line.source, line.target, line.relation) for line in field.lines}


def test_everything_is_in_the_picture_once(field, home):
    ids = [spot.id for spot in field.spots]
    assert len(ids) == len(set(ids))
    runs = {run for entry in home.entries.values() for run in home.runs(entry)}
    pieces = {str(run) for run in runs if run.kind not in ("command", "system")}
    pieces |= {f"command:{' '.join(run.name.split()[:2])}" for run in runs if run.kind == "command"}
    parts = {"part:corruption", "part:denoiser", "part:sampler", "part:condition", "part:around"}
    families = {f"topic:{topic}" for topic in home.topics}
    assert set(ids) == {*home.entries, *families, *parts, *pieces, *(f"system:{name}" for name in systems.names())}


def test_every_line_and_every_name_leads_somewhere(field):
    ids = {spot.id for spot in field.spots}
    assert all({line.source, line.target} <= ids and line.source != line.target for line in field.lines)
    assert {spot.within for spot in field.spots} - {None} <= ids
    assert {run.spot for run in field.runs.values()} <= ids
    assert all(run.commands for run in field.runs.values())
    for spot in field.spots:
        said = spot.model_dump()
        assert (spot.within is None) == (spot.column in ("survey", "family", "part", "system"))
        assert set(said.get("runs", [])) <= set(field.runs)
        for leaf in leaves(said.get("tree", [])):
            assert set(leaf["reads"]) <= ids
            assert set(leaf["runs"]) <= set(field.runs)


def leaves(branches: list[dict]) -> Iterator[dict]:
    for branch in branches:
        yield from leaves(branch["children"]) if branch["children"] else [branch]


def test_the_lines_are_those_of_the_list(field, home):
    drawn = lines(field)
    for entry in home.entries.values():
        assert {(entry.key, f"topic:{topic}", "topic") for topic in entry.topics} <= drawn
        assert {(entry.key, key, "builds_on") for key in entry.builds_on} <= drawn
        assert {(entry.key, f"part:{change.part}", "changes") for change in entry.changes} <= drawn
        assert {(entry.key, field.runs[str(run)].spot, "runs") for run in home.runs(entry)} <= drawn
    for tree in home.trees.values():
        reads = {key for leaf in tree.leaves() for key in leaf.reads} - {tree.survey}
        assert {(tree.survey, key, "reads") for key in reads} <= drawn


def test_what_runs_is_in_ink_and_counted(field, home):
    spots = {spot.id: spot for spot in field.spots}
    for entry in home.entries.values():
        assert spots[entry.key].status == home.status(entry)
    for survey, tree in home.trees.items():
        assert spots[survey].share == (sum(bool(leaf.runs) for leaf in tree.leaves()), len(tree.leaves()))


GENERATORS = {"ddpm", "polyp-ddpm", "seg-guided", "anoddpm", "ldm"}
ADAPTED = {"controlnet", "lora"}


def test_pieces_stand_in_their_parts_and_lead_to_systems(small):
    field = build(small, trainable(small), commands)
    within = {spot.id: spot.within for spot in field.spots}
    assert within["sampler:ddim"] == "part:sampler"
    assert within["set:predict=v"] == within["code:inkwash.nets.dit:DiT"] == "part:denoiser"
    assert within["metric:FID"] == within["command:inkwash data"] == "part:around"
    for piece, takers in (
        ("sampler:ddim", {*GENERATORS, *ADAPTED, "sr3", "ensemdiff", "hidiff", "ldseg", "medsegdiff", "sdseg"}),
        ("set:predict=v", {*GENERATORS, "sr3", "ensemdiff", "ldseg", "medsegdiff", "sdseg"}),
        ("metric:FID", GENERATORS | ADAPTED),
    ):
        assert {name for name in systems.names() if (piece, f"system:{name}", "takes") in lines(field)} == takers
    assert not any(line.source == "code:inkwash.nets.dit:DiT" and line.relation == "takes" for line in field.lines)
    labels = {spot.id: spot.label for spot in field.spots}
    assert labels["code:inkwash.nets.dit:DiT"] == "DiT"
    assert [labels[load] for load in LOADS] == ["diffusers.load", "guided_diffusion.load"]
    families = {spot.id: (spot.status, spot.share) for spot in field.spots if spot.column == "family"}
    assert families["topic:graphs"] == ("part", (3, 4))
    assert families["topic:video"] == ("none", (0, 1))
    assert field.runs["command:inkwash data PATH"].spot == field.runs["command:inkwash data PATH --json"].spot


def test_a_system_that_is_not_installed_is_refused(small):
    other = Trainable(name="ddpn", title="", task="", commands=[], takes=frozenset())
    with pytest.raises(WrongUse, match="unknown system 'ddpm': did you mean 'ddpn'"):
        build(small, [other], commands)


class Opened(HTMLParser):
    """The data and the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.scripts[-1] += data


def pairs(value: object) -> Iterator[dict]:
    """Every text in two languages inside `value`."""
    if isinstance(value, dict):
        if {"en", "zh"} & set(value):
            yield value
        for inner in value.values():
            yield from pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pairs(inner)


def test_the_page_holds_both_languages_of_everything(field, home):
    data = json.loads(Opened(page(field, "en", "1.0")).scripts[0])
    texts = list(pairs(data))
    assert len(texts) > len(home.entries) + len(home.topics)
    for text in texts:
        assert HAN.search(text["zh"]), text
        assert text["en"], text
        assert not HAN.search(text["en"]), text


def test_every_word_that_the_page_asks_for_is_there(small):
    words = json.loads(Opened(page(build(small, trainable(small), commands), "en", "1.0")).scripts[0])["words"]
    files = {path.name: path.read_text(encoding="utf-8") for path in SOURCES.glob("map*") if path.suffix != ".py"}
    asked = set(re.findall(r'data-word(?:-\w+)?="([^"]+)"', files["map.html.j2"]))
    for script in (text for name, text in files.items() if name.endswith(".js")):
        asked |= set(re.findall(r'\b(?:word|section|listed)\(\s*"([^"]+)"', script))
    assert len(asked) > 40
    assert asked <= set(words)


def test_no_text_can_break_out_of_the_page(small):
    text = page(build(small, trainable(small), commands), "en", "1.0")
    opened = Opened(text)
    assert len(opened.scripts) == 5
    assert len(re.findall("<script", text, re.I)) == len(re.findall("</script", text, re.I)) == 5
    assert "<!--" not in text
    data = json.loads(opened.scripts[0])
    assert next(spot for spot in data["spots"] if spot["id"] == "wicked")["title"] == WICKED


def test_the_page_asks_nothing_of_the_network(field):
    text = page(field, "zh", "1.0")
    opened = Opened(text)
    assert not {"link", "img", "iframe", "object", "embed", "base", "source"} & set(opened.tags)
    loading = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}
    assert not loading & {name for name, _ in opened.attributes}
    code = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S)
    assert not re.search(r"url\((?!#)|@import|\bfetch\(|XMLHttpRequest|\bimport\(|WebSocket|\bsrc=|<link", code)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", code))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text
    assert len(text.encode()) < LIMIT


@pytest.mark.parametrize(
    ("language", "lang", "title"), [("en", "en", "A map of diffusion models"), ("zh", "zh-Hans", "扩散模型图谱")]
)
def test_it_opens_in_the_language_that_was_asked_for(small, language, lang, title):
    text = page(build(small, trainable(small), commands), language, "1.0")
    assert f'<html lang="{lang}"' in text
    assert f"<title>{title}</title>" in text
    assert json.loads(Opened(text).scripts[0])["language"] == language


def test_the_verb_writes_it_says_where_and_replaces_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    out = tmp_path / "new" / "map.html"
    verb(out=out)
    assert capsys.readouterr().out == f"{out}\n"
    chinese = out.read_text(encoding="utf-8")
    assert 'lang="zh-Hans"' in chinese
    assert field_map(str(out), lang="en") == out
    assert '<html lang="en"' in out.read_text(encoding="utf-8")
    field_map(out)
    assert out.read_text(encoding="utf-8") == chinese
    assert list(out.parent.iterdir()) == [out]


def test_what_it_cannot_write_it_refuses_in_one_line(tmp_path):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("mine")
    for out, words in {
        tmp_path / "folder.html": "is a folder: give a file",
        tmp_path / "picture.png": "one that ends in .html",
        tmp_path / "file" / "map.html": "file is a file",
    }.items():
        with pytest.raises(WrongUse, match=words):
            field_map(out)
    with pytest.raises(WrongUse, match="en and zh"):
        field_map(tmp_path / "map.html", lang="fr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html"]
