"""The figures of an evaluation as rows of a table, each with its floor, its ceiling and what it means."""

from inkwash.evaluation.coverage import Coverage
from inkwash.evaluation.faithfulness import Faithfulness
from inkwash.evaluation.features import FeatureNetwork
from inkwash.evaluation.fidelity import Fidelity
from inkwash.evaluation.memorisation import Memorisation
from inkwash.evaluation.report import Metric

METRICS = ("mask faithfulness", "FID", "KID", "precision", "recall", "density", "coverage")


def rows(near: Fidelity, cover: Coverage, faith: Faithfulness | None, free: Fidelity | None = None) -> list[Metric]:
    """All figures, the most telling first.

    Args:
        free: of pictures that were drawn without a mask, the floor; `faith` has theirs as its own then.
    """
    faithful = [] if faith is None else [_faithful(faith, free is not None)]
    real = "the ceiling is what held-out real ones get"
    if free is not None:
        real += ", the floor what those drawn without a mask do"
    return [
        *faithful,
        Metric(
            name="FID",
            value=near.fid,
            floor=None if free is None else free.fid,
            ceiling=near.fid_floor,
            better="lower",
            about=f"Fréchet distance to the training pictures ({near.count} drawn); {real}.",
        ),
        Metric(
            name="KID",
            value=near.kid,
            floor=None if free is None else free.kid,
            ceiling=near.kid_floor,
            better="lower",
            about=f"Kernel distance to the training pictures, unbiased for few pictures; {real}.",
        ),
        Metric(
            name="precision",
            value=cover.precision,
            better="higher",
            about="Share of drawn pictures that lie among the held-out real ones.",
        ),
        Metric(
            name="recall",
            value=cover.recall,
            better="higher",
            about="Share of held-out real pictures that lie among the drawn ones.",
        ),
        Metric(
            name="density",
            value=cover.density,
            better="higher",
            about="How densely real pictures surround the drawn ones; 1 for real ones.",
        ),
        Metric(
            name="coverage",
            value=cover.coverage,
            better="higher",
            about="Share of held-out real pictures with a drawn one next to them.",
        ),
    ]


def notes(near: Fidelity, network: FeatureNetwork, memory: Memorisation, faith: Faithfulness | None) -> list[str]:
    """What one should know before quoting the figures."""
    found = [near.warning] if near.warning else []
    if not network.comparable:
        found.append(
            f"distances are in the features of the bundled network ({network.name}), not Inception's: compare them "
            "with one another only"
        )
    if bool(memory.flagged.any()):
        found.append("some drawn pictures are near-copies of training pictures: the report shows them")
    if faith is not None and faith.empty:
        found.append(f"{faith.empty} masks are empty and have no Dice")
    return found


def _faithful(faith: Faithfulness, free: bool) -> Metric:
    floor = "is of pictures drawn without a mask" if free else "scores it against other masks"
    return Metric(
        name="mask faithfulness",
        value=faith.score.mean,
        low=faith.score.low,
        high=faith.score.high,
        floor=None if faith.floor is None else faith.floor.mean,
        ceiling=faith.ceiling.mean,
        better="higher",
        about="Dice between the mask a picture was drawn from and the one that a segmenter trained on real pictures "
        f"finds in it; the floor {floor}, the ceiling is the segmenter on held-out real pictures.",
    )
