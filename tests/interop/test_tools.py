"""HTTP/2 tools, and buf, which knows gRPC by the proto alone, get from either front what they ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message import Message

from lossd.v1.service_pb2 import CrossEntropyResponse, StreamResponse
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.interop.clients import ROOT
from tests.interop.conftest import Served
from tests.interop.python.messages import HALVES, cross_entropy, streamed, told, told_of_stream, wrong
from tests.waiting import WAIT_S, until

SERVICE = "lossd.v1.LossService"
GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")
INVALID_ARGUMENT = 3
Tool = Callable[[str], str]


@pytest.fixture(scope="module")
def tool(every: bool) -> Tool:
    """The path of a program by its name. A test without it is skipped, or fails where nothing may be missing."""

    def path(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
        if found is None:
            (pytest.fail if every else pytest.skip)(f"{name} is not installed")
        return found

    return path


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A file with a message as gRPC frames it."""
    return written(tmp_path, cross_entropy(8, 16))


def written(folder: Path, *messages: Message) -> Path:
    path = folder / "body"
    bodies = [message.SerializeToString() for message in messages]
    path.write_bytes(b"".join(b"\0" + len(one).to_bytes(4) + one for one in bodies))
    return path


def url(served: Served, rpc: str = "CrossEntropy") -> str:
    return f"http://{served.address}/{SERVICE}/{rpc}"


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False, cwd=ROOT)


def answered(data: bytes) -> dict[str, float]:
    """What one framed answer says."""
    assert data[0] == 0
    assert int.from_bytes(data[1:5]) == len(data) - 5
    return told(CrossEntropyResponse.FromString(data[5:]))


@pytest.fixture(scope="module")
def right(served: Served) -> dict[str, float]:
    """What grpcio's client is answered; test_clients has it compared with float64."""
    with grpc.insecure_channel(served.address) as channel:
        return told(LossServiceStub(channel).CrossEntropy(cross_entropy(8, 16)))


@pytest.mark.parametrize("connections", [1, 4])
def test_h2load(served: Served, tool: Tool, body: Path, connections: int) -> None:
    """Under h2load every call is answered, and none by an error."""
    calls = 5000
    before = served.until_idle()
    load = ("-n", f"{calls}", "-c", f"{connections}", "-m", "128")
    done = run(tool("h2load"), *load, "-d", str(body), *GRPC, url(served))

    assert f"{calls} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout.decode()
    assert f"status codes: {calls} 2xx" in done.stdout.decode()
    assert served.until_idle().completed == before.completed + calls


def test_nghttp(served: Served, tool: Tool, body: Path, right: dict[str, float]) -> None:
    """nghttp, which takes HTTP/2 at its word, has the answer's message and gRPC's status behind it."""
    post = (tool("nghttp"), "-d", str(body), *GRPC)
    told_of_frames = run(*post, "-v", "-n", url(served)).stdout.decode(errors="replace")

    assert re.search(r"recv \(stream_id=\d+\) :status: 200", told_of_frames)
    assert re.search(r"recv \(stream_id=\d+\) grpc-status: 0", told_of_frames)
    assert answered(run(*post, url(served)).stdout) == right


def test_nghttp_pads(served: Served, tool: Tool, body: Path, right: dict[str, float]) -> None:
    """Padded frames carry the same."""
    if served.front == "grpcio":
        pytest.skip("gRPC's library takes a frame's padding for a part of the message")
    done = run(tool("nghttp"), "--padding=200", "-d", str(body), *GRPC, url(served))

    assert answered(done.stdout) == right


def test_nghttp_with_much_metadata(served: Served, tool: Tool, body: Path) -> None:
    """A call with 20 KiB of metadata is refused alone."""
    if served.front == "grpcio":
        pytest.skip("gRPC's library refuses some of that size, by chance")
    done = run(tool("nghttp"), "--continuation", "-v", "-n", "-d", str(body), *GRPC, url(served))

    assert b"grpc-status: 8" in done.stdout
    assert b"recv GOAWAY" not in done.stdout


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_curl(served: Served, tool: Tool, body: Path, tmp_path: Path, right: dict[str, float], unix: bool) -> None:
    """curl has the answer's message, gRPC's status behind it, and over a Unix socket the same."""
    out, through = tmp_path / "answer", ("--unix-socket", served.unix.removeprefix("unix:")) if unix else ()
    post = ("--http2-prior-knowledge", "--data-binary", f"@{body}", *GRPC)
    done = run(tool("curl"), "-sS", "-D", "-", "-o", str(out), *through, *post, url(served))

    assert done.returncode == 0
    assert done.stdout.startswith(b"HTTP/2 200")
    assert b"grpc-status: 0\r\n" in done.stdout
    assert answered(out.read_bytes()) == right


