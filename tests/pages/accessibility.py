"""axe-core: what of a page, as it is seen now, is not as WCAG 2 wants it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / ".venv/axe/node_modules/axe-core/axe.min.js"
# Levels A and AA of WCAG 2.0 to 2.2.
LEVELS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
MEASURE = "return await axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}})"

CONTRASTS = """
const luminance = (colour) => {
  const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = colour.match(/[0-9.]+/g).map((one) => linear(one / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
return [...document.querySelectorAll("main svg text")].filter((one) => one.checkVisibility()).map((one) => {
  const card = getComputedStyle(one.closest(".card")).backgroundColor;
  const [dark, light] = [getComputedStyle(one).fill, card].map(luminance).sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
});
"""


class Measured(NamedTuple):
    """Rules with the elements that break them, those that nobody but a person can judge, and names of the others."""

    broken: dict[str, list[str]]
    open: dict[str, list[str]]
    kept: set[str]


def measured(browser: Chromium) -> Measured:
    if not browser.driver.execute_script("return 'axe' in window"):
        browser.driver.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.run(MEASURE, LEVELS)
    assert isinstance(found, dict), found
    kept = {one["id"] for one in found["passes"]}
    return Measured(_elements(found["violations"]), _elements(found["incomplete"]), kept)


def _elements(rules: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Of each rule: an element's selector, and what is wrong with it."""
    told = {
        rule["id"]: [
            f"{node['target']}: {node.get('failureSummary', rule['help'])}"
            for node in rule["nodes"]
            if not _beyond(node)
        ]
        for rule in rules
    }
    return {name: elements for name, elements in told.items() if elements}


def _beyond(node: dict[str, Any]) -> bool:
    """What axe-core does not judge: texts of charts, and single digits, which might be signs. The former are measured
    below, and longer texts beside the latter have their colours."""
    short = any((check["data"] or {}).get("messageKey") == "shortTextContent" for check in node["any"])
    return short or node["html"].startswith("<text")


def chart_contrasts(browser: Chromium) -> list[float]:
    """Of each text of a chart that is seen, to the card that it is drawn on: WCAG's ratio, 1 to 21."""
    found: list[float] = browser.driver.execute_script(CONTRASTS)
    return found
