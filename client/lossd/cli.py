"""The `lossd` command. A command imports what it needs when it runs: the thin install has no server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossd.command_line import standard_streams
from lossd.command_line.credential_flags import add_credential_flags, given_credentials
from lossd.command_line.error_text import error_text

if TYPE_CHECKING:
    from lossd.info import ServerInfo

DEFAULT_SERVER = "127.0.0.1:50051"
_EPILOG = """\
lossd COMMAND --help explains every option of a command.

examples:
  lossd serve
  lossd eval cross_entropy --input logits.npy --target labels.npy
  lossd bench --server 127.0.0.1:50051
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the process's exit status: 130 after Ctrl-C, 141 where nobody reads its output any more."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Core reads it when grpc is imported, which is below. What it says of a connection, a command says in a sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    standard_streams.make_safe()
    try:
        try:
            return _run(arguments)
        finally:
            standard_streams.flush()
    except KeyboardInterrupt:
        return 130
    except MemoryError as error:
        print(f"{_name(arguments)}: there is not enough memory ({error})", file=sys.stderr)
        return 1
    except OSError as error:
        standard_streams.discard_unwritten()
        if isinstance(error, BrokenPipeError):
            return standard_streams.BROKEN_PIPE
        print(f"{_name(arguments)}: {error.strerror or error}", file=sys.stderr)
        return 1


def _name(arguments: Sequence[str]) -> str:
    """Of the command, as a sentence about it begins."""
    return " ".join(["lossd", *arguments[:1]])


def _run(arguments: list[str]) -> int:
    # The server parses its own flags, so that its --help is the server's too.
    if arguments[:1] == ["serve"]:
        return _serve(arguments[1:])
    if arguments[:1] == ["warmup"]:
        return _warm_up(arguments[1:])
    if arguments[:1] == ["eval"]:
        from lossd.evaluation.command import main as evaluate

        return evaluate(arguments[1:])
    if arguments[:1] == ["bench"]:
        from lossd.bench.command import main as bench

        return bench(arguments[1:])
    if arguments[:1] in (["certificates"], ["token"]):
        from lossd.command_line import identity_commands

        return (identity_commands.token if arguments[0] == "token" else identity_commands.certificates)(arguments[1:])
    if arguments[:1] == ["errors"]:
        from lossd.command_line.reason_command import explain

        return explain(arguments[1:])
    if arguments[:1] == ["completion"]:
        from lossd.command_line.completion_command import complete

        return complete(arguments[1:])
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 0
    return {"health": _health, "info": _info, "proto": _proto}[parsed.command](parsed)


def _parser() -> argparse.ArgumentParser:
    from lossd import __version__
    from lossd.command_line.parser import CommandParser, seconds

    parser = CommandParser(
        prog="lossd",
        usage="lossd COMMAND [options]",
        description="Computes losses and their gradients over gRPC.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--version", action="version", version=f"lossd {__version__}", help="print the version and exit"
    )
    commands = parser.add_subparsers(prog="lossd", dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="run a server (needs the extra lossd[server])")
    commands.add_parser("warmup", help="compile the server's kernels, once for this machine")
    commands.add_parser("eval", help="compute the loss of files: .npy, .npz, .safetensors, .csv, .tsv, .parquet")
    commands.add_parser("bench", help="measure a server's throughput and latency, and check every answer")
    commands.add_parser("certificates", help="make certificates to try TLS out")
    commands.add_parser("token", help="make a token for a caller, and its line in the server's file")
    commands.add_parser("errors", help="explain the reason of an error")
    commands.add_parser("completion", help="print a script by which bash, zsh or fish completes lossd")
    server = CommandParser(add_help=False)
    server.add_argument(
        "--server",
        metavar="ADDRESS",
        default=os.environ.get("LOSSD_SERVER") or DEFAULT_SERVER,
        help="the server's address, host:port, several with commas between, or unix:path (default: LOSSD_SERVER if set,"
        f" else {DEFAULT_SERVER})",
    )
    server.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=5.0,
        help="seconds to wait for the answer (default: %(default)g)",
    )
    add_credential_flags(server)
    commands.add_parser(
        "health",
        parents=[server],
        usage="lossd health [--server ADDRESS] [--timeout SECONDS]",
        help="ask a server whether it accepts calls",
        description="Asks a server whether it accepts calls (grpc.health.v1). Exit status: 0 if it does, 1 if not.",
    )
    info = commands.add_parser(
        "info",
        parents=[server],
        usage="lossd info [--server ADDRESS] [--timeout SECONDS] [--json]",
        help="print a server's version, device, limits and counters",
        description="Prints a server's version, device, limits and counters.",
    )
    info.add_argument("--json", action="store_true", help="print one JSON object, with sizes in bytes")
    proto = commands.add_parser(
        "proto",
        usage="lossd proto DIR",
        help="write the contract's .proto files, for a client in another language",
        description="Writes lossd's .proto files, and those of google.rpc that errors are made of, for any compiler:\n"
        "protoc -I DIR … lossd/v1/service.proto. Files of these names are overwritten.",
    )
    proto.add_argument("folder", metavar="DIR", type=Path, help="where to: it is made if it is not there")
    return parser


