"""The playground in a browser: its values are the client's, at each size and in both colours, by mouse and by keys."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import lossd
from lossd_server.http.json.request import taken_names
from lossd_server.inference.models import MODELS
from tests.pages.playground_page import LOSSES, VALUE, numbers_of, opened, settled, shown_request
from tests.server.http.serving_http import HttpServer
from tests.server.metrics.test_workers import url_of
from tests.server.server_process import process
from tests.waiting import until

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium


@pytest.fixture(scope="module")
def client(served: HttpServer) -> Iterator[lossd.Client]:
    with lossd.Client(served.address) as found:
        yield found


def expected(client: lossd.Client, loss: str, request: dict[str, Any]) -> Any:
    tensors = {"input", "target", "weight", "pos_weight", "row_weight"}
    indices = loss in ("cross_entropy", "nll")
    given = {
        name: np.array(numbers_of(value), dtype=None if name == "target" and indices else float)
        if name in tensors
        else value
        for name, value in request.items()
    }
    operands = [given.pop(name) for name in ("input", "target") if name in given]
    return getattr(client, loss)(*operands, **given)


def test_the_form_is_the_apis(desktop: Chromium, served: HttpServer) -> None:
    """Every loss that has a gradient to show, with names of options that it takes."""
    opened(desktop, served.url)
    table = desktop.run("return (await import('/static/losses.js')).LOSSES")
    losses = [name for name, model in MODELS.items() if not model.function]

    assert sorted(table) == sorted(losses) == sorted(LOSSES)
    for name, known in table.items():
        assert {option["name"] for option in known["options"]} <= set(taken_names(MODELS[name]))
        assert ("target" in MODELS[name].required) == ("target" in known)


@pytest.mark.parametrize("loss", LOSSES)
def test_examples(loss: str, viewed: Chromium, served: HttpServer, client: lossd.Client) -> None:
    """Each gives the client's value and gradient, with bars and a curve; nothing has to be scrolled sideways."""
    opened(viewed, served.url)
    viewed.choose("#loss", loss)
    examples = [one.get_attribute("value") or "" for one in viewed.all("#example option")][1:]
    assert examples
    for example in examples:
        viewed.choose("#example", example)
        settled(viewed)
        request = shown_request(viewed)
        result = expected(client, loss, request)
        shown = np.array(numbers_of(json.loads(re.sub(r"-?(NaN|Infinity)", r'"\g<0>"', viewed.text(VALUE)))))
        assert np.allclose(shown, result.loss, rtol=1e-5, equal_nan=True)
        assert result.grad is not None
        until(lambda: viewed.all("#curve text") != [], "a curve is drawn")
        bars = viewed.all("#bars [data-row]")
        assert len(bars) == result.grad.size
        numbers = [cell.get_attribute("textContent") for cell in viewed.all("#numbers td")]
        assert np.allclose(
            np.array([float(one or "") for one in numbers]), result.grad.ravel(), rtol=1e-5, equal_nan=True
        )
        assert viewed.overflow() == 0
    assert viewed.complaints() == []


def test_the_point_is_on_the_curve(desktop: Chromium, served: HttpServer, client: lossd.Client) -> None:
    """The curve's value and slope are those of the row's loss, for the number that was pressed."""
    opened(desktop, served.url)
    desktop.all('#bars [data-row="1"][data-column="2"]')[0].click()
    desktop.until_text("#curve-note", "input[1, 2]")
    result = client.cross_entropy(np.array([[0.5, 2.5, 0.3]]), np.array([2]), grad=True)
    value, slope = re.findall(r"loss of the row ([-\d.e]+), slope ([-\d.e]+)", desktop.text("#curve-note"))[0]

    assert float(value) == float(result.loss)
    assert abs(float(slope) - result.grad[0, 2]) < 1e-3
    assert (desktop.one("#row").get_attribute("value"), desktop.one("#column").get_attribute("value")) == ("1", "2")


PASTED = {
    "[[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]]": [[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]],
    "2 1 0.1\n0.5 2.5 0.3": [[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]],
    "2, 1, 0.1\n0.5, 2.5, 0.3\n": [[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]],
    "1;2;3": [1, 2, 3],
    "1\n2\n3": [1, 2, 3],
    "-1e-3": -1e-3,
    "tensor([[1., -2.], [.5, nan]], dtype=torch.float64)": [[1.0, -2.0], [0.5, "NaN"]],
    "[[1. 2.]\n [3. -4.]]": [[1.0, 2.0], [3.0, -4.0]],
    "array([1., inf, -inf])": [1.0, "Infinity", "-Infinity"],
    '["NaN", "-Infinity", 1]': ["NaN", "-Infinity", 1],
    "NaN 1": ["NaN", 1],
    "-inf": "-Infinity",
}


