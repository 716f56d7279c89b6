"""Channel options of gRPC core, in the one place where they are typed: core ignores a misspelt one in silence."""

from __future__ import annotations

from lossd_server.config.settings import Settings

# A message a little over our limit still reaches us, so that the answer can say which limit; one far over it is
# refused by core, with the same code.
MESSAGE_SLACK_BYTES = 64 << 10
MOST_PENDING = 1 << 16


def arguments(settings: Settings, shares_port: bool = False) -> list[tuple[str, int]]:
    """The server's channel arguments. The keepalive figures allow what the thin client sends."""
    return [
        # On by default: a second server would share the port. Workers do, and their parent saw that it was free.
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_receive_message_length", settings.max_message_bytes + MESSAGE_SLACK_BYTES),
        ("grpc.max_send_message_length", -1),  # answers are bounded before they are computed
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.absolute_max_metadata_size", 32 << 10),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # identity: no bombs, and gzip arrives in 1 KiB slices
        ("grpc.max_concurrent_streams", 1024),  # each connection
        # Calls that core holds while the loop is busy. By default it cancels some from 1,000 on, without a word.
        ("grpc.server.max_pending_requests", MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MOST_PENDING),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.max_connection_idle_s)),
        *(
            # Core varies it by a tenth, as lossd's front does; calls under way have all the time that they need.
            [("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_age_s))]
            if settings.max_connection_age_s
            else []
        ),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # default 5 minutes, then GOAWAY too_many_pings
        ("grpc.http2.max_ping_strikes", 5),
    ]


def _milliseconds(seconds: float) -> int:
    """As a C int; the largest is taken for no bound."""
    return min(max(1, round(1000 * seconds)), 2**31 - 1)
