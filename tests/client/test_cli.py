"""The `lossd` command."""

from __future__ import annotations

import json
import socket

import pytest

import lossd
from lossd import cli
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


def test_info_as_json(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """One object with the fields of ServerInfo."""
    assert cli.main(["info", "--server", server.address, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(lossd.ServerInfo.__slots__)


def test_info_as_lines(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """A name and a value each, limits and statistics among them."""
    assert cli.main(["info", "--server", server.address]) == 0

    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert (lines["version"], lines["losses"], lines["max_message_bytes"]) == ("0.0", "BCE", "16777216")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["info", "--server"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse's, with the usage line."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: lossd")


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
