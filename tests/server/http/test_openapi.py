"""The OpenAPI document is valid, and says what the port takes and gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from lossd_server.backends import Backend
from lossd_server.http.json.request import taken_names
from lossd_server.http.openapi import openapi
from lossd_server.inference.models import MODELS
from tests.server.http.serving_http import HttpServer, http_server
from tests.server.http.test_losses import OPERANDS, OPTIONS, WRONG, request_of


@pytest.fixture(scope="module")
def served(numba: Backend) -> Iterator[HttpServer]:
    with http_server(numba) as found:
        yield found


@pytest.fixture(scope="module")
def document(served: HttpServer) -> Any:
    return served.get("/openapi.json").json


def test_it_is_valid(document: Any) -> None:
    """By OpenAPI's own schema of 3.1; and it is the one that the code makes."""
    validate(document)

    assert document == openapi()
    assert document["openapi"].startswith("3.1")


def test_every_loss_and_name(document: Any) -> None:
    """A path for each loss, with the names that its requests may have; what a GET has is there."""
    for name, model in MODELS.items():
        assert set(document["components"]["schemas"][name]["properties"]) == set(taken_names(model))
        assert list(document["paths"][f"/v1/losses/{name}"]) == ["post"]
    others = {path for path in document["paths"] if not path.startswith("/v1/losses/")}
    assert others == {"/v1/status", "/openapi.json", "/metrics", "/healthz", "/readyz"}


@pytest.mark.parametrize("path", ["/v1/status", "/openapi.json", "/metrics", "/healthz", "/readyz"])
def test_what_is_read(path: str, document: Any, served: HttpServer) -> None:
    """Each path answers with the type that is named."""
    reply = served.get(path)

    (kind,) = document["paths"][path]["get"]["responses"]["200"]["content"]
    assert reply.status == 200
    assert reply.headers["content-type"].startswith(kind)


def validator(document: Any, schema: Any) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": document["components"]})


@pytest.mark.parametrize("loss, options", [*((loss, {}) for loss in OPERANDS), *OPTIONS])
def test_requests_and_answers_are_as_it_says(
    loss: str, options: dict[str, Any], document: Any, served: HttpServer
) -> None:
    """By the schema of the request, and of the result."""
    body = request_of(loss, options)
    validator(document, document["components"]["schemas"][loss]).validate(body)
    for encoding in ("numbers", "base64"):
        reply = served.post(loss, body | {"encoding": encoding})
        result = document["paths"][f"/v1/losses/{loss}"]["post"]["responses"]["200"]["content"]["application/json"]
        validator(document, result["schema"]).validate(reply.json)


@pytest.mark.parametrize("loss, body, reason", [(loss, body, reason) for loss, body, reason, _ in WRONG])
def test_refusals_are_as_it_says(loss: str, body: Any, reason: str, document: Any, served: HttpServer) -> None:
    """Each has a status that is listed, and its schema; what has a wrong name or type is none of the request's."""
    reply = served.post(loss, body)
    refusal = document["paths"][f"/v1/losses/{loss}"]["post"]["responses"][str(reply.status)]
    validator(document, document["components"]["schemas"]["Error"]).validate(reply.json)

    assert refusal["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    if reason in ("UNKNOWN_PARAMETER", "UNKNOWN_ENUM", "WRONG_TYPE") and not isinstance(body, bytes):
        assert not validator(document, document["components"]["schemas"][loss]).is_valid(body)
