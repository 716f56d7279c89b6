"""`lossd eval`: what is said when it cannot be done, and the picture and table when it can."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lossd import cli
from lossd.extras import install_hint
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from tests.client.evaluation.files import CLASSES, MAX_MESSAGE_BYTES, ROWS, labels, logits, write, write_tables
from tests.client.programs import run

Said = Callable[..., str]
CROSS_ENTROPY = ("cross_entropy", "--input", "logits.npy", "--target")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer(Settings(max_message_bytes=MAX_MESSAGE_BYTES)) as server:
        yield server.address


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With files in it; where the command runs."""
    wrong = labels()
    wrong[900] = CLASSES
    write(tmp_path, logits=logits(), labels=labels(), short=labels()[:-1], wrong=wrong, wide=np.zeros((2, 9000)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(address: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs the command; what it says on stderr (status 1), or else on stdout."""

    def run(*arguments: str, status: int = 1) -> str:
        assert cli.main(["eval", *arguments, "--server", address]) == status
        captured = capsys.readouterr()
        if status:
            assert (captured.out, captured.err.count("\n")) == ("", 1)
        return captured.err if status else captured.out

    return run


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((*CROSS_ENTROPY, "nothing.npy"), ["nothing.npy", "no such file"]),
        ((*CROSS_ENTROPY, "labels.txt"), ["labels.txt: unsupported file type; expected .npy, ", ".parquet"]),
        ((*CROSS_ENTROPY, "all.npz:label"), ["no array 'label'", "labels, short, wrong"]),
        ((*CROSS_ENTROPY, "all.npz"), ["name the array", "all.npz:logits"]),
        ((*CROSS_ENTROPY, "all.safetensors:label"), ["no tensor 'label'", "labels, logits"]),
        ((*CROSS_ENTROPY, "labels.npy:key"), ["a single array without a name"]),
        ((*CROSS_ENTROPY, "short.npy"), ["999 rows", "1000", "target and input need the same number"]),
        ((*CROSS_ENTROPY, "logits.npy", "--target-kind", "indices"), ["[1000, 7]", "[1000] is expected"]),
        ((*CROSS_ENTROPY, "wrong.npy"), ["wrong.npy: target[900] = 7 is outside [0, 7)"]),
        ((*CROSS_ENTROPY, "labels.npy", "--weight", "labels.npy"), ["labels.npy", "weight", "float"]),
        (("entropy", "--input", "wide.npy"), ["one row", "--max-message-bytes"]),
        (("bce", "--input", "logits.npy", "--target", "logits.npy"), ["logits.npy: input[0, ", "outside [0, 1]"]),
        ((*CROSS_ENTROPY, "labels.npy", "--plot", "x.doc"), ["x.doc", "png"]),
        ((*CROSS_ENTROPY, "labels.npy", "--plot", "no/x.png"), ["no folder no"]),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments: tuple[str, ...], words: list[str], said: Said) -> None:
    """File, value, index in the whole file, bound; or the names there are. Exit status 1."""
    sentence = said(*arguments)

    assert [word for word in words if word not in sentence] == []


@pytest.mark.parametrize(
    "text, words",
    [
        ("a,b\n1,2\n3,x\n", ["column b holds values of type string, not numbers"]),
        ("a,b\n1,2\n3,\n", ["column b has no number in row 1"]),
        ("a,b\n1,2\nnan,4\n", ["column a has no number in row 1"]),
        ("a,b\n1,2\n3\n", ["data.csv"]),
        ("", ["is empty"]),
    ],
)
def test_a_csv_that_cannot_be_read(text: str, words: list[str], said: Said, folder: Path) -> None:
    """The column and the row, counted without the header."""
    (folder / "data.csv").write_text(text)

    sentence = said("entropy", "--input", "data.csv")

    assert [word for word in words if word not in sentence] == []


def test_columns_that_are_not_there(said: Said, folder: Path) -> None:
    """The names of those that are; and a table named twice is asked about."""
    write_tables(folder, logits(), labels())

    assert "no column 'y'; the file has a, b, c" in said(
        "cross_entropy", "--input", "data.csv", "--target", "data.csv:y"
    )
    assert "data.csv:label" in said("cross_entropy", "--input", "data.csv", "--target", "data.csv")
    assert "column x holds lists" in said("entropy", "--input", "lists.parquet")


def test_a_server_that_is_away(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 1, and its address."""
    monkeypatch.setattr("lossd.evaluation.run.REACH_S", 0.3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        assert cli.main(["eval", *CROSS_ENTROPY, "labels.npy", "--server", address]) == 1

    assert address in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("sum", "--input", "logits.npy"),
        ("cross_entropy", "--input", "logits.npy"),
        ("entropy", "--input", "logits.npy", "--target", "labels.npy"),
        ("entropy", "--input", "logits.npy", "--ignore-index", "0"),
        ("entropy", "--input", "logits.npy", "--reduction", "batchmean"),
        ("entropy", "--input", "logits.npy", "--fail-above", "nan"),
        ("entropy", "--input", "logits.npy", "--base", "1"),
        ("entropy", "--input", "logits.npy", "--worst", "-1"),
        ("entropy", "--input", "logits.npy", "--kind", "log_probabilities"),
        ("cross_entropy", "--input", "logits.npy", "--target", "y.npy", "--target-kind", "logits"),
        ("kl_divergence", "--input", "logits.npy", "--target", "y.npy", "--target-kind", "indices"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Before any file is opened."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["eval", *arguments])

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: lossd eval")


def test_the_table_is_plain_where_no_terminal_is(said: Said) -> None:
    """Names, values, units; the worst rows under them."""
    shown = said(*CROSS_ENTROPY, "labels.npy", "--worst", "2", status=0).splitlines()

    assert shown[0] == "cross_entropy of logits.npy against labels.npy"
    assert [line.split()[0] for line in shown[1:6]] == ["loss", "perplexity", "accuracy", "mean", "calibration"]
    assert shown[1].endswith("nats, mean")
    assert shown[7] == "greatest losses, rows counted from 0"
    assert shown[8].split() == ["index", "loss", "target", "predicted"]
    assert len(shown) == 11


@pytest.mark.parametrize("suffix, magic", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_is_drawn(
    suffix: str, magic: bytes, address: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the format that its suffix names; its name is printed, on stderr, where no reader of a table or JSON trips."""
    assert cli.main(["eval", *CROSS_ENTROPY, "labels.npy", "--plot", f"x.{suffix}", "--server", address]) == 0

    assert (folder / f"x.{suffix}").read_bytes().startswith(magic)
    assert capsys.readouterr().err == f"lossd eval: wrote x.{suffix}\n"


def test_a_loss_above_the_bound_is_said(address: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With both numbers, or that it is NaN."""
    np.save(folder / "nan.npy", np.full((1, 3), np.nan))
    command = ["eval", "--server", address, "--fail-above", "0.5", "entropy", "--kind", "logits", "--input"]
    np.save(folder / "even.npy", np.zeros((1, 3)))

    assert [cli.main([*command, f"{name}.npy"]) for name in ("even", "nan")] == [3, 3]
    assert capsys.readouterr().err.splitlines() == [
        "lossd eval: loss 1.09861229 exceeds --fail-above 0.5",
        "lossd eval: warning: the loss of row 0 is NaN: nan.npy has NaN there",
        "lossd eval: the loss is NaN",
    ]


def test_help_imports_nothing_heavy() -> None:
    """Neither a library of an extra, nor a channel."""
    heavy = ["rich", "matplotlib", "pyarrow", "safetensors", "ml_dtypes", "lossd_server", "lossd.client"]

    shown = f"import sys; print([name for name in {heavy} if name in sys.modules])"
    done = run(f"from lossd.evaluation import arguments; arguments._parser(); {shown}")

    assert done.stdout == "[]\n", done.stderr


def test_the_thin_install_evaluates_numpy_files(address: str, folder: Path) -> None:
    """As JSON and as a table, without any library of lossd[cli], which --help and the command do not import."""
    hidden = "import sys; sys.modules.update(dict.fromkeys(['rich', 'matplotlib', 'pyarrow', 'safetensors']))\n"
    command = f"from lossd.cli import main; main({['eval', *CROSS_ENTROPY, 'all.npz:labels', '--server', address]}"

    table, document = run(f"{hidden}{command})"), run(f"{hidden}{command} + ['--json'])")

    assert (table.stderr, document.stderr) == ("", "")
    assert f"{ROWS:,}" in table.stdout
    assert '"loss"' in document.stdout


@pytest.mark.parametrize(
    "arguments, library",
    [
        (("entropy", "--input", "all.safetensors:logits"), "safetensors"),
        (("entropy", "--input", "data.csv"), "pyarrow"),
        (("entropy", "--input", "data.parquet"), "pyarrow"),
        (("entropy", "--input", "logits.npy", "--plot", "x.png"), "matplotlib"),
    ],
)
def test_what_an_extra_lacks_is_said_in_a_sentence(arguments: tuple[str, ...], library: str, folder: Path) -> None:
    """The library and what to install; exit status 1."""
    write_tables(folder, logits(), labels())
    hidden = f"import sys; sys.modules[{library!r}] = None"

    done = run(f"{hidden}\nfrom lossd.cli import main; sys.exit(main({['eval', *arguments]}))")

    assert done.returncode == 1
    assert f"needs {library}: {install_hint('cli')}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_server_in_the_install_one_is_asked_for(folder: Path) -> None:
    """The extra, or --server."""
    hidden = "import sys; sys.modules['lossd_server'] = None"

    done = run(f"{hidden}\nfrom lossd.cli import main; sys.exit(main({['eval', *CROSS_ENTROPY, 'labels.npy']}))")

    assert done.returncode == 1
    assert install_hint("server") in done.stderr
    assert "--server ADDRESS" in done.stderr
