"""Call contract: a call as a front brings it. Method, metadata, deadline, messages in, messages and a status out.

A front turns the bytes of connections into calls, and what their handlers answer into bytes. Nothing above it knows
which front that is, and no front knows what a call means: `server` joins the two. Everything here belongs to the event
loop's thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from lossd_server.call.load_report import LoadReport
from lossd_server.call.record import CallRecord

# Keys in lower case; the values of keys that end in -bin are bytes.
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


# A message as it came: a large one may be memory of its own, that nobody else writes to.
Body: TypeAlias = bytes | memoryview

# A message as it leaves: a large one may be in parts, bytes and views of bytes, which nobody changes any more.
Parts: TypeAlias = tuple[bytes | memoryview, ...]
Message: TypeAlias = bytes | Parts


def whole_message(message: Message) -> bytes:
    """The message in one piece."""
    return message if isinstance(message, bytes) else b"".join(message)


def message_bytes(message: Message) -> int:
    """How long the message is."""
    return len(message) if isinstance(message, bytes) else sum(map(len, message))


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ends. code: gRPC's number, 0 for OK. trailers: metadata sent after the last message.

    reason: of the ErrorInfo that is in them; shed: whether it is for load alone. For those who look on.
    """

    code: int
    message: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    reason: str = ""
    shed: bool = False


OK = Status(0)


class ServerCall(Protocol):
    """One call. A client that cancels it, or is gone, cancels the task in which the call is handled."""

    @property
    def method(self) -> str:
        """The path: "/package.Service/RpcMethod"."""

    @property
    def metadata(self) -> Metadata:
        """What the client sent before its messages."""

    @property
    def deadline(self) -> float:
        """When the client stops waiting, on time.monotonic; infinite where it named no time."""

    @property
    def peer(self) -> str:
        """The client's address, for logs."""

    @property
    def subject(self) -> str:
        """The common name of the client's certificate, where the front has verified one; else ""."""

    @property
    def request_id(self) -> str:
        """By which the call is found in logs (`request_id`): found or made when it is first asked for."""

    @property
    def record(self) -> CallRecord | None:
        """What is noted of it, where somebody looks on (`telemetry`); a front's own calls have none."""

    @property
    def connection(self) -> Hashable:
        """What the call came on: the same for calls of one connection: those of one caller share what that has."""

    settled: bool
    """Set where all that came on a stream is answered: its client may leave it by a reset, which is no cancellation."""

    @property
    def messages_in(self) -> int:
        """How many messages `read` has given."""

    @property
    def messages_out(self) -> int:
        """How many `write` was given."""

    async def next_size(self) -> int | None:
        """Bytes of the message that `read` gives next, where the front can tell before it lets the message in."""

    async def read(self) -> Body | None:
        """The next message; None once the client has sent all."""

    async def write(self, message: Message) -> None:
        """Sends one message of several. Returns when the connection takes more; one writer at a time."""

    def abandon(self) -> bool:
        """Ends a call whose answer is there and is not taken: its client hears of a reset.

        False where the front has handed the answer on, and cannot take it back.
        """

    def on_close(self, callback: Callable[[], object]) -> None:
        """Has `callback` called once, when the call is over: its end was handed over, or nobody waits for it."""


# Handles a call to its end: the status after the messages written, or the call's last message, which says OK.
Handler: TypeAlias = Callable[[ServerCall], Awaitable[Message | Status]]


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """What a path leads to. streams: whether any number of messages answers a call, and not exactly one."""

    handler: Handler
    streams: bool = False


class CallOrigin(Protocol):
    """What a call came on. subject, peer: as a `ServerCall`'s."""

    @property
    def subject(self) -> str: ...

    @property
    def peer(self) -> str: ...


@dataclass(frozen=True, slots=True)
class KnownOrigin:
    """One that is known beforehand."""

    subject: str = ""
    peer: str = ""


class WholeCall(NamedTuple):
    """A call that is here whole before anything was answered: its only message, and no more to come."""

    method: str
    metadata: Metadata
    message: bytes
    origin: CallOrigin = KnownOrigin()


# Answers those of the calls that need not wait, by their last messages, which say OK. None: to be handled as any call;
# nothing has been done for it. Where there are fewer answers than calls, one at least, the others are to be asked for
# again in another turn of the loop. Raises nothing.
AnswerAtOnce: TypeAlias = Callable[[Sequence[WholeCall]], Sequence[bytes | None]]


def none_at_once(calls: Sequence[WholeCall]) -> Sequence[bytes | None]:
    """Leaves all to their handlers."""
    return [None] * len(calls)


# Is told of a call that a front ends before it has a handler, and of its end.
FrontRefused: TypeAlias = Callable[[ServerCall, Status], object]


@dataclass(frozen=True, slots=True)
class Routes:
    """What paths lead to. unknown: handles the calls of any other path. at_once: asked first for small whole calls, by
    a front that gets several at a time. refused: told of calls that a front ends by itself. load: told at the end of
    each call."""

    methods: Mapping[str, RpcMethod]
    unknown: RpcMethod
    at_once: AnswerAtOnce = none_at_once
    refused: FrontRefused = lambda _, __: None
    load: LoadReport = field(default_factory=LoadReport)


class Front(Protocol):
    """One way in which calls come in: made with the server's routes and settings."""

    async def start(self, addresses: Sequence[str]) -> list[str]:
        """Opens the addresses and serves; the addresses with the ports that were picked. OSErrors carry a sentence."""

    @property
    def connections(self) -> int | None:
        """How many are open; None where that cannot be told."""

    async def stop(self, grace_s: float | None) -> None:
        """Closes the ports. Calls under way have `grace_s` seconds to end, none for None."""
