"""The image of the server by itself, as `docker run` starts it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import lossd
from tests.containers.engine import Engine
from tests.waiting import until

CONFINED = (
    "--init",
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--publish=127.0.0.1::50051",
)
SERVE = ("lossd", "serve", "--listen", "0.0.0.0:50051", "--insecure")


@contextmanager
def serving(engine: Engine, image: str, *flags: str) -> Iterator[tuple[str, str]]:
    """A container that answers, and its address on this host."""
    container = engine.run("run", "--detach", *CONFINED, *flags, image, *SERVE).strip()
    try:
        # The port is the engine's from the first moment on, and the server's once it is ready.
        until(lambda: "listening on" in engine.run("logs", container), "a server that listens")
        yield container, engine.run("port", container, "50051").strip()
    finally:
        engine.run("rm", "--force", container)


def test_a_server_answers_and_ends(engine: Engine, images: dict[str, str], measured: list[tuple[str, str]]) -> None:
    """It answers from a read-only root, and on SIGTERM its exit status is 0."""
    start = time.monotonic()
    with serving(engine, images["cpu"]) as (container, address):
        with lossd.Client(address) as client:
            assert client.health()
            measured.append(("`docker run` to ready", f"{time.monotonic() - start:.1f} s"))
            loss = client.cross_entropy([[0.0, 0.0]], [0]).loss
        start = time.monotonic()
        engine.run("stop", "--time=40", container)
        measured.append(("`docker stop`", f"{time.monotonic() - start:.1f} s"))
        state = engine.inspect(container)["State"]

        assert float(loss) == pytest.approx(0.6931471805599453)
        assert state["ExitCode"] == 0
        assert not state["OOMKilled"]


def test_nothing_is_roots_or_can_be_written(engine: Engine, images: dict[str, str]) -> None:
    """The user is 10001, no process has a capability, and only /tmp can be written."""
    with serving(engine, images["cpu"]) as (container, _):
        user = engine.run("exec", container, "id", "-u").strip()
        status = engine.run("exec", container, "grep", "CapEff", "/proc/1/status").split()
        engine.run("exec", container, "touch", "/tmp/file")

        assert user == "10001"
        assert int(status[1], 16) == 0
        for path in ("/file", "/opt/lossd/file", "/usr/local/bin/file"):
            with pytest.raises(subprocess.CalledProcessError):
                engine.run("exec", container, "touch", path)


def test_any_user_will_do(engine: Engine, images: dict[str, str]) -> None:
    """Platforms that choose the user themselves may."""
    with serving(engine, images["cpu"], "--user=4321:4321") as (container, _):
        assert engine.run("exec", container, "id", "-u").strip() == "4321"


def test_no_secret_is_in_the_image(engine: Engine, images: dict[str, str]) -> None:
    """Keys stay outside of what is built from. There is neither pip in lossd's environment nor a compiler."""
    found = engine.run(
        "run",
        "--rm",
        "--entrypoint=sh",
        images["demo"],
        "-c",
        "find / -xdev -name '*.key' -newer /opt/lossd/bin/python 2>/dev/null; ls /opt/lossd/bin; command -v gcc",
        check=False,
    ).split()

    assert "lossd" in found
    assert not [name for name in found if name.endswith(".key") or name in ("pip", "/usr/bin/gcc")]
