import bibtexparser

from inkwash.reading import Entry
from inkwash.reading.bibtex import bibtex
from inkwash.reading.citation import citation

BASE = {
    "key": "one",
    "kind": "paper",
    "title": "DDIM & U-Nets: 100% of α in 3D",
    "authors": ["Ada Lovelace", "OpenAI", "others"],
    "year": 2020,
    "venue": "Journal of R&D",
    "publication": "journal",
    "volume": "3",
    "pages": "1-9",
    "arxiv": "2010.02502",
    "url": "https://arxiv.org/abs/2010.02502",
    "topics": ["sampling"],
    "summary": {"en": "One. Two.", "zh": "一。二。"},
    "runs": ["sampler:ddim"],
}


def parsed(**changes):
    library = bibtexparser.parse_string(bibtex(Entry.model_validate({**BASE, **changes})))
    assert not library.failed_blocks
    return library.entries[0]


def test_an_article():
    entry = parsed()
    fields = {name: field.value for name, field in entry.fields_dict.items()}
    assert (entry.entry_type, entry.key) == ("article", "one")
    assert fields["title"] == r"{DDIM} \& {U-Nets:} {100\%} of {α} in {3D}"
    assert fields["author"] == "Ada Lovelace and {OpenAI} and others"
    assert fields["journal"] == r"Journal of R\&D"
    assert (fields["volume"], fields["pages"], fields["year"]) == ("3", "1--9", "2020")
    assert (fields["eprint"], fields["archiveprefix"]) == ("2010.02502", "arXiv")


def test_the_kind_of_publication_decides_type_and_field():
    assert parsed(publication="conference").fields_dict["booktitle"].value == r"Journal of R\&D"
    assert parsed(publication="conference").entry_type == "inproceedings"
    assert "journal" not in parsed(publication="preprint").fields_dict
    assert parsed(publication="web").fields_dict["howpublished"].value == r"Journal of R\&D"


def test_a_line_of_a_bibliography():
    few = Entry.model_validate(BASE)
    many = few.model_copy(update={"authors": list("ABCDE"), "title": "Why?"})
    named = "Ada Lovelace, OpenAI and others. DDIM & U-Nets: 100% of α in 3D. Journal of R&D, 2020."
    assert citation(few).startswith(named)
    assert citation(many) == "A et al. Why? Journal of R&D, 2020. https://arxiv.org/abs/2010.02502"
