"""Routes and ways: where a client calls, and how its tensors go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from chaos.operations import Operation

# small: one message, which many of which share a stream in the asynchronous client, and that is answered at once.
# map: client.map. auto: what the client chooses. raw: HTTP/2 without a client of lossd's.
Way = Literal["small", "unary", "stream", "shared_memory", "auto", "map", "raw"]
LARGE_WAYS: tuple[Way, ...] = ("unary", "stream", "shared_memory", "auto")


@dataclass(frozen=True, slots=True)
class Route:
    """An address, and what a client needs there.

    server: the name of the server behind it. proxied: whether the proxy that cuts connections is between. shared:
    whether shared memory can be asked for. token_file: holds the token.
    """

    name: str
    server: str
    address: str
    proxied: bool = False
    shared: bool = False
    ca: str = ""
    token: str = ""

    def options(self) -> dict[str, Any]:
        """What `lossd.Client` takes beside the address."""
        found: dict[str, Any] = {}
        if self.ca:
            found["ca"] = self.ca
        if self.token:
            found["token"] = self.token
        return found

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ways(route: Route, operation: Operation, impossible: set[tuple[int, str]]) -> list[Way]:
    """How this operation can go there. impossible: numbers and ways that the undisturbed server had no way for."""
    if operation.is_small:
        return ["small"]
    found = [one for one in LARGE_WAYS if (operation.number, one) not in impossible]
    return [one for one in found if one != "shared_memory" or route.shared]