def _serve(arguments: Sequence[str]) -> int:
    try:
        from lossd_server.serve import main as serve

        return int(serve(arguments) or 0)
    except ModuleNotFoundError as error:
        from lossd.extras import install_hint

        print(f"lossd serve needs the server's libraries: {install_hint('server')} ({error})", file=sys.stderr)
        return 1


def _warm_up(arguments: Sequence[str]) -> int:
    try:
        from lossd_server.warmup import main as warm_up

        return int(warm_up(arguments))
    except ModuleNotFoundError as error:
        from lossd.extras import install_hint

        print(f"lossd warmup needs the server's libraries: {install_hint('server')} ({error})", file=sys.stderr)
        return 1


def _health(parsed: argparse.Namespace) -> int:
    import lossd

    try:
        with lossd.Client(parsed.server, connect_timeout=parsed.timeout, **given_credentials(parsed)) as client:
            serving = client.health(timeout=parsed.timeout)
    except lossd.Error as error:
        print(f"not serving: {error_text(error)}", file=sys.stderr)
        return 1
    print("serving" if serving else "not serving")
    return 0 if serving else 1


def _info(parsed: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    import lossd

    try:
        with lossd.Client(parsed.server, connect_timeout=parsed.timeout, **given_credentials(parsed)) as client:
            told = client.info(timeout=parsed.timeout)
    except lossd.Error as error:
        print(f"lossd info: {error_text(error)}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(told)) if parsed.json else "\n".join(_info_lines(told)))
    return 0


def _proto(parsed: argparse.Namespace) -> int:
    from lossd.command_line.contract_files import write_contract

    try:
        written = write_contract(parsed.folder)
    except OSError as error:
        print(f"lossd proto: {error.filename} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(*written, sep="\n")
    return 0


def _info_lines(told: ServerInfo) -> list[str]:
    """A name and a value each, with units."""
    from dataclasses import asdict

    values = asdict(told)
    caller = {f"caller_{name}": value or "none of its own" for name, value in values["limits"].pop("caller").items()}
    values["limits"] |= caller
    found = []
    for name, value in values.items():
        for label, one in value.items() if isinstance(value, dict) else ((name, value),):
            found.append(f"{label:<28} {_readable(label, one)}")
    return found


def _readable(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if name.endswith("_bytes") and isinstance(value, int):
        return _size(value)
    if name.endswith("_s") and isinstance(value, float):
        return _duration(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _size(nbytes: int) -> str:
    """In the largest unit of which there is at least one; two decimals where it does not come out even."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if nbytes >= unit:
            return f"{nbytes // unit:,} {name}" if nbytes % unit == 0 else f"{nbytes / unit:,.2f} {name}"
    return f"{nbytes} B"


def _duration(seconds: float) -> str:
    """Seconds up to ten minutes; beyond, the two largest units."""
    if seconds <= 600:
        return f"{seconds:.4g} s"
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"
