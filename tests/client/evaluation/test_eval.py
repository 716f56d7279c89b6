"""`lossd eval`: the numbers, against single calls of the client."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from lossd import cli
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from tests.client.evaluation.files import CLASSES, MAX_MESSAGE_BYTES, ROWS, labels, logits, write, write_tables

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a server that takes the rows in several messages only."""
    with EmbeddedServer(Settings(max_message_bytes=MAX_MESSAGE_BYTES)) as server:
        yield server.address


@pytest.fixture(scope="module")
def client() -> Iterator[lossd.Client]:
    """Of a server that takes them in one."""
    with lossd.Client("embedded") as client:
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    write(folder, logits=logits(), labels=labels(), zeros=np.zeros(ROWS))
    write_tables(folder, logits(), labels())
    return folder


@pytest.fixture
def evaluate(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Evaluate:
    """Runs the command in the folder of the files; what --json says."""
    monkeypatch.chdir(folder)

    def run(*arguments: str, status: int = 0) -> dict[str, Any]:
        assert cli.main(["eval", *arguments, "--server", address, "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


FORMATS = [
    ("logits.npy", "labels.npy"),
    ("all.npz:logits", "all.npz:labels"),
    ("all.safetensors:logits", "all.safetensors:labels"),
    ("data.csv", "data.csv:label"),
    ("bare.csv", "bare.csv:-1"),
    ("data.csv:a,b,c,d,e,f,g", "labels.npy"),
    ("data.parquet", "data.parquet:label"),
    ("lists.parquet:x", "lists.parquet:label"),
    ("lists.parquet", "lists.parquet:label"),
]


@pytest.mark.parametrize("input, target", FORMATS)
def test_every_format_holds_the_same_rows(input: str, target: str, evaluate: Evaluate, client: lossd.Client) -> None:
    """The summary of blocks is that of one call: a .csv's numbers are float64, the others keep their dtype."""
    found = evaluate("cross_entropy", "--input", input, "--target", target)

    dtype = np.float64 if ".csv" in input else np.float32
    whole = client.cross_entropy(logits().astype(dtype), labels(), outputs="argmax")
    header = {"header": "bare" not in input} if ".csv" in input else {}
    assert found["files"]["input"] == {
        "file": input,
        "shape": [ROWS, CLASSES],
        "dtype": np.dtype(dtype).name,
        **header,
    }
    assert found["summary"]["loss_sum"] == pytest.approx(whole.summary.loss_sum, rel=1e-15)
    assert (found["summary"]["weight_sum"], found["summary"]["count"]) == (ROWS, ROWS)


def test_blocks_give_the_loss_of_the_whole(evaluate: Evaluate, client: lossd.Client) -> None:
    """Within one unit in the last place of the loss's own dtype; their sum to 1e-15."""
    found = evaluate("cross_entropy", "--input", "logits.npy", "--target", "labels.npy")

    whole = client.cross_entropy(logits(), labels())
    assert logits().nbytes > MAX_MESSAGE_BYTES
    assert found["summary"]["loss_sum"] == pytest.approx(whole.summary.loss_sum, rel=1e-15)
    assert abs(np.float32(found["loss"]) - np.float32(whole.loss)) <= np.spacing(np.float32(whole.loss))


def test_weights_and_ignored_rows_count_as_in_one_call(evaluate: Evaluate, client: lossd.Client, folder: Path) -> None:
    """The denominator is Σ w[y] over all blocks."""
    weight = np.linspace(0.5, 2, CLASSES)
    np.save(folder / "weight.npy", weight)

    options = ["--weight", "weight.npy", "--ignore-index", "2", "--label-smoothing", "0.1", "--base", "2"]
    found = evaluate("cross_entropy", "--input", "logits.npy", "--target", "labels.npy", *options)

    whole = client.cross_entropy(logits(), labels(), weight=weight, ignore_index=2, label_smoothing=0.1, base=2)
    assert found["loss"] == pytest.approx(float(whole), rel=1e-14)
    assert found["measures"]["ignored"] == int((labels() == 2).sum())
    assert found["unit"] == "bits"
    assert "perplexity" not in found["measures"]


@pytest.mark.parametrize("method", ["bce", "bce_with_logits"])
def test_elementwise_losses_and_their_weights(
    method: str, evaluate: Evaluate, client: lossd.Client, folder: Path
) -> None:
    """A weight of the input's shape goes by blocks, one that broadcasts whole."""
    rng = np.random.default_rng(5)
    p, t, w = rng.random((ROWS, 3)), rng.integers(0, 2, (ROWS, 3)), rng.random((ROWS, 1))
    weights = {"weight": w} | ({"pos_weight": np.array([0.5, 1.0, 2.0])} if method == "bce_with_logits" else {})
    write(folder, p=p, t=t, **weights)

    options = [text for name in weights for text in (f"--{name.replace('_', '-')}", f"{name}.npy")]
    found = evaluate(method, "--input", "p.npy", "--target", "t.npy", "--reduction", "sum", *options)

    whole = getattr(client, method)(p, t, reduction="sum", **weights)
    threshold = 0.5 if method == "bce" else 0.0
    assert found["loss"] == pytest.approx(float(whole), rel=1e-14)
    assert found["measures"]["accuracy"] == np.mean((p > threshold) == t)


def test_reduction_none_gives_every_loss(evaluate: Evaluate, client: lossd.Client, folder: Path) -> None:
    """In the losses' own shape, each with the bits of one call."""
    write(folder, p3=np.random.default_rng(6).dirichlet(np.ones(5), (ROWS, 4)).transpose(0, 2, 1).astype(np.float32))

    found = evaluate("entropy", "--input", "p3.npy", "--reduction", "none", "--base", "2")

    whole = client.entropy(np.load(folder / "p3.npy"), reduction="none", base=2)
    assert np.array_equal(np.float32(found["loss"]), whole.loss)


def test_measures_of_a_classification(evaluate: Evaluate) -> None:
    """Accuracy, mean entropy, perplexity and expected calibration error by their definitions, in float64."""
    found = evaluate("cross_entropy", "--input", "logits.npy", "--target", "labels.npy", "--ignore-index", "0")

    kept = labels() != 0
    x, y = logits()[kept].astype(np.float64), labels()[kept]
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    right, sure = p.argmax(1) == y, p.max(1)
    bins = np.ceil(sure * 15)
    error = sum(abs((sure - right)[bins == b].sum()) for b in range(16)) / len(y)
    measures = found["measures"]
    assert measures["correct"] == right.sum()
    assert measures["accuracy"] == right.mean()
    assert measures["mean_entropy"] == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-6)
    assert measures["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert measures["calibration_error"] == pytest.approx(error, rel=1e-5)


def test_measures_of_distributions(evaluate: Evaluate, client: lossd.Client, folder: Path) -> None:
    """Entropy of the predictions, in the loss's unit; no accuracy, for there is no class to be right about."""
    target = np.random.default_rng(7).dirichlet(np.ones(CLASSES), ROWS)
    np.save(folder / "target.npy", target)

    found = evaluate("cross_entropy", "--input", "logits.npy", "--target", "target.npy", "--base", "2")

    outputs = client.cross_entropy(logits(), target, outputs="entropy").outputs
    assert found["loss"] == pytest.approx(float(client.cross_entropy(logits(), target, base=2)), rel=1e-14)
    assert set(found["measures"]) == {"rows", "ignored", "mean_entropy"}
    assert found["measures"]["mean_entropy"] == pytest.approx(outputs["entropy"].mean() / math.log(2), rel=1e-6)


def test_batchmean_divides_by_the_items_of_all_blocks(evaluate: Evaluate, client: lossd.Client, folder: Path) -> None:
    """Not by those of each block."""
    p, q = np.random.default_rng(8).dirichlet(np.ones(CLASSES), (2, ROWS))
    write(folder, p=p, u=np.log(q))

    found = evaluate("kl_divergence", "--input", "u.npy", "--target", "p.npy", "--reduction", "batchmean")

    assert found["loss"] == pytest.approx(float(client.kl_divergence(np.log(q), p, reduction="batchmean")), rel=1e-14)


def test_row_weights_go_by_blocks(evaluate: Evaluate, client: lossd.Client, folder: Path) -> None:
    """Each row keeps its own."""
    weight = np.random.default_rng(9).random(ROWS)
    np.save(folder / "row_weight.npy", weight)

    arguments = ["--input", "logits.npy", "--target", "labels.npy", "--row-weight", "row_weight.npy"]
    found = evaluate("cross_entropy", *arguments)

    assert found["loss"] == pytest.approx(float(client.cross_entropy(logits(), labels(), row_weight=weight)), rel=1e-14)


def test_worst_rows_are_those_of_greatest_loss(evaluate: Evaluate, client: lossd.Client) -> None:
    """Over all blocks, greatest first, with what was predicted; ignored rows are never among them."""
    arguments = ["--input", "logits.npy", "--target", "labels.npy", "--ignore-index", "1", "--worst", "5"]
    found = evaluate("cross_entropy", *arguments)["worst"]

    losses = client.cross_entropy(logits(), labels(), ignore_index=1, reduction="none", outputs="argmax").loss
    expected = np.argsort(-losses, kind="stable")[:5]
    assert [row["index"] for row in found] == expected.tolist()
    assert [np.float32(row["loss"]) for row in found] == losses[expected].tolist()
    assert [row["target"] for row in found] == labels()[expected].tolist()
    assert [row["predicted"] for row in found] == logits()[expected].argmax(1).tolist()


def test_bfloat16_tensors_are_read(evaluate: Evaluate, client: lossd.Client, folder: Path) -> None:
    """As they are: 16 bits a logit on the wire."""
    import torch
    from safetensors.torch import save_file

    x = torch.from_numpy(logits()).bfloat16()
    save_file({"x": x}, folder / "half.safetensors")

    found = evaluate("cross_entropy", "--input", "half.safetensors", "--target", "labels.npy")

    assert found["files"]["input"]["dtype"] == "bfloat16"
    assert found["loss"] == pytest.approx(float(client.cross_entropy(x, labels())), rel=1e-6)


def test_json_has_a_fixed_set_of_members(evaluate: Evaluate) -> None:
    """What a script may rely on."""
    found = evaluate("cross_entropy", "--input", "logits.npy", "--target", "labels.npy", "--base", "2")

    members = "method loss reduction unit summary measures worst first_nan options files versions"
    assert list(found) == members.split()
    assert set(found["summary"]) == {"loss_sum", "weight_sum", "count"}
    assert set(found["measures"]) == {
        "rows", "ignored", "perplexity", "accuracy", "correct", "mean_entropy", "calibration_error"
    }  # fmt: skip
    assert found["options"] == {"base": 2.0}
    assert set(found["versions"]) == {"lossd", "server", "device"}


def test_a_nan_is_found_and_named(evaluate: Evaluate, folder: Path) -> None:
    """The loss is "NaN", and the first row that has one is told, in whichever block it lies; above every bound."""
    x = logits()
    x[777, 3] = np.nan
    np.save(folder / "nan.npy", x)

    found = evaluate("cross_entropy", "--input", "nan.npy", "--target", "labels.npy", "--fail-above", "9", status=3)

    assert (found["loss"], found["first_nan"]) == ("NaN", 777)


@pytest.mark.parametrize("bound, status", [("0.1", 3), ("100", 0), ("inf", 0)])
def test_fail_above_is_an_exit_status(bound: str, status: int, evaluate: Evaluate) -> None:
    """3 when the loss is above; the result is printed all the same."""
    found = evaluate(
        "cross_entropy", "--input", "logits.npy", "--target", "labels.npy", "--fail-above", bound, status=status
    )

    assert (found["loss"] > float(bound)) == bool(status)


def test_one_row_is_one_message(evaluate: Evaluate, client: lossd.Client, folder: Path) -> None:
    """A 1-D input is a row of classes, its target a single index."""
    write(folder, row=logits()[0], one=np.array([4]))

    found = evaluate("cross_entropy", "--input", "row.npy", "--target", "one.npy", "--worst", "3")

    assert found["loss"] == pytest.approx(float(client.cross_entropy(logits()[0], 4)), rel=1e-6)
    assert [row["index"] for row in found["worst"]] == [[]]
