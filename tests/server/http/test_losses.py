"""Losses over HTTP: the client's results, to the bit; every refusal of a call, as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lossd
from lossd_server.backends import Backend
from lossd_server.http.json.request import MOST_ENTRIES
from lossd_server.http.losses import MOST_BODY_BYTES
from lossd_server.inference.models import MODELS
from tests.credentials import TokenFile
from tests.server.http.serving_http import HttpServer, http_server
from tests.server.identity.conftest import tokens
from tests.server.metrics.scraping import scraped

__all__ = ["tokens"]  # a fixture

RNG = np.random.default_rng(7)
LOGITS = RNG.normal(size=(4, 5))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
LABELS = np.array([0, 4, 2, 1])
TARGETS = RNG.uniform(size=(4, 5))
OPERANDS: dict[str, tuple[Any, ...]] = {
    "entropy": (PROBABILITIES,),
    "cross_entropy": (LOGITS, LABELS),
    "bce": (PROBABILITIES, TARGETS),
    "bce_with_logits": (LOGITS, TARGETS),
    "kl_divergence": (np.log(PROBABILITIES), PROBABILITIES[::-1]),
    "nll": (np.log(PROBABILITIES), LABELS),
    "self_information": (PROBABILITIES,),
    "softmax": (LOGITS,),
    "log_softmax": (LOGITS,),
    "sigmoid": (LOGITS,),
    "log_sigmoid": (LOGITS,),
}
# Each option of api.md in some request.
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("cross_entropy", {"reduction": "sum", "label_smoothing": 0.1, "ignore_index": 2, "grad": True}),
    ("cross_entropy", {"reduction": "none", "weight": [1.0, 2.0, 0.5, 1.0, 3.0], "grad": ["input"]}),
    ("bce", {"grad": ["input", "target"], "reduction": "sum"}),
    ("cross_entropy", {"row_weight": [1.0, 0.0, 2.0, 1.0], "z_loss": 1e-3, "softcap": 30.0, "base": 2.0}),
    ("cross_entropy", {"outputs": ["lse", "entropy", "argmax", "correct"], "empty_mean": "zero", "normalizer": 8.0}),
    ("cross_entropy", {"reduction": "none", "grad": True, "grad_output": [1.0, 2.0, 3.0, 4.0]}),
    ("bce_with_logits", {"weight": [1.0, 2.0, 1.0, 1.0, 1.0], "pos_weight": [2.0, 1.0, 1.0, 1.0, 1.0], "grad": True}),
    ("kl_divergence", {"reduction": "batchmean", "kind": "log_probabilities", "target_kind": "probabilities"}),
    ("entropy", {"kind": "logits", "base": 2.0, "dim": 0, "reduction": "none"}),
    ("nll", {"ignore_index": 4, "reduction": "mean"}),
]


@pytest.fixture(scope="module")
def served(numba: Backend) -> Iterator[HttpServer]:
    with http_server(numba) as found:
        yield found


@pytest.fixture(scope="module")
def client(served: HttpServer) -> Iterator[lossd.Client]:
    with lossd.Client(served.address) as found:
        yield found


def request_of(loss: str, options: dict[str, Any]) -> dict[str, Any]:
    names = ("input", "target")
    return {name: values.tolist() for name, values in zip(names, OPERANDS[loss], strict=False)} | options


def same(found: Any, expected: Any) -> bool:
    """Whether JSON has the numbers of an array, to the bit."""
    return np.array_equal(np.array(found), np.asarray(expected), equal_nan=True) and np.shape(found) == expected.shape


def test_every_loss_is_there() -> None:
    """Those of the client are tested below."""
    assert set(OPERANDS) == set(MODELS)


@pytest.mark.parametrize("loss, options", [*((loss, {}) for loss in OPERANDS), *OPTIONS])
def test_the_clients_result(loss: str, options: dict[str, Any], served: HttpServer, client: lossd.Client) -> None:
    """Loss, gradients, outputs and summary are those of a gRPC call with the same float64 arrays."""
    reply = served.post(loss, request_of(loss, options))
    given = {name: np.array(value) if isinstance(value, list) and name not in ("grad", "outputs") else value
             for name, value in options.items()}  # fmt: skip
    expected = getattr(client, loss)(*OPERANDS[loss], **given)

    assert reply.status == 200, reply.text
    found = reply.json
    if MODELS[loss].function:
        assert same(found["output"], expected)
        return
    assert same(found["loss"], expected.loss)
    assert set(found.get("grads", {})) == set(expected.grads)
    assert all(same(found["grads"][name], value) for name, value in expected.grads.items())
    assert set(found.get("outputs", {})) == set(expected.outputs)
    assert all(same(found["outputs"][name], value) for name, value in expected.outputs.items())
    assert found["summary"]["loss_sum"] == expected.summary.loss_sum
    assert found["summary"]["count"] == expected.summary.count


def encoded(values: Any, dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(values.shape), "data": base64.b64encode(values.tobytes()).decode()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_base64(dtype: str, served: HttpServer, client: lossd.Client) -> None:
    """Elements as bytes, both ways: the answer has the dtype of a gRPC call."""
    logits, labels = LOGITS.astype(dtype), LABELS.astype(np.int32)
    body = {"input": encoded(logits, dtype), "target": encoded(labels, "int32"), "grad": True, "encoding": "base64"}
    found = served.post("cross_entropy", body).json
    expected = client.cross_entropy(logits, labels, grad=True)

    gradient = found["grads"]["input"]
    assert (gradient["dtype"], gradient["shape"]) == (dtype, [4, 5])
    assert base64.b64decode(gradient["data"]) == expected.grad.tobytes()
    assert base64.b64decode(found["loss"]["data"]) == expected.loss.tobytes()


def test_numbers_of_a_dtype(served: HttpServer) -> None:
    """{dtype, values} are rounded to it; lists beside an input of a dtype have that too."""
    body = {"input": {"dtype": "bfloat16", "values": [[1.001, 2.0]]}, "target": [[0.25, 0.75]], "encoding": "base64"}
    reply = served.post("cross_entropy", body)

    assert reply.status == 200, reply.text
    expected = served.post("cross_entropy", {"input": [[1.0, 2.0]], "target": [[0.25, 0.75]]}).json["loss"]
    loss = reply.json["loss"]
    found = np.frombuffer(base64.b64decode(loss["data"]), {"float32": np.float32, "bfloat16": np.uint16}[loss["dtype"]])
    assert math.isclose(float(found[0]), expected, rel_tol=1e-6)


def test_numbers_that_json_has_not(served: HttpServer) -> None:
    """NaN and infinities are words, both ways; other words, and bare ones, are refused."""
    found = served.post("softmax", {"input": [["-Infinity", 0.0], ["NaN", 0.0]]}).json["output"]
    assert found == [[0.0, 1.0], ["NaN", "NaN"]]
    assert served.post("log_softmax", {"input": [["-Infinity", 0.0]]}).json["output"] == [["-Infinity", 0.0]]
    for raw in (b'{"input": [NaN]}', b'{"input": [-Infinity]}'):
        assert served.post("softmax", raw).error["reason"] == "NOT_JSON"
    for word in ("nan", "inf", "1.0", ""):
        assert served.post("softmax", {"input": [word]}).error["reason"] == "NOT_A_TENSOR"


WRONG: list[tuple[str, Any, str, str]] = [
    ("cross_entropy", b"", "NOT_JSON", ""),
    ("cross_entropy", b"[1]", "NOT_JSON", ""),
    ("cross_entropy", b"\xff", "NOT_JSON", ""),
    ("cross_entropy", b"[" * 60_000, "NOT_JSON", ""),
    ("cross_entropy", b'{"input": [1], "input": [2]}', "NOT_JSON", ""),
    ("cross_entropy", b'{"input": [' + b"9" * 5000 + b"]}", "NOT_JSON", ""),
    ("cross_entropy", b'{"input": [1e999], "target": 0}', "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": [10**400], "target": 0}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": {"dtype": "float16", "values": [1e6]}, "target": 0}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": [[1.0, 2.0], [1.0]], "target": [0, 0]}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": [[1.0, 2.0], 1.0], "target": [0, 0]}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": [1.0, [2.0]], "target": 0}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": [[1.0, None]], "target": [0]}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": {"dtype": "float99", "values": []}, "target": [0]}, "UNKNOWN_ENUM", "input"),
    ("cross_entropy", {"input": {"dtype": "float32", "shape": [1], "data": "!"}, "target": 0}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": {"dtype": "int8", "values": [300]}, "target": 0}, "NOT_A_TENSOR", "input"),
    ("cross_entropy", {"input": [[[[[[[[[1.0]]]]]]]]], "target": 0}, "RANK_TOO_LARGE", "input"),
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [0], "smoothing": 1}, "UNKNOWN_PARAMETER", "smoothing"),
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [0], "reduction": "max"}, "UNKNOWN_ENUM", "reduction"),
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [0], "label_smoothing": "a"}, "WRONG_TYPE", "label_smoothing"),
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [0], "ignore_index": 1.5}, "WRONG_TYPE", "ignore_index"),
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [0], "grad": ["loss"]}, "UNKNOWN_ENUM", "grad"),
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [0], "encoding": "hex"}, "UNKNOWN_ENUM", "encoding"),
    # What the loss itself refuses, in its own words.
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [2]}, "CLASS_OUT_OF_RANGE", "target"),
    ("cross_entropy", {"input": [[1.0, 2.0]]}, "MISSING_FIELD", "target"),
    ("cross_entropy", {"input": [[1.0, 2.0]], "target": [0], "label_smoothing": 2}, "OPTION_OUT_OF_RANGE",
     "label_smoothing"),
    ("softmax", {"input": [1.0], "reduction": "sum"}, "UNKNOWN_PARAMETER", "reduction"),
]  # fmt: skip


@pytest.mark.parametrize("loss, body, reason, field", WRONG, ids=range(len(WRONG)))
def test_wrong_requests(loss: str, body: Any, reason: str, field: str, served: HttpServer) -> None:
    """400, with the code, reason, field, sentence and request id of a gRPC call's status."""
    reply = served.post(loss, body, x_request_id="mine-1")

    assert reply.status == 400
    error = reply.error
    assert (error["code"], error["reason"], error["field"]) == ("INVALID_ARGUMENT", reason, field)
    assert error["message"]
    assert error["request_id"] == reply.headers["x-request-id"] == "mine-1"


