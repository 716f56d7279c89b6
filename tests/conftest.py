"""What every test may ask for: a backend of each kind."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest

from lossd_server.backends import Backend
from lossd_server.config.settings import FRONTS, Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--front", choices=FRONTS, default="", help="what servers of the tests are reached by")
    parser.addoption("--every-client", action="store_true", help="fail where another language's client is missing")
    parser.addoption("--gpu", action="store_true", help="run the Triton backend on a GPU, not under its interpreter")


def pytest_configure(config: pytest.Config) -> None:
    # Read once, when Triton and torch are imported: before any test module is. torch's tensors are small here and its
    # threads wait for each other: on two busy cores the tests that compare with it would take five times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    front = config.getoption("--front")
    if front:
        (Settings.__init__.__kwdefaults__ or {})["front"] = front  # of every server that names none
        os.environ["LOSSD_FRONT"] = front  # and of those that are started as processes
    # What commands say is the same in a workflow of GitHub's, but for the tests of that.
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        os.environ.pop(name, None)
    if not config.getoption("--gpu"):
        os.environ["TRITON_INTERPRET"] = "1"
    # No example has to be over in time: on a busy machine any may take long.
    hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)
    hypothesis.settings.load_profile("unhurried")


def pytest_collection_finish() -> None:
    """What there is by now stays: thousands of tests and the libraries, which every full collection of garbage would
    look through again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def grpcio_alone(request: pytest.FixtureRequest) -> None:
    """For tests of what lossd's own front does otherwise, which has tests of its own."""
    if Settings().front == "http2":
        pytest.skip("of grpcio's front")


@pytest.fixture(scope="session")
def numba() -> Iterator[Backend]:
    """The CPU backend with two compute threads."""
    from lossd_server.backends.numba import NumbaBackend

    backend = NumbaBackend(2)
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def triton() -> Iterator[Backend]:
    """The GPU backend: under Triton's interpreter unless --gpu."""
    from lossd_server.backends.triton import TritonBackend

    backend = TritonBackend()
    yield backend
    backend.close()


@pytest.fixture(params=["numba", "triton"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn: for tests that are few and small, since the interpreter is slow."""
    found: Backend = request.getfixturevalue(request.param)
    return found
