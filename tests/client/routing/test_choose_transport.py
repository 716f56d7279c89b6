"""Which way a call takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lossd
from lossd.options import Transport
from lossd.request.build import Call, build
from lossd.routing import choose_transport as transport
from lossd.routing.block_plan import BlockPlan
from lossd.routing.choose_transport import choose_transport, is_small
from lossd.rpc.server_limits import MessageLimits

LIMITS = MessageLimits(max_message_bytes=16 << 20, max_item_bytes=16 << 20)
MIB = 1 << 20


def call(size: int, **options: Any) -> Call:
    return build("entropy", np.zeros((64, size // 256), np.float32), **options)


def way(asked: Transport, one: Call, no_shared: str | None = "none here", limits: MessageLimits = LIMITS) -> str:
    found = choose_transport(asked, one, limits, no_shared)
    return "stream" if isinstance(found, BlockPlan) else found


@pytest.mark.parametrize(
    "size, options, small",
    [(MIB // 2, {}, True), (2 * MIB, {}, False), (MIB // 2, {"grad": True, "reduction": "none"}, True)],
)
def test_small_calls_are_known_without_the_server(size: int, options: dict[str, Any], small: bool) -> None:
    """By the size of the request and of the answer."""
    assert is_small(call(size, **options), "auto") is small


def test_a_small_request_with_a_large_answer_is_not_small() -> None:
    """Float8 logits bring a float32 gradient back."""
    x = np.zeros((1000, 900), ml_dtypes.float8_e5m2)

    assert is_small(build("entropy", x, kind="logits"), "auto")
    assert not is_small(build("entropy", x, kind="logits", grad=True), "auto")


@pytest.mark.parametrize("asked", ["stream", "shared_memory"])
def test_what_is_asked_for_is_not_small(asked: Transport) -> None:
    """The server's limits decide whether it can be."""
    assert not is_small(call(256), asked)


@pytest.mark.parametrize(
    "asked, size, no_shared, expected",
    [
        ("auto", 1 * MIB, "none", "unary"),
        ("auto", 8 * MIB, "none", "stream"),
        ("auto", 8 * MIB, None, "shared_memory"),
        ("auto", 64 * MIB, "none", "stream"),
        ("unary", 8 * MIB, None, "unary"),
        ("stream", 256, None, "stream"),
        ("shared_memory", 256, None, "shared_memory"),
    ],
)
def test_place_and_size_decide(asked: Transport, size: int, no_shared: str | None, expected: str) -> None:
    """Unless the caller does."""
    assert way(asked, call(size), no_shared) == expected


def test_mapped_files_are_streamed(tmp_path: Path) -> None:
    """Block by block, though there were shared memory to copy them to; slices and views of them too."""
    np.save(tmp_path / "x.npy", np.zeros((64, 1 << 14), np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    assert way("auto", build("entropy", mapped), None) == "stream"
    assert way("auto", build("entropy", np.asarray(mapped)[:32].reshape(64, -1)), None) == "stream"


@pytest.mark.parametrize(
    "asked, one, sentence",
    [
        ("unary", call(32 * MIB), "the request has 33554708 bytes, the server takes 16777216 in one message"),
        (
            "unary",
            build("self_information", np.zeros((1024, 3 * 1024), np.float16), reduction="none", grad=True),
            "the answer has",
        ),
        ("stream", build("entropy", np.zeros(4, np.float32)), 'transport = "stream" cannot be: input is one row'),
        ("shared_memory", call(256), 'transport = "shared_memory" cannot be: none here'),
    ],
)
def test_what_cannot_be_names_why(asked: Transport, one: Call, sentence: str) -> None:
    """InvalidArgument, before anything is sent."""
    with pytest.raises(lossd.InvalidArgument) as caught:
        way(asked, one)

    assert str(caught.value).startswith(sentence)


def test_too_large_and_one_row_says_both() -> None:
    """And names the server's option."""
    with pytest.raises(lossd.TooLarge, match=r"in one message, and it cannot be streamed: input is one row.*max_mess"):
        way("auto", build("entropy", np.zeros(8 * MIB, np.float32)))


def test_too_large_for_everything_else_is_shared() -> None:
    """Where there is shared memory, whatever its size."""
    assert way("auto", build("entropy", np.zeros(8 * MIB, np.float32)), None) == "shared_memory"


def test_an_unknown_transport_names_the_known_ones() -> None:
    """InvalidArgument naming the option."""
    with pytest.raises(
        lossd.InvalidArgument, match="must be 'auto', 'unary', 'stream' or 'shared_memory', not "
    ) as caught:
        transport.checked("tcp")

    assert caught.value.field == "transport"
