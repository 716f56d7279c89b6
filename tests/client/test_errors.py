"""Statuses as exceptions: the mirror of the server's table."""

from __future__ import annotations

import pickle

import grpc
import pytest

import lossd
from lossd.errors import error_class, from_rpc
from lossd_server import errors as server
from lossd_server.wire import status

# What each of the server's errors is to its caller.
MIRROR: dict[type[server.ServerError], type[lossd.Error]] = {
    server.InvalidRequest: lossd.InvalidArgument,
    server.NotFound: lossd.InvalidArgument,
    server.Overloaded: lossd.Overloaded,
    server.TooLarge: lossd.TooLarge,
    server.GoingAway: lossd.Unavailable,
    server.DeadlineOver: lossd.DeadlineExceeded,
    server.Unauthenticated: lossd.Unauthenticated,
    server.NotServed: lossd.NotServed,
    server.ServerError: lossd.InternalError,
}


def received(error: server.ServerError, request_id: str = "") -> lossd.Error:
    """The client's exception for what the server puts on the wire."""
    return from_rpc(
        status.status_code(error), status.status_message(error), status.trailers(error, request_id), "127.0.0.1:1"
    )


def test_the_mirror_covers_the_servers_table() -> None:
    """A new error of the server's must have its class here."""
    assert set(MIRROR) == set(status.CODES)


@pytest.mark.parametrize("kind", MIRROR)
def test_the_tables_are_inverse(kind: type[server.ServerError]) -> None:
    """Each of the server's errors becomes its own class, and no other's; a region that is gone is a wrong request."""
    wait_s = 0.25 if kind in (server.Overloaded, server.GoingAway) else None
    error = received(kind("a sentence", reason="REASON", retry_after_s=wait_s))

    assert type(error) is MIRROR[kind]
    assert {one for one in MIRROR if MIRROR[one] is MIRROR[kind]} in ({kind}, {server.InvalidRequest, server.NotFound})


def test_details_cross_whole() -> None:
    """Sentence, field, reason and every variable."""
    sent = server.InvalidRequest(
        "target[17] = 32000 is outside [0, 32000)",
        reason="CLASS_OUT_OF_RANGE",
        field="target",
        metadata={"index": 17, "value": 32000},
    )

    error = received(sent)

    assert str(error) == "target[17] = 32000 is outside [0, 32000)"
    assert (error.field, error.reason) == ("target", "CLASS_OUT_OF_RANGE")
    assert error.metadata == {"index": "17", "value": "32000"}
    assert isinstance(error, ValueError)


def test_the_wait_and_the_request_id_cross() -> None:
    """What to do next is data, not only words."""
    overloaded = received(server.Overloaded("full", reason="OVERLOADED", retry_after_s=1.25))
    internal = received(server.ServerError("failed", reason="INTERNAL", metadata={"request_id": "a1"}))

    assert overloaded.retry_after_s == 1.25
    assert received(server.NotServed("no", reason="UNKNOWN_METHOD"), "b2").request_id == "b2"
    assert internal.request_id == "a1"


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_code_has_a_class(code: grpc.StatusCode) -> None:
    """An unknown one is the server's fault; a cancellation that we did not ask for is a server going away."""
    kind = error_class(code, None)

    assert issubclass(kind, lossd.Error)
    assert (kind is lossd.Unavailable) == (code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED))


@pytest.mark.parametrize("trailers", [None, (), (("grpc-status-details-bin", b"\xff\xff"),), (("x", "y"),)])
def test_a_status_without_details_names_the_address(trailers: tuple[tuple[str, str | bytes], ...] | None) -> None:
    """It was made on the way: the sentence says to whom, gRPC's own words are kept beside it."""
    error = from_rpc(grpc.StatusCode.UNAVAILABLE, "UNKNOWN: ipv4:127.0.0.1:1: refused", trailers, "127.0.0.1:1")

    assert str(error) == "127.0.0.1:1: the server cannot be reached, or the connection to it was lost"
    assert error.details == "UNKNOWN: ipv4:127.0.0.1:1: refused"


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_no_sentence_has_grpcs_own_words(code: grpc.StatusCode) -> None:
    """Every code means something by itself, in one line."""
    error = from_rpc(code, "Stream removed\n(UNKNOWN:…)", None, "a:1")

    assert str(error).startswith("a:1: ")
    assert not any(word in str(error) for word in ("Stream", "UNKNOWN:", "\n"))
    assert error.details == "Stream removed\n(UNKNOWN:…)"


def test_the_servers_sentence_has_no_details() -> None:
    """They are gRPC's, not the server's."""
    assert received(server.InvalidRequest("a sentence", reason="REASON")).details == ""


@pytest.mark.parametrize("kind", MIRROR.values())
def test_errors_survive_pickling(kind: type[lossd.Error]) -> None:
    """With everything they carry: they cross process pools."""
    error = kind("s", field="f", reason="R", metadata={"a": "b"}, retry_after_s=1.0, request_id="id", details="d")

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is kind
    assert (copy.args, vars(copy)) == (error.args, vars(error))
