"""What `list`, `show` and `cite` print, for the bundled list."""

import json
import re
from pathlib import Path

import bibtexparser
import jsonschema
import pytest
from rich.cells import cell_len

import inkwash as package
from inkwash.api.reading_list import Listing
from inkwash.reading import shelf

KEYS = sorted(shelf().entries)
SCHEMA = Path(__file__).parents[2] / "docs" / "list.schema.json"


@pytest.fixture(autouse=True)
def _no_language(monkeypatch):
    monkeypatch.delenv("LANG", raising=False)


def test_the_published_schema_is_that_of_the_program():
    assert json.loads(SCHEMA.read_text()) == Listing.model_json_schema(mode="serialization")


def test_the_list_as_json_fits_the_published_schema(inkwash):
    printed = json.loads(inkwash("list", "--json").out)
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(printed)
    assert sorted(entry["key"] for entry in printed["entries"]) == KEYS
    assert inkwash("list", "--json", "--lang", "zh").out == inkwash("list", "--json").out


def test_the_schema_refuses_what_is_not_a_list(inkwash):
    printed = json.loads(inkwash("list", "--json", "--topic", "guidance").out)
    del printed["entries"][0]["title"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(printed, json.loads(SCHEMA.read_text()))


def keys(listing: Listing) -> set[str]:
    return {entry.key for entry in listing.entries}


def test_the_newest_come_first():
    years = [entry.year for entry in package.reading_list().entries]
    assert years == sorted(years, reverse=True)


def test_filters_narrow_and_add_up():
    entries = shelf().entries.values()
    assert keys(package.reading_list(topic="segmentation")) == {e.key for e in entries if "segmentation" in e.topics}
    assert keys(package.reading_list(year=2022)) == {e.key for e in entries if e.year == 2022}
    assert keys(package.reading_list(kind="survey")) == set(shelf().trees)
    medical = package.reading_list(medical=True, runnable=True)
    assert keys(medical) == {e.key for e in entries if e.medical and shelf().status(e) != "none"}
    assert "polyp-ddpm" in keys(medical)
    assert "stg-kansformer" not in keys(medical)


@pytest.mark.parametrize("words", ["polyp dorjsembe", "POLYP", "2402.04031", "息肉"])
def test_search_looks_in_both_languages(words):
    assert "polyp-ddpm" in keys(package.reading_list(search=words))
    assert "graph-survey" not in keys(package.reading_list(search=words))


def test_wrong_filters_are_one_line(inkwash):
    said = inkwash("list", "--topic", "segmentatoin")
    assert said.code == 2
    assert "did you mean 'segmentation'?" in said.err
    assert inkwash("list", "--lang", "fr").code == 2
    assert inkwash("list", "--search", "").code == 2
    assert inkwash("list", "--kind", "book").code == 2
    assert inkwash("list", "--systems", "--medical").code == 2
    assert inkwash("list", "--year", "1850").out.strip() == "Nothing on the list fits."


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_fits_the_terminal_and_its_columns_are_aligned(inkwash, monkeypatch, lang, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = inkwash("list", "--lang", lang).out.split("\n\n")[0].splitlines()
    assert all(cell_len(line) <= columns for line in lines)
    header = re.findall(r"\S+", lines[0])
    starts = [cell_len(lines[0][: lines[0].index(name)]) for name in header]
    for line in lines[1:]:
        cells = [line[:n] for n in range(len(line) + 1)]
        ends = {cell_len(cell): len(cell) for cell in cells}
        for start in starts[1:]:
            if cell_len(line) > start:
                assert line[ends[start] - 1] == " ", (line, start)


def test_into_a_pipe_an_entry_is_one_line(inkwash, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = inkwash("list").out.splitlines()
    assert sum(line.endswith(shelf().get("polyp-ddpm").title) for line in lines) == 1


def test_the_language_follows_the_flag_then_the_environment(inkwash, monkeypatch):
    assert "title" in inkwash("list", "--year", "2022").out
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "标题" in inkwash("list", "--year", "2022").out
    assert "title" in inkwash("list", "--year", "2022", "--lang", "en").out


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_show_works_for_every_key(inkwash, lang):
    for key in KEYS:
        said = inkwash("show", key, "--lang", lang)
        entry = shelf().get(key)
        assert said.code == 0, said.err
        flowed = re.sub(r"\s+", "", said.out)
        assert re.sub(r"\s+", "", entry.title) in flowed
        summary = entry.summary.zh if lang == "zh" else entry.summary.en
        assert re.sub(r"\s+", "", summary) in flowed
        assert entry.url in flowed


def test_show_of_a_survey_says_what_runs_of_its_field(inkwash):
    tree = shelf().trees["medical-imaging-survey"]
    out = re.sub(r"\s+", "", inkwash("show", "medical-imaging-survey").out)
    for leaf in tree.leaves():
        assert re.sub(r"\s+", "", leaf.en) in out
    assert "missing:" in out


def test_show_of_a_solver_that_no_entry_is_named_after(inkwash):
    page = json.loads(inkwash("show", "dpm++2m", "--json").out)
    assert page["solver"]["order"] == 2
    assert page["entry"]["key"] == "dpm-solver-pp"
    assert "inkwash.sampling.dpm_solver:DPMSolver" in inkwash("show", "dpm++2m").out


def test_show_sets_claims_beside_measurements(inkwash):
    card = shelf().cards["polyp-ddpm"]
    out = inkwash("show", "polyp-ddpm").out
    assert all(f"{claim.value:g}" in out for claim in card.claims)
    assert all(command in out for measured in card.measured for command in measured.command)
    assert re.sub(r"\s+", "", card.differs.zh) in re.sub(r"\s+", "", inkwash("show", "polyp-ddpm", "--lang", "zh").out)


def test_unknown_keys_are_one_line_with_the_nearest(inkwash):
    for verb in ("show", "cite"):
        said = inkwash(verb, "polip-ddpm")
        assert (said.code, said.out) == (2, "")
        assert "did you mean 'polyp-ddpm'? inkwash list names them" in said.err


def test_cite_gives_bibtex_that_parses_for_every_key(inkwash):
    library = bibtexparser.parse_string(inkwash("cite", *KEYS).out)
    assert not library.failed_blocks
    assert [entry.key for entry in library.entries] == KEYS
    assert all({"title", "author", "year", "url"} <= set(entry.fields_dict) for entry in library.entries)


def test_cite_gives_a_key_once_and_wants_one(inkwash):
    assert inkwash("cite", "ddpm", "ddpm").out.count("@") == 1
    assert inkwash("cite").code == 2
