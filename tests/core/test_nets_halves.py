"""The halves of a U-Net: sizes, what is touched on the way, and what modulates it."""

import pytest
import torch

from inkwash.nets.halves import Decoder, Encoder, Head

OPTIONS = {"blocks": 2, "attention": [False, False, True], "head_channels": 4}
WIDTHS = [8, 12, 16]


@pytest.mark.parametrize("size", [(9,), (8, 6), (13, 7), (5, 6, 7), (1, 1)], ids=str)
def test_down_and_up_again_at_any_size(size):
    torch.manual_seed(0)
    encoder = Encoder(len(size), 3, WIDTHS, **OPTIONS)
    decoder, head = Decoder(len(size), WIDTHS, **OPTIONS), Head(len(size), 8, 5)
    *skips, deepest = encoder(torch.randn(2, 3, *size))
    halved = [tuple(-(-side // 2**level) for side in size) for level in range(3)]
    assert [tuple(x.shape) for x in (*skips, deepest)] == [(2, w, *side) for w, side in zip(WIDTHS, halved)]
    made = decoder(deepest, skips)
    assert made.shape == (2, 8, *size)
    assert made.isfinite().all()
    assert not head(made).any(), "a head starts at zero"
    assert head(made).shape == (2, 5, *size)


def test_what_is_touched_goes_on():
    """Levels are told in order, and each starts from what was made of the one before."""
    encoder, seen = Encoder(2, 3, WIDTHS, **OPTIONS), []

    def touch(level, x):
        seen.append((level, tuple(x.shape[1:])))
        return x * 0 if level == 2 else x

    x = torch.randn(1, 3, 8, 8)
    kept = encoder(x, touch=touch)
    assert seen == [(0, (8, 8, 8)), (1, (8, 8, 8)), (2, (12, 4, 4)), (3, (16, 2, 2))]
    assert not kept[1].any()
    plain = encoder(x)
    assert torch.equal(kept[0], plain[0])
    assert not torch.equal(kept[2], plain[2])


def test_an_embedding_modulates_every_level_of_its_own_row():
    torch.manual_seed(0)
    encoder = Encoder(2, 3, WIDTHS, **OPTIONS, embedding=10)
    for level in encoder.levels:
        for stage in level.stages:
            torch.nn.init.normal_(stage.block.conv_out.weight)
    x, embedding = torch.randn(2, 3, 8, 8), torch.randn(2, 10)
    kept = encoder(x, embedding)
    for row in range(2):
        alone = encoder(x[row : row + 1], embedding[row : row + 1])
        shared = encoder(x, embedding[row : row + 1])
        for whole, one, both in zip(kept, alone, shared):
            torch.testing.assert_close(whole[row : row + 1], one, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(both[row : row + 1], one, rtol=1e-4, atol=1e-4)
            assert (both[1 - row] - whole[1 - row]).abs().max() > 1e-3


def test_the_decoder_reads_every_skip():
    torch.manual_seed(0)
    decoder = Decoder(2, WIDTHS, **OPTIONS)
    skips, deepest = [torch.randn(1, 8, 8, 8), torch.randn(1, 12, 4, 4)], torch.randn(1, 16, 2, 2)
    made = decoder(deepest, skips)
    assert not torch.equal(decoder(deepest, [skips[0], -skips[1]]), made)
    assert not torch.equal(decoder(deepest, [-skips[0], skips[1]]), made)
    assert not torch.equal(decoder(-deepest, skips), made)
