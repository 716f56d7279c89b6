"""`lossd bench`: wrong and failed answers, wrong usage, servers that are away, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from lossd import cli
from lossd.bench.measured import BUSY, Measured
from lossd.bench.plan import Load
from lossd.bench.report import BenchReport
from lossd.bench.table import notes, plain, short, show_levels
from lossd.bench.tally import Tally
from lossd.bench.windows import Verdict
from lossd.bench.workload import Mix
from lossd.extras import install_hint
from lossd.info import CallerLimits, Limits, ServerInfo, Statistics
from lossd_server.embedded import EmbeddedServer
from lossd_server.errors import InvalidRequest
from tests.client.programs import run
from tests.client.stand_in import StandIn

SHORT = ("--window-s", "0.05", "--max-s", "0.3", "--concurrency", "1")


class Interrupting(StandIn):
    """Presses Ctrl-C at its n-th answer."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def _answer(self, rpc: str, body: bytes, context: Any) -> bytes:
        if len(self.rpcs) == self._at:
            os.kill(os.getpid(), signal.SIGINT)
        return super()._answer(rpc, body, context)


def test_wrong_answers_are_errors(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1; counted, and the first is said with what it should have been."""
    assert cli.main(["bench", "--server", server.address, *SHORT]) == 1

    said = capsys.readouterr()
    assert "WRONG_ANSWER " in said.out
    assert ", in float64 " in said.out
    assert "given up" in said.err or "not steady" in said.err


def test_wrong_answers_in_json(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """By status, beside what was measured: nothing."""
    assert cli.main(["bench", "--server", server.address, *SHORT, "--json", "-"]) == 1

    found = json.loads(capsys.readouterr().out)
    (level,) = found["levels"]
    assert level["wrong"] == level["failed_by_status"]["WRONG_ANSWER"] > 0
    assert (level["requests"], level["p50_ms"], level["failed"]) == (0, None, 0)
    assert found["wrong_before_the_first_level"] == 16


@pytest.mark.parametrize("raw", [(), ("--raw",)], ids=["client", "raw"])
def test_a_request_that_is_refused_is_said_at_once(
    raw: tuple[str, ...], server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1 and the server's sentence, before any level."""
    server.failures.append(
        InvalidRequest("target[0] = 9 is outside [0, 4)", field="target", reason="CLASS_OUT_OF_RANGE")
    )

    # The first call is GetServerInfo, whose failure would be the same to the bench.
    assert cli.main(["bench", "--server", server.address, *SHORT, *raw]) == 1
    said = capsys.readouterr()
    assert said.err == "lossd bench: target[0] = 9 is outside [0, 4)\n"
    assert said.out == ""


def test_failed_answers_are_counted_by_status(capsys: pytest.CaptureFixture[str]) -> None:
    """The gRPC status of raw calls, with what one of them said."""
    served = Counter[str]()

    class Failing(StandIn):
        def _answer(self, rpc: str, body: bytes, context: Any) -> bytes:
            served[rpc] += 1
            # The 16 requests of the warm-up are answered.
            if served["CrossEntropy"] > 16:
                self.failures.append(grpc.StatusCode.RESOURCE_EXHAUSTED)
            return super()._answer(rpc, body, context)

    with Failing() as failing:
        assert cli.main(["bench", "--server", failing.address, "--raw", *SHORT, "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found["levels"][0]["failed_by_status"]) == ["RESOURCE_EXHAUSTED"]
    assert found["sentences"]["RESOURCE_EXHAUSTED"].endswith("most likely that of a message's size")


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with its address."""
    monkeypatch.setattr("lossd.bench.run.REACH_S", 0.3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        assert cli.main(["bench", "--server", address]) == 1

    said = capsys.readouterr()
    assert address in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("at", [3, 40], ids=["in the warm-up", "in a level"])
def test_control_c_tells_what_there_is(at: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 130; of a level that is under way what was measured so far."""
    # A shell that runs the tests in the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Interrupting(at) as server:
            flags = ["--transport", "unary", "--concurrency", "1", "--window-s", "30"]
            status = cli.main(["bench", "--server", server.address, *flags])
    finally:
        signal.signal(signal.SIGINT, before)

    assert status == 130
    said = capsys.readouterr()
    assert ("interrupted" in said.out) == (at == 40)


USAGE = [
    (["--shape", "8x0"], "'8x0' is not a shape"),
    (["--shape", "eight"], "'eight' is not a shape"),
    (["--concurrency", "0"], "--concurrency"),
    (["--concurrency", "one"], "'one' is not a whole number"),
    (["--rate", "-1"], "-1 must be above 0"),
    (["--rate", "5", "--concurrency", "2"], "closed loop"),
    (["--arrivals", "poisson"], "--arrivals needs an open loop"),
    (["--search-p99-ms", "5", "--rate", "1,2"], "takes one --rate"),
    (["--search-p99-ms", "5", "--concurrency", "1"], "searches for a rate"),
    (["--raw", "--transport", "stream"], "--raw sends unary messages"),
    (["--raw", "--empty"], "cannot be combined with --empty"),
    (["--map", "--raw"], "--map streams"),
    (["--map", "--rate", "5"], "--map is a closed loop"),
    (["--loss", "softmax"], "loss must be 'cross_entropy', "),
    (["--reduction", "batchmean"], "only with kl_divergence"),
    (["--window-s", "5", "--max-s", "1"], "shorter than one window"),
    (["--seed", "-1"], "-1 must not be negative"),
]


@pytest.mark.parametrize("arguments, sentence", USAGE, ids=[" ".join(arguments) for arguments, _ in USAGE])
def test_wrong_usage(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and what does not go together."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", *arguments])

    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag, name", [("--csv", "a/b.csv"), ("--json", "a/b.json"), ("--plot", "a/b.png"), ("--plot", "b.xyz")]
)
def test_files_that_cannot_be_written_are_found_first(
    flag: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured."""
    assert cli.main(["bench", flag, str(tmp_path / name)]) == 1

    assert name.rpartition("/")[2] in capsys.readouterr().err


def test_the_thin_install_says_what_is_missing() -> None:
    """Without matplotlib no picture and without ml_dtypes no bfloat16, in one sentence; without rich, plain tables."""
    with EmbeddedServer() as server:
        source = f"""
            import sys
            sys.modules.update(dict.fromkeys(("matplotlib", "ml_dtypes", "rich"), None))
            from lossd.cli import main
            fast = ["bench", "--server", {server.address!r}, *{SHORT!r}]
            print([main([*fast, *more]) for more in (["--plot", "x.png"], ["--dtype", "bfloat16"], [])])
        """
        said = run(source)

    assert said.stdout.splitlines()[-1] == "[1, 1, 0]", said.stderr
    assert f"lossd bench: --plot needs matplotlib: {install_hint('cli')}" in said.stderr
    assert f"lossd bench: --dtype bfloat16 needs ml_dtypes: {install_hint('cli')}" in said.stderr
    assert "requests/s" in said.stdout


def report(**changes: Any) -> BenchReport:
    """Of one steady level at rest."""
    tally = Tally(seconds=1.0, cpu_s=0.5)
    level = Measured(load=Load(concurrency=4), verdict=Verdict.STEADY, elapsed_s=1.0, tally=tally)
    zeros = dict.fromkeys(Limits.__slots__, 0) | {"caller": CallerLimits("", 0, 0, 0)}
    limits, statistics = Limits(**zeros), Statistics(*[0] * len(Statistics.__slots__))  # type: ignore[arg-type]
    server = ServerInfo("1.0", "", "cpu", ("numba",), (), (), limits, "", 0, statistics, 1)
    return replace(BenchReport(mix=Mix(), how="client", address="h:1", server=server, levels=[level]), **changes)


def test_a_generator_that_is_the_bottleneck_is_warned_of() -> None:
    """From 90 % of a core of its thread on."""
    busy = replace(report().levels[0], tally=Tally(seconds=1.0, cpu_s=BUSY))

    assert not any("BOTTLENECK" in note for note in notes(report()))
    assert any("BOTTLENECK at 4" in note for note in notes(report(levels=[busy])))


def test_a_rate_that_was_not_kept_is_noted() -> None:
    """A search looks for such rates: there it is no news."""
    late = replace(report().levels[0], load=Load(rate=1000))

    assert any(note.startswith("rate not reached at 1,000/s") for note in notes(report(levels=[late])))
    assert not any("not reached" in note for note in notes(report(levels=[late], searching=True)))
    assert not any("not reached" in note for note in notes(report()))


def test_other_bits_are_noted() -> None:
    """They are right, and no reason to fail."""
    found = report(differing=3)

    assert found.right
    assert any(note.startswith("3 right answers differ in their last bits") for note in notes(found))


def test_what_fails_a_bench() -> None:
    """Wrong answers always; failed ones unless a search looks for what a server does not bear."""
    (level,) = report().levels
    wrong, failed = (replace(level, failed=Counter({status: 1})) for status in ("WRONG_ANSWER", "UNAVAILABLE"))

    assert report().right
    assert not report(warm_wrong=1).right
    assert [report(levels=[one], searching=False).right for one in (wrong, failed)] == [False, False]
    assert [report(levels=[one], searching=True).right for one in (wrong, failed)] == [False, True]


def test_a_level_without_answers_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Dashes, where there are no numbers."""
    show_levels(report())

    assert " - " in capsys.readouterr().out


def test_a_terminal_has_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are those of the plain table."""
    show_levels(report())
    plainly = capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")

    show_levels(report())
    coloured = capsys.readouterr().out
    assert "\x1b[1m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plainly


DIGITS = {0.0: "0", 0.00004: "0.0000", 0.0123: "0.0123", 0.1234: "0.123", 1.236: "1.24", 99.94: "99.9", 99.96: "100"}


@pytest.mark.parametrize("value, text", [*DIGITS.items(), (1234.5, "1,234"), (float("nan"), "-")])
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """Thousands are written in full."""
    assert plain(value) == text


@pytest.mark.parametrize("value, text", [(12.3, "12.3"), (1000, "1.00k"), (999_600, "1.00M"), (4.2e12, "4.20T")])
def test_large_numbers_have_letters(value: float, text: str) -> None:
    """k, M, G, T."""
    assert short(value) == text
