"""What docs/languages/your-own.md shows happens as it says, on either front."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import grpc
import pytest

from lossd.v1.service_pb2 import GetServerInfoRequest, GetServerInfoResponse
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.interop.clients import ROOT
from tests.interop.conftest import Served
from tests.waiting import WAIT_S

PAGE = (ROOT / "docs/languages/your-own.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^```bash\n(.*?)^```\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
POLICIES = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:50051"
BIN = Path(sys.executable).parent


def test_the_page_has_recipes_and_a_policy() -> None:
    """What the tests below run is found."""
    assert len(RECIPES) == PAGE.count("```bash") == 4
    assert len(POLICIES) == PAGE.count("```json") == 1


@pytest.mark.parametrize("recipe, shown", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_prints_what_the_page_says(
    served: Served, every: bool, recipe: str, shown: str, tmp_path: Path
) -> None:
    """In an empty folder; `...` stands for what differs between calls."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    for tool in ("curl", "od", "buf", "lossd"):
        if tool in recipe and shutil.which(tool, path=path) is None:
            (pytest.fail if every else pytest.skip)(f"{tool} is not installed")

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe.replace(ADDRESS, served.address)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    printed = done.stdout + done.stderr
    if "input" in recipe and "open" in recipe:  # the order of a map's entries is a tool's own
        assert json.loads(printed) == json.loads(shown)
    else:
        assert OutputChecker().check_output(shown, printed, ELLIPSIS), printed


def test_the_retry_policy_comes_back() -> None:
    """A call with the page's service config is repeated on UNAVAILABLE, and is answered."""

    refused: list[GetServerInfoRequest] = []

    def told(request: GetServerInfoRequest, context: grpc.ServicerContext) -> GetServerInfoResponse:
        if len(refused) < 2:
            refused.append(request)
            context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
        return GetServerInfoResponse(version="1")

    handler = grpc.unary_unary_rpc_method_handler(
        told, GetServerInfoRequest.FromString, GetServerInfoResponse.SerializeToString
    )
    service = grpc.method_handlers_generic_handler("lossd.v1.LossService", {"GetServerInfo": handler})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        options = [("grpc.service_config", json.dumps(json.loads(POLICIES[0])))]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            answer = LossServiceStub(channel).GetServerInfo(GetServerInfoRequest(), timeout=WAIT_S)
    finally:
        server.stop(0).wait()

    assert answer.version == "1"
    assert len(refused) == 2
