"""Server directory: what it believes of a cluster's answers, and when it asks again."""

from __future__ import annotations

import json
import threading

import pytest

import lossd
from lossd.rpc.server_directory import MOST_BYTES, Listing, ServerDirectory, asked, none_known, read_listing
from tests.client.ray_head import ray_head
from tests.waiting import until

ADDRESS = "ray://head:8000"
MALFORMED = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"not json",
    b"\xff",
    b'{"servers": ["10.0.0.1:1"]}',
    b'{"servers": 7, "again_s": 5}',
    b'{"servers": [7], "again_s": 5}',
    b'{"servers": ["unix:/x"], "again_s": 5}',
    b'{"servers": ["embedded"], "again_s": 5}',
    b'{"servers": ["ray://head:1"], "again_s": 5}',
    b'{"servers": ["dns:///head:1"], "again_s": 5}',
    b'{"servers": ["10.0.0.1:1,10.0.0.2:1"], "again_s": 5}',
    b'{"servers": ["10.0.0.1:0"], "again_s": 5}',
    b'{"servers": [], "again_s": "soon"}',
    b'{"servers": [], "again_s": NaN}',
    b"[" * 100_000,
    b" " * (MOST_BYTES + 1),
]


def listing(*servers: str, again_s: float = 5.0) -> Listing:
    return Listing(servers, again_s)


class Cluster:
    """Answers in turn, on a clock that stands still."""

    def __init__(self, *answers: Listing | None) -> None:
        self.answers = list(answers)
        self.now_s = 0.0
        self.asked = 0

    def __call__(self, address: str) -> Listing:
        self.asked += 1
        answer = self.answers.pop(0)
        if answer is None:
            raise none_known(address, "Connection refused")
        return answer

    def directory(self, found: list[str] | None = None) -> ServerDirectory:
        return ServerDirectory(ADDRESS, found, self, lambda: self.now_s, lambda low, high: (low + high) / 2)


def test_it_reads_what_a_cluster_says() -> None:
    """Sorted, each server once; the time within bounds."""
    body = json.dumps({"servers": ["10.0.0.2:7", "10.0.0.1:7", "10.0.0.2:07"], "again_s": 0, "more": 1}).encode()

    assert read_listing(ADDRESS, body) == (("10.0.0.1:7", "10.0.0.2:7"), 0.5)


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_list_is_unavailable(body: bytes) -> None:
    """With the address, and a sentence of bounded length."""
    with pytest.raises(lossd.Unavailable) as caught:
        read_listing(ADDRESS, body)

    assert (caught.value.reason, caught.value.metadata) == ("NO_SERVER_LIST", {"address": ADDRESS})
    assert len(str(caught.value)) < 400


def test_it_asks_again_when_that_is_due() -> None:
    """Beside the call, which takes what is known; not before."""
    cluster = Cluster(listing("a:1"), listing("a:1", "b:1"))
    directory = cluster.directory()
    assert directory.servers() == ("a:1",)
    cluster.now_s = 4.9
    directory.servers()
    assert cluster.asked == 1
    cluster.now_s = 5.0
    directory.servers()

    until(lambda: directory.servers() == ("a:1", "b:1"), "the second list")
    assert cluster.asked == 2


def test_one_asks_for_all() -> None:
    """However many calls begin meanwhile."""
    cluster, answers = Cluster(listing("a:1"), listing("b:1")), threading.Event()

    def ask(address: str) -> Listing:
        if cluster.asked:
            answers.wait()
        return cluster(address)

    directory = ServerDirectory(ADDRESS, None, ask, lambda: cluster.now_s)
    cluster.now_s = 60.0
    before = threading.active_count()
    assert [directory.servers() for _ in range(5)] == [("a:1",)] * 5
    assert threading.active_count() == before + 1

    answers.set()
    until(lambda: directory.servers() == ("b:1",), "the other list")


@pytest.mark.parametrize("answer", [None, listing()])
def test_a_failure_or_an_empty_list_changes_nothing(answer: Listing | None) -> None:
    """It is asked again soon."""
    cluster = Cluster(listing("a:1"), answer, listing("b:1"))
    directory = cluster.directory()
    cluster.now_s = 6.0
    directory.refresh()
    assert directory.servers() == ("a:1",)
    cluster.now_s = 6.5
    directory.servers()

    until(lambda: directory.servers() == ("b:1",), "the other list")


@pytest.mark.parametrize("answer, why", [(None, "Connection refused"), (listing(), "there is no server now")])
def test_none_known_says_why(answer: Listing | None, why: str) -> None:
    """And the next answer is taken."""
    cluster = Cluster(answer, listing("a:1"))
    directory = cluster.directory()
    with pytest.raises(lossd.Unavailable, match=why):
        directory.servers()

    cluster.now_s = 1.0
    directory.refresh()
    assert directory.servers() == ("a:1",)


def test_over_http() -> None:
    """Of the root or of a route; a status that is none of success, and nobody there, are Unavailable."""
    with ray_head(lambda: ["10.0.0.1:7"]) as address:
        assert asked(address) == (("10.0.0.1:7",), 0.5)
        assert asked(f"{address}/losses").servers == ("10.0.0.1:7",)
        with pytest.raises(lossd.Unavailable, match="Not Found"):
            asked(f"{address}/nothing")
    with pytest.raises(lossd.Unavailable, match="refused"):
        asked(address)
