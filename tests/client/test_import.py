"""What the thin install costs."""

from __future__ import annotations

import json

import pytest

import lossd
from lossd.extras import install_hint
from tests.client.programs import run

USES = ["import lossd", "import lossd; lossd.Client; lossd.aio.Client", "import lossd.cli; lossd.cli._parser()"]


@pytest.mark.parametrize("use", USES)
def test_nothing_heavy_is_imported(use: str) -> None:
    """Neither torch, numba, the server nor what only extras bring."""
    heavy = {"torch", "triton", "numba", "lossd_server", "rich", "ml_dtypes"}

    done = run(f"{use}\nimport sys, json; print(json.dumps(sorted(sys.modules)))")

    assert done.stderr == ""
    assert heavy & set(json.loads(done.stdout)) == set()


def test_the_client_is_imported_in_half_a_second() -> None:
    """The best of three fresh interpreters, numpy, grpc and protobuf included."""
    timed = "import time; t = time.perf_counter(); import lossd; lossd.Client; print(time.perf_counter() - t)"

    assert min(float(run(timed).stdout) for _ in range(3)) < 0.5


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
    serve = run("import sys; sys.modules['numba'] = None; import lossd.cli; sys.exit(lossd.cli.main(['serve']))")

    assert (serve.returncode, serve.stderr.count("\n")) == (1, 1)
    assert install_hint("server") in serve.stderr
