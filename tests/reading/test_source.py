"""A wrong file fails with its name, the line, the field and the reason."""

from pathlib import Path

import pytest
import yaml

from inkwash.errors import WrongUse
from inkwash.reading import Shelf, Tree
from inkwash.reading.source import Located

ENTRY = """\
- key: one
  kind: paper
  title: A Title
  authors: [Ada Lovelace]
  year: 2020
  venue: A Journal
  publication: journal
  url: https://doi.org/10.1000/1
  topics: [sampling]
  summary:
    en: One sentence. And another.
    zh: 第一句。第二句。
  changes:
  - {part: sampler, en: steps, zh: 步骤}
  runs: [sampler:ddim]
"""


def shelf_of(folder: Path, entries: str, tree: str = "") -> Shelf:
    (folder / "trees").mkdir()
    (folder / "cards").mkdir()
    (folder / "list.yaml").write_text(f"entries:\n{entries}", encoding="utf-8")
    (folder / "topics.yaml").write_text("topics:\n- {key: sampling, en: Sampling, zh: 采样}\n", encoding="utf-8")
    if tree:
        (folder / "trees" / "one.yaml").write_text(tree, encoding="utf-8")
    return Shelf(folder)


def test_the_example_is_right(tmp_path):
    home = shelf_of(tmp_path, ENTRY)
    assert home.get("one").changes[0].part == "sampler"
    assert home.status(home.get("one")) == "whole"


@pytest.mark.parametrize(
    ("right", "wrong", "line", "reason"),
    [
        ("key: one", "key: One", 2, "key: String should match"),
        ("kind: paper", "kind: book", 3, "kind: Input should be 'survey'"),
        ("year: 2020", "year: 20200", 6, "year: Input should be less than or equal to 2100"),
        ("https://doi.org/10.1000/1", "https://a.org/?utm_source=x", 9, "url: is the canonical address"),
        ("https://doi.org/10.1000/1", "https://arxiv.org/pdf/2010.02502", 9, "url: is the canonical address"),
        ("topics: [sampling]", "topics: [smapling]", 10, "topics: unknown topic 'smapling': did you mean 'sampling'?"),
        ("zh: 第一句。第二句。", "zh: Not Chinese. At all.", 13, "summary.zh: is Chinese"),
        ("zh: 第一句。第二句。", "zh: 只有一句。", 11, "summary: two sentences, and zh has 1"),
        ("One sentence. And another.", "One. Two. Three.", 11, "summary: two sentences, and en has 3"),
        ("One sentence. And another.", "一句。 And another.", 12, "summary.en: is English"),
        ("part: sampler", "part: sampling", 15, "changes.part: Input should be 'corruption'"),
        ("runs: [sampler:ddim]", "runs: [ddim]", 16, "runs: says kind:name"),
        ("runs: [sampler:ddim]", "runs: [solver:ddim]", 16, "runs.kind: Input should be 'system'"),
        ("  runs: [sampler:ddim]\n", "", 2, "says what runs (runs) or what is not covered"),
        ("runs: [sampler:ddim]", "buids_on: [two]", 16, "buids_on: Extra inputs are not permitted"),
        ("runs: [sampler:ddim]", "uncovered: {en: a, zh: 无}\n  builds_on: [two]", 17, "unknown entry 'two'"),
        ("year: 2020", "year: 2020\n  year: 2021", 7, "year: said twice"),
        ("venue: A Journal", "venue: A: Journal", 7, "not YAML"),
    ],
)
def test_a_wrong_entry_is_named_with_file_line_and_reason(tmp_path, right, wrong, line, reason):
    home = shelf_of(tmp_path, ENTRY.replace(right, wrong))
    with pytest.raises(WrongUse) as caught:
        _ = home.entries
    assert str(caught.value).startswith(f"{tmp_path / 'list.yaml'}:{line}: ")
    assert reason in str(caught.value)


def test_a_key_is_taken_once(tmp_path):
    with pytest.raises(WrongUse, match=r"list.yaml:17: .*'one' is taken"):
        _ = shelf_of(tmp_path, ENTRY + ENTRY).entries


@pytest.mark.parametrize(
    ("tree", "line", "reason"),
    [
        ("survey: one\nnodes:\n- {en: a, zh: 甲}\n", 3, "is a leaf: it says what runs"),
        ("survey: one\nnodes:\n- en: a\n  zh: 甲\n  runs: [system:x]\n  reads:\n  - two\n", 7, "unknown entry 'two'"),
        ("survey: two\nnodes:\n- {en: a, zh: 甲, runs: [system:x]}\n", 1, "is the name of the file, 'one'"),
        (
            "survey: one\nnodes:\n- en: a\n  zh: 甲\n  runs: [system:x]\n  children:\n"
            "  - {en: b, zh: 乙, runs: [system:x]}\n",
            3,
            "is a branch",
        ),
    ],
)
def test_a_wrong_tree_too(tmp_path, tree, line, reason):
    with pytest.raises(WrongUse) as caught:
        _ = shelf_of(tmp_path, ENTRY, tree).trees
    assert str(caught.value).startswith(f"{tmp_path / 'trees' / 'one.yaml'}:{line}: ")
    assert reason in str(caught.value)


def test_the_parser_agrees_with_a_plain_yaml_loader(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: [x, 2.5, null, true, 2020-01-02]\nc: {d: '1'}\n", encoding="utf-8")
    assert Located(path).content == yaml.safe_load(path.read_text())


def test_a_survey_is_what_its_leaves_are(tmp_path):
    tree = "survey: one\nnodes:\n- {en: a, zh: 甲, runs: [sampler:ddim]}\n"
    survey = ENTRY.replace("kind: paper", "kind: survey").replace("  runs: [sampler:ddim]\n", "")
    home = shelf_of(tmp_path, survey, tree)
    assert home.status(home.get("one")) == "whole"
    assert [str(run) for run in home.runs(home.get("one"))] == ["sampler:ddim"]
    lacking = Tree.model_validate(
        yaml.safe_load(tree + "- {en: b, zh: 乙, missing: {en: it, zh: 它}}\n"),
    )
    object.__setattr__(home, "trees", {"one": lacking})
    assert home.status(home.get("one")) == "part"
