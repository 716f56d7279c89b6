"""Bytes may be cut anywhere, and whatever comes ends a connection in order at worst."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.limits import Http2Limits
from tests.server.front.http2 import rules_of_frames, rules_of_messages, rules_of_types, wire
from tests.server.front.http2.cutting import ran
from tests.server.front.http2.rules import Rule

ALL = [*rules_of_frames.RULES, *rules_of_types.RULES, *rules_of_messages.RULES]
SOUND = wire.HANDSHAKE + b"".join(
    [
        wire.call(1, b"one", b"", bytes(300)),
        wire.headers(3, wire.request(), wire.END_HEADERS),
        wire.data(3, wire.message(b"padded")[:4], padding=200),
        wire.ping(),
        wire.data(3, padding=255),
        wire.data(3, wire.message(b"padded")[4:], padding=0),
        wire.frame(0x16, 0, 3, bytes(20)),
        wire.settings({wire.INITIAL_WINDOW: 5, 99: 7}),
        wire.headers(5, wire.request()[:40], 0) + wire.continuation(5, wire.request()[40:]),
        wire.data(5, b"\1\0\0\0\1x"),
        wire.rst_stream(5),
        wire.headers(3, b""),
        wire.priority(9),
        wire.goaway(0, 0, b"bye"),
    ]
)


def test_single_bytes() -> None:
    """Byte by byte, everything means the same as at once."""
    assert ran(SOUND[at : at + 1] for at in range(len(SOUND))) == ran([SOUND])


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_single_bytes_of_rules(rule: Rule) -> None:
    """Byte by byte, so does everything that breaks a rule, or hardly does not."""
    sent = rule.begun + b"".join(rule.sent)
    size = max(1, len(sent) // 2000)

    assert ran(sent[at : at + size] for at in range(0, len(sent), size)) == ran([sent])


@settings(max_examples=200, deadline=None)
@given(cuts=st.lists(st.integers(1, len(SOUND) - 1), max_size=12).map(lambda cuts: sorted(set(cuts))))
def test_cuts(cuts: list[int]) -> None:
    """Cut anywhere, too."""
    pieces = [SOUND[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(SOUND)], strict=True)]

    assert ran(pieces) == ran([SOUND])


FRAME = st.builds(wire.frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))


@settings(max_examples=400, deadline=None)
@given(
    sent=st.one_of(
        st.binary(max_size=300),
        st.lists(FRAME, max_size=20).map(b"".join),
        st.lists(st.one_of(FRAME, st.sampled_from([wire.call(1, b"x"), wire.call(3, b"y")])), max_size=12).map(
            b"".join
        ),
    ),
    begun=st.sampled_from([b"", wire.PREFACE, wire.HANDSHAKE]),
)
def test_random_bytes(sent: bytes, begun: bytes) -> None:
    """Whatever comes, nothing is raised; a connection that is at fault says so once, last, and hears nothing more."""
    connection = Http2Connection(Http2Limits(), {})
    connection.receive(begun, 0.0)
    connection.receive(sent, 0.0)
    frames = list(wire.parse(b"".join(connection.outgoing.take())))

    goaways = [one for one in frames if one.kind == wire.GOAWAY]
    assert len(goaways) == connection.closed
    assert not connection.closed or (frames[-1] is goaways[0] and not connection.streams)
    if connection.closed:
        connection.receive(wire.ping(), 0.0)
        assert not connection.outgoing.has_parts