def test_curl_without_grpc(served: Served, tool: Tool) -> None:
    """What does not speak gRPC is told so, or refused; the server serves on."""
    done = run(tool("curl"), "-sS", "-i", "--http2-prior-knowledge", f"http://{served.address}/")

    if served.front == "http2":
        assert done.stdout.startswith(b"HTTP/2 405")
        assert b"gRPC" in done.stdout
    else:
        assert b"HTTP/2 stream 1 was not closed cleanly" in done.stderr
    assert served.statistics().uptime_s > 0


def test_curl_with_http_1(served: Served, tool: Tool) -> None:
    """A client of HTTP/1.1 ends with an error, and the server serves on."""
    assert run(tool("curl"), "-sS", f"http://{served.address}/").returncode != 0
    assert served.statistics().uptime_s > 0


def test_client_that_is_killed(served: Served, tool: Tool, tmp_path: Path) -> None:
    """What a client that is gone had open is let go of."""
    served.until_idle()
    post = ("--http2-prior-knowledge", "-X", "POST", "-T", "-", *GRPC)
    with subprocess.Popen([tool("curl"), "-sS", *post, url(served, "Stream")], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(written(tmp_path, *streamed(*HALVES)[:2]).read_bytes())
        child.stdin.flush()
        until(lambda: served.statistics().inflight_bytes > 0, "the server has the stream")
        child.kill()

    assert served.until_idle().inflight_bytes == 0


def buf(tool: Tool, served: Served, rpc: str, data: str, *flags: str) -> subprocess.CompletedProcess[bytes]:
    command = [tool("buf"), "curl", "--protocol", "grpc", *flags, "-d", "@-", url(served, rpc)]
    return subprocess.run(command, input=data.encode(), capture_output=True, timeout=WAIT_S, check=False, cwd=ROOT)


@pytest.mark.parametrize(
    "schema",
    [("--reflect-protocol", "grpc-v1"), ("--reflect-protocol", "grpc-v1alpha"), ("--schema", "proto")],
    ids=["reflection v1", "reflection v1alpha", "proto"],
)
def test_buf(served: Served, tool: Tool, right: dict[str, float], schema: tuple[str, ...]) -> None:
    """buf has the right answer, by the server's reflection or by the proto."""
    done = buf(tool, served, "CrossEntropy", MessageToJson(cross_entropy(8, 16)), *schema)

    assert done.stderr == b""
    assert told(Parse(done.stdout, CrossEntropyResponse())) == right


def test_buf_lists(served: Served, tool: Tool) -> None:
    """buf lists the services."""
    done = run(tool("buf"), "curl", "--protocol", "grpc", "--list-services", f"http://{served.address}")

    assert {"grpc.health.v1.Health", SERVICE} <= set(done.stdout.decode().split())


def test_buf_stream(served: Served, tool: Tool, right: dict[str, float]) -> None:
    """A tensor in blocks has the gradient and the loss of the same in one call."""
    data = "\n".join(MessageToJson(one) for one in streamed(*HALVES))
    done = buf(tool, served, "Stream", data, "--schema", "proto")
    texts = re.split(r"(?<=^\})\n(?=\{)", done.stdout.decode(), flags=re.MULTILINE)

    assert done.returncode == 0
    assert told_of_stream([Parse(one, StreamResponse()) for one in texts], 0) == {**right, "blocks": 2, "code": 0}


def test_buf_error(served: Served, tool: Tool) -> None:
    """A wrong request is refused with its code and details."""
    done = buf(tool, served, "CrossEntropy", MessageToJson(wrong()), "--schema", "proto")
    error = json.loads(done.stderr)

    assert done.returncode == INVALID_ARGUMENT << 3
    assert error["code"] == "invalid_argument"
    assert [one["type"] for one in error["details"]] == [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "google.rpc.RequestInfo",
    ]


def test_buf_large(served: Served, tool: Tool) -> None:
    """16 MiB of logits come in. The gradient does not go out: buf takes 4 MiB."""
    request = cross_entropy(4096, 1024)
    request.ClearField("gradients")
    done = buf(tool, served, "CrossEntropy", MessageToJson(request), "--schema", "proto")

    assert done.stderr == b""
    assert Parse(done.stdout, CrossEntropyResponse()).summary.count == 4096
