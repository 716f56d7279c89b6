"""The table of reasons is the code's: none is missing, none unused; status and metadata are those that are sent."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import grpc
import pytest

from lossd import cli
from lossd.errors import Error
from lossd.reasons.table import known_reasons
from lossd.rpc.protocol import Lifetime
from lossd.rpc.retry import Retry
from lossd.rpc.unreachable import sentence
from lossd.shared_memory import socket_client
from lossd_server import errors as server
from lossd_server.wire.status import CODES
from tests.docs.reasons_in_code import literals, raised

ROOT = Path(__file__).resolve().parents[2]
KNOWN = known_reasons()
RAISED = raised()
# The client's own words for the same codes.
CLIENT_CODES = {
    "InvalidArgument": grpc.StatusCode.INVALID_ARGUMENT,
    "TooLarge": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "Overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "Unavailable": grpc.StatusCode.UNAVAILABLE,
    "DeadlineExceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "InternalError": grpc.StatusCode.INTERNAL,
    "NotServed": grpc.StatusCode.UNIMPLEMENTED,
}
# Texts of the same form that are no reasons.
OTHERS = frozenset(
    {
        # of the system, of TLS, of compilers and of workflows
        "AF_UNIX",
        "CERTIFICATE_VERIFY_FAILED",
        "CLIENT_AUTH",
        "CUDA_VISIBLE_DEVICES",
        "GITHUB_ACTIONS",
        "GITHUB_STEP_SUMMARY",
        "GRPC_VERBOSITY",
        "KEY_VALUES_MISMATCH",
        "LOSSD_LISTEN",
        "NUMBA_CPU_FEATURES",
        "NUMBA_CPU_NAME",
        "NUMBA_DISABLE_INTEL_SVML",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "SC_PHYS_PAGES",
        "SERVER_AUTH",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TRITON_INTERPRET",
        "WRONG_VERSION_NUMBER",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        # variables of ours
        "LOSSD_CA",
        "LOSSD_CACHE_DIR",
        "LOSSD_CERT",
        "LOSSD_KEY",
        "LOSSD_SERVER",
        "LOSSD_TOKEN",
        "LOSSD_TOKEN_FILE",
        # parameters of kernels
        "SOFT_LABELS",
        "TARGET_DTYPE",
        "VALUE_DTYPE",
        # statuses that `lossd bench` names, and its own word for an answer that is wrong
        "INVALID_ARGUMENT",
        "RESOURCE_EXHAUSTED",
        "WRONG_ANSWER",
    }
)


def test_every_reason_of_the_code_is_in_the_table() -> None:
    """So that whoever meets it finds what to do: a text of that form is a reason, or named above as something else."""
    missing = {text: place for text, place in literals().items() if text not in KNOWN and text not in OTHERS}

    assert missing == {}
    assert set(RAISED) <= set(KNOWN)


def test_every_reason_of_the_table_is_in_the_code() -> None:
    """What is not raised any more is not explained."""
    assert set(KNOWN) - set(literals()) - set(RAISED) == set()
    assert OTHERS - set(literals()) == set()


def codes(classes: set[str]) -> set[grpc.StatusCode]:
    by_name = {kind.__name__: code for kind, code in CODES.items()}
    return {by_name[name] if name in by_name else CLIENT_CODES[name] for name in classes if name != "NotTaken"}


def test_the_status_is_that_of_the_classes_that_are_raised() -> None:
    """STREAM_NOT_READ's second one is what the client makes of it, as the table says too."""
    wrong = {}
    for name, found in RAISED.items():
        expected = {KNOWN[name].code} | ({grpc.StatusCode.UNAVAILABLE} if name == "STREAM_NOT_READ" else set())
        if not codes(found.classes) <= expected:
            wrong[name] = found.places

    assert wrong == {}


def test_what_no_class_is_raised_with_is_an_unreachable_servers() -> None:
    """The causes of a connection that fails have a table of their own, and one class."""
    beside = set(KNOWN) - set(RAISED)

    assert {KNOWN[name].code for name in beside} == {grpc.StatusCode.UNAVAILABLE}
    assert all(sentence(name, "host:1") for name in beside)


def test_refusals_of_the_shared_memory_socket_have_the_clients_classes() -> None:
    """They have no status: what the client makes of them is in the table, and when to come back where that helps."""
    on_socket = {name for name, found in RAISED.items() if "NotTaken" in found.classes}

    assert len(on_socket) > 5
    made = {name: socket_client._refusal(name, "") for name in on_socket}
    assert {name: type(error) for name, error in made.items()} == {name: KNOWN[name].raises for name in on_socket}
    assert {name for name, error in made.items() if error.retry_after_s} == {
        name for name in on_socket if KNOWN[name].retry
    }


def test_metadata_are_those_that_are_sent() -> None:
    """Each key of the table comes with some error of that reason, and no other does."""
    wrong = {
        name: (set(KNOWN[name].metadata) ^ found.keys, found.places)
        for name, found in RAISED.items()
        if set(KNOWN[name].metadata) != found.keys
    }

    assert wrong == {}


def test_what_may_be_repeated_is_what_the_client_repeats() -> None:
    """Of what servers say: RetryInfo, or a status that means elsewhere; lossd's client does it, and nothing else."""
    waiting = Retry(1e6, Lifetime(connect_timeout_s=1e6))
    repeated = {server.Overloaded.__name__, server.GoingAway.__name__}
    for name, found in RAISED.items():
        said_by_server = {kind.__name__ for kind in CODES} & found.classes
        if not said_by_server or name == "STREAM_NOT_READ":
            continue

        assert KNOWN[name].retry == bool(said_by_server & repeated), name
        assert KNOWN[name].retry == repeats(waiting, KNOWN[name].raises("", reason=name)), name


def repeats(retry: Retry, error: Error) -> bool:
    try:
        retry.wait_after(error, 0)
    except Error:
        return False
    return True


def test_an_entry_is_sentences() -> None:
    """One that says what it means and one that says what to do, each for a cell of a table."""
    texts = [text for reason in KNOWN.values() for text in (reason.means, reason.help)]

    assert [text for text in texts if not (text[0].isupper() or text[0] == "`") or not text.endswith(".")] == []
    assert [text for text in texts if "|" in text or len(text) > 160] == []


def page_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("errors_page", ROOT / "tools/errors_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_table_gives() -> None:
    """docs/errors.md, by `make pages`."""
    tool = page_tool()

    assert tool.PAGE.read_text(encoding="utf-8") == tool.page()


def test_the_command_explains_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """In whichever letters; one that there is not is answered by the nearest; without one it lists all."""
    assert cli.main(["errors", "class_out_of_range"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"CLASS_OUT_OF_RANGE: {KNOWN['CLASS_OUT_OF_RANGE'].means}\nWhat to do: ")
    assert "Status INVALID_ARGUMENT; in Python lossd.InvalidArgument. Repeating the call does not help." in shown
    assert cli.main(["errors", "CLASS_OUT"]) == 1
    assert "did you mean CLASS_OUT_OF_RANGE?" in capsys.readouterr().err
    assert cli.main(["errors"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {reason.name} " in listed for reason in KNOWN.values())
