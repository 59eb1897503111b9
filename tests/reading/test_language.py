import string

import pytest

from inkwash.errors import WrongUse
from inkwash.reading.language import WORDS, choose, word


def test_what_is_said_comes_before_the_environment_and_english_last():
    assert choose("en", {"LANG": "zh_CN.UTF-8"}) == "en"
    assert choose(None, {"LANG": "zh_CN.UTF-8"}) == "zh"
    assert choose(None, {"LANG": "de_DE.UTF-8"}) == "en"
    assert choose(None, {}) == "en"
    with pytest.raises(WrongUse, match="en and zh, not 'fr'"):
        choose("fr", {})


def test_every_word_leaves_room_for_the_same_parts_in_both_languages():
    def parts(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert all(parts(text.en) == parts(text.zh) for text in WORDS.values())
    assert word("unmeasured", "zh", system="ddpm").endswith("inkwash reproduce ddpm")
