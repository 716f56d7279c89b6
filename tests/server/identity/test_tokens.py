"""The file of tokens: its lines, its faults, and that it is read again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lossd import cli
from lossd.command_line.token_line import add_token, token_line
from lossd_server.call.identity import Identity
from lossd_server.config.settings import SettingsError
from lossd_server.errors import Unauthenticated
from lossd_server.identity.callers import REMEMBERED, Callers
from lossd_server.identity.token_file import read_tokens
from tests.server.identity.conftest import no_descriptors

HASH = "sha256:" + "a" * 64


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("lossd-request-bytes", "1"), ("authorization", f"Bearer {token}"))


def test_lines(tmp_path: Path) -> None:
    """Names, limits with units, comments, certificates; a second token of a name has its first line's limits."""
    path = tmp_path / "tokens"
    path.write_text(
        f"# who may call\n\n{token_line('a', 'one')} max_inflight_requests=64 max_streams=2  # of team A\n"
        f"{token_line('a', 'two')}\nhost-7.example: certificate max_inflight_requests=3\n"
    )
    tokens = read_tokens(str(path))

    a = Identity("a", max_inflight_requests=64, max_streams=2)
    assert tokens.of_token("one") == tokens.of_token("two") == a
    assert tokens.of_token("three") is None
    assert tokens.by_subject == {"host-7.example": Identity("host-7.example", max_inflight_requests=3)}


FAULTS = {
    "": "names nobody",
    "# nothing\n": "names nobody",
    "trainer\n": "line 1: expected",
    f"a: {HASH}\nb {HASH}\n": "line 2: expected",
    "trainer: hunter2\n": "neither sha256: with 64 hexadecimal digits",
    f"a: {HASH[:-1]}\n": "neither sha256:",
    f"a b: {HASH}\n": "expected",
    f"-a: {HASH}\n": "is no name",
    f"a: {HASH} max_bytes=1\n": "'max_bytes' is no limit: there are max_inflight_requests",
    f"a: {HASH} max_streams=0\n": "must be a number above 0",
    f"a: {HASH} max_streams=1.5\n": "must be a number above 0",
    f"a: {HASH} max_inflight_requests=lots\n": "must be a number above 0",
    f"a: {HASH} max_streams={2**31}\n": "must be a number above 0",
    "a: \xff\n": "is not UTF-8",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults(text: str, tmp_path: Path) -> None:
    """A sentence names the file, the line and what was expected; it shows no secret."""
    path = tmp_path / "tokens"
    path.write_text(text, encoding="latin-1")

    with pytest.raises(SettingsError) as caught:
        read_tokens(str(path))
    assert FAULTS[text] in str(caught.value)
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value).replace(str(path), "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is named."""
    with pytest.raises(SettingsError, match="nowhere' cannot be read: No such file"):
        read_tokens(str(tmp_path / "nowhere"))


def test_the_command_adds_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the token alone; the file, which is its owner's, has the hash and keeps what it had."""
    path = tmp_path / "tokens"
    assert cli.main(["token", "first", str(path)]) == 0
    first = capsys.readouterr().out.strip()
    path.write_text(path.read_text().rstrip("\n"))  # as an editor may leave it
    assert cli.main(["token", "second", str(path)]) == 0
    second = capsys.readouterr().out.strip()
    tokens = read_tokens(str(path))

    assert (tokens.of_token(first), tokens.of_token(second)) == (Identity("first"), Identity("second"))
    assert first not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cli.main(["token", "not a name", str(path)]) == 2
    assert cli.main(["token", "a", str(tmp_path)]) == 1


def test_a_file_that_changes(tmp_path: Path) -> None:
    """New tokens are taken, ended ones are not; a file with a fault changes nothing until it is mended."""
    path = tmp_path / "tokens"
    old = add_token("a", path)
    callers = Callers(str(path), certificates=False)
    assert callers.identify(bearer(old), "") == Identity("a")
    new = add_token("b", path)
    with pytest.raises(Unauthenticated):
        callers.identify(bearer(new), "")
    callers.look()
    assert callers.identify(bearer(new), "") == Identity("b")

    for broken in ("nonsense\n", None):
        path.write_text(broken) if broken else os.unlink(path)
        callers.look()
        assert callers.identify(bearer(old), "") == Identity("a")
    path.write_text(token_line("b", new) + "\n")
    callers.look()

    assert callers.identify(bearer(new), "") == Identity("b")
    with pytest.raises(Unauthenticated):
        callers.identify(bearer(old), "")


def test_a_file_that_changes_while_descriptors_are_short(tmp_path: Path) -> None:
    """A token that is taken away while nothing can be opened has ended as soon as something can."""
    path = tmp_path / "tokens"
    gone = add_token("a", path)
    callers = Callers(str(path), certificates=False)
    path.write_text(token_line("b", "another") + "\n")
    with no_descriptors():
        callers.look()
        assert callers.identify(bearer(gone), "") == Identity("a")
    callers.look()

    with pytest.raises(Unauthenticated):
        callers.identify(bearer(gone), "")


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """Callers with many certificates, or tokens that are wrong, leave nothing behind that grows."""
    callers = Callers("", certificates=True)
    for number in range(3 * REMEMBERED):
        assert callers.identify((), f"host-{number}").name == f"host-{number}"
        with pytest.raises(Unauthenticated):
            callers.identify(bearer(str(number)), "")

    assert len(callers._known) <= REMEMBERED
