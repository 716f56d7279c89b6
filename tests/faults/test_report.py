"""The chaos program's end: its exit status, and the history that it keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from chaos.history import Fault, Faults, Record
from chaos.leaks import MORE, leaked
from chaos.processes import Holdings
from chaos.report import Told

RIGHT = Record("client-0", 0, "nll", "map", "tcp", "plain", start=10.0, end=11.0, outcome="right", count=40)
WARM = Holdings(rss_mib=300, descriptors=20, memfds=1, threads=9)


def told(records: list[Record], wrong: list[str]) -> Told:
    return Told(7, "python -m chaos --seed 7", records, Faults([Fault("server killed", "tls", 9.0, 12.0)]), wrong)


def test_a_run_without_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 0, and nothing is kept."""
    status = told([RIGHT, replace(RIGHT, way="unary", count=1)], []).conclude(tmp_path, [])

    assert status == 0
    assert list(tmp_path.iterdir()) == []
    assert "seed 7: 41 operations checked, 1 faults, 0 wrong, 0 hung, 0 left or leaked" in capsys.readouterr().out


@pytest.mark.parametrize(
    "records, wrong",
    [
        ([replace(RIGHT, outcome="wrong")], []),
        ([replace(RIGHT, outcome="hung")], []),
        ([replace(RIGHT, outcome="InternalError")], []),
        ([RIGHT], leaked("plain", WARM, replace(WARM, threads=WARM.threads + MORE.threads + 1))),
    ],
)
def test_a_run_with_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], records: list[Record], wrong: list[str]
) -> None:
    """A wrong answer, a hung operation, a wrong error or a leak: the status is 1, and the history is kept."""
    log = tmp_path / "plain.log"
    log.write_text("what the server said")
    status = told([RIGHT, *records], wrong).conclude(tmp_path / "kept", [log])
    (kept,) = (tmp_path / "kept").iterdir()
    lines = [json.loads(line) for line in (kept / "history.jsonl").read_text().splitlines()]
    said = capsys.readouterr().out

    assert status == 1
    assert "WRONG: " in said
    assert str(kept) in said
    assert lines[0] == {"seed": 7, "command": "python -m chaos --seed 7"}
    assert lines[1]["fault"]["kind"] == "server killed"
    assert Record(**{name: value for name, value in lines[2].items() if name != "faults"}) == RIGHT
    assert (kept / "plain.log").read_text() == "what the server said"


@pytest.mark.parametrize("name", Holdings.__slots__)
def test_a_leak(name: str) -> None:
    """More of anything than the difference between warm processes is told, and that much is not."""
    most = getattr(WARM, name) + getattr(MORE, name)

    assert leaked("plain", WARM, replace(WARM, **{name: most})) == []
    assert leaked("plain", WARM, replace(WARM, **{name: most + 1})) == [
        f"plain: {name} {getattr(WARM, name)} when warm, {most + 1} in the end"
    ]
