"""What the compiler made of the kernels: docs/gpu.md shows what docs/performance/gpu_ahead.json says."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = json.loads((ROOT / "docs/performance/gpu_ahead.json").read_text(encoding="utf-8"))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_ahead_page

    return gpu_ahead_page


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_ahead

    return gpu_ahead


def test_the_table_is_what_the_figures_give(page: ModuleType) -> None:
    """docs/gpu.md is what gpu_ahead_page.py writes from the figures."""
    text = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")

    assert page.render(text, FIGURES) == text


def test_the_figures_are_of_these_variants(ahead: ModuleType) -> None:
    """Every variant that gpu_ahead.py compiles is in the figures, with its kernel and warps, and no other."""
    expected = [(name, variant.kernel, variant.warps) for name, variant in ahead.variants()]

    assert [(one["name"], one["kernel"], one["warps"]) for one in FIGURES["variants"]] == expected


def test_a_kernel_is_a_row(page: ModuleType) -> None:
    """The range over a kernel's variants, and how many of them have no access of 16 bytes."""
    one = {"kernel": "k", "registers": 80, "spilled_bytes": 0, "instructions": 1200, "wide_loads": 4}
    other = one | {"registers": 64, "wide_loads": 0}
    figures = {"target": "sm_90", "versions": {"triton": "3.7"}, "variants": [one, other]}

    assert page.section(figures).startswith("For sm_90, by triton 3.7:\n")
    assert page.section(figures).endswith("| `k` | 2 | 64 – 80 | 0 | 1,200 | all but 1 |\n")


def test_a_page_without_a_place_for_the_table(page: ModuleType) -> None:
    """Nothing is written where the marks are missing."""
    with pytest.raises(ValueError, match="0 places for the table"):
        page.render("# The GPU\n", FIGURES)
