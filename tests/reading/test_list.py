"""The bundled list: complete, in both languages, and nothing on it claims what is not there."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from inkwash import systems
from inkwash.api.distillation import example
from inkwash.api.runnable import commands
from inkwash.api.verification import locate, verify
from inkwash.cli.app import app
from inkwash.errors import WrongUse
from inkwash.evaluation.table import METRICS
from inkwash.reading import Runs, shelf
from inkwash.systems import recipes

HOME = shelf()
ENTRIES = list(HOME.entries.values())
EVERYTHING_THAT_RUNS = sorted({str(run) for entry in ENTRIES for run in HOME.runs(entry)})
SEED = list(csv.DictReader((Path(__file__).parent / "seed_links.tsv").open(encoding="utf-8"), delimiter="\t"))


def understood(line: str) -> None:
    """Raises where the command line does not parse."""
    words = shlex.split(line)
    assert words[0] == "inkwash"
    # Words in capitals stand for the user's own; where a number is asked for, the entries give one.
    app.parse_args(words[1:], exit_on_error=False, print_error=False)


def test_the_seed_is_the_seed():
    assert len(SEED) == 43
    kinds = {"survey": 24, "paper": 10, "tool": 3, "tutorial": 3, "notebook": 3}
    assert {kind: sum(row["kind"] == kind for row in SEED) for kind in kinds} == kinds


@pytest.mark.parametrize("row", SEED, ids=lambda row: row["link"])
def test_every_link_of_the_seed_is_an_entry_of_its_kind(row):
    found = [entry for entry in ENTRIES if entry.seed == row["link"] and entry.kind == row["kind"]]
    # The seed gives one link to two surveys; one of them was meant for another paper.
    doubled = sum(other["link"] == row["link"] for other in SEED)
    assert len(found) == doubled
    assert all(entry.seed == entry.url or entry.url for entry in found)


def test_no_entry_claims_to_be_of_the_seed_that_is_not():
    assert sorted(e.seed for e in ENTRIES if e.seed) == sorted(row["link"] for row in SEED)


def test_what_the_seed_had_wrong_is_corrected_and_said():
    forecasting = HOME.get("forecasting-survey")
    assert forecasting.arxiv == "2507.14507"
    assert forecasting.corrections
    assert HOME.get("opendenoise").corrections
    assert all(e.corrections for e in ENTRIES if e.seed and re.search(r"utm_|version=", e.seed))
    assert HOME.get("image-editing-survey").authors


def test_no_two_entries_are_the_same_paper():
    for field in ("arxiv", "doi", "url", "title"):
        said = [getattr(entry, field) for entry in ENTRIES if getattr(entry, field)]
        assert len(said) == len(set(said)), field


def test_an_arxiv_number_is_that_of_the_address():
    wrong = [e.key for e in ENTRIES if "arxiv.org" in e.url and e.url != f"https://arxiv.org/abs/{e.arxiv}"]
    assert wrong == []


def test_every_topic_has_entries():
    assert {topic for entry in ENTRIES for topic in entry.topics} == set(HOME.topics)


def test_every_survey_has_a_tree():
    assert {entry.key for entry in ENTRIES if entry.kind == "survey"} == set(HOME.trees)
    assert all(len(tree.leaves()) >= 8 for tree in HOME.trees.values())


@pytest.mark.parametrize("name", EVERYTHING_THAT_RUNS)
def test_what_is_said_to_run_is_there(name):
    run = Runs.model_validate(name)
    verify(run)
    for line in commands(run):
        if run.kind == "code":
            exec(line, {})
        else:
            understood(line)


@pytest.mark.parametrize("code", sorted({c.code for e in ENTRIES for c in e.changes if c.code}))
def test_where_a_change_is_in_the_code(code):
    assert locate(code) is not None


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("system", systems.names()),
        ("sampler", recipes.SOLVERS),
        ("set:schedule", recipes.SCHEDULES),
        ("set:predict", recipes.PARAMETERIZATIONS),
        ("set:weighting", recipes.WEIGHTINGS),
        ("set:times", recipes.TIMES),
        ("metric", METRICS),
        ("command", [example(method) for method in recipes.METHODS]),
    ],
)
def test_every_part_that_a_user_can_name_has_a_paper(kind, names):
    kind, _, option = kind.partition(":")
    said = {run.name for entry in ENTRIES for run in entry.runs if run.kind == kind}
    # Mask faithfulness has the paper that gave the idea; a plain loss and plain uniform times are DDPM's.
    assert {f"{option}={name}" if option else name for name in names} <= said


def test_every_system_reads_an_entry_with_what_its_paper_claims():
    for name in systems.names():
        entry = HOME.get(systems.get(name).reads)
        assert f"system:{name}" in map(str, entry.runs)
        # Papers whose figures could not be read say so, in place of claims.
        assert entry.claims or entry.differs, name


@pytest.mark.parametrize("card", HOME.cards.values(), ids=lambda card: card.system)
def test_a_card_holds_the_claims_of_its_paper_and_commands_that_parse(card):
    entry = HOME.get(card.reads)
    assert systems.get(card.system).reads == card.reads
    assert (card.claims, card.differs) == (entry.claims, entry.differs)
    for measured in card.measured:
        for line in measured.command:
            understood(line)


def test_every_system_has_a_card():
    assert set(HOME.cards) == set(systems.names())


def test_a_false_claim_is_found_out():
    false = ["sampler:ddimm", "system:no", "set:predict=noise", "set:base=08", "metric:IS", "code:inkwash.nets:No"]
    for claim in false:
        with pytest.raises(WrongUse):
            verify(Runs.model_validate(claim))
