"""What others may do to the playground's reader: addresses that they made, pages of theirs, and who has the token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from lossd_server.backends import Backend
from tests.credentials import TokenFile
from tests.pages.another_site import another_site
from tests.pages.playground_page import VALUE, opened, settled, snippet
from tests.server.http.serving_http import HttpServer, http_server
from tests.server.identity.conftest import tokens
from tests.waiting import until

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium

__all__ = ["tokens"]  # a fixture


def test_the_address_brings_it_back(desktop: Chromium, served: HttpServer) -> None:
    """What is typed is in the fragment, which no server is sent; in a new page it gives the same."""
    opened(desktop, served.url)
    desktop.type("#input", "1 2 3\n4 5 9")
    desktop.type("#target", "[2, 0]")
    desktop.type("#option-label_smoothing", "0.2")
    desktop.choose("#option-reduction", "sum")
    until(lambda: "reduction=sum" in desktop.driver.current_url, "the address has it")
    desktop.until_text("#summary", "weight 2")
    settled(desktop)
    value, address = desktop.text(VALUE), desktop.driver.current_url
    desktop.open(address)
    settled(desktop)

    assert desktop.text(VALUE) == value
    assert urlsplit(address).query == ""
    assert desktop.one("#input").get_attribute("value") == "1 2 3\n4 5 9"
    assert desktop.one("#option-reduction").get_attribute("value") == "sum"
    assert desktop.one("#option-label_smoothing").get_attribute("value") == "0.2"


HOSTILE = (
    "loss=__proto__",
    "loss=constructor&input=[1]",
    "loss=cross_entropy&input=%3Cimg src=x onerror=alert(1)%3E",
    "loss=cross_entropy&input=[[1,2]]&target=[0]&reduction=%22%3E%3Cscript%3E",
    "loss=cross_entropy&input=[[1,2]]&target=[0]&__proto__=1&toString=2",
    "row=9&column=99&loss=bce&input=[0.5]&target=[1]",
    "x" * 2000,
    "%E0%A4%A",
)


@pytest.mark.parametrize("fragment", HOSTILE)
def test_addresses_that_others_made(fragment: str, desktop: Chromium, served: HttpServer) -> None:
    """Text stays text: nothing of an address becomes a part of the page, or ends its script."""
    desktop.open(f"{served.url}/playground#{fragment}")
    if "img" in fragment:
        desktop.until_text('[role="alert"]', "no number")
    else:
        settled(desktop)

    assert desktop.all("main img, main script, pre *") == []
    assert desktop.complaints() == []


def test_a_token(desktop: Chromium, numba: Backend, tokens: TokenFile) -> None:
    """It is asked for, typed, kept in memory alone; no address and no snippet has it."""
    with http_server(numba, tokens=tokens.path) as server:
        desktop.open(f"{server.url}/playground")
        until(lambda: desktop.one("#token").is_displayed(), "a token is asked for")
        desktop.type("#token", "wrong\n")
        desktop.until_text('[role="alert"]', "UNKNOWN_TOKEN")
        desktop.type("#token", f"{tokens.token}\n")
        settled(desktop)

        assert not desktop.one("#token").is_displayed()
        for language in ("Python", "curl", "TypeScript", "JSON"):
            assert tokens.token not in snippet(desktop, language)
        assert "$LOSSD_TOKEN" in snippet(desktop, "curl")
        assert tokens.token not in desktop.driver.current_url
        assert desktop.run("return [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


TRIES = """
const [url] = arguments, body = '{"input": [1]}', method = "POST";
const tries = await Promise.allSettled([
  fetch(`${url}/v1/status`),
  fetch(`${url}/v1/losses/softmax`, { method, body, headers: { "content-type": "application/json" } }),
  fetch(`${url}/v1/losses/softmax`, { method, body, mode: "no-cors" }),
  fetch(`${url}/v1/status`, { mode: "no-cors" }),
]);
return tries.map(({ status }) => status);
"""


def test_another_site(desktop: Chromium, served: HttpServer, tmp_path: Path) -> None:
    """Its page neither reads what is here, nor has anything computed, nor shows ours in a frame."""
    with another_site(served.url, tmp_path) as elsewhere:
        desktop.open(elsewhere)
        before = served.get("/v1/status").json["calls"]["started"]
        tried = desktop.run(TRIES, served.url)
        refused = [line["message"] for line in desktop.driver.get_log("browser") if "frame" in line["message"]]

    assert tried[:2] == ["rejected", "rejected"]
    assert tried[3] == "rejected"  # its resources are for pages of its own
    assert served.get("/v1/status").json["calls"]["started"] == before
    assert any("frame-ancestors" in line for line in refused)
