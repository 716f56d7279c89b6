"""lossd's HTTP/2, held to mean the same however bytes are cut, and to end in order whatever they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.frames import kept, run


@pytest.mark.parametrize("data", kept(), ids=bytes.hex)
def test_what_was_found(data: bytes) -> None:
    """What a fuzzer found worth keeping."""
    run(data)


@settings(max_examples=1000, deadline=None)
@given(data=st.binary(max_size=120))
def test_anything(data: bytes) -> None:
    """Anything else."""
    run(data)
