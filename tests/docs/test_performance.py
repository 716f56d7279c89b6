"""docs/performance.md says what its figures say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "docs/performance"
AROUND = {
    "date": "2026-01-01",
    "command": "benchmarks/performance.py",
    "commit": "",
    "processor": "a processor",
    "threads": 2,
    "load": 0.1,
    "read_gb_per_s": 20.0,
    "copy_gb_per_s": 17.0,
    "versions": {"python": "3.11"},
    "peers": {"torch": "2.13"},
}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import page

    return page


def large(lossd: float) -> dict[str, Any]:
    """Figures of `large`: Triton takes a second, the bare bytes a tenth of one."""
    seconds = {
        "lossd": lossd,
        "triton": 1.0,
        "grpcio + torch": 2.0,
        "bytes sync 1 MiB": 0.1,
        "bytes aio 4 MiB": 0.2,
        "array sync 1 MiB": 0.3,
    }
    figure = {"shape": [1024, 32000], "gradient": False, "nbytes": 131_080_192, "seconds": seconds, "failed": {}}
    return {"around": AROUND, "rounds": 5, "quick": False, "found": {"figures": [figure]}}


def test_the_page_is_what_its_figures_give(page: ModuleType) -> None:
    """docs/performance.md is the text of the figures in docs/performance, with nothing added by hand."""
    if not list(RESULTS.glob("*.json")):
        pytest.skip("nothing was measured yet")

    assert (ROOT / "docs/performance.md").read_text(encoding="utf-8") == page.text(
        page.load(RESULTS), page.reasons(RESULTS), page.load_gpu(RESULTS)
    )


def test_the_page_of_transports_has_the_same_figures(page: ModuleType) -> None:
    """What stands between its comments is what `make performance` writes there, tables of every part that it shows."""
    import transports_page

    text = (ROOT / "docs/transports.md").read_text(encoding="utf-8")
    parts = page.load(RESULTS)

    assert transports_page.filled(text, parts) == text
    assert len(list(transports_page.sections(parts))) == 4


def test_a_goal_stands_beside_its_figure(page: ModuleType) -> None:
    """A goal that is reached says so, with what was asked and what was measured."""
    text = page.text({"large": large(lossd=0.1)}, {})

    assert "| (1024, 32000) over TCP, loss: against Triton | ≥ 10× | 10.00× | met |" in text
    assert "against a bare gRPC byte stream | ≥ 85 % | 100% | met |" in text


def test_a_missed_goal_has_its_reason(page: ModuleType) -> None:
    """A goal that is missed is followed by what reasons.toml says is in the way."""
    text = page.text({"large": large(lossd=0.5)}, {"tcp-triton": "The wall is here."})

    assert "| ≥ 10× | 2.00× | **missed** (1) |" in text
    assert "1. *(1024, 32000) over TCP, loss: against Triton:* The wall is here." in text


def test_a_goal_without_a_figure_is_not_called_missed(page: ModuleType) -> None:
    """Where a peer failed, its goals say that they were not measured, and the page says why."""
    whole = large(lossd=0.5)
    del whole["found"]["figures"][0]["seconds"]["triton"]
    whole["found"]["figures"][0]["failed"]["triton"] = "it ended"

    text = page.text({"large": whole}, {})

    assert "against Triton | ≥ 10× | – | not measured |" in text
    assert "Not measured: triton: it ended." in text


def test_every_reason_belongs_to_a_goal(page: ModuleType) -> None:
    """reasons.toml names no goal that there is not."""
    assert set(page.reasons(RESULTS)) <= {goal.name for goal in page.GOALS}


def test_figures_of_a_gpu(page: ModuleType) -> None:
    """The GPU's figures stand with their device, a peer that is missing with its reason; without any, it says so."""
    entry = {"part": "kernels", "name": "(32, 1000) bfloat16", "ms": 0.5, "bytes": 2e6, "gbps": 4.0, "of_copy": 0.875}
    absent = {"part": "peers", "name": "quack", "C": 10, "dtype": "float32", "missing": "not installed"}
    text = page.text({}, {}, {"machine": {"device": "a GPU"}, "results": [entry, absent]})

    assert "correctness first: device a GPU." in text
    assert "| (32, 1000) bfloat16 | 0.500 | 2 | 4 | 87.5% |" in text
    assert "| quack, C = 10, float32 | not installed |  |  |  |" in text
    assert "Not measured: no GPU was at hand." in page.text({}, {})


def test_a_user_reads_first_when_it_is_fast(page: ModuleType) -> None:
    """The first section is for users: what to use, with its figure, and from which size on a server is worth it."""
    eager = {"torch eager, in process": 0.01}
    figures = [
        {"nbytes": size, "seconds": {**eager, "lossd, TCP": tcp, "lossd, shared memory, copied in": 0.002}}
        for size, tcp in ((2e6, 0.02), (2e7, 0.005))
    ]
    parts = {"large": large(lossd=0.1), "sizes": {**large(lossd=0.1), "found": {"classes": 10, "figures": figures}}}

    first = page.text(parts, {}).split("\n## ")[1]
    assert first.startswith("When is lossd fast for me?")
    assert "131 MB, server elsewhere: loss | any array | 100 ms | Triton Inference Server: 1 s |" in first
    assert "same host, lossd was faster than PyTorch in your own process from 2 MB on: 2 ms against 10 ms." in first
    assert "loopback), lossd was faster than PyTorch in your own process from 20 MB on: 5 ms against 10 ms." in first
    assert "When is lossd fast" not in page.text({}, {})
