"""The `lossd` command. A command imports what it needs when it runs: the thin install has no server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

DEFAULT_SERVER = "127.0.0.1:50051"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the process's exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # The server parses its own flags, so that its --help is the server's too.
    if arguments[:1] == ["serve"]:
        return _serve(arguments[1:])
    if arguments[:1] == ["eval"]:
        from lossd.evaluation.command import main as evaluate

        return evaluate(arguments[1:])
    if arguments[:1] == ["bench"]:
        from lossd.bench.command import main as bench

        return bench(arguments[1:])
    parsed = _parser().parse_args(arguments)
    try:
        return _health(parsed) if parsed.command == "health" else _info(parsed)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    from lossd import __version__

    parser = argparse.ArgumentParser(prog="lossd", description="Losses and their gradients over gRPC.")
    parser.add_argument("--version", action="version", version=f"lossd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="run the server (needs lossd[server])")
    commands.add_parser("eval", help="the loss of files: .npy, .npz, .safetensors, .csv, .parquet")
    commands.add_parser("bench", help="load and latency of a server, every answer checked")
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument(
        "--server", metavar="ADDRESS", default=DEFAULT_SERVER, help="host:port, unix:path [%(default)s]"
    )
    server.add_argument("--timeout", metavar="SECONDS", type=float, default=5.0, help="[%(default)s]")
    commands.add_parser("health", parents=[server], help="exit status 0 if the server serves, 1 if not")
    info = commands.add_parser("info", parents=[server], help="what the server says of itself")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    return parser


def _serve(arguments: Sequence[str]) -> int:
    try:
        from lossd_server.serve import main as serve
    except ImportError as error:
        print(f"lossd serve needs lossd[server]: pip install 'lossd[server]' ({error})", file=sys.stderr)
        return 1
    return int(serve(arguments) or 0)


def _health(parsed: argparse.Namespace) -> int:
    import lossd

    try:
        with lossd.Client(parsed.server) as client:
            serving = client.health(timeout=parsed.timeout)
    except lossd.Error as error:
        print(f"not serving: {error}", file=sys.stderr)
        return 1
    print("serving" if serving else "not serving")
    return 0 if serving else 1


def _info(parsed: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    import lossd

    try:
        with lossd.Client(parsed.server) as client:
            said = asdict(client.info(timeout=parsed.timeout))
    except lossd.Error as error:
        print(f"lossd info: {error}", file=sys.stderr)
        return 1
    if parsed.json:
        print(json.dumps(said))
        return 0
    for name, value in said.items():
        for label, one in value.items() if isinstance(value, dict) else ((name, value),):
            print(f"{label:<24} {', '.join(one) if isinstance(one, tuple) else one}")
    return 0
