"""What the tests of the playground do with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.waiting import until

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium

LOSSES = ("cross_entropy", "nll", "bce_with_logits", "bce", "kl_divergence", "entropy", "self_information")
VALUE = "#value"


def settled(browser: Chromium) -> None:
    """What was last typed is answered."""
    until(lambda: browser.text(VALUE) not in ("–", "") and not browser.all("#result.busy"), "a value is shown")


def opened(browser: Chromium, url: str, fragment: str = "") -> None:
    browser.open(f"{url}/playground{fragment}")
    settled(browser)


def snippet(browser: Chromium, language: str) -> str:
    browser.one(f"#tab-{language}").click()
    return browser.text("#snippet")


def shown_request(browser: Chromium) -> Any:
    return json.loads(snippet(browser, "JSON"))


def numbers_of(value: Any) -> Any:
    """JSON's numbers, its words too."""
    if isinstance(value, list):
        return [numbers_of(one) for one in value]
    return float(value) if isinstance(value, str) else value
