"""docs/exactness.md: a picture and a table for each direction, with the versions that were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import isinf
from pathlib import Path
from platform import python_version
from string import Template

from exactness.measure import DTYPES, Measured
from exactness.truth import QUANTITIES

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent.parent / "docs/exactness.md"
DISTRIBUTIONS = ("lossd", "torch", "scipy", "jax", "numpy", "numba", "mpmath")
LOST = 0.01  # relative error from which on a loss is called wrong
EVERY_DTYPE = ("bfloat16", "float16", *DTYPES)
NOT_THERE = "–"


def write(
    by_lead: Measured, by_offset: Measured, by_classes: Measured, coarse: Mapping[str, Measured], names: Sequence[str]
) -> None:
    """names: of the libraries, in the order of the columns."""
    measured = [(name, dtype) for dtype in DTYPES for name in names]
    text = Template((FOLDER / "page.md").read_text(encoding="utf-8")).substitute(
        date=datetime.now(UTC).date().isoformat(),
        versions=", ".join([f"Python {python_version()}", *_versions(names)]),
        lost=f"{LOST:.0%}".replace("%", " %"),
        lost_from=_table(by_lead, measured, _lost_from),
        by_lead=_table(by_lead, measured, Measured.worst),
        by_offset=_table(by_offset, measured, Measured.worst),
        by_classes=_table(by_classes, measured, Measured.worst),
        **{name: _of_dtypes(one, names) for name, one in coarse.items()},
    )
    PAGE.write_text(text, encoding="utf-8")


def _versions(names: Sequence[str]) -> Iterable[str]:
    for name in DISTRIBUTIONS:
        if name == "jax" and "JAX" not in names:
            continue
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def _lost_from(measured: Measured, quantity: str, library: str, dtype: str) -> str:
    """The smallest lead from which on every answer is off by more than LOST."""
    errors = measured.errors.get((quantity, library, dtype))
    if errors is None:
        return NOT_THERE
    lost = None
    for at, error in zip(reversed(measured.at), reversed(errors), strict=True):
        if error <= LOST:
            break
        lost = at
    return "never" if lost is None else f"{lost:.0f}"


def _table(measured: Measured, columns: Sequence[tuple[str, str]], cell: object) -> str:
    """One line a quantity that was measured."""
    assert callable(cell)
    lines = ["| | " + " | ".join(f"{name} {dtype}" for name, dtype in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for quantity, title in QUANTITIES.items():
        if any(found == quantity for found, _, _ in measured.errors):
            cells = [_shown(cell(measured, quantity, name, dtype)) for name, dtype in columns]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _of_dtypes(measured: Measured, names: Sequence[str]) -> str:
    columns = [(name, dtype) for dtype in EVERY_DTYPE for name in names if name in ("PyTorch", "lossd")]
    return _table(measured, columns, Measured.worst)


def _shown(value: float | str | None) -> str:
    if value is None:
        return NOT_THERE
    if isinstance(value, str):
        return value
    if isinf(value):
        return "NaN"
    return "0" if value == 0 else f"{value:.1e}" if value < LOST else f"{value:.0%}".replace("%", " %")
