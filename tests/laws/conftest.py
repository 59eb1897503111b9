"""`record_law`: one row of the laws page, checked as it is written down. `fails`: a check that catches a fault."""

from collections.abc import Callable, Mapping
from numbers import Integral, Real

import pytest

Value = float | int | bool | str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"record_law", "fails"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.law)


@pytest.fixture
def record_law(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`record_law(law, ours, bound, *, pitfall=None, peers=None)` adds a row to `docs/laws.md` and checks it.

    Args:
        law: the promise, one sentence; rows are told apart by it, so parametrized tests name their case in it.
        ours: what we measured, a number or a few words.
        bound: what we declare. A number is an upper limit of `ours`, a pair `(low, high)` encloses it; both
            are asserted here. Words are printed as they are, and the test does its own asserting.
        pitfall: the number of the pitfall the law guards against, 1 to 28.
        peers: what other libraries do on the same law, by name (with the version), numbers or words. Never asserted.
    """

    def record(
        law: str,
        ours: Value,
        bound: Value | tuple[float, float],
        *,
        pitfall: int | None = None,
        peers: Mapping[str, Value] | None = None,
    ) -> None:
        request.node.user_properties.append(("law", _row(law, ours, bound, pitfall, peers)))
        _judge(law, ours, bound)

    return record


@pytest.fixture
def fails(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`fails(fault, check, *arguments)`: now that a fault is put back, `check` must break the law that it records.

    Args:
        fault: what was put back, in a few words; shown on the page with what the law then measures.
        check: the body of a law's test; called as `check(*arguments, record)`.
    """

    def fails(fault: str, check: Callable[..., None], *arguments: object) -> None:
        rows: list[dict[str, object]] = []

        def record(
            law: str,
            ours: Value,
            bound: Value | tuple[float, float],
            *,
            pitfall: int | None = None,
            peers: Mapping[str, Value] | None = None,
        ) -> None:
            rows.append(_row(law, ours, bound, pitfall, None))
            _judge(law, ours, bound)

        with pytest.raises(AssertionError):
            check(*arguments, record)
        assert rows, "the check failed before it had measured anything"
        request.node.user_properties.append(("fault", {**rows[-1], "fault": fault}))

    return fails


def _row(
    law: str,
    ours: Value,
    bound: Value | tuple[float, float],
    pitfall: int | None,
    peers: Mapping[str, Value] | None,
) -> dict[str, object]:
    if pitfall is not None and not 1 <= pitfall <= 28:
        raise ValueError(f"pitfall {pitfall}: they are numbered 1 to 28")
    return {
        "law": law,
        "declared": _words(bound),
        "measured": _words(ours),
        "peers": {name: _words(value) for name, value in (peers or {}).items()},
        "pitfall": pitfall,
    }


def _judge(law: str, ours: Value, bound: Value | tuple[float, float]) -> None:
    if isinstance(bound, tuple):
        assert bound[0] <= ours <= bound[1], f"{law}: measured {ours}, declared {bound}"
    elif isinstance(bound, Real) and not isinstance(bound, bool):
        assert ours <= bound, f"{law}: measured {ours}, declared at most {bound}"
    elif isinstance(bound, bool):
        assert ours is bound, f"{law}: measured {ours}, declared {bound}"


def _words(value: Value | tuple[float, float]) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.3g} to {value[1]:.3g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, Real) and not isinstance(value, Integral) else str(value)
