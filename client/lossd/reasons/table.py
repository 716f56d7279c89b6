"""Table of reasons, read from the files beside it: a section each, which `docs/errors.md` and `lossd errors` show."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import grpc

from lossd.errors import Error, error_class

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Reason:
    """What `Error.reason` says.

    code: the status that comes with it, or for what only the client says the one of its class. retry: whether the same
    call may succeed at another moment. metadata: the keys that may come with it.
    """

    name: str
    code: grpc.StatusCode
    means: str
    help: str
    metadata: tuple[str, ...] = ()
    retry: bool = False

    @property
    def raises(self) -> type[Error]:
        """The client's exception: STREAM_NOT_READ's is the one that its retries turn it into."""
        if self.retry and self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return error_class(grpc.StatusCode.UNAVAILABLE, None)
        return error_class(self.code, 0.0 if self.retry else None)


@dataclass(frozen=True, slots=True)
class ReasonSection:
    """Reasons that belong together. about: what they have in common."""

    title: str
    about: str
    reasons: tuple[Reason, ...]


@cache
def reason_sections() -> tuple[ReasonSection, ...]:
    """All of them, as a page shows them."""
    files = [tomllib.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.toml")]
    return tuple(
        ReasonSection(one["title"], one["about"], tuple(_reason(*entry) for entry in one["reasons"].items()))
        for one in sorted(files, key=lambda one: one["order"])
    )


@cache
def known_reasons() -> dict[str, Reason]:
    """By name."""
    return {reason.name: reason for section in reason_sections() for reason in section.reasons}


def _reason(name: str, entry: dict[str, Any]) -> Reason:
    return Reason(
        name=name,
        code=grpc.StatusCode[entry["code"]],
        means=entry["means"],
        help=entry["help"],
        metadata=tuple(entry.get("metadata", ())),
        retry=entry.get("retry", False),
    )
