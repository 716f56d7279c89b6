"""Chromium: driven by selenium, with what a test asks of a page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.pages.conftest import View
from tests.waiting import until

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# What a page may not have written: refusals of HTTP that a test provokes are the browser's own lines.
REFUSAL = "Failed to load resource"


class Chromium:
    """profile: an empty folder."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium") or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver: Any = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.view = View(0, 0, "")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def begin(self, view: View) -> None:
        """Empty, in this view."""
        self.view = view
        self.driver.get("about:blank")
        size = {"width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": view.width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        colours = [{"name": "prefers-color-scheme", "value": view.scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": colours})
        self.driver.get_log("browser")

    def open(self, url: str) -> None:
        """Anew, also where only the fragment is another."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def one(self, css: str) -> WebElement:
        found: WebElement = self.driver.find_element(By.CSS_SELECTOR, css)
        return found

    def all(self, css: str) -> list[WebElement]:
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, css)
        return found

    def text(self, css: str) -> str:
        """As it is in the page, seen or not."""
        found: str = self.driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", css)
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of an asynchronous function returns."""
        body = f"const done = arguments[arguments.length - 1]; (async (...arguments) => {{ {script} }})(...arguments)"
        return self.driver.execute_async_script(f"{body}.then(done, (error) => done(`threw ${{error}}`));", *arguments)

    def until_text(self, css: str, *parts: str) -> str:
        """The text of an element, once it has all the parts."""
        until(lambda: all(part in self.text(css) for part in parts), f"{css} says {parts}; it says {self.text(css)!r}")
        return self.text(css)

    def type(self, css: str, text: str) -> None:
        """In the place of what is there."""
        self.one(css).send_keys(Keys.CONTROL, "a")
        self.one(css).send_keys(text or Keys.DELETE)

    def choose(self, css: str, value: str) -> None:
        self.one(f'{css} option[value="{value}"]').click()

    def complaints(self) -> list[str]:
        """Errors of scripts and breaches of the policy since the last time."""
        lines = self.driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] == "SEVERE" and REFUSAL not in line["message"]]

    def overflow(self) -> int:
        """Pixels that have to be scrolled sideways."""
        found: int = self.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found
