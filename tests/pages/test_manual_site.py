"""The manual in a browser: nothing from other hosts, its pictures, nothing to scroll sideways, a search that finds."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium

SITE = Path(__file__).resolve().parents[2] / "build/manual"
# One of each kind: a list, formulas and a picture, wide tables, signatures, a notebook, a diagram, screenshots.
PAGES = ("", "losses/cross_entropy/", "errors/", "performance/", "api/client/", "first-look/", "architecture/", "http/")
BROKEN = "return [...document.images].filter((one) => one.complete && !one.naturalWidth).map((one) => one.src)"
LOADING = "return [...document.images].some((one) => !one.complete)"
LOADED = "return performance.getEntriesByType('resource').map((one) => one.name)"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: no one reads it."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the site that `make manual` has built."""
    if not (SITE / "index.html").exists():
        if os.environ.get("CI"):
            pytest.fail("there is no build/manual: make manual")
        pytest.skip("there is no build/manual: make manual")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole(page: str, site: str, viewed: Chromium) -> None:
    """At each size and in both colours; all that it loads is the site's own."""
    viewed.open(site + page)
    until(lambda: not viewed.driver.execute_script(LOADING), "all pictures are loaded")

    assert viewed.driver.execute_script(BROKEN) == []
    assert [name for name in viewed.driver.execute_script(LOADED) if not name.startswith(site)] == []
    assert viewed.overflow() <= 0
    assert viewed.complaints() == []


def test_formulas_are_drawn(site: str, desktop: Chromium) -> None:
    """As MathML, and no TeX is left."""
    desktop.open(site + "losses/cross_entropy/")

    assert len(desktop.all(".formula math")) == 4
    assert "\\frac" not in desktop.text("article")


def test_the_search_finds_a_reason(site: str, desktop: Chromium) -> None:
    """Its index is the site's own; what is found first is the page of errors."""
    desktop.open(f"{site}?q=NOTHING_LISTENS")
    until(lambda: bool(desktop.all(".md-search-result__item a")), "something is found")

    found = [str(one.get_attribute("href")).partition("?")[0] for one in desktop.all(".md-search-result__item a")]
    assert any(one.startswith(f"{site}errors/") for one in found)
