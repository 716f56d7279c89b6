"""Request ids: whoever is refused can say which call it was."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import RequestInfo

import lossd
from lossd.command_line.error_text import error_text
from lossd.errors import from_rpc
from lossd_server.call.request_id import request_id_of
from lossd_server.config.settings import Settings
from tests.server.edge import POISON, EdgeBackend
from tests.server.front.test_refusals import OURS
from tests.server.messages import cross_entropy
from tests.server.running import details, raw, refused, serving, stub
from tests.server.streaming.conversation import converse, failures, messages

MIB = 1 << 20
NAMED = (("x-request-id", "train-7.step_12"),)
MADE = re.compile(r"[0-9a-f]{16}")
BOTH = ("input", "target")


def request_ids(error: grpc.aio.AioRpcError) -> list[str]:
    """Of every RequestInfo in the details."""
    found = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = RequestInfo()
                if detail.Unpack(info):
                    found.append(info.request_id)
    return found


@pytest.mark.parametrize("value", ["", "a b", "é", "x" * 65, "a\nb", "{}"])
def test_what_cannot_be_an_id_is_not_taken(value: str) -> None:
    """An id has up to 64 letters, digits, dots, hyphens and underscores; the server makes its own for any other."""
    assert request_id_of((("x-request-id", "A-z_0.9"),)) == "A-z_0.9"
    assert MADE.fullmatch(request_id_of((("x-request-id", value),)))
    assert request_id_of(()) != request_id_of(())


@pytest.mark.parametrize("name", OURS)
def test_every_refusal_has_one(name: str) -> None:
    """In its details, made by the server where the client named none; the client's exception has it."""

    async def run() -> None:
        async with serving(EdgeBackend(), max_message_bytes=MIB) as (_, channel):
            error = await refused(OURS[name][0](channel))
            (found,) = request_ids(error)

            assert MADE.fullmatch(found)
            raised = from_rpc(error.code(), error.details(), error.trailing_metadata(), "server:1")
            assert raised.request_id == found

    asyncio.run(run())


def test_the_clients_own_is_taken() -> None:
    """An x-request-id of the metadata names the call, also on a path that leads nowhere."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            bad = await refused(raw(channel, "CrossEntropy")(b"\x0a\xff", metadata=NAMED))
            unknown = await refused(raw(channel, "Guess")(b"", metadata=NAMED))

            assert request_ids(bad) == request_ids(unknown) == ["train-7.step_12"]

    asyncio.run(run())


def test_a_bug_has_the_same_one_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    """In the sentence, in both details and in the log."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            call: Any = stub(channel).CrossEntropy(cross_entropy(ignore_index=POISON), metadata=NAMED)
            error = await refused(call)

            assert "train-7.step_12" in (error.details() or "")
            assert request_ids(error) == [details(error)["ErrorInfo"].metadata["request_id"]] == ["train-7.step_12"]
            logged = [vars(one)["request_id"] for one in caplog.records if one.message == "internal error"]
            assert logged == ["train-7.step_12"]

    asyncio.run(run())


def test_evaluations_of_a_stream_have_that_of_their_stream() -> None:
    """Each Failure of one stream names the same call."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            wrong = cross_entropy(ignore_index=POISON)
            sent = [message for number in (1, 2) for message in messages(wrong, number, BOTH, [0, 4])]
            found = failures(await converse(channel, sent))
            infos = []
            for failure in found.values():
                for detail in failure.details:
                    info = RequestInfo()
                    if detail.Unpack(info):
                        infos.append(info.request_id)

            assert len(infos) == 2
            assert len(set(infos)) == 1

    asyncio.run(run())


@pytest.mark.skipif(Settings().front != "http2", reason="gRPC's core refuses such calls by itself, without details")
def test_calls_that_the_front_refuses_have_one() -> None:
    """Those whose metadata cannot be read, too."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            metadata = (*NAMED, ("x", "y" * 30_000))
            (large,) = request_ids(await refused(raw(channel, "CrossEntropy")(b"", metadata=metadata)))
            packed = await refused(raw(channel, "CrossEntropy")(b"", metadata=NAMED, compression=grpc.Compression.Gzip))

            assert MADE.fullmatch(large)
            assert request_ids(packed) == ["train-7.step_12"]

    asyncio.run(run())


def test_commands_show_it() -> None:
    """Once: a sentence that has it already is left as it is."""
    assert error_text(lossd.Overloaded("full", request_id="a1")) == "full (request id a1)"
    assert error_text(lossd.InternalError("see a1", request_id="a1")) == "see a1"
    assert error_text(lossd.Unavailable("gone")) == "gone"
