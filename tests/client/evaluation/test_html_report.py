"""`lossd eval --html`: one page with everything in it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lossd.evaluation.measures import Reliability
from lossd.evaluation.reports.charts import Axis, histogram, reliability
from tests.client.evaluation.conftest import Evaluated
from tests.client.evaluation.files import labels, logits, write
from tests.client.programs import run

# Those of SVG that may be closed where they begin.
SHAPES = {"rect", "line"}
# Elements that have no end.
VOID = {"meta"}


class Page(HTMLParser):
    """Checks that elements are closed in turn; collects them, their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def report(evaluated: Evaluated, folder: Path, *arguments: str) -> Page:
    ended = evaluated(*arguments, "--html", "r.html")
    assert ended.status == 0, ended.err
    assert ended.err.endswith("lossd eval: wrote r.html\n")
    page = Page((folder / "r.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_everything_is_in_one_page(evaluated: Evaluated, tmp_path: Path) -> None:
    """Measures, both charts, classes, the worst rows, the files; nothing is loaded, nothing runs."""
    write(tmp_path, x=logits(), y=labels())

    page = report(evaluated, tmp_path, "cross_entropy", "--input", "x.npy", "--target", "y.npy", "--per-class")

    for words in (
        "perplexity",
        "calibration error",
        "The losses of 1,000 rows",
        "By class",
        "Greatest losses",
        "x.npy",
    ):
        assert words in page.text
    assert page.tags.count("figure") == 2
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(page.tags)
    assert not any(name in ("src", "href") or name.startswith("on") for name, _ in page.attributes)
    assert not any("http" in (value or "") for name, value in page.attributes if name != "http-equiv")


def test_names_of_files_are_text(evaluated: Evaluated, tmp_path: Path) -> None:
    """Whatever they are."""
    name = "<b>&'\"x.npy"
    np.save(tmp_path / name, np.full((2, 2), 0.5))

    page = report(evaluated, tmp_path, "entropy", "--input", name)

    assert "b" not in page.tags
    assert name in page.text


@pytest.mark.parametrize("rows", [np.full((2, 2), np.nan), np.empty((0, 2)), np.array([[1.0, 0.0]])])
def test_losses_that_cannot_be_drawn(rows: np.ndarray, evaluated: Evaluated, tmp_path: Path) -> None:
    """NaN, none at all, zeros: the page is there."""
    np.save(tmp_path / "x.npy", rows)

    page = report(evaluated, tmp_path, "entropy", "--input", "x.npy")

    assert page.tags.count("figure") == (len(rows) == 1)


def test_a_comparison_is_in_the_page(evaluated: Evaluated, tmp_path: Path) -> None:
    """With its verdict as the class of the number, for its colour."""
    write(tmp_path, x=logits(), y=labels(), z=logits() * 2)
    evaluated("cross_entropy", "--input", "x.npy", "--target", "y.npy", "--save", "old.json")

    page = report(
        evaluated, tmp_path, "cross_entropy", "--input", "z.npy", "--target", "y.npy", "--against", "old.json"
    )

    assert ("class", "worse") in page.attributes


def test_why_a_gate_fails_is_in_the_page(evaluated: Evaluated, tmp_path: Path) -> None:
    """So that whoever opens the build's report need not look for its log."""
    write(tmp_path, x=logits(), y=labels())
    arguments = ("cross_entropy", "--input", "x.npy", "--target", "y.npy", "--html", "report.html", "--fail-above")

    assert [evaluated(*arguments, "9").status, "exceeds --fail-above" in text_of(tmp_path)] == [0, False]
    assert [evaluated(*arguments, "0").status, "exceeds --fail-above 0<" in text_of(tmp_path)] == [3, True]


def text_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_bars_hold_all_losses() -> None:
    """Their titles' counts add up."""
    losses = np.random.default_rng(1).exponential(size=5000)
    page = Page(histogram(losses, "nats", "rows"))

    counts = [int(words.split(": ")[1].split()[0].replace(",", "")) for words in page.words if " nats: " in words]
    assert sum(counts) == 5000


def test_dots_are_the_bins_that_have_predictions() -> None:
    """An empty bin has none."""
    found = Reliability(np.array([3, 0, 1]), np.array([0.1, np.nan, 0.9]), np.array([0.0, np.nan, 1.0]))
    page = Page(reliability(found))
    assert page.tags.count("circle") == 2


@pytest.mark.parametrize(
    "low, high, logarithmic, ticks",
    [
        (0.0, 1.0, False, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.13, 4.9, False, [1.0, 2.0, 3.0, 4.0]),
        (-3.0, 3.0, False, [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]),
        (0.0, 87.0, False, [0.0, 20.0, 40.0, 60.0, 80.0]),
        (2e-3, 30.0, True, [1e-2, 1e-1, 1.0, 10.0]),
        (1e-9, 1.0, True, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
        (5.0, 5.0, False, [5.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, logarithmic: bool, ticks: list[float]) -> None:
    """And within the axis."""
    assert Axis(low, high, 0.0, 100.0, logarithmic=logarithmic).ticks() == pytest.approx(ticks)


def test_rows_are_counted_in_whole_numbers() -> None:
    """However few there are."""
    assert Axis(0.0, 2.0, 0.0, 100.0, whole=True).ticks() == [0.0, 1.0, 2.0]


def test_a_page_needs_no_library(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib and rich are not there."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, x=logits(), y=labels())
    command = ["eval", "cross_entropy", "--input", "x.npy", "--target", "y.npy", "--html", "r.html", "--server", served]
    hidden = "import sys; sys.modules.update(dict.fromkeys(['rich', 'matplotlib', 'pyarrow', 'safetensors']))\n"

    done = run(f"{hidden}from lossd.cli import main; sys.exit(main({command}))")

    assert (done.returncode, done.stderr) == (0, "lossd eval: wrote r.html\n")
