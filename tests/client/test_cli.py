"""The `lossd` command."""

from __future__ import annotations

import argparse
import errno
import json
import socket
from collections.abc import Iterator

import pytest

import lossd
from lossd import cli
from lossd.bench import arguments as bench_arguments
from lossd.evaluation import arguments as eval_arguments
from lossd_server.config import flags
from tests.client.stand_in import StandIn


def test_health_of_a_server_that_serves(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0."""
    assert cli.main(["health", "--server", server.address]) == 0
    assert capsys.readouterr().out == "serving\n"


def test_health_of_a_server_that_does_not(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1."""
    server.serving = b"\x08\x02"

    assert cli.main(["health", "--server", server.address]) == 1
    assert capsys.readouterr().out == "not serving\n"


@pytest.mark.parametrize("command", ["health", "info"])
def test_a_server_that_is_not_there_is_said_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, no traceback."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        assert cli.main([command, "--server", address, "--timeout", "0.3"]) == 1

    said = capsys.readouterr()
    assert address in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("command", ["health", "info"])
def test_the_server_of_the_environment_is_asked(
    command: str, server: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by a client without an address; --server comes first."""
    monkeypatch.setenv("LOSSD_SERVER", server.address)
    assert cli.main([command]) == 0

    monkeypatch.setenv("LOSSD_SERVER", "127.0.0.1:1")
    assert cli.main([command, "--server", server.address]) == 0
    assert cli.main([command, "--timeout", "0.1"]) == 1
    assert "nothing listens at 127.0.0.1:1" in capsys.readouterr().err


def test_info_as_json(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """One object with the fields of ServerInfo."""
    assert cli.main(["info", "--server", server.address, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(lossd.ServerInfo.__slots__)


def test_info_as_lines(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """A name and a value each, limits and statistics among them, with units."""
    assert cli.main(["info", "--server", server.address]) == 0

    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert (lines["version"], lines["losses"], lines["max_message_bytes"]) == ("0.0", "BCE", "16 MiB")
    assert lines["uptime_s"].endswith(" s")


SIZES = {
    0: "0 B",
    1023: "1023 B",
    1536: "1.50 KiB",
    16 << 20: "16 MiB",
    (16 << 20) - 4096: "16.00 MiB",
    3 << 30: "3 GiB",
}
DURATIONS = {0.25: "0.25 s", 300.0: "300 s", 601.0: "0 h 10 min", 7380.0: "2 h 3 min", 180000.0: "2 d 2 h"}


@pytest.mark.parametrize("name, value, text", [*(("max_bytes", *one) for one in SIZES.items())])
def test_sizes_have_binary_units(name: str, value: int, text: str) -> None:
    """The largest unit of which there is one; a whole number only where it comes out even."""
    assert cli._readable(name, value) == text


@pytest.mark.parametrize("value, text", DURATIONS.items())
def test_durations_have_two_units_at_most(value: float, text: str) -> None:
    """Seconds up to ten minutes, then hours, then days."""
    assert cli._readable("uptime_s", value) == text


def test_lossd_alone_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0, on stdout."""
    assert cli.main([]) == 0
    assert "print a server's version" in capsys.readouterr().out


WRONG = [["fly"], ["info", "--server"], ["health", "--timeout", "0"], ["eval"], ["bench", "x"], ["serve", "--x"]]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A line of usage, where help is, and the mistake."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)

    assert caught.value.code == 2
    usage, hint, mistake = capsys.readouterr().err.splitlines()
    command = "lossd" if arguments == ["fly"] else f"lossd {arguments[0]}"
    assert usage.startswith("usage: lossd")
    assert hint == f"       {command} --help explains every option"
    assert mistake.startswith(f"{command}: error: ")


PARSERS = {
    "lossd": cli._parser,
    "eval": eval_arguments._parser,
    "bench": bench_arguments._parser,
    "serve": flags._parser,
}


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of a parser and of the commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)


@pytest.mark.parametrize("command", PARSERS)
def test_every_argument_is_explained(command: str) -> None:
    """--help has some words for each."""
    found = [action for action in actions(PARSERS[command]()) if action.dest != "command"]

    assert len(found) > 3
    assert [action.dest for action in found if len((action.help or "").split()) < 3] == []


@pytest.mark.parametrize(
    "error, status, said",
    [
        (
            MemoryError("Unable to allocate 3 PiB"),
            1,
            "lossd info: there is not enough memory (Unable to allocate 3 PiB)\n",
        ),
        (OSError(errno.EMFILE, "Too many open files"), 1, "lossd info: Too many open files\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_a_machine_lacks_is_said_in_a_line(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever command it befalls; no traceback."""

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("lossd.Client", fail)

    assert cli.main(["info"]) == status
    assert capsys.readouterr() == ("", said)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The distribution's."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"lossd {lossd.__version__}\n"


def test_serve_hands_its_flags_to_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Even --help is the server's."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["serve", "--help"])

    assert caught.value.code == 0
    assert "--max-message-bytes" in capsys.readouterr().out
