"""Triton's client, unchanged, has what lossd's own client has, bit for bit, whichever way it calls."""

from __future__ import annotations

from typing import Any

import pytest

import lossd
from lossd_server.inference.models import MODELS
from tests.inference.cases import DATATYPES, cases, wrong_cases
from tests.inference.conftest import TritonCalls

UNARY = ["infer", "async_infer", "aio_infer"]
STREAMS = ["async_stream_infer", "aio_stream_infer"]


@pytest.mark.parametrize("way", [*UNARY, *STREAMS])
def test_every_loss_and_dtype(calls: TritonCalls, address: str, way: str) -> None:
    """The blocking client, its callbacks and its stream, the asynchronous client and its stream; with ids."""
    asked = list(cases())
    found = calls(way, [case.triton(str(number)) for number, case in enumerate(asked)])
    with lossd.Client(address) as client:
        for number, (case, answer) in enumerate(zip(asked, found, strict=True)):
            assert answer == {"id": str(number), "model": case.model, "outputs": case.own(client)}, case

    assert {case.model for case in asked} == set(MODELS)
    assert {one["datatype"] for case in asked for one in case.triton("")["inputs"]} == set(DATATYPES.values())


@pytest.mark.parametrize("way", ["infer", "async_stream_infer"])
def test_calls_like_one_before(calls: TritonCalls, address: str, way: str) -> None:
    """Without ids, what is sent again in other numbers is recalled: its answers have the same bits."""
    asked = [case for case in cases() if case.tensors[0].nbytes < 65536]
    repeated = [case.triton("") for case in asked] * 4
    found = calls(way, repeated)
    with lossd.Client(address) as client:
        own = [case.own(client) for case in asked]

    assert [answer["outputs"] for answer in found] == own * 4


def refused(case: Any, client: lossd.Client) -> lossd.Error:
    with pytest.raises(lossd.Error) as caught:
        case.own(client)
    return caught.value


@pytest.mark.parametrize("way", [*UNARY, *STREAMS])
def test_refusals(calls: TritonCalls, address: str, way: str) -> None:
    """The sentence that lossd's own client is told; in a stream reason and field stand before it, and the next request
    is answered."""
    wrong, good = list(wrong_cases()), next(cases())
    sent = [one for case in wrong for one in (case.triton("wrong"), good.triton("good"))]
    found = calls(way, sent)
    with lossd.Client(address) as client:
        errors = [refused(case, client) for case in wrong]

    for error, answer in zip(errors, found[::2], strict=True):
        if way in UNARY:
            assert answer == {"error": str(error), "status": "StatusCode.INVALID_ARGUMENT"}
        else:
            expected = f"INVALID_ARGUMENT {error.reason} {error.field}: {error}"
            assert answer["error"] == expected
    assert all("outputs" in answer for answer in found[1::2])


def test_what_is_asked_beside_inference(calls: TritonCalls) -> None:
    """Liveness, readiness, metadata, configuration, index and statistics; what is not offered says so."""
    found = calls("tell", [{"model": name} for name in MODELS])

    assert found["live"]
    assert found["ready"]
    assert all(found["models"])
    assert found["server"]["name"] == "lossd"
    assert [one["name"] for one in found["metadata"]] == list(MODELS)
    assert [one["name"] for one in found["config"]] == list(MODELS)
    assert {one["name"] for one in found["index"]} == set(MODELS)
    assert {one["name"] for one in found["statistics"]} == set(MODELS)
    target = found["config"][list(MODELS).index("cross_entropy")]["input"][1]
    assert target == {"name": "target", "data_type": "TYPE_INT64", "dims": ["-1"]}
    unknown = found["refused"].pop("unknown model")
    assert unknown[0] == "StatusCode.NOT_FOUND"
    assert "the models are entropy, cross_entropy" in unknown[1]
    assert {status for status, _ in found["refused"].values()} == {"StatusCode.UNIMPLEMENTED"}
    assert all("method" not in sentence for _, sentence in found["refused"].values())