@pytest.mark.parametrize("text", PASTED)
def test_what_people_paste(text: str, desktop: Chromium, served: HttpServer) -> None:
    """JSON, what numpy and PyTorch print, and rows of numbers."""
    opened(desktop, served.url)
    found = desktop.run("return (await import('/static/request.js')).tensor('input', arguments[0])", text)

    assert found == PASTED[text]


@pytest.mark.parametrize("text", ["", "  ", "[1, 2", "1 two", "[a]", "__proto__", "1.2.3", "0x10"])
def test_what_is_no_tensor(text: str, desktop: Chromium, served: HttpServer) -> None:
    """It is said at the field, without the server."""
    opened(desktop, served.url)
    found = desktop.run("return (await import('/static/request.js')).tensor('input', arguments[0])", text)

    assert str(found).startswith("threw Error: input")


def test_a_refusal(viewed: Chromium, served: HttpServer) -> None:
    """The server's reason and sentence, the field marked; the next that is right is computed."""
    opened(viewed, served.url)
    viewed.type("#target", "[0, 3]")
    viewed.until_text('[role="alert"]', "CLASS_OUT_OF_RANGE", "target[1] = 3 is outside [0, 3)")
    assert viewed.one("#target").get_attribute("aria-invalid") == "true"
    assert viewed.text(VALUE) == "–"
    assert not viewed.one("#bars").is_displayed()
    viewed.type("#target", "[0, x]")
    viewed.until_text('[role="alert"]', "no list of numbers")
    viewed.type("#target", "[0, 1]")
    settled(viewed)

    assert viewed.text('[role="alert"]') == ""
    assert viewed.one("#target").get_attribute("aria-invalid") is None
    assert viewed.overflow() == 0


# As WebDriver names them.
TAB, ARROW_RIGHT, END = "\ue004", "\ue014", "\ue010"


def test_by_keyboard(desktop: Chromium, served: HttpServer) -> None:
    """All is reached by Tab in the order of the page; languages by arrows; Enter computes."""
    opened(desktop, served.url)
    desktop.driver.execute_script("document.activeElement.blur()")
    order = []
    for _ in range(24):
        desktop.driver.switch_to.active_element.send_keys(TAB)
        focused = desktop.driver.switch_to.active_element
        order.append(focused.get_attribute("id") or focused.text)
        ring = desktop.driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none" or focused.tag_name == "body", order[-1]
    wanted = ["Skip to the form", "loss", "example", "input", "target", "grad", "share", "row", "column", "tab-Python"]
    assert [one for one in dict.fromkeys(order) if one in wanted] == wanted
    tab = desktop.one("#tab-Python")
    tab.send_keys(ARROW_RIGHT)
    assert desktop.one("#tab-curl").get_attribute("aria-selected") == "true"
    assert desktop.text("#snippet").startswith("curl ")
    desktop.driver.switch_to.active_element.send_keys(END)
    assert desktop.one("#tab-JSON").get_attribute("aria-selected") == "true"


def test_names_for_readers(viewed: Chromium, served: HttpServer) -> None:
    """Every control has a name, every picture a text, and what changes is told."""
    opened(viewed, served.url)
    controls = [one for one in viewed.all("input, select, textarea, button") if one.is_displayed()]

    assert all(control.accessible_name for control in controls)
    assert viewed.one("#bars").accessible_name.startswith("Gradient: row 0: ")
    until(lambda: viewed.one("#curve").accessible_name.startswith("Curve. input[0, 0] = 2"), "the curve is told")
    assert viewed.one(VALUE).get_attribute("aria-live") == "polite"
    assert viewed.one("#snippet").aria_role == "tabpanel"
    # As large as a finger.
    assert all(control.size["height"] >= 40 for control in controls if control.tag_name != "input")


def test_a_server_that_stops(viewed: Chromium) -> None:
    """The page says that nobody answers; once a server is there again it computes by itself."""
    with process("--listen", "127.0.0.1:0", "--http", "0") as (child, address):
        url = url_of(child)
        opened(viewed, url)
        child.send_signal(signal.SIGTERM)
        child.wait(60)
        viewed.type("#target", "[1, 2]")
        viewed.until_text('[role="alert"]', "does not answer")
        viewed.until_text("#live", "No answer")
        assert viewed.overflow() == 0
    with process("--listen", address, "--http", str(urlsplit(url).port)):
        settled(viewed)

        assert viewed.text('[role="alert"]') == ""
