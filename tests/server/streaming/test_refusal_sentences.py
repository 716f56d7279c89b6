"""What the Failure of a streamed evaluation says: in the user's words, what came and what was expected."""

from __future__ import annotations

import asyncio

import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from tests.losses.checked import WIRE_NAME
from tests.server.running import serving
from tests.server.streaming.conversation import block, converse, failures, opened
from tests.server.streaming.test_refusals import BOTH, REFUSED, blocks, changed, cross_entropy


def with_dtype(number: int) -> list[pb.StreamRequest]:
    """A block whose input has the dtype of that number."""
    one = block(cross_entropy(), 1, BOTH, 0, 2)
    return [*blocks(cross_entropy()), changed(one, lambda m: setattr(m.block.input, "dtype", number))]


def with_items(count: int) -> list[pb.StreamRequest]:
    """A block whose tensors say that they have so many items."""
    one = block(cross_entropy(), 1, BOTH, 0, 2)
    for given in (one.block.input, one.block.target):
        given.shape[0] = count
    return [*blocks(cross_entropy()), one]


SENTENCES: dict[str, tuple[list[pb.StreamRequest], str]] = {
    "dtype": (
        REFUSED["BLOCK_MISMATCH dtype"],
        "float64 of shape [2, 4], but input was opened as float32 of shape [6, 4]: its blocks have shape [items, 4]",
    ),
    "unknown dtype": (with_dtype(99), "the block's input is unknown dtype 99 of shape [2, 4]"),
    "no dtype": (with_dtype(0), "the block's input is unknown dtype 0 of shape [2, 4]"),
    "shape": (REFUSED["BLOCK_MISMATCH shape"], "the block's input is float32 of shape [2, 3], but input was opened as"),
    "scalar": (REFUSED["BLOCK_MISMATCH scalar"], "the block's input is float32 of shape [], but input was opened as"),
    "items": (REFUSED["BLOCK_MISMATCH items"], "the block's target has 3 items, but its input has 2"),
    "length": (REFUSED["LENGTH_MISMATCH"], "input has 31 bytes of data, but its shape [2, 4] of float32 takes 32"),
    "no item": (with_items(0), "the block's input has shape [0, 4], but a block holds at least 1 item"),
    "fewer than none": (with_items(-3), "the block's input has shape [-3, 4], but a block holds at least 1 item"),
    "beyond the end": (
        REFUSED["TOO_MANY_ITEMS"],
        "the block has 4 items from item 4 on, but the evaluation was opened with 6",
    ),
    "gap": (
        REFUSED["BLOCK_OUT_OF_ORDER"],
        "the block begins at item 4 (its first_item), but the next one is item 2: blocks come in order, without gaps",
    ),
    "negative": (REFUSED["BLOCK_OUT_OF_ORDER below 0"], "the block begins at item -2 (its first_item), but the next"),
    "granularity": (
        REFUSED["BLOCK_NOT_A_MULTIPLE"],
        "the block has 4000 items, but all blocks save the last have a multiple of 4096 items",
    ),
    "too few": (
        REFUSED["TOO_FEW_ITEMS"],
        "the evaluation is ended after 2 items, but it was opened with 6",
    ),
    "missing": (REFUSED["MISSING_FIELD"], "the block lacks target, which is streamed"),
    "not streamed": (
        REFUSED["NOT_STREAMED"],
        "the block holds target, which its evaluation was opened without streaming; it streams input",
    ),
    "shared memory": (REFUSED["BLOCK_NOT_HERE"], "the block's input is shared memory, but a block holds its elements"),
    "never opened": (REFUSED["NO_SUCH_EVALUATION"], "evaluation_id = 1 is not open on this stream"),
    "unknown loss": (
        REFUSED["MISSING_FIELD request"],
        "the evaluation is opened without a request: it needs one of entropy, cross_entropy, ",
    ),
    "unknown enum": (
        [pb.StreamRequest(open=opened(cross_entropy(reduction=9), 1, BOTH))],
        "reduction = 9 is not one of none, mean, sum, batchmean",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_failure_says_what_came_and_what_was_expected(numba: Backend, name: str) -> None:
    """One Failure, whose sentence names both in the words of the options and dtypes; the stream goes on."""
    sent, sentence = SENTENCES[name]

    async def run() -> None:
        async with serving(numba) as (_, channel):
            other = opened(cross_entropy(), 2)
            responses = await converse(channel, [*sent, pb.StreamRequest(open=other)])
            found = failures(responses)

            assert list(found) == [1]
            assert sentence in found[1].message
            assert not WIRE_NAME.search(found[1].message)
            assert "\n" not in found[1].message
            assert sum(one.Is(ErrorInfo.DESCRIPTOR) for one in found[1].details) == 1
            assert [one.result.evaluation_id for one in responses if one.HasField("result")][-1] == 2

    asyncio.run(run())
