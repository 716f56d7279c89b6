"""What users install: the thin client, the server, and the server with its kernels, on every declared Python."""

from __future__ import annotations

import json
import subprocess
from math import exp, fsum, log
from pathlib import Path
from time import perf_counter

from tests.packages.conftest import environment, run

# The four of pyproject.toml, and what they bring along.
THIN = {"lossd", "grpcio", "protobuf", "googleapis-common-protos", "numpy", "typing-extensions"}
LOSS = """
import json, sys
import lossd
client = lossd.Client("embedded")
result = client.cross_entropy([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], [0, 1], grad=True)
client.close()
print(json.dumps([float(result), result.grad.tolist(), sys.version_info[:2]]))
"""
ROWS, TARGETS = ([2.0, 1.0, 0.1], [0.5, 2.5, 0.3]), (0, 1)
EXPECTED = fsum(log(fsum(map(exp, row))) - row[y] for row, y in zip(ROWS, TARGETS, strict=True)) / 2
IMPORT = "import time; start = time.perf_counter(); import lossd; print(time.perf_counter() - start)"


def test_the_thin_client(wheel: Path, python: str, tmp_path: Path) -> None:
    """It brings five packages; its size and what an import takes are printed."""
    made = environment(tmp_path / "thin", python, wheel)
    listed = json.loads(run(made, "-m", "pip", "list", "--format", "json"))
    names = {entry["name"].lower().replace("_", "-") for entry in listed} - {"pip", "setuptools"}
    site = Path(run(made, "-c", "import lossd; print(lossd.__path__[0])").strip())
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    run(made, "-c", IMPORT)
    took = min(float(run(made, "-c", IMPORT)) for _ in range(3))
    print(f"\n{run(made, '--version').strip()}: client {size / 1e6:.1f} MB, import {took:.2f} s")

    assert names == THIN
    assert "lossd eval" in run(made.parent / "lossd", "--help")


def test_a_loss(serving: Path) -> None:
    """From a server in the same process: the value and its gradient."""
    value, gradient, _ = json.loads(run(serving, "-c", LOSS, HOME=str(serving.parents[1])))

    assert abs(value - EXPECTED) < 1e-6
    assert all(abs(sum(row)) < 1e-7 for row in gradient)


def test_shipped_kernels(serving: Path, kernels: Path, tmp_path: Path) -> None:
    """A first start compiles nothing, and computes the same bits as kernels that were compiled here; both are timed."""
    plain, first = computed(serving, tmp_path / "without")
    run(serving, "-m", "pip", "--quiet", "install", "--no-deps", kernels)
    try:
        shipped, second = computed(serving, tmp_path / "with")
    finally:
        run(serving, "-m", "pip", "--quiet", "uninstall", "--yes", "lossd-kernels")
    print(f"\n{run(serving, '--version').strip()}: first start {first:.1f} s, with lossd-kernels {second:.1f} s")

    assert plain == shipped
    assert "compiling kernels" not in (tmp_path / "with/said").read_text()
    assert "compiling kernels" in (tmp_path / "without/said").read_text()


def computed(python: Path, home: Path) -> tuple[str, float]:
    """What an embedded server with a new home answers, and the seconds from its start to the answer."""
    home.mkdir()
    start = perf_counter()
    with (home / "said").open("w") as said:
        done = subprocess.run(
            [python, "-c", LOSS],
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            check=True,
        )
    return done.stdout, perf_counter() - start


def test_kernels_of_another_version(serving: Path, kernels: Path, tmp_path: Path) -> None:
    """Are left alone, and the log says so: of a changed source no old machine code is run."""
    run(serving, "-m", "pip", "--quiet", "install", "--no-deps", kernels)
    source = Path(run(serving, "-c", "import lossd_server.jobs.reduction as r; print(r.__file__)").strip())
    before = source.read_text(encoding="utf-8")
    source.write_text(before + "# changed\n", encoding="utf-8")
    try:
        found = run(serving, "-c", "from lossd_server.jobs import jit; print(jit.SHIPPED)", HOME=str(tmp_path))
    finally:
        source.write_text(before, encoding="utf-8")
        run(serving, "-m", "pip", "--quiet", "uninstall", "--yes", "lossd-kernels")

    assert found.strip() == "None"
