"""What the thin install costs."""

from __future__ import annotations

import json
import sys

import pytest

import lossd
from lossd.extras import install_hint
from tests.client.programs import run

USES = ["import lossd", "import lossd; lossd.Client; lossd.aio.Client", "import lossd.cli; lossd.cli._parser()"]


@pytest.mark.parametrize("use", USES)
def test_nothing_heavy_is_imported(use: str) -> None:
    """Neither torch, numba, the server nor what only extras bring."""
    heavy = {"torch", "triton", "numba", "lossd_server", "rich", "ml_dtypes", "opentelemetry"}

    done = run(f"{use}\nimport sys, json; print(json.dumps(sorted(sys.modules)))")

    assert done.stderr == ""
    assert heavy & set(json.loads(done.stdout)) == set()


# What takes longest to import of Python's own library, and of ours what only commands, PyTorch's users or the
# asynchronous client need.
SLOW = {"argparse", "asyncio", "email", "http", "multiprocessing", "ssl", "subprocess", "tomllib", "xml"}
OTHERS = {"aio", "bench", "cli", "command_line", "evaluation", "reasons", "torch"}


def test_the_client_brings_little_beside_what_it_is_made_of() -> None:
    """Those take 0.16 s of its 0.29. It imports no other library, nothing slow of Python's that those do without, and
    nothing of lossd that only others need."""
    libraries = "import numpy, grpc, google.protobuf.descriptor_pool, google.rpc.error_details_pb2"
    listed = "import sys, json; print(json.dumps(sorted(sys.modules)))"
    before = set(json.loads(run(f"{libraries}; {listed}").stdout))
    brought = set(json.loads(run(f"import lossd; lossd.Client; {listed}").stdout)) - before

    folders = {name.partition(".")[0] for name in brought}
    assert folders - set(sys.stdlib_module_names) - {name.partition(".")[0] for name in before} == {"lossd"}
    assert folders & SLOW == set()
    assert {name.split(".")[1] for name in brought if name.startswith("lossd.")} & OTHERS == set()


def test_public_names_are_there() -> None:
    """Each name of __all__ can be had; what completion lists is no other, whatever was imported meanwhile."""
    assert all(getattr(lossd, name) is not None for name in lossd.__all__)
    assert dir(lossd) == sorted(lossd.__all__)
    assert dir(lossd.aio) == ["Client"]
    assert lossd.aio.Client.__name__ == "Client"
    with pytest.raises(AttributeError, match="module 'lossd' has no attribute 'nothing'"):
        lossd.nothing  # noqa: B018  # the access is what is tested


def test_a_missing_server_is_said_in_a_sentence() -> None:
    """What to install, and for what."""
    hidden = "import sys; sys.modules['lossd_server'] = None\n"

    embedded = run(f"{hidden}import lossd\ntry: lossd.Client('embedded')\nexcept ImportError as error: print(error)")
    serve = run(f"{hidden}import lossd.cli; sys.exit(lossd.cli.main(['serve']))")

    assert embedded.stdout.startswith(f"an embedded server needs the server's libraries: {install_hint('server')} (")
    assert serve.returncode == 1
    assert serve.stderr.startswith(f"lossd serve needs the server's libraries: {install_hint('server')} (")


def test_a_missing_pytorch_is_said_in_a_sentence() -> None:
    """By `import lossd.torch`, and by `lossd.torch` itself."""
    for use in ("import lossd.torch", "import lossd; lossd.torch.set_client(None)"):
        hidden = "import sys; sys.modules['torch'] = None\n"
        done = run(f"{hidden}try:\n    {use}\nexcept ImportError as error: print(error)")

        assert done.stdout.startswith(f"lossd.torch needs PyTorch: {install_hint('torch')} (")


def test_a_missing_library_of_the_server_is_said_in_a_sentence() -> None:
    """Of an install without extras: the package lossd_server is there, numba is not."""
    command = ["serve", "--listen", "127.0.0.1:0"]
    serve = run(f"import sys; sys.modules['numba'] = None; import lossd.cli; sys.exit(lossd.cli.main({command}))")

    assert (serve.returncode, serve.stderr.count("\n")) == (1, 1)
    assert install_hint("server") in serve.stderr
