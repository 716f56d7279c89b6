"""The last tag's client against this server, and this client against the last tag's server."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.packages.conftest import LIMIT_S, ROOT, TOOLS, environment, interpreter, run

# One call of each kind: values, gradients, a stream of blocks, many at once, what the server tells.
CALLS = """
import json, sys
import lossd
with lossd.Client(sys.argv[1]) as client:
    row = [[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]]
    found = {
        "cross_entropy": float(client.cross_entropy(row, [0, 1], label_smoothing=0.1)),
        "grad": client.cross_entropy(row, [0, 1], grad=True).grad.tolist(),
        "bce": float(client.bce([0.2, 0.9], [0.0, 1.0])),
        "bce_with_logits": float(client.bce_with_logits([0.2, -0.9], [0.0, 1.0])),
        "entropy": float(client.entropy(row, kind="logits")),
        "nll": float(client.nll([[-0.5, -1.0]], [1])),
        "kl": float(client.kl_divergence([[-0.5, -1.0]], [[0.5, 0.5]], kind="log_probabilities")),
        "stream": float(client.cross_entropy([row[0]] * 3000, [0] * 3000, transport="stream")),
        "map": [float(each) for each in client.map("cross_entropy", [(row, [0, 1])] * 3)],
    }
    assert client.info().version
print(json.dumps(found))
"""


def last_tag() -> str:
    """The tag that this commit, or one before it, has."""
    done = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", "v*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no tag is here")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the last tag's lossd[server]."""
    folder = tmp_path_factory.mktemp("tagged")
    archive = subprocess.run(["git", "archive", last_tag()], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        tree.extractall(folder / "tree", filter="data")
    build = f"import os; os.chdir({str(folder / 'tree')!r}); from hatchling.cli import hatchling; hatchling()"
    run(TOOLS, "-c", build, "build", "--target", "wheel", "--directory", folder / "dist")
    (wheel,) = (folder / "dist").iterdir()
    python = interpreter("3.11")
    assert python is not None
    return environment(folder / "environment", python, f"{wheel}[server]")


@pytest.fixture(scope="module")
def current(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = interpreter("3.11")
    assert python is not None
    return environment(tmp_path_factory.mktemp("current"), python, f"{wheel}[server]")


@contextmanager
def serving(python: Path, home: Path) -> Iterator[str]:
    """The address of a server of that environment."""
    home.mkdir()
    process = subprocess.Popen(
        [python.parent / "lossd", "serve", "--listen", "127.0.0.1:0", "--device", "cpu"],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = re.search(r"listening on (\S+)", process.stdout.readline())
        assert told is not None
        yield told[1]
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT_S)


def test_either_way(tagged: Path, current: Path, tmp_path: Path) -> None:
    """Each client has the same answers from each server, to the last bits that kernels may change."""
    answers = {}
    for name, server in (("tagged", tagged), ("current", current)):
        with serving(server, tmp_path / name) as address:
            for client in (tagged, current):
                answers[name, client] = json.loads(run(client, "-c", CALLS, address))

    for name in ("tagged", "current"):
        assert answers[name, tagged] == answers[name, current]
    for before, now in zip(numbers(answers["tagged", tagged]), numbers(answers["current", current]), strict=True):
        assert now == pytest.approx(before, rel=1e-6)


def numbers(found: Any) -> Iterator[float]:
    """Every number in what came back, in order."""
    if isinstance(found, float):
        yield found
    else:
        for each in found.values() if isinstance(found, dict) else found:
            yield from numbers(each)
