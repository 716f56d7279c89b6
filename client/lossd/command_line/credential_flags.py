"""Flags of a command that calls a server: who the server must be, and who the caller is."""

from __future__ import annotations

import argparse
import re
from typing import Any

_FLAGS = ("tls", "ca", "cert", "key", "token", "token_file")
# As sentences name arguments of a client: ca=FILE, tls=True, token=.
_ARGUMENT = re.compile(rf"\b({'|'.join(_FLAGS)})=(?:True|(FILE|TOKEN))?(?![\w'/])")


def add_credential_flags(group: argparse._ActionsContainer) -> None:
    """--tls and its kin, as in `_FLAGS`; absent ones are None, and the client then asks the environment."""
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
    # Whoever may list processes reads a flag: the variable, or a file, is the better way.
    group.add_argument("--token", metavar="TOKEN", help="token to show to the server (default: LOSSD_TOKEN)")
    group.add_argument(
        "--token-file", metavar="FILE", help="file of that token, read for each call (default: LOSSD_TOKEN_FILE)"
    )


def given_credentials(parsed: argparse.Namespace) -> dict[str, Any]:
    """What was given, as a client takes it."""
    return {name: getattr(parsed, name) for name in _FLAGS if getattr(parsed, name) is not None}


def in_flags(error: Exception) -> str:
    """The sentence as whoever typed a command reads it: `--ca FILE`, where a client's argument is ca=FILE."""
    return _ARGUMENT.sub(
        lambda found: f"--{found[1].replace('_', '-')}{' ' + found[2] if found[2] else ''}", str(error)
    )
