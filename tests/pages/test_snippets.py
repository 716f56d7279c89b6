"""The request in other languages, as the playground shows it, runs, and gives the value that the page shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.pages.playground_page import VALUE, numbers_of, opened, shown_request, snippet
from tests.server.http.serving_http import HttpServer

if TYPE_CHECKING:
    from tests.pages.chromium import Chromium

# Every loss, and what is written otherwise than as a plain number: words, tensors as options, no gradient.
REQUESTS = [
    "loss=cross_entropy&input=[[2,1,0.1],[0.5,2.5,0.3]]&target=[0,2]",
    "loss=cross_entropy&input=[[2,1,0.1]]&target=[[0.5,0.25,0.25]]&label_smoothing=0.1&weight=[1,2,3]",
    "loss=cross_entropy&input=[[-inf,1,2]]&target=[2]&ignore_index=0&row_weight=[2]",
    "loss=nll&input=[[-0.36,-1.36,-2.26]]&target=[0]",
    "loss=bce_with_logits&input=[1.5,-2,0.3]&target=[1,0,1]&pos_weight=[5]&reduction=none",
    "loss=bce&input=[0.5,0.25]&target=[1,0]&reduction=sum",
    "loss=kl_divergence&input=[[2,1,0.1]]&target=[[0.5,0.3,0.2]]&kind=logits&reduction=batchmean&grad=no",
    "loss=entropy&input=[[0.5,0.5],[1,0]]&base=2&reduction=none",
    "loss=self_information&input=[0.5,0.25,1]&base=2",
]


def printed(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def close(found: Any, value: Any) -> bool:
    """The page rounds lists to six digits."""
    return np.shape(found) == value.shape and np.allclose(found, value, rtol=1e-5)


@pytest.fixture(params=REQUESTS)
def shown(request: pytest.FixtureRequest, desktop: Chromium, served: HttpServer) -> tuple[str, Any]:
    """The loss, and its value on the page."""
    opened(desktop, served.url, f"#{request.param}")
    value = np.array(numbers_of(json.loads(desktop.text(VALUE))))
    return request.param.removeprefix("loss=").partition("&")[0], value


def test_json(shown: tuple[str, Any], desktop: Chromium, served: HttpServer) -> None:
    """As the body of a POST."""
    loss, value = shown

    assert close(numbers_of(served.post(loss, shown_request(desktop)).json["loss"]), value)


def test_python(shown: tuple[str, Any], desktop: Chromium, tmp_path: Path) -> None:
    """In a process of its own, by gRPC; it prints the gradient below where that was asked for."""
    code = snippet(desktop, "Python")
    lines = printed([sys.executable, "-c", code], tmp_path).splitlines()

    assert close(np.array(lines[0].strip("[]").split() if "[" in lines[0] else lines[0], float), shown[1])
    assert (len(lines) > 1) == ("grad=True" in code)


def test_curl(shown: tuple[str, Any], desktop: Chromium, tmp_path: Path) -> None:
    """In a shell."""
    answer = printed(["bash", "-c", f"{snippet(desktop, 'curl').strip()} --silent --show-error"], tmp_path)

    assert close(numbers_of(json.loads(answer)["loss"]), shown[1])


def test_typescript(shown: tuple[str, Any], desktop: Chromium, tmp_path: Path) -> None:
    """Without its types, in Node; none of them stands elsewhere than where this takes them away."""
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing: make .venv/pages")
        pytest.skip("node is not installed: make .venv/pages")
    typed = snippet(desktop, "TypeScript")
    plain = re.sub(r"^type .*$", "", typed, flags=re.MULTILINE).replace("const loss: Numbers", "const loss")
    plain += "console.log(`\\n${JSON.stringify(loss)}`);\n"
    lines = printed([node, "--input-type=module", "-e", plain], tmp_path).splitlines()

    assert "type Numbers" in typed
    assert close(numbers_of(json.loads(lines[-1])), shown[1])
