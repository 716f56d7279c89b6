"""`lossd bench` against a real server: what it measures, and where it writes it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossd import cli
from lossd_server.embedded import EmbeddedServer

Bench = Callable[..., dict[str, Any]]
# Long enough for ten answers, and no longer: these tests look at what is counted, not at how fast it is.
SHORT = ("--window-s", "0.05", "--max-s", "0.3")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.address


@pytest.fixture
def bench(address: str, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs the command; what `--json -` says."""

    def run(*arguments: str, status: int = 0) -> dict[str, Any]:
        assert cli.main(["bench", "--server", address, *SHORT, *arguments, "--json", "-"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def check(level: dict[str, Any]) -> None:
    """What holds of every level that was measured."""
    assert level["requests"] > 0
    assert (level["failed"], level["wrong"], level["failed_by_status"]) == (0, 0, {})
    assert level["requests_per_s"] == pytest.approx(level["requests"] / level["measured_s"])
    assert 0 < level["p50_ms"] <= level["p90_ms"] <= level["p95_ms"] <= level["p99_ms"] <= level["p99_9_ms"]
    assert level["p99_9_ms"] <= level["max_ms"] * 1.005
    assert level["batch_requests"] >= 1
    stages = [level[f"{stage}_ms"] for stage in ("late", "encode", "wire", "queue", "compute", "reply")]
    assert min(stages) >= 0
    assert sum(stages) == pytest.approx(level["mean_ms"], rel=0.05)
    assert level["compute_ms"] > 0


def test_a_sweep_of_closed_loops(bench: Bench) -> None:
    """A level for each concurrency; rows, elements and bytes follow from the requests."""
    found = bench("--concurrency", "1,4", "--grad")

    assert [level["concurrency"] for level in found["levels"]] == [1, 4]
    for level in found["levels"]:
        check(level)
        assert level["rows_per_s"] == pytest.approx(8 * level["requests_per_s"])
        assert level["elements_per_s"] == pytest.approx(128 * level["requests_per_s"])
        # Logits, class indices, the loss and the gradient.
        nbytes = 8 * 16 * 4 + 8 * 8 + 4 + 8 * 16 * 4
        assert level["gb_per_s"] == pytest.approx(nbytes * level["requests_per_s"] / 1e9)
        assert level["encode_ms"] > 0
        assert level["reply_ms"] > 0
    assert found["levels"][0]["batch_requests"] == 1
    assert (found["right_with_other_bits"], found["interrupted"], found["search"]) == (0, False, None)


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_an_open_loop(arrivals: str, bench: Bench) -> None:
    """Requests are sent at their rate, evenly or at random; how late they were is told."""
    found = bench("--rate", "200", "--arrivals", arrivals, "--shape", "8x16,4x100", "--order", "random")

    (level,) = found["levels"]
    check(level)
    assert (level["rate"], level["arrivals"]) == (200, arrivals)
    assert level["late_ms"] > 0


def test_waiting_to_be_sent_is_not_left_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million a second are due at once, and sent when there is room: their clocks have run from the start."""
    monkeypatch.setattr("lossd.bench.drive.MOST_REQUESTS", 16)

    (level,) = bench("--rate", "1000000")["levels"]
    assert level["late_ms"] > 0.5 * level["mean_ms"]
    assert level["requests_per_s"] < 0.5 * level["rate"]


def test_raw_messages(bench: Bench) -> None:
    """The client's own work is not in them."""
    found = bench("--raw", "--concurrency", "2", "--loss", "bce-with-logits", "--reduction", "none")

    (level,) = found["levels"]
    check(level)
    assert (level["encode_ms"], found["mix"]["loss"]) == (0, "bce_with_logits")
    assert found["how"].startswith("raw unary messages")


@pytest.mark.parametrize("transport", ["unary", "stream", "shared_memory"])
def test_every_transport(transport: str, bench: Bench) -> None:
    """As the client names them; large enough to be worth one."""
    found = bench("--transport", transport, "--shape", "64x1000", "--grad", "--concurrency", "2")

    check(found["levels"][0])


def test_arrays_of_the_client(bench: Bench) -> None:
    """They hold what was drawn: the answers are right."""
    found = bench("--empty", "--shape", "64x1000", "--grad", "--concurrency", "1")

    check(found["levels"][0])
    assert found["how"].endswith("arrays of client.empty")


def test_map(bench: Bench) -> None:
    """Many at a time; what the client computes for each is not told apart."""
    found = bench("--map", "--concurrency", "16")

    (level,) = found["levels"]
    check(level)
    assert level["encode_ms"] == level["reply_ms"] == 0


def test_a_search(bench: Bench) -> None:
    """Doubles from its first rate until a level fails; the answer is a level that passed."""
    found = bench("--search-p99-ms", "1000", "--rate", "2000")

    best = found["search"]["best_rate"]
    rates = [level["rate"] for level in found["levels"]]
    assert found["search"]["p99_ms"] == 1000
    assert rates == sorted(rates)
    assert best == 0 or best in rates
    assert max(rates) > best


def test_a_bound_that_no_rate_keeps(bench: Bench) -> None:
    """The best rate is 0, and that is no failure."""
    found = bench("--search-p99-ms", "0.001", "--rate", "3")

    assert found["search"]["best_rate"] == 0


def test_files(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table on stdout, a line for each level on stderr; CSV and JSON hold the same; a picture."""
    paths = {kind: tmp_path / f"bench.{kind}" for kind in ("csv", "json", "png")}
    written = ("--csv", str(paths["csv"]), "--json", str(paths["json"]), "--plot", str(paths["png"]))

    assert cli.main(["bench", "--server", address, *SHORT, "--concurrency", "1,2", *written]) == 0
    said = capsys.readouterr()
    assert "requests/s" in said.out
    assert "where the time of a request went" in said.out
    progress, wrote = said.err.splitlines()[:2], said.err.splitlines()[2:]
    assert [line.partition(":")[0] for line in progress] == ["concurrency 1", "concurrency 2"]
    assert wrote == [f"lossd bench: wrote {path}" for path in paths.values()]
    with paths["csv"].open(newline="") as file:
        lines = list(csv.DictReader(file))
    levels = json.loads(paths["json"].read_text())["levels"]
    assert [{name: float(line[name]) for name in ("concurrency", "requests", "p99_ms")} for line in lines] == [
        {name: level[name] for name in ("concurrency", "requests", "p99_ms")} for level in levels
    ]
    assert paths["png"].read_bytes().startswith(b"\x89PNG")


def test_an_embedded_server(capsys: pytest.CaptureFixture[str]) -> None:
    """The default, and what to mind of it is said."""
    assert cli.main(["bench", *SHORT, "--concurrency", "1"]) == 0

    assert "server and load generator shared one process" in capsys.readouterr().out
