"""`lossd certificates DIR` and `lossd token NAME FILE`: what a server with an identity needs, made in two commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lossd.command_error import CommandError
from lossd.command_line.parser import CommandParser, counted
from lossd.command_line.token_line import add_token, checked_name

_CERTIFICATES = """\
Makes an authority and certificates that it has signed, to try TLS out: ca.pem,
server.pem and server.key, client.pem and client.key. Files of these names are
replaced; a running server takes the new ones for new connections. The
authority's key is not kept. For a service that lasts, have your own authority
sign them.
"""
_CERTIFICATES_EPILOG = """\
examples:
  lossd certificates tls
  lossd serve --tls-cert tls/server.pem --tls-key tls/server.key
  lossd health --ca tls/ca.pem
"""
_TOKEN = """\
Makes a token for whoever is to call by that name, prints it, and adds its hash
to the file that a server is given as --tokens. A running server takes it
within a second. The token itself is written nowhere. A line that is deleted ends it.
"""
_TOKEN_EPILOG = """\
examples:
  export LOSSD_TOKEN=$(lossd token trainer tokens)
  lossd serve --tokens tokens
"""


def certificates_parser() -> CommandParser:
    parser = CommandParser(
        prog="lossd certificates",
        usage="lossd certificates DIR [options]",
        description=_CERTIFICATES,
        epilog=_CERTIFICATES_EPILOG,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to: it is made if it is not there")
    parser.add_argument(
        "--name",
        metavar="HOST",
        action="append",
        default=[],
        help="name or address of the server beside localhost, 127.0.0.1 and ::1; repeatable",
    )
    parser.add_argument(
        "--client", metavar="NAME", default="client", help="the client certificate's subject (default: %(default)s)"
    )
    parser.add_argument(
        "--days", metavar="N", type=counted(3650), default=90, help="how long they are valid (default: %(default)s)"
    )
    return parser


def certificates(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    parsed = certificates_parser().parse_args(list(arguments))
    from lossd.command_line.make_certificates import make_certificates

    try:
        written = make_certificates(parsed.folder, parsed.name, checked_name(parsed.client), parsed.days)
    except ValueError as error:
        return _fail("certificates", str(error), 2)
    except CommandError as error:
        return _fail("certificates", str(error))
    except OSError as error:
        return _fail("certificates", f"{error.filename} cannot be written: {error.strerror}")
    print(*written, sep="\n")
    return 0


def token_parser() -> CommandParser:
    parser = CommandParser(prog="lossd token", usage="lossd token NAME FILE", description=_TOKEN, epilog=_TOKEN_EPILOG)
    parser.add_argument("name", metavar="NAME", help="who calls with it: in the server's logs and limits")
    parser.add_argument("file", metavar="FILE", type=Path, help="the server's file of tokens: made if it is not there")
    return parser


def token(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    parsed = token_parser().parse_args(list(arguments))
    try:
        made = add_token(parsed.name, parsed.file)
    except ValueError as error:
        return _fail("token", str(error), 2)
    except OSError as error:
        return _fail("token", f"{parsed.file} cannot be written: {error.strerror}")
    print(made)
    return 0


def _fail(command: str, sentence: str, status: int = 1) -> int:
    print(f"lossd {command}: {sentence}", file=sys.stderr)
    return status
