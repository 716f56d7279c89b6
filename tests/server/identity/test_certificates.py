"""Certificates: read again when they change, for new connections, while those that are open go on."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

from lossd import cli
from lossd_server.config.settings import FRONTS, Settings, SettingsError
from lossd_server.identity.certificates import CertificateFiles, Certificates
from lossd_server.server import Server
from tests.credentials import Pki
from tests.server.edge import EdgeBackend
from tests.server.identity.conftest import no_descriptors
from tests.server.server_process import run
from tests.waiting import until_awaited

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
CHECK = "/grpc.health.v1.Health/Check"


async def answers(channel: Any) -> bool:
    try:
        await channel.unary_unary(CHECK)(b"", timeout=10.0)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        return False
    return True


@LOOPS
@pytest.mark.parametrize("front", FRONTS)
def test_files_that_are_replaced(
    front: str, loop: Callable[[], asyncio.AbstractEventLoop], pki: Pki, tmp_path: Path
) -> None:
    """New connections have the new certificate and the new authority of clients; the open one is not dropped."""
    before = Pki(tmp_path / "before")
    shutil.copytree(pki.folder, before.folder)

    async def body() -> None:
        given: dict[str, Any] = {**pki.serving, "tls_client_ca": pki.ca_pem}
        settings = Settings(listen=("127.0.0.1:0",), front=front, **given)
        server = Server(settings, EdgeBackend())
        (address,) = await server.start()
        try:
            async with before.channel(address, before) as kept:
                assert await answers(kept)
                pki.renew()

                async def renewed() -> bool:
                    async with pki.channel(address, pki) as channel:
                        return await answers(channel)

                await until_awaited(renewed, "new connections have the new certificate")
                assert await answers(kept)
            # Another authority is trusted on either side.
            for shown, trusted in ((before, pki), (pki, before)):
                async with trusted.channel(address, shown) as channel:
                    assert not await answers(channel)
        finally:
            await server.stop(10.0, linger_s=0.0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(body(), 60.0))


def test_files_that_do_not_fit_together_change_nothing(pki: Pki, another_pki: Pki) -> None:
    """While they are replaced one by one, connections have what was before, until the last is there."""
    certificates = Certificates(CertificateFiles(pki.server_pem, pki.server_key, pki.ca_pem))
    assert not certificates.look()
    shutil.copy(another_pki.server_pem, pki.server_pem)
    assert not certificates.look()
    assert not certificates.look()
    shutil.copy(another_pki.server_key, pki.server_key)

    assert certificates.look()
    assert certificates.changes == 1


def test_files_that_change_while_descriptors_are_short(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    """What could not be read is read again at each look, though the files have not changed since, and told of once."""
    certificates = Certificates(CertificateFiles(pki.server_pem, pki.server_key, pki.ca_pem))
    pki.renew()
    with no_descriptors():
        for _ in range(3):
            assert not certificates.look()

    assert certificates.look()
    assert not certificates.look()
    assert [record.message.partition(":")[0] for record in caplog.records] == ["certificates not taken"]


def test_what_was_taken_is_kept(pki: Pki, another_pki: Pki) -> None:
    """Contexts that are made later, as gRPC's library does, have what fitted, whatever the files hold by then."""
    before = [Path(path).read_bytes() for path in (pki.server_pem, pki.server_key, pki.ca_pem)]
    certificates = Certificates(CertificateFiles(pki.server_pem, pki.server_key, pki.ca_pem))
    shutil.copy(another_pki.server_key, pki.server_key)
    certificates.look()

    assert list(certificates.pem) == before


def test_old_versions_of_tls_are_refused(pki: Pki) -> None:
    """1.2 and later are spoken."""
    context = CertificateFiles(pki.server_pem, pki.server_key, "").context()

    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


FAULTS: dict[str, tuple[dict[str, str], str]] = {
    "missing": ({"tls_cert": "/nowhere.pem"}, "tls_cert = '/nowhere.pem': No such file"),
    "no certificate": ({"tls_cert": "{server_key}"}, "tls_cert"),
    "no key": ({"tls_key": "{server_pem}"}, "tls_key"),
    "another's key": ({"tls_key": "{client_key}"}, "this key does not belong to the certificate"),
    "no authority": ({"tls_client_ca": "{server_key}"}, "tls_client_ca"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_named(fault: str, pki: Pki) -> None:
    """Before a port is opened: the setting, the file, and what is the matter."""
    wrong, sentence = FAULTS[fault]
    names = {"server_key": pki.server_key, "server_pem": pki.server_pem, "client_key": pki.client_key}
    given: dict[str, Any] = {**pki.serving, **{key: value.format(**names) for key, value in wrong.items()}}
    settings = Settings(**given)

    with pytest.raises(SettingsError) as caught:
        Server(settings, EdgeBackend())
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"tls_cert": "a"}, "go together"),
        ({"tls_key": "a"}, "go together"),
        ({"tls_client_ca": "a"}, "needs tls_cert"),
        (
            {"listen": ("unix:/a",), "tls_cert": "a", "tls_key": "b", "tls_client_ca": "c"},
            "nobody could call there",
        ),
        ({"listen": ("0.0.0.0:1",)}, "--tls-cert"),
        ({"listen": ("0.0.0.0:1",), "tokens": "a"}, "--tls-cert"),
    ],
)
def test_settings_that_do_not_fit_together(given: dict[str, Any], sentence: str) -> None:
    """Said with what to do."""
    with pytest.raises(SettingsError, match=sentence):
        Settings(**given)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("given", [("--tokens", "/nowhere"), ("--tls-cert", "/nowhere", "--tls-key", "/nowhere")])
def test_a_start_with_files_that_are_not_there(given: tuple[str, ...], workers: str) -> None:
    """Exit status 1 and one sentence, before anything is compiled."""
    ended = run("--listen", "127.0.0.1:0", "--workers", workers, *given)

    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert "No such file" in ended.stderr


def test_the_command_makes_what_the_server_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five files, keys for their owner alone; a name that is none is refused before anything is written."""
    folder = tmp_path / "made"
    assert cli.main(["certificates", str(folder), "--client", "not a name"]) == 2
    assert not folder.exists()
    assert cli.main(["certificates", str(folder), "--name", "lossd.example", "--name", "10.0.0.1"]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert sorted(Path(path).name for path in printed) == sorted(path.name for path in folder.iterdir())
    assert {path.name for path in folder.glob("*") if path.stat().st_mode & 0o077 == 0} == {"server.key", "client.key"}
    CertificateFiles(str(folder / "server.pem"), str(folder / "server.key"), str(folder / "ca.pem")).context()