def test_what_is_too_large(served: HttpServer) -> None:
    """413 as soon as it is known, with the way to do it; and for an answer that would be too large."""
    reply = served.post("softmax", b"[" + b"1," * (MOST_BODY_BYTES // 2) + b"1]")
    for entry in (b"1", b"[]", b"{}"):
        many = b'{"input": [' + b",".join([entry] * (MOST_ENTRIES + 1)) + b"]}"
        assert len(many) <= MOST_BODY_BYTES
        assert (served.post("softmax", many).status, served.post("softmax", many).error["reason"]) == (
            413,
            "BODY_TOO_LARGE",
        )
    assert served.post("softmax", {"input": [1] * (MOST_ENTRIES - 10)}).status == 200
    assert (reply.status, reply.error["reason"]) == (413, "BODY_TOO_LARGE")
    assert "gRPC" in reply.error["message"]
    zeros = encoded(np.zeros(95_000, np.uint8), "float8_e4m3fn")
    body = {"input": zeros, "target": zeros, "reduction": "none"}
    assert served.post("bce", body).status == 200
    reply = served.post("bce", body | {"grad": ["input", "target"]})
    assert (reply.status, reply.error["code"]) == (413, "RESOURCE_EXHAUSTED")
    assert reply.error["reason"] != "BODY_TOO_LARGE"


def test_other_bodies(served: HttpServer) -> None:
    """A form's types, and compressed bodies, are refused before they are read."""
    for headers in ({"content_type": "text/plain"}, {"content_type": ""}, {"content_encoding": "gzip"}):
        assert served.post("softmax", b'{"input": [1]}', **headers).error["reason"] == "WRONG_CONTENT_TYPE"
    assert served.post("softmax", b'{"input": [1]}', content_type="application/json; charset=utf-8").status == 200


def test_paths(served: HttpServer) -> None:
    """404 for a loss that there is not, 405 for another method, in JSON both."""
    unknown = served.post("hinge", {})
    assert (unknown.status, unknown.error["code"], unknown.error["reason"]) == (404, "NOT_FOUND", "UNKNOWN_LOSS")
    read = served.get("/v1/losses/bce")
    assert (read.status, read.error["reason"], read.headers["allow"]) == (405, "UNKNOWN_PATH", "POST")
    assert served.get("/v1/losses/").status == served.get("/v1").status == 404


def test_it_counts_as_any_call(served: HttpServer) -> None:
    """Under its method, by its end."""
    before = scraped(served.url)
    served.post("entropy", {"input": [0.5, 0.5]})
    served.post("entropy", {"input": [0.5, 0.5], "base": 1})
    after = scraped(served.url)

    for code in ("OK", "InvalidArgument"):
        assert after.called("Entropy", code) == before.called("Entropy", code) + 1


def test_who_calls(numba: Backend, tokens: TokenFile) -> None:
    """401 without a token; with one the call is that caller's, who has its limits."""
    with http_server(numba, tokens=tokens.path) as server:
        stranger = server.post("softmax", {"input": [1.0]})
        assert (stranger.status, stranger.error["reason"]) == (401, "NO_CREDENTIALS")
        assert stranger.headers["www-authenticate"] == "Bearer"
        known = {"authorization": f"Bearer {tokens.token}"}
        assert server.post("softmax", {"input": [1.0]}, **known).status == 200
        assert server.post("softmax", {"input": [1.0]}, authorization="Bearer x").error["reason"] == "UNKNOWN_TOKEN"
        assert json.loads(server.get("/v1/status", **known).text)["calls"]["completed"] == 1


def test_a_server_that_stops(numba: Backend) -> None:
    """503, with when to come back."""
    with http_server(numba) as server:
        intake = server.server.service.evaluations.intake

        def close() -> None:
            intake.closing = True

        server.at(close)
        reply = server.post("softmax", {"input": [1.0]})

    assert (reply.status, reply.error["code"], reply.error["reason"]) == (503, "UNAVAILABLE", "GOING_AWAY")
    assert reply.headers["retry-after"] == "1"
    assert reply.error["retry_after_s"] == 1.0
