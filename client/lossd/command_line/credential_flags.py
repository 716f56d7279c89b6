"""Flags of a command that calls a server: who the server must be, and who the caller is."""

from __future__ import annotations

import argparse
from typing import Any

_FLAGS = ("tls", "ca", "cert", "key", "token")


def add_credential_flags(group: argparse._ActionsContainer) -> None:
    """--tls, --ca, --cert, --key, --token; absent ones are None, and the client then asks the environment."""
    group.add_argument(
        "--tls",
        action="store_const",
        const=True,
        help="encrypt, and verify the server's certificate (with --ca: always)",
    )
    group.add_argument(
        "--ca",
        metavar="FILE",
        help="authorities that may have signed it, PEM (default: LOSSD_CA, else well-known ones)",
    )
    group.add_argument("--cert", metavar="FILE", help="certificate to show to the server, PEM (default: LOSSD_CERT)")
    group.add_argument("--key", metavar="FILE", help="its key, PEM (default: LOSSD_KEY)")
    # Whoever may list processes reads a flag: the variable is the better way, and the first that is named.
    group.add_argument("--token", metavar="TOKEN", help="token to show to the server (default: LOSSD_TOKEN)")


def given_credentials(parsed: argparse.Namespace) -> dict[str, Any]:
    """What was given, as a client takes it."""
    return {name: getattr(parsed, name) for name in _FLAGS if getattr(parsed, name) is not None}
