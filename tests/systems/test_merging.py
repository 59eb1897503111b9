"""Merging of attention maps, against loops that do one map at a time."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from inkwash.nets.attention_maps import Attention
from inkwash.systems.segmentation import merging
from inkwash.systems.segmentation.merging import Proposals


def random_maps(*shape: int, sharpness: float = 1.5, seed: int = 0) -> torch.Tensor:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (logits * sharpness).softmax(dim=-1)


def distance(p: torch.Tensor, q: torch.Tensor) -> float:
    there = F.kl_div(q.double().log(), p.double(), reduction="sum")
    back = F.kl_div(p.double().log(), q.double(), reduction="sum")
    return ((there + back) / 2).item()


def living(proposals: Proposals, item: int) -> torch.Tensor:
    return proposals.maps[item, proposals.alive[item]]


def test_the_divergence_is_that_of_torch():
    p, q = random_maps(2, 5, 30), random_maps(2, 4, 30, sharpness=4.0, seed=1)
    by_hand = torch.tensor([[[distance(a, b) for b in q[i]] for a in p[i]] for i in range(2)], dtype=torch.float32)
    torch.testing.assert_close(merging.divergence(p, q), by_hand, rtol=1e-5, atol=1e-5)


def test_nearly_uniform_maps_diverge_by_what_they_do():
    maps = random_maps(1, 6, 500, sharpness=1e-3)
    by_hand = torch.tensor([[distance(a, b) for b in maps[0]] for a in maps[0]])
    assert by_hand.max() < 2e-6
    # Of the maps themselves three digits are left: 1 / 500 is known to 1e-10, and they differ by 2e-6.
    torch.testing.assert_close(merging.divergence(maps, maps)[0], by_hand, rtol=2e-3, atol=1e-10)


def test_maps_with_zeros_diverge_by_something_finite():
    p = torch.eye(3)[None]
    apart = merging.divergence(p, p)
    assert apart.isfinite().all()
    assert apart.diagonal(dim1=1, dim2=2).abs().max() < 1e-5
    assert (apart[0, 0, 1:] > 10).all()


def attention(size: tuple[int, ...], seed: int) -> Attention:
    g = torch.Generator().manual_seed(seed)
    shape = (2, 3, torch.Size(size).numel(), 4)
    return Attention(torch.randn(shape, generator=g), torch.randn(shape, generator=g), size, 0.5)


def test_resolutions_are_brought_together_one_map_at_a_time():
    found = [attention((3, 5), 0), attention((6, 9), 1), attention((2, 3), 2)]
    ours, grid = merging.aggregate(found)
    assert grid == (6, 9)
    weight = [(h * w) ** 0.5 for h, w in (one.size for one in found)]
    expected = torch.zeros(2, 6, 9, 6, 9)
    for one, share in zip(found, weight):
        h, w = one.size
        probability = one.probability().reshape(2, h, w, h, w)
        for y in range(6):
            for x in range(9):
                shown = F.interpolate(probability[:, y * h // 6, x * w // 9][:, None], (6, 9), mode="bilinear")[:, 0]
                expected[:, y, x] += shown / shown.sum(dim=(1, 2), keepdim=True) * share / sum(weight)
    torch.testing.assert_close(ours, expected.reshape(2, 54, 54), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.sum(dim=2), torch.ones(2, 54))


def test_anchors_are_spread_evenly():
    assert merging.anchors((8, 4), 2).tolist() == [2 * 4 + 1, 2 * 4 + 3, 6 * 4 + 1, 6 * 4 + 3]
    assert merging.anchors((2, 3), 16).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("threshold", [0.0, 0.8, 1.5, 100.0])
def test_a_proposal_is_the_mean_around_its_anchor(threshold):
    maps, at = random_maps(2, 12, 12), torch.tensor([1, 4, 9])
    ours = merging.propose(maps, at, threshold)
    for item in range(2):
        for row, anchor in enumerate(at.tolist()):
            near = [m for j, m in enumerate(maps[item]) if j == anchor or distance(maps[item, anchor], m) < threshold]
            torch.testing.assert_close(ours.maps[item, row], torch.stack(near).mean(dim=0))


def merged_by_loop(maps: list[torch.Tensor], threshold: float) -> list[torch.Tensor]:
    left, made = list(maps), []
    while left:
        first = left[0]
        taken = [m is first or distance(first, m) < threshold for m in left]
        made.append(torch.stack([m for m, yes in zip(left, taken) if yes]).mean(dim=0))
        left = [m for m, yes in zip(left, taken) if not yes]
    return made


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.2, 2.0, 100.0])
def test_a_round_of_merging_takes_what_is_left_in_turn(threshold):
    maps = random_maps(3, 20, 15, sharpness=1.0)
    maps[1] = random_maps(20, 15, sharpness=0.5, seed=3)  # items end with unlike numbers
    ours = Proposals(maps, torch.ones(3, 20, dtype=torch.bool))
    for _ in range(2):
        theirs = [merged_by_loop([*living(ours, item)], threshold) for item in range(3)]
        ours = merging.merge(ours, threshold)
        for item in range(3):
            assert len(living(ours, item)) == len(theirs[item])
            torch.testing.assert_close(living(ours, item), torch.stack(theirs[item]))
    if threshold in (0.7, 1.2):
        assert len({int(n) for n in ours.alive.sum(dim=1)}) > 1


def test_the_most_alike_are_merged_until_few_are_left():
    maps, alive = random_maps(4, 14, 12, sharpness=1.0), torch.ones(4, 14, dtype=torch.bool)
    alive[3, 2:] = False  # has few already
    ours = merging.fewer(Proposals(maps, alive), 3)
    for item in range(3):
        left = [*maps[item]]
        while len(left) > 3:
            pairs = [(distance(left[i], left[j]), i, j) for i in range(len(left)) for j in range(i + 1, len(left))]
            _, i, j = min(pairs)
            left[i] = (left[i] + left[j]) / 2
            del left[j]
        torch.testing.assert_close(living(ours, item), torch.stack(left))
    torch.testing.assert_close(living(ours, 3), maps[3, :2])


@pytest.mark.parametrize("rounds", [1, 2, 30])
def test_refinement_is_lloyds_algorithm(rounds):
    centres = random_maps(1, 4, 60, sharpness=2.0)
    # Near one of three centres each, and none near the dead one.
    near = centres[0, torch.tensor([0, 1, 3])].repeat(20, 1)
    maps = (0.4 * near + 0.6 * random_maps(60, 60, sharpness=2.0, seed=5))[None]
    alive = torch.tensor([[True, True, False, True]])
    ours = merging.refine(maps, Proposals(centres, alive), rounds).argmax(dim=1)[0]
    start = centres[0, alive[0]].double().numpy()
    theirs = KMeans(3, init=start, n_init=1, max_iter=rounds, tol=0.0, algorithm="lloyd").fit(maps[0].double().numpy())
    assert ours.tolist() == [[0, 1, 3][label] for label in theirs.labels_]


def planted(partition: torch.Tensor) -> torch.Tensor:
    """Maps of which each attends to its own part alone, all of it alike."""
    same = (partition.flatten()[:, None] == partition.flatten()).float()
    return same / same.sum(dim=1, keepdim=True)


def partitions() -> torch.Tensor:
    """Two pictures of 12 x 9: three parts, and two."""
    first, second = torch.zeros(12, 9, dtype=torch.int64), torch.zeros(12, 9, dtype=torch.int64)
    first[3:8, 2:6], first[9:] = 1, 2
    second[:, 5:] = 1
    return torch.stack((first, second))


@pytest.mark.parametrize("refine", [0, 3])
def test_a_planted_partition_is_found_exactly(refine):
    truth = partitions()
    maps = torch.stack([planted(one) for one in truth])
    proposals = merging.propose(maps, merging.anchors((12, 9), 6), 0.9)
    for _ in range(2):
        proposals = merging.merge(proposals, 0.9)
    shown = merging.refine(maps, proposals, refine) if refine else proposals.maps
    segments = merging.spread(shown, proposals.alive, (12, 9), (12, 9))
    assert segments.alive.sum(dim=1).tolist() == [3, 2]
    for found, wanted in zip(segments.index, truth):
        pairs = {(int(a), int(b)) for a, b in zip(found.flatten(), wanted.flatten())}
        assert len(pairs) == len(wanted.unique())
    torch.testing.assert_close(segments.share.sum(dim=1), torch.ones(2, 12, 9))
    assert not segments.share[1, 2:].any()
