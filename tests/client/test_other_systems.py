"""The thin client where Python has less than on Linux: what Windows and macOS lack is taken away, and calls go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.programs import run
from tests.server.server_process import process

# Imported first, since they look at the system themselves; what is taken away then is not there for lossd.
BARE = """
    import asyncio, atexit, concurrent.futures.thread, json, multiprocessing, pickle, platform, tempfile, threading
    import functools, mmap, os, select, selectors, signal, socket, ssl, subprocess, sys, weakref, argparse, queue
    import grpc, grpc.aio, numpy as np, google.protobuf.any_pb2, google.rpc.error_details_pb2, google.rpc.status_pb2

    MODULES = {"windows": ("fcntl", "grp", "posix", "pwd", "resource", "termios", "uvloop"), "macos": ("uvloop",)}
    NAMES = {
        os: {
            "windows": (
                "fork", "forkpty", "register_at_fork", "memfd_create", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "getuid",
                "geteuid", "getgid", "sched_getaffinity", "sysconf", "posix_fallocate", "pread", "preadv", "uname",
                "mkfifo", "killpg", "setsid", "statvfs", "chown", "fchmod", "getloadavg", "WNOHANG", "eventfd", "nice",
            ),
            "macos": ("memfd_create", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "sched_getaffinity", "posix_fallocate",
                      "eventfd"),
        },
        socket: {
            "windows": ("AF_UNIX", "send_fds", "recv_fds", "SOCK_SEQPACKET", "SOCK_CLOEXEC", "SO_REUSEPORT",
                        "MSG_DONTWAIT", "SCM_RIGHTS", "CMSG_SPACE", "MSG_CMSG_CLOEXEC"),
            "macos": ("SOCK_SEQPACKET", "SOCK_CLOEXEC", "MSG_CMSG_CLOEXEC"),
        },
        signal: {
            "windows": ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGCHLD", "pthread_sigmask",
                        "setitimer", "sigwait"),
            "macos": (),
        },
        mmap: {"windows": ("MAP_SHARED", "MAP_PRIVATE", "PROT_READ", "PROT_WRITE"), "macos": ("MAP_POPULATE",)},
        select: {"windows": ("epoll", "poll", "kqueue"), "macos": ("epoll",)},
    }

    # An event loop of this system needs it for itself.
    socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)

    def take_away(system):
        for name in MODULES[system]:
            sys.modules[name] = None
        for module, names in NAMES.items():
            for name in names[system]:
                if hasattr(module, name):
                    delattr(module, name)
        for name in [one for one in vars(socket.socket) if one in ("recvmsg", "sendmsg")]:
            if system == "windows":
                delattr(socket.socket, name)
        sys.platform = {"windows": "win32", "macos": "darwin"}[system]

    system, address = sys.argv[1:]
    take_away(system)
    import lossd, lossd.aio

    X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    Y = [0, 1, 2]
    LARGE = np.zeros((2048, 1024), np.float32)

    def refused(call, kind, words):
        try:
            call()
        except kind as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"not refused: {words}")
"""
BLOCKING = """
    with lossd.Client(address) as client:
        one = client.cross_entropy(X, Y, grad=True)
        assert one.grad.shape == X.shape
        assert float(client.cross_entropy(X, Y, transport="stream")) == float(one)
        assert [float(r) for r in client.map("cross_entropy", [(X, Y)] * 5)] == [float(one)] * 5
        assert abs(float(client.entropy(LARGE, kind="logits")) - np.log(1024)) < 1e-5
        assert abs(float(client.entropy(LARGE, kind="logits", transport="stream")) - np.log(1024)) < 1e-5
        assert client.softmax(X).shape == X.shape
        array = client.empty((1024, 1024))
        array[:] = 0
        assert abs(float(client.entropy(array, kind="logits")) - np.log(1024)) < 1e-5
        assert client.health() and client.info().workers == 1
        with pickle.loads(pickle.dumps(client)) as other:
            assert float(other.cross_entropy(X, Y)) == float(one)
        refused(lambda: client.cross_entropy(X, [0, 1, 9]), lossd.InvalidArgument, "target[2] = 9")
        refused(lambda: client.cross_entropy(X, Y, reduction="meen"), lossd.InvalidArgument, "'mean'")
        refused(lambda: client.entropy(X, transport="shared_memory"), lossd.InvalidArgument, "socket")
        refused(lambda: client.entropy(X, timeout=-1), lossd.InvalidArgument, "timeout must be")
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/x.npy", LARGE)
            mapped = np.load(f"{folder}/x.npy", mmap_mode="r")
            assert abs(float(client.entropy(mapped, kind="logits")) - np.log(1024)) < 1e-5
            del mapped
    refused(lambda: client.entropy(X), lossd.Unavailable, "this client is closed")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
        with lossd.Client(nobody, connect_timeout=0.1) as client:
            refused(lambda: client.entropy(X), lossd.Unavailable, f"nothing listens at {nobody}")
    print("done")
"""
AWAITABLE = """
    async def main():
        async with lossd.aio.Client(address) as client:
            calls = [client.cross_entropy(X, Y) for _ in range(32)]
            losses = {float(one) for one in await asyncio.gather(*calls)}
            losses.add(float(await client.cross_entropy(X, Y, transport="stream")))
            losses |= {float(r) async for r in client.map("cross_entropy", [(X, Y)] * 5)}
            assert len(losses) == 1
            array = await client.empty((1024, 1024))
            array[:] = 0
            assert abs(float(await client.entropy(array, kind="logits")) - np.log(1024)) < 1e-5
            assert await client.health()
    asyncio.run(main())
    asyncio.run(main())
    print("done")
"""
COMMANDS = """
    from lossd.cli import main
    assert main(["health", "--server", address]) == 0
    assert main(["info", "--server", address]) == 0
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", X)
        np.save(f"{folder}/y.npy", np.array(Y))
        files = ["--input", f"{folder}/x.npy", "--target", f"{folder}/y.npy"]
        assert main(["eval", "cross_entropy", *files, "--json", "--server", address]) == 0
    print("done")
"""
SOCKETS = """
    if system == "windows":
        refused(lambda: lossd.Client("unix:/tmp/x"), lossd.InvalidArgument, "does not have on this system")
        refused(lambda: lossd.aio.Client("unix:/tmp/x"), lossd.InvalidArgument, "give host:port")
    print("done")
"""


USES = {"blocking": BLOCKING, "awaitable": AWAITABLE, "commands": COMMANDS, "unix": SOCKETS}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with process("--listen", "127.0.0.1:0") as (_, address):
        yield address


@pytest.mark.parametrize("system", ["windows", "macos"])
@pytest.mark.parametrize("use", USES)
def test_calls_and_their_errors_need_nothing_of_linux(address: str, system: str, use: str) -> None:
    """Against a real server over TCP, in a process where what that system lacks is taken away before `import lossd`."""
    done = run(BARE + USES[use], system, address)

    assert (done.stdout.splitlines()[-1:], done.stderr, done.returncode) == (["done"], "", 0)
