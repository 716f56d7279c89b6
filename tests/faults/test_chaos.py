"""The chaos program: a short run against this server, and what it says of an edge that lies."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from chaos.load import LOOK_S, Draw, Load, Spec
from chaos.operations import digest, table
from chaos.routes import Route
from chaos.truth import expected
from chaos.watch import Watch

import lossd
from lossd.results import Result, Summary, Timing
from tests.server.server_process import SOURCES, environment, process

SEED = 11
MOST_BYTES = 1_200_000


def test_a_short_run(tmp_path: Path) -> None:
    """Thousands of operations while servers, clients, connections and files fail: none wrong, none hung, no leak."""
    paths = environment()["PYTHONPATH"] + f":{SOURCES / 'tools'}"
    command = [sys.executable, "-m", "chaos", "--seed", str(SEED), "--seconds", "3", "--operations", "2000"]
    command += ["--most-bytes", str(MOST_BYTES), "--servers", "plain,tls", "--clients", "1", "--keep", str(tmp_path)]
    done = subprocess.run(
        command, env=environment() | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=280, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 wrong, 0 hung, 0 left or leaked" in done.stdout


@contextmanager
def flipping(address: str, pattern: bytes) -> Iterator[str]:
    """An address whose answers are those of `address`, but that each `pattern` in them has another last bit."""
    host, _, port = address.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    other = pattern[:-1] + bytes([pattern[-1] ^ 1])

    def pump(one: socket.socket, two: socket.socket, flips: bool) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                two.sendall(data.replace(pattern, other) if flips else data)
            two.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, far = listener.accept()[0], socket.create_connection((host, int(port)))
                for one, two, flips in ((near, far, False), (far, near, True)):
                    threading.Thread(target=pump, args=(one, two, flips), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def load_of(route: Route, right: tuple[str, ...]) -> Load:
    return Load(Spec("client", str(SEED), SEED, 0, (route,), right, frozenset()))


def outcomes(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, int]]:
    return [(one["outcome"], one["number"]) for one in map(json.loads, capsys.readouterr().out.splitlines())]


def test_a_wrong_byte(capsys: pytest.CaptureFixture[str]) -> None:
    """An answer of which one bit changed on the way is wrong, by each way that it is asked for."""
    operations = table(SEED, 0)
    one = next(one for one in operations if one.method == "cross_entropy" and one.options["reduction"] == "none")
    with process("--listen", "127.0.0.1:0") as (_, address), lossd.Client(address) as client:
        direct = Route("tcp", "plain", address)
        right = expected(client, operations, direct)
        answer = getattr(client, one.method)(*one.operands, **one.options)
        with flipping(address, answer.loss.tobytes()) as lying:
            for through in (direct, Route("tcp", "plain", lying)):
                load = load_of(through, right)
                with lossd.Client(through.address) as asking:
                    for way in ("small", "map"):
                        draw = Draw(through, (one,), way)
                        if way == "map":
                            found = list(asking.map(one.method, [one.item], errors="yield"))
                        else:
                            found = getattr(asking, one.method)(*one.operands, **one.options)
                        load.answered(draw, load.begin(draw), found)

    assert outcomes(capsys) == [("right", one.number)] * 2 + [("wrong", one.number)] * 2


def test_a_hung_operation(capsys: pytest.CaptureFixture[str]) -> None:
    """One that is not over when its bound is, is recorded, and is no answer any more if it ends after all."""
    now = 0.0
    operations = table(SEED, 0)
    route = Route("tcp", "plain", "127.0.0.1:1")
    load = load_of(route, tuple("" for _ in operations))
    load.watch = Watch(lambda: now, LOOK_S)
    draw = Draw(route, (operations[0],), "small", timeout_s=1.0)
    begun = load.begin(draw)
    while now < 2 * draw.bound_s:
        now += LOOK_S
        load.look()
    load.answered(draw, begun, None)

    assert load.hung
    assert outcomes(capsys) == [("hung", 0)]


def test_the_load_of_a_seed() -> None:
    """The same seed draws the same operations, ways and ends."""

    def drawn(seed: str) -> list[tuple[int, str, str, float]]:
        route = Route("tcp", "plain", "127.0.0.1:1", shared=True)
        load, rng = load_of(route, ()), Random(seed)
        draws = [load.draw(route, rng, cancels=True) for _ in range(200)]
        return [(one.operation.number, one.way, one.ours, one.timeout_s) for one in draws]

    assert drawn("7") == drawn("7")
    assert drawn("7") != drawn("8")


def test_every_byte_counts() -> None:
    """A digest changes with any value, gradient, auxiliary output or denominator."""
    arrays = [np.ones(3, np.float32) for _ in range(3)]
    loss, gradient, output = arrays
    summary = Summary(loss_sum=3.0, weight_sum=3.0, count=3)
    result = Result(loss, summary, Timing(0.0, 0.0, 1, 3, 0.0), {"input": gradient}, {"lse": output})
    seen = [digest(result)]
    for array in arrays:
        array.view(np.uint8)[0] ^= 1
        seen.append(digest(result))
    others = (replace(summary, loss_sum=3.5), replace(summary, weight_sum=2.0), replace(summary, count=2))
    seen += [digest(replace(result, summary=other)) for other in others]

    assert len(set(seen)) == 7
