"""The status page in a browser: what it shows is what the server counts; it tells when nobody answers."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

import lossd
from lossd_server.backends import Backend
from tests.credentials import TokenFile
from tests.server.http.serving_http import HttpServer, http_server
from tests.server.identity.conftest import tokens
from tests.server.metrics.test_workers import url_of
from tests.server.processes.worker_processes import children
from tests.server.server_process import process
from tests.waiting import until

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium

__all__ = ["tokens"]  # a fixture

LOGITS, LABELS = np.zeros((3, 4)), np.array([0, 1, 2])


def call(client: lossd.Client) -> None:
    client.cross_entropy(LOGITS, LABELS)


@contextmanager
def load(address: str) -> Iterator[None]:
    """Calls without a pause, some of them refused."""
    over = threading.Event()

    def work() -> None:
        with lossd.Client(address) as client:
            while not over.is_set():
                call(client)
                with suppress(lossd.InvalidArgument):
                    client.cross_entropy(LOGITS, LABELS + 2)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_under_load(viewed: Chromium, served: HttpServer) -> None:
    """Every figure is there and moves; nothing has to be scrolled sideways, no script fails."""
    with load(served.address):
        viewed.open(served.url)
        viewed.until_text("#live", "Live")
        viewed.until_text("#reasons", "CLASS_OUT_OF_RANGE")
        until(lambda: viewed.text("#rate") not in ("–", "0", ""), "a rate is shown")
        viewed.until_text("#window", "the last 10 seconds")
        first = viewed.text("#calls")
        until(lambda: viewed.text("#calls") != first, "the counts move")

    assert viewed.text("#mean").endswith((" µs", " ms", " s"))
    rows = {row.find_element("css selector", "th").text: row.text for row in viewed.all("#latencies tr")}
    assert list(rows) == ["queue", "compute", "reply, rest", "a whole call"]
    assert all("s" in text for text in rows.values())
    assert len(viewed.all("#batches rect")) >= 5
    assert viewed.all("#rates polyline")
    names = [meter.get_attribute("aria-label") for meter in viewed.all("meter")]
    assert {"Bytes in flight", "Requests in flight", "Open files", "Utilisation"} <= set(names)
    facts = viewed.text("#facts")
    assert all(part in facts for part in (lossd.__version__, "a CPU", "numba", served.address))
    assert viewed.overflow() == 0
    assert viewed.complaints() == []


def test_counts(desktop: Chromium, served: HttpServer) -> None:
    """They are the server's own."""
    with lossd.Client(served.address) as client:
        for _ in range(3):
            client.entropy(np.full(4, 0.25))
    desktop.open(served.url)
    desktop.until_text("#by-loss", "Entropy")
    found = {row.find_element("css selector", "th").text: row.find_elements("css selector", "td")[0].text
             for row in desktop.all("#by-loss tr")}  # fmt: skip
    counted = served.get("/v1/status").json["evaluations"]

    assert found["Entropy"] == str(counted["Entropy"]["completed"])
    assert set(found) == set(counted)


def test_a_server_that_stops(desktop: Chromium) -> None:
    """The page says so plainly, and that what is shown is old; once a server is there again it goes on."""
    with process("--listen", "127.0.0.1:0", "--http", "0") as (child, address):
        url = url_of(child)
        desktop.open(url)
        desktop.until_text("#live", "Live")
        child.send_signal(signal.SIGTERM)
        child.wait(60)
        desktop.until_text("#live", "No answer")
        alert = desktop.until_text('[role="alert"]', "does not answer", "since")
        assert "asks again" in alert
        assert "stale" in (desktop.one("#cards").get_attribute("class") or "")
        assert desktop.one("#alert .alert").is_displayed()
    with process("--listen", address, "--http", str(urlsplit(url).port)) as (_, again):
        desktop.until_text("#live", "Live")
        until(lambda: desktop.text('[role="alert"]') == "", "it is ready")

        assert "stale" not in (desktop.one("#cards").get_attribute("class") or "")
        with lossd.Client(again) as client:
            call(client)
        desktop.until_text("#calls", "1 calls since the start")


def test_a_server_that_is_not_ready(desktop: Chromium) -> None:
    """A process that stands still is told of while the port answers."""
    with process("--workers", "2", "--listen", "127.0.0.1:0", "--http", "0") as (child, _):
        try:
            desktop.open(url_of(child))
            desktop.until_text("#facts", "2 running")
            stop(child, signal.SIGSTOP)
            desktop.until_text('[role="alert"]', "not ready", "stands still")
            stop(child, signal.SIGCONT)
            until(lambda: desktop.text('[role="alert"]') == "", "it is ready again")
        finally:
            child.terminate()
            child.wait(60)


def stop(child: subprocess.Popen[str], number: int) -> None:
    os.kill(children(child.pid)[0], number)


def test_a_token(desktop: Chromium, numba: Backend, tokens: TokenFile) -> None:
    """The page asks for one, and keeps it nowhere but in its memory."""
    with http_server(numba, tokens=tokens.path) as server:
        desktop.open(server.url)
        desktop.until_text("#live", "Token wanted")
        assert desktop.one("#token").is_displayed()
        assert not desktop.one("#cards").is_displayed()
        desktop.type("#token", "wrong\n")
        desktop.until_text('[role="alert"]', "none of this server's")
        desktop.type("#token", f"{tokens.token}\n")
        desktop.until_text("#live", "Live")

        assert not desktop.one("#token").is_displayed()
        kept = desktop.run("return [localStorage.length, sessionStorage.length, document.cookie, location.href]")
        assert kept == [0, 0, "", f"{server.url}/"]
        assert tokens.token not in desktop.driver.page_source


def test_names_for_readers(viewed: Chromium, served: HttpServer) -> None:
    """Each part has a heading that names it, each picture a text, each table heads."""
    viewed.open(served.url)
    viewed.until_text("#live", "Live")

    for section in viewed.all("main section"):
        assert section.accessible_name
        assert section.aria_role == "region"
    assert all(picture.accessible_name for picture in viewed.all("main svg"))
    assert all(meter.accessible_name for meter in viewed.all("meter"))
    assert [table for table in viewed.all("table") if not table.find_elements("css selector", "th[scope]")] == []
    assert viewed.one('[aria-current="page"]').text == "Status"
    assert viewed.one("html").get_attribute("lang") == "en"
