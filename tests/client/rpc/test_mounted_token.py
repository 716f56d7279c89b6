"""A token in a file: read for each call, so that whoever replaces it needs no new client."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import lossd
from lossd import cli
from lossd.command_line.token_line import add_token
from lossd.rpc.credentials import VARIABLES
from lossd.rpc.mounted_token import MountedToken
from lossd_server.config.settings import Settings
from lossd_server.server import Server
from tests.server.edge import EdgeBackend


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "a folder": made_a_folder,
    "empty": lambda path: path.write_text(""),
    "a line end alone": lambda path: path.write_text("\n"),
    "two tokens": lambda path: path.write_text("one\ntwo\n"),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "no end": lambda path: path.write_text("a" * 20_000),
}

TOLD = r"is what token_file = '.*mounted-token' holds what"
NAMED = r"token_file = '.*mounted-token' (cannot|is|holds)"


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    path = tmp_path / "mounted-token"
    path.write_text("first\n")
    return path


def shown(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


def test_a_call_shows_what_the_file_holds_when_it_begins(mounted: Path) -> None:
    """Written in place, at once and as long as before; or replaced, as Kubernetes does it."""
    file = MountedToken(str(mounted))
    assert file.authorization() == shown("first")
    for token in ("other", "third"):
        mounted.write_text(f"{token}\n")

        assert file.authorization() == shown(token)

    (mounted.parent / "next").write_text("fourth")
    (mounted.parent / "next").replace(mounted)

    assert file.authorization() == shown("fourth")


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_file_without_a_token_is_named(what: str, mounted: Path) -> None:
    """By whoever never had one: the clients before anything is connected, and commands. What it holds is not shown."""
    UNUSABLE[what](mounted)

    async def awaited() -> None:
        async with lossd.aio.Client("127.0.0.1:1", token_file=mounted) as client:
            await client.entropy([0.5, 0.5])

    with lossd.Client("127.0.0.1:1", token_file=mounted) as client:
        for ask in (
            client.info,
            client.health,
            lambda: client.entropy([0.5, 0.5]),
            lambda: list(client.map("entropy", [([0.5, 0.5],)])),
            lambda: client.empty(3),
            lambda: asyncio.run(awaited()),
        ):
            with pytest.raises(lossd.InvalidArgument, match=NAMED) as caught:
                ask()
            assert (caught.value.field, caught.value.reason) == ("token_file", "UNREADABLE_FILE")
            assert "two" not in str(caught.value)


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_file_that_had_one_and_has_none_changes_nothing(what: str, mounted: Path) -> None:
    """Whoever replaces it may leave it so for a moment."""
    file = MountedToken(str(mounted))
    assert file.authorization() == shown("first")
    UNUSABLE[what](mounted)

    assert file.authorization() == shown("first")

    if mounted.is_dir():
        mounted.rmdir()
    mounted.write_text("second")

    assert file.authorization() == shown("second")


def test_a_pickle_has_the_path_alone(mounted: Path) -> None:
    """A token that was read stays where it was read."""
    file = MountedToken(str(mounted))
    file.authorization()

    assert b"first" not in pickle.dumps(file)
    assert "first" not in repr(file)
    assert pickle.loads(pickle.dumps(file)).authorization() == shown("first")


def beside_a_server(tokens: Path, ask: Callable[[str], Any]) -> Any:
    async def body() -> Any:
        server = Server(Settings(listen=("127.0.0.1:0",), tokens=str(tokens)), EdgeBackend())
        (address,) = await server.start()
        try:
            return await asyncio.to_thread(ask, address)
        finally:
            await server.stop(1.0, linger_s=0.0)

    return asyncio.run(body())


def test_the_next_call_shows_the_new_one(mounted: Path) -> None:
    """Of the same clients, on their open connections, by every way to call."""
    tokens = mounted.parent / "tokens"
    right = add_token("trainer", tokens)

    async def awaited(address: str) -> None:
        async with lossd.aio.Client(address, token_file=mounted) as client:
            calls: list[Callable[[], Awaitable[Any]]] = [
                client.info,
                lambda: client.entropy([0.5, 0.5]),
                lambda: client.entropy([[0.5, 0.5]], transport="stream"),
            ]
            for call in calls:
                mounted.write_text("wrong")
                with pytest.raises(lossd.Unauthenticated, match=TOLD):
                    await call()
                mounted.write_text(f"{right}\n")
                await call()

    def ask(address: str) -> None:
        with lossd.Client(address, token_file=mounted) as client:
            calls: list[Callable[[], Any]] = [
                client.info,
                lambda: client.entropy([0.5, 0.5]),
                lambda: client.entropy([[0.5, 0.5]], transport="stream"),
                lambda: list(client.map("entropy", [([0.5, 0.5],)] * 3)),
            ]
            for call in calls:
                mounted.write_text("wrong")
                with pytest.raises(lossd.Unauthenticated, match=TOLD):
                    call()
                mounted.write_text(f"{right}\n")
                call()
        asyncio.run(awaited(address))

    beside_a_server(tokens, ask)


def test_commands(mounted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Take the flag, and the variable."""
    tokens = mounted.parent / "tokens"
    mounted.write_text(add_token("trainer", tokens))

    def ask(address: str) -> None:
        assert cli.main(["info", "--server", address, "--token-file", str(mounted)]) == 0
        assert "trainer" in capsys.readouterr().out
        assert cli.main(["health", "--server", address, "--token-file", str(mounted.parent / "missing")]) == 1
        assert "token_file = " in capsys.readouterr().err
        monkeypatch.setenv("LOSSD_TOKEN_FILE", str(mounted))
        assert cli.main(["health", "--server", address]) == 0
        assert cli.main(["info", "--server", address]) == 0
        assert "trainer" in capsys.readouterr().out

    beside_a_server(tokens, ask)
