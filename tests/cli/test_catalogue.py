import json
from dataclasses import fields

import pytest

import inkwash as package
from inkwash import systems
from inkwash.data.augment import Augment
from inkwash.training.options import TrainOptions


def test_list_systems_names_every_system_once(inkwash):
    listed = [entry["name"] for entry in json.loads(inkwash("list", "--systems", "--json").out)["systems"]]
    assert listed == systems.names()
    assert {"ddpm", "polyp-ddpm"} <= set(listed)
    assert all(name in inkwash("list", "--systems").out for name in listed)


def test_list_can_be_narrowed_to_a_task():
    assert [entry.name for entry in package.catalogue("synthesis").systems] == systems.names("synthesis")
    assert package.catalogue("no such task").systems == []


@pytest.mark.parametrize("name", systems.names())
def test_show_gives_the_paper_every_option_with_its_default_and_the_commands(inkwash, name):
    card = json.loads(inkwash("show", name, "--json").out)["system"]
    found = systems.get(name)
    assert card["paper"] == found.paper
    assert [option["name"] for option in card["options"]] == list(found.Config.model_fields)
    assert {option["name"]: option["default"] for option in card["options"]} == found.Config().model_dump(mode="json")
    assert all(option["about"] for option in card["options"])
    assert card["commands"][0].startswith(f"inkwash train {name} ")
    text = inkwash("show", name).out
    assert " ".join(found.paper.split()) in " ".join(text.split())
    assert all(option in text for option in found.Config.model_fields)


@pytest.mark.parametrize("name", systems.names())
def test_show_gives_what_can_be_set_of_the_training_as_it_suits_the_system(name):
    options = {option.name: option for option in package.show(name).system.training}
    assert {*TrainOptions.model_fields, *(part.name for part in fields(Augment))} == set(options)
    assert all(option.about for option in options.values())
    for changed, value in systems.get(name).training_presets["quick"].items():
        assert options[changed].default == value
    assert options["batch"].default == 16


def test_kinds_are_in_plain_words():
    kinds = {option.name: option.kind for option in package.show("ddpm").system.training}
    assert kinds["steps"] == "integer or null"
    assert kinds["betas"] == "list of number"
    assert kinds["precision"] == "auto or fp32 or bf16"
    assert kinds["flip"] == "true or false"
    assert kinds["preview_every"] == "text or null"
