"""Names of segments: by rule on pictures where the answer is plain, by the best of all matches."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from inkwash.systems.segmentation import naming
from inkwash.systems.segmentation.merging import Segments
from inkwash.systems.segmentation.naming import Description


def segments_of(index: torch.Tensor, count: int) -> Segments:
    share = F.one_hot(index, count).movedim(-1, 1).float()
    return Segments(share, torch.ones(len(index), count, dtype=torch.bool))


def scene() -> tuple[Segments, torch.Tensor]:
    """A ground 0, a bright band 1 at the top, a middle square 2, a dark square 3 off the middle."""
    index = torch.zeros(1, 20, 20, dtype=torch.int64)
    image = torch.full((1, 2, 20, 20), 0.1)
    for at, number, grey in (
        ((slice(0, 4), slice(0, 20)), 1, 0.9),
        ((slice(8, 13), slice(8, 13)), 2, 0.3),
        ((slice(14, 18), slice(2, 6)), 3, -0.7),
    ):
        index[0][at], image[0, :, at[0], at[1]] = number, grey
    return segments_of(index, 4), image


def test_a_description_is_what_a_loop_over_segments_finds():
    segments, image = scene()
    image = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    ours = Description.of(segments, image)
    for s in range(4):
        inside = segments.index[0] == s
        y, x = inside.nonzero(as_tuple=True)
        pixels = image[0][:, inside]
        assert ours.area[0, s] == pytest.approx(inside.float().mean().item())
        torch.testing.assert_close(ours.mean[0, s], pixels.mean(dim=1))
        torch.testing.assert_close(ours.deviation[0, s], pixels.std(dim=1, correction=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.contrast[0, s], pixels.mean(dim=1) - image[0].mean(dim=(1, 2)))
        square = (((y + 0.5) / 10 - 1) ** 2 + ((x + 0.5) / 10 - 1) ** 2) / 2
        assert ours.centre[0, s] == pytest.approx(square.mean().item(), rel=1e-5)
        at_frame = ((y % 19 == 0) | (x % 19 == 0)).sum().item()
        assert ours.border[0, s] == pytest.approx(at_frame / inside.sum().item() ** 0.5, rel=1e-5)
    assert ours.numbers().shape == (1, 4, 3 * 2 + 3)


@pytest.mark.parametrize(
    ("rule", "largest", "chosen"),
    [("border", 1.0, 2), ("centre", 1.0, 2), ("bright", 1.0, 1), ("bright", 0.1, 2), ("dark", 1.0, 3)],
)
def test_a_rule_takes_the_segment_it_speaks_of(rule, largest, chosen):
    segments, image = scene()
    names = naming.foreground(Description.of(segments, image), rule, smallest=0.01, largest=largest)
    assert names[0, :, 1].nonzero().flatten().tolist() == [chosen]
    assert (names.sum(dim=2) == 1).all()


def test_contrast_is_for_what_differs_from_the_picture():
    segments, image = scene()
    image[0, :, :4] = 0.1
    names = naming.foreground(Description.of(segments, image), "contrast", smallest=0.01, largest=0.9)
    assert names[0, :, 1].argmax() == 3


def test_nothing_is_foreground_where_nothing_fits():
    segments, image = scene()
    names = naming.foreground(Description.of(segments, image), "border", smallest=0.95, largest=1.0)
    assert not names[0, :, 1].any()
    probability = naming.probabilities(segments, names)
    assert (probability[:, 0] == 1).all()


def test_the_oracle_is_the_best_of_all_matches():
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 4, (5, 6, 6), generator=generator)
    mask = torch.randint(0, 3, (5, 6, 6), generator=generator)
    names = naming.matched(segments_of(index, 4), mask, 3).argmax(dim=2)
    for item in range(5):

        def overlap(one: int, cls: int, item: int = item) -> float:
            a, b = index[item] == one, mask[item] == cls
            return ((a & b).sum() / (a | b).sum()).item()

        best = max(permutations(range(4), 3), key=lambda p: sum(overlap(one, cls) for cls, one in enumerate(p)))
        assert all(names[item, one] == cls for cls, one in enumerate(best))


def test_the_class_is_that_of_the_largest_segment_and_the_rest_is_background():
    share = torch.tensor([[0.30, 0.45], [0.30, 0.15], [0.40, 0.40]])[None, :, None]
    segments = Segments(share, torch.ones(1, 3, dtype=torch.bool))
    names = F.one_hot(torch.tensor([[0, 0, 1]]), 2).float()
    probability = naming.probabilities(segments, names)
    torch.testing.assert_close(probability[0, 1, 0], torch.tensor([0.4 / 0.7, 0.4 / 0.85]))


def test_the_target_adds_up_to_the_picture():
    segments, _ = scene()
    mask = (segments.index == 2).long()
    truth = naming.target(segments, mask, 3)
    assert truth.sum() == pytest.approx(1.0)
    assert truth[0, 2].tolist() == pytest.approx([0.0, 25 / 400, 0.0])
