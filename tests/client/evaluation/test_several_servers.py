"""`lossd eval --server a,b,c`: the blocks of a file by three processes, with the bits of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from lossd import cli
from lossd.evaluation.question import Question
from lossd.evaluation.readers.files import open_all
from lossd.evaluation.reports.report import LossReport, loss_document
from lossd.evaluation.run import run_evaluation, run_on_several
from lossd.evaluation.several.servers import Servers, open_several
from tests.client.evaluation.files import CLASSES, labels, logits, write, write_tables
from tests.scale.three_servers import ServerProcess, listed, three_servers
from tests.waiting import until

# Of a block: the thousand rows come in 125.
LIMIT = 8192 + 8 * (4 * CLASSES + 8)
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def servers() -> Iterator[list[ServerProcess]]:
    with three_servers("--max-message-bytes", str(LIMIT)) as servers:
        yield servers


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, logits=logits(), labels=labels())
    write_tables(tmp_path, logits(), labels())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def question(**options: Any) -> Question:
    files = {"input": ["logits.npy"], "target": ["labels.npy"]}
    return Question(method="cross_entropy", sources=open_all(files), worst=5, plot=True, **options)


def by_one(server: ServerProcess, **options: Any) -> dict[str, Any]:
    with lossd.Client(server.address) as client:
        return numbers(run_evaluation(client, question(**options), lambda items: None))


def numbers(report: LossReport) -> dict[str, Any]:
    """Every number of the report but who computed it."""
    document = loss_document(report)
    document.pop("servers", None)
    assert report.sample is not None
    return {**document, "sample": report.sample.tolist()}


def by_several(
    servers: list[ServerProcess], advance: Callable[[int, Servers], None] = lambda done, several: None
) -> LossReport:
    """advance: with the items that are done so far."""
    done = 0

    def count(items: int) -> None:
        nonlocal done
        done += items
        advance(done, found)

    address = listed(servers)
    with lossd.Client(address) as client, open_several(address, PATIENCE_S, {}) as found:
        return run_on_several(client, found, question(), count, PATIENCE_S)


def test_the_bits_are_those_of_one_server(servers: list[ServerProcess]) -> None:
    """Of two and of three: the sums, the measures, each row's loss in its place. All of them have a part in it."""
    alone = by_one(servers[0])

    two, three = by_several(servers[:2]), by_several(servers)

    assert numbers(two) == alone
    assert numbers(three) == alone
    assert sum(share.items for share in three.servers) == len(logits())
    assert [share.lost for share in three.servers] == [0, 0, 0]
    assert three.warnings == ()


@pytest.mark.parametrize(
    "input, target",
    [
        ("data.csv", "data.csv:label"),
        ("data.parquet", "data.parquet:label"),
        ("all.safetensors:logits", "all.safetensors:labels"),
        ("all.npz:logits", "all.npz:labels"),
    ],
)
def test_the_command_deals_files_of_every_kind(
    input: str, target: str, servers: list[ServerProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same numbers as by one; the report names the servers, with what each did."""
    command = ["eval", "cross_entropy", "--input", input, "--target", target, "--reduction", "none", "--json"]

    def said(address: str) -> dict[str, Any]:
        assert cli.main([*command, "--server", address]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    alone, together = said(servers[0].address), said(listed(servers))

    shares = together.pop("servers")
    assert together == alone
    assert [share["address"] for share in shares] == [server.address for server in servers]
    assert sum(share["items"] for share in shares) == len(logits())

    assert cli.main([*command[:-1], "--server", listed(servers)]) == 0
    table = capsys.readouterr().out
    assert all(f"rows at {server.address}" in table for server in servers)


def test_a_server_that_is_killed_and_comes_back(servers: list[ServerProcess]) -> None:
    """In the middle. Others compute what it has not; it is used again; the report says both; the bits are the same."""
    alone = by_one(servers[0])
    before = -1

    def advance(done: int, found: Servers) -> None:
        nonlocal before
        lost = found.all[1]
        if done == 200:
            servers[1].kill()
        # Not waited for: blocks are taken ahead of what is read here by so many, and no more while nothing is read.
        if before < 0 and lost.lost == 1:
            before = lost.blocks
            servers[1].start()
            until(lambda: not lost.away, "it is found again")

    report = by_several(servers, advance)

    assert numbers(report) == alone
    assert [share.lost for share in report.servers] == [0, 1, 0]
    assert report.servers[1].blocks > before
    (sentence,) = report.warnings
    assert sentence.startswith(f"{servers[1].address} was away and came back")


def test_a_server_that_stands_still(servers: list[ServerProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks go to the others once their time is over, and it gets no more."""
    alone = by_one(servers[0])
    monkeypatch.setattr("lossd.evaluation.several.servers.REACH_S", 0.5)
    address, stopped = listed(servers), False

    def stop(items: int) -> None:
        nonlocal stopped
        if not stopped:
            servers[1].stand_still()
            stopped = True

    try:
        with lossd.Client(address) as client, open_several(address, 0.5, {}) as found:
            report = run_on_several(client, found, question(), stop, PATIENCE_S)
    finally:
        servers[1].go_on()

    assert numbers(report) == alone
    assert [share.lost for share in report.servers] == [0, 1, 0]


def test_a_server_that_was_never_there(servers: list[ServerProcess], capsys: pytest.CaptureFixture[str]) -> None:
    """The others do it all, and a warning names it; where none is there, the command ends as with one."""
    servers[1].kill()
    command = ["eval", "cross_entropy", "--input", "logits.npy", "--target", "labels.npy", "--timeout", "1"]
    try:
        assert cli.main([*command, "--server", listed(servers)]) == 0
        assert f"{servers[1].address} was away and did not come back: it computed no block" in capsys.readouterr().err

        assert cli.main([*command, "--server", f"{servers[1].address},{servers[1].address}"]) == 1
        assert servers[1].address in capsys.readouterr().err
    finally:
        servers[1].start()


def test_all_of_them_go(servers: list[ServerProcess]) -> None:
    """After as long as progress is waited for, the reason is raised."""

    def advance(done: int, found: Servers) -> None:
        if done == 80:
            for server in servers[:2]:
                server.kill()

    address = listed(servers[:2])
    try:
        with lossd.Client(address) as client, open_several(address, 1.0, {}) as found:
            done = 0

            def count(items: int) -> None:
                nonlocal done
                done += items
                advance(done, found)

            with pytest.raises(lossd.Unavailable):
                run_on_several(client, found, question(), count, 1.0)
    finally:
        for server in servers[:2]:
            server.start()


def test_a_wrong_value_is_named_by_its_row_in_the_file(
    servers: list[ServerProcess], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of them in the file's order, whichever server answers first."""
    wrong = labels()
    wrong[[500, 900]] = CLASSES
    np.save(folder / "wrong.npy", wrong)
    command = ["eval", "cross_entropy", "--input", "logits.npy", "--target", "wrong.npy"]

    assert cli.main([*command, "--server", listed(servers)]) == 1

    assert "wrong.npy: target[500] = 7 is outside [0, 7)" in capsys.readouterr().err
