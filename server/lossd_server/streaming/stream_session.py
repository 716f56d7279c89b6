"""Stream sessions: what a stream's messages mean, as the stream sees it. No socket and no waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from lossd_server.admission.stream_budget import Reservation
from lossd_server.call.contract import Body, Message, ServerCall
from lossd_server.errors import ServerError
from lossd_server.intake.intake import Intake


class StreamSession(Protocol):
    """live: evaluations that have neither ended nor failed."""

    @property
    def live(self) -> int: ...

    def receive(self, body: Body, charge: Reservation, now: float) -> Iterator[None]:
        """One message, in steps between which others have their turn. Lets go of the charge in the end.

        Raises ServerError where the stream cannot go on.
        """

    def no_more(self) -> Iterator[None]:
        """The client has sent all. In steps."""

    def expire(self, now: float, max_stream_idle_s: float, read_since: float) -> None:
        """Fails what has waited for its client for so long, while the stream was read on."""

    def abandon(self) -> None:
        """The stream is over: nothing of it is computed any further."""


class MakeSession(Protocol):
    def __call__(
        self,
        intake: Intake,
        send: Callable[[Message, Reservation | None], None],
        max_response_bytes: int | None,
        call: ServerCall,
        end: Callable[[ServerError], None],
        go_on_with: Callable[[Iterator[None]], None],
        /,
    ) -> StreamSession:
        """send: puts a message in line for the client, and drops the charge when it is written. call: the stream's.
        end: ends the stream. go_on_with: takes steps, with turns of others between."""
