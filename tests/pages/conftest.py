"""A headless Chromium, at the sizes and in the colours that people have."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from lossd_server.backends import Backend
from tests.server.http.serving_http import HttpServer, http_server

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium


class View(NamedTuple):
    """Pixels of the window, and the reader's colours."""

    width: int
    height: int
    scheme: str


DESKTOP = View(1280, 900, "light")
VIEWS = {
    "desktop-light": DESKTOP,
    "desktop-dark": View(1280, 900, "dark"),
    "phone-light": View(360, 740, "light"),
    "phone-dark": View(360, 740, "dark"),
}


def missing() -> str:
    """What the tests here need, and is not there."""
    try:
        import selenium  # noqa: F401  # whether it is installed
    except ImportError:
        return "selenium"
    return next((program for program in ("chromium", "chromedriver") if shutil.which(program) is None), "")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """`make .venv/pages` puts it there; without it nothing is tested, but for CI, where that fails."""
    lacking = missing()
    if lacking:
        if os.environ.get("CI"):
            pytest.fail(f"{lacking} is missing: make .venv/pages")
        pytest.skip(f"{lacking} is not installed: make .venv/pages")
    from tests.pages.chromium import Chromium

    profile: Path = tmp_path_factory.mktemp("profile")
    with Chromium(profile) as found:
        yield found


@pytest.fixture
def desktop(chromium: Chromium) -> Chromium:
    chromium.begin(DESKTOP)
    return chromium


@pytest.fixture(params=VIEWS)
def viewed(request: pytest.FixtureRequest, chromium: Chromium) -> Chromium:
    """Each view in turn."""
    chromium.begin(VIEWS[request.param])
    return chromium


@pytest.fixture(scope="module")
def served(numba: Backend) -> Iterator[HttpServer]:
    with http_server(numba) as found:
        yield found
