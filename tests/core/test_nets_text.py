"""Encoders of texts: each text by itself, nothing where there is no word, and CLIP's own tokens."""

import sys
from pathlib import Path

import pytest
import torch

from inkwash.errors import WrongUse
from inkwash.nets.adapters import clip_text
from inkwash.nets.text import TextEncoder


def test_a_text_is_encoded_by_itself_and_none_is_zero():
    torch.manual_seed(0)
    encoder = TextEncoder(5, 4, 16)
    texts = torch.tensor([[0, 1, 2, -1], [2, 1, 0, -1], [-1, -1, -1, -1], [7, 7, -1, -1]])
    context = encoder(texts)
    assert context.shape == (4, 4, 16)
    torch.testing.assert_close(context[:1], encoder(texts[:1]))
    assert (context[0] - context[1]).abs().max() > 0.1
    assert not context[2:].any()
    known, unknown = torch.tensor([[0, -1, 1, -1]]), torch.tensor([[0, 5, 1, -1]])
    torch.testing.assert_close(encoder(known), encoder(unknown))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("diffusers")
    sys.path.insert(0, str(Path(__file__).parents[1] / "systems"))
    from tiny_stable_diffusion import write_stable_diffusion

    return write_stable_diffusion(tmp_path_factory.mktemp("sd"))


TEXTS = ("a cat", "cat a dog", "a a a a a a dog", "")
WORDS = ("a", "cat", "dog")


def numbers(text, length=8):
    found = [WORDS.index(word) for word in text.split()]
    return found + [-1] * (length - len(found))


def test_clip_is_given_the_tokens_of_its_own_tokenizer(folder):
    encoder = clip_text.load(folder, WORDS)
    tokenizer, original = clip_text.parts(folder)
    captions = torch.tensor([numbers(text) for text in TEXTS])
    wanted = tokenizer(
        list(TEXTS), padding="max_length", max_length=encoder.length, truncation=True, return_tensors="pt"
    ).input_ids
    assert wanted.shape[1] < len("".join(TEXTS[2].split())) + 2  # one of them is cut
    found = encoder.tokens(captions)
    assert torch.equal(found, wanted)
    context = encoder(captions)
    with torch.no_grad():
        states = original(wanted, return_dict=False)[0]
    torch.testing.assert_close(context[:3], states[:3])
    assert not context[3].any()
    assert list(encoder.state_dict()) == ["fingerprint"]
    assert list(encoder.parameters()) == []


def test_a_word_that_is_not_known_is_left_out(folder):
    encoder = clip_text.load(folder, WORDS)
    assert torch.equal(encoder.tokens(torch.tensor([[0, 3, 1]])), encoder.tokens(torch.tensor([[0, 1, -1]])))


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(WrongUse, match="no folder text_encoder"):
        clip_text.load(tmp_path, WORDS)
