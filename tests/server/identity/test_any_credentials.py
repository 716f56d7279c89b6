"""Whatever is shown, or written into a file of tokens: it is somebody, or a refusal in one line."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from lossd.command_line.token_line import token_line
from lossd_server.call.contract import Metadata
from lossd_server.call.identity import Identity
from lossd_server.config.settings import SettingsError
from lossd_server.errors import Unauthenticated
from lossd_server.identity.callers import Callers
from lossd_server.identity.token_file import Tokens, read_tokens
from lossd_server.wire.status import status_message

TOKEN = "the-token-of-the-test"
WORDS = st.sampled_from(
    [
        *("a:", "b:", "sha256:" + "0" * 64, "sha256:", "certificate", "max_streams=4", "max_streams=", "=", "#", ":"),
        *("\0", "\x85", "\r", "max_inflight_requests=99999999999999999999", "max_streams=\u0664", "name"),
    ]
)
LINES = st.lists(st.lists(WORDS), max_size=4).map(lambda lines: "\n".join(map(" ".join, lines)).encode())
VALUES = st.one_of(st.text(), st.binary(), st.text(string.printable).map(lambda text: f"Bearer {text}"))


def callers() -> Callers:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        path.write_text(f"{token_line('trainer', TOKEN)}\nhost-7: certificate\n")
        return Callers(str(path), certificates=True)


CALLERS = callers()


@given(st.lists(st.tuples(st.sampled_from(["authorization", "x"]), VALUES), max_size=3), st.text(max_size=8))
@example([("authorization", f"bearer\t{TOKEN}")], "")
@example([("authorization", "")], "host-7")
@example([("authorization", f"Bearer {TOKEN}"), ("authorization", "")], "")
def test_anything_that_is_shown(metadata: list[tuple[str, str | bytes]], subject: str) -> None:
    """An identity of the file, or UNAUTHENTICATED, whose sentence shows nothing of a token."""
    shown: Metadata = tuple(metadata)
    try:
        found = CALLERS.identify(shown, subject)
    except Unauthenticated as error:
        told = status_message(error)
        assert "\n" not in told or "\n" in subject
        assert not any(value and len(value) > 8 and str(value) in told for _, value in metadata)
    else:
        assert found in (Identity("trainer"), Identity("host-7"))
        assert found == Identity("host-7") or any(TOKEN in str(value) for _, value in metadata)


@given(
    st.one_of(st.binary(), st.lists(st.lists(WORDS), max_size=4).map(lambda of: "\n".join(map(" ".join, of)).encode()))
)
def test_anything_that_is_in_the_file(content: bytes) -> None:
    """Tokens of names that are names, or a sentence that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        path.write_bytes(content)
        try:
            found = read_tokens(str(path))
        except SettingsError as error:
            assert str(path) in str(error)
            return

    assert isinstance(found, Tokens)
    names = {identity.name for _, identity in found.by_hash} | set(found.by_subject)
    assert names
    assert all(name.isascii() and name.isprintable() and " " not in name for name in names)
