import json

import pytest

import inkwash as package
from inkwash import systems


def test_list_names_every_system_once(inkwash):
    listed = [entry["name"] for entry in json.loads(inkwash("list", "--json").out)["systems"]]
    assert listed == systems.names()
    assert {"ddpm", "polyp-ddpm"} <= set(listed)
    assert all(name in inkwash("list").out for name in listed)


def test_list_can_be_narrowed_to_a_task():
    assert [entry.name for entry in package.catalogue("synthesis").systems] == systems.names("synthesis")
    assert package.catalogue("no such task").systems == []


@pytest.mark.parametrize("name", systems.names())
def test_show_gives_the_paper_every_option_with_its_default_and_the_commands(inkwash, name):
    card = json.loads(inkwash("show", name, "--json").out)
    found = systems.get(name)
    assert card["paper"] == found.paper
    assert [option["name"] for option in card["options"]] == list(found.Config.model_fields)
    assert {option["name"]: option["default"] for option in card["options"]} == found.Config().model_dump(mode="json")
    assert all(option["about"] for option in card["options"])
    assert card["commands"][0].startswith(f"inkwash train {name} ")
    text = inkwash("show", name).out
    assert found.paper in text
    assert all(option in text for option in found.Config.model_fields)
