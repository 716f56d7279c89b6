"""Images as the Dockerfile says, a start of the compose file, and a table of sizes and times."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import BUILD, ROOT, Engine, NoEngineError, Project, engine_here

MEASURED: list[tuple[str, str]] = []
TARGETS = ("cpu", "demo")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A build without any cache takes minutes, in the first test's time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def engine() -> Engine:
    try:
        return engine_here()
    except NoEngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, str]:
    """Tag by target, built as the compose file names them."""
    base = re.search(r"^ARG PYTHON_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert base is not None
    try:
        engine.need(base[1])
    except NoEngineError as error:
        pytest.skip(str(error))
    tags = {target: f"lossd:{target}" for target in TARGETS}
    base_bytes = engine.inspect(base[1])["Size"]
    for target, tag in tags.items():
        engine.run(*BUILD, "--target", target, "--tag", tag, ".")
        size = engine.inspect(tag)["Size"]
        MEASURED.append((f"size of {tag}", f"{size / 1e6:.0f} MB, {(size - base_bytes) / 1e6:.0f} MB without its base"))
    return tags


@pytest.fixture(scope="module")
def project(images: dict[str, str], engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Stopped and removed at the end, volumes too."""
    assert set(images) == set(TARGETS)
    started = Project(engine, f"lossd-test-{os.getpid()}", tmp_path_factory.mktemp("secrets"))
    try:
        yield started
    finally:
        profiles = ("secure", "demo-secure", "metrics", "metrics-secure")
        started.compose(*(f"--profile={name}" for name in profiles), "down", "--volumes")


@pytest.fixture(scope="session")
def measured() -> list[tuple[str, str]]:
    """What the table is made of."""
    return MEASURED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if MEASURED:
        terminalreporter.section("containers")
        for what, figure in MEASURED:
            terminalreporter.write_line(f"{what:<32}{figure}")
