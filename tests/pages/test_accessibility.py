"""Both pages keep WCAG 2 at levels A and AA, as axe-core measures them: in each view, well, with errors, and alone."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from lossd_server.backends import Backend
from tests.credentials import TokenFile
from tests.pages.accessibility import AXE, chart_contrasts, measured
from tests.pages.playground_page import VALUE, opened, settled
from tests.pages.test_status_page import load
from tests.server.http.serving_http import HttpServer, http_server
from tests.server.identity.conftest import tokens
from tests.server.metrics.test_workers import url_of
from tests.server.server_process import process
from tests.waiting import until

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium

__all__ = ["tokens"]  # a fixture

OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"


@pytest.fixture(scope="module", autouse=True)
def axe() -> None:
    """`make .venv/axe/made` puts it there; without it nothing is tested, but for CI, where that fails."""
    if not AXE.exists():
        if os.environ.get("CI"):
            pytest.fail("axe-core is missing: make .venv/axe/made")
        pytest.skip("axe-core is not installed: make .venv/axe/made")


def keep(browser: Chromium) -> None:
    """Nothing is broken, nothing is left to be judged, and colours were measured."""
    found = measured(browser)

    assert found.broken == {}
    assert found.open == {}
    assert all(ratio >= 4.5 for ratio in chart_contrasts(browser))
    assert {"color-contrast", "document-title", "html-has-lang"} <= found.kept


def test_it_finds_what_is_wrong(viewed: Chromium, served: HttpServer) -> None:
    """Texts hardly darker than the page, and a field without a name: else nothing below would mean anything."""
    opened(viewed, served.url)
    viewed.driver.execute_script(
        "const text = document.createElement('p'); text.textContent = 'hardly seen';"
        "text.style.color = 'var(--line)';"
        "document.querySelector('main').append(text, document.createElement('input'));"
        "document.querySelector('#curve text').style.fill = 'var(--line)'"
    )

    assert set(measured(viewed).broken) == {"color-contrast", "label"}
    assert min(chart_contrasts(viewed)) < 4.5


def test_the_status_page_under_load(viewed: Chromium, served: HttpServer) -> None:
    """With all its figures, errors by reason among them, and what is folded away."""
    with load(served.address):
        viewed.open(served.url)
        viewed.until_text("#reasons", "CLASS_OUT_OF_RANGE")
        viewed.until_text("#window", "the last 10 seconds")
        viewed.driver.execute_script(OPEN_ALL)

        keep(viewed)


def test_the_status_page_that_wants_a_token(viewed: Chromium, numba: Backend, tokens: TokenFile) -> None:
    """Also after a wrong one, with an error."""
    with http_server(numba, tokens=tokens.path) as server:
        viewed.open(server.url)
        viewed.until_text("#live", "Token wanted")
        keep(viewed)
        viewed.type("#token", "wrong\n")
        viewed.until_text('[role="alert"]', "none of this server's")

        keep(viewed)


def test_the_status_page_of_a_server_that_is_gone(viewed: Chromium) -> None:
    """What is old is still to be read."""
    with process("--listen", "127.0.0.1:0", "--http", "0") as (child, _):
        viewed.open(url_of(child))
        viewed.until_text("#live", "Live")
        child.send_signal(signal.SIGTERM)
        child.wait(60)
        viewed.until_text("#live", "No answer")

        keep(viewed)


def test_the_playground(viewed: Chromium, served: HttpServer) -> None:
    """With a gradient, a curve, and what is folded away."""
    opened(viewed, served.url)
    until(lambda: viewed.one("#curve").accessible_name.startswith("Curve."), "the curve is drawn")
    viewed.driver.execute_script(OPEN_ALL)

    keep(viewed)


def test_the_playground_that_computes(viewed: Chromium, served: HttpServer) -> None:
    """While an answer is waited for, what is there can be read."""
    opened(viewed, served.url)
    viewed.driver.execute_script("document.querySelector('#result').classList.add('busy')")

    keep(viewed)


def test_the_playground_with_an_error(viewed: Chromium, served: HttpServer) -> None:
    """Of the server, and of the page itself."""
    opened(viewed, served.url)
    viewed.type("#target", "[0, 3]")
    viewed.until_text('[role="alert"]', "CLASS_OUT_OF_RANGE")
    keep(viewed)
    viewed.type("#target", "[0, x]")
    viewed.until_text('[role="alert"]', "no list of numbers")

    keep(viewed)


def test_the_playground_that_wants_a_token(viewed: Chromium, numba: Backend, tokens: TokenFile) -> None:
    """Then with it."""
    with http_server(numba, tokens=tokens.path) as server:
        viewed.open(f"{server.url}/playground")
        until(lambda: viewed.one("#token").is_displayed(), "a token is asked for")
        keep(viewed)
        viewed.type("#token", f"{tokens.token}\n")
        settled(viewed)

        keep(viewed)


def test_the_playground_of_a_server_that_is_gone(viewed: Chromium) -> None:
    """The alert says so, in the colours of errors."""
    with process("--listen", "127.0.0.1:0", "--http", "0") as (child, _):
        opened(viewed, url_of(child))
        child.send_signal(signal.SIGTERM)
        child.wait(60)
        viewed.type("#target", "[1, 2]")
        viewed.until_text("#live", "No answer")
        assert viewed.text(VALUE) == "–"

        keep(viewed)
