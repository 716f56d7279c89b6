"""A model that learns to read digits, three times: with PyTorch's loss, and with lossd's in two ways. The same curve.

    python examples/train_digits.py                             # starts a server in this process
    python examples/train_digits.py --server 127.0.0.1:50051    # uses one that runs
    python examples/train_digits.py --plot curves.png           # draws what it prints

The data are scikit-learn's 1,797 handwritten digits of 8×8 pixels; 360 of them are kept for the accuracy. Needs
lossd[server,torch] and scikit-learn, and matplotlib for the plot. Exit status 0 when the curves are the same to
TOLERANCE.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import lossd
import lossd.torch

Loss = Callable[[Tensor, Tensor], Tensor]

BATCH = 64
TEST_IMAGES = 360
# In nats, over all steps. The losses differ in their last bits, and each step carries that on into the next.
TOLERANCE = 1e-4
WAYS = ("local", "remote", "functional")


@dataclass(frozen=True)
class Digits:
    """images: float32 (N, 1, 8, 8), from 0 to 1. labels: int64 (N,)."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Curve:
    """losses: of every training step, in nats. accuracy: of the images that were never trained on, from 0 to 1."""

    losses: list[float]
    accuracy: float


def digits() -> Digits:
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8)[order] / 16
    target = torch.tensor(labels)[order]
    return Digits(images[TEST_IMAGES:], target[TEST_IMAGES:], images[:TEST_IMAGES], target[:TEST_IMAGES])


def network() -> nn.Module:
    """Two convolutions and a layer: 20,298 parameters, the same at each call."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 30), nn.ReLU(), nn.Linear(30, 10),
    )  # fmt: skip


def train(data: Digits, loss_of: Loss, epochs: int) -> Curve:
    """Adam over batches that come in the same order each time."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    shuffle = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(data.labels), generator=shuffle)
        for rows in torch.split(order, BATCH):
            optimizer.zero_grad()
            loss = loss_of(model(data.images[rows]), data.labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    with torch.no_grad():
        right = model(data.test_images).argmax(1) == data.test_labels
    return Curve(losses, right.float().mean().item())


def ways(client: lossd.Client) -> dict[str, Loss]:
    """The loss by each of WAYS."""

    def remote(logits: Tensor, target: Tensor) -> Tensor:
        with lossd.torch.remote(client):
            return F.cross_entropy(logits, target)

    def functional(logits: Tensor, target: Tensor) -> Tensor:
        return lossd.torch.functional.cross_entropy(logits, target, client=client)

    return {"local": F.cross_entropy, "remote": remote, "functional": functional}


def curves(address: str, epochs: int) -> dict[str, Curve]:
    """Trains by each way, with the server at `address`."""
    data = digits()
    with lossd.Client(address) as client:
        return {name: train(data, loss, epochs) for name, loss in ways(client).items()}


def difference(one: Curve, other: Curve) -> list[float]:
    """Of the losses, at each step."""
    return [abs(a - b) for a, b in zip(one.losses, other.losses, strict=True)]


def show(found: dict[str, Curve]) -> bool:
    """Prints a table; whether the curves are the same."""
    print(f"{'loss':<12}{'steps':>7}{'first loss':>12}{'last loss':>12}{'accuracy':>11}{'greatest difference':>22}")
    same = True
    for name, curve in found.items():
        most = max(difference(curve, found["local"]))
        same &= most <= TOLERANCE
        print(
            f"{name:<12}{len(curve.losses):>7}{curve.losses[0]:>12.4f}{curve.losses[-1]:>12.4f}"
            f"{curve.accuracy:>11.1%}{most:>17.1e} nats"
        )
    return same


def draw(found: dict[str, Curve]) -> Any:
    """The figure: losses above, their differences to PyTorch's below."""
    import numpy as np
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(7.2, 4.8), height_ratios=(3, 2), layout="constrained"
    )
    styles = {"local": ("#bbbbbb", "-", 5.0), "remote": ("#0072B2", "-", 1.2), "functional": ("#D55E00", ":", 1.8)}
    labels = {
        "local": "F.cross_entropy, by PyTorch",
        "remote": "the same inside lossd.torch.remote(client)",
        "functional": "lossd.torch.functional.cross_entropy",
    }
    for name, curve in found.items():
        colour, line, width = styles[name]
        label = f"{labels[name]}: {curve.accuracy:.1%} right"
        above.plot(curve.losses, color=colour, linestyle=line, linewidth=width, label=label)
    above.set_title("A small CNN learns to read digits: PyTorch's loss, and lossd's")
    above.set_ylabel("training loss (nats)")
    above.legend(title=f"accuracy on {TEST_IMAGES} other images", alignment="left")
    pytorchs = np.array(found["local"].losses, np.float32)
    place = np.spacing(pytorchs) * 1e7
    steps = np.arange(len(place))
    below.fill_between(steps, -place, place, color="#e6e6e6", step="mid", label="one unit in float32's last place")
    for name, size in (("remote", 9.0), ("functional", 3.0)):
        off = (np.array(found[name].losses) - found["local"].losses) * 1e7
        below.plot(steps, off, ".", markersize=size, color=styles[name][0], label=name)
    below.set_ylabel("lossd − PyTorch\n(10⁻⁷ nats)")
    below.set_xlabel(f"step (batches of {BATCH} images)")
    below.legend(loc="upper right", ncols=3)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="ADDRESS", default="embedded", help="use this server")
    parser.add_argument("--epochs", type=int, default=10, help="how often each image is seen (default 10)")
    parser.add_argument("--plot", metavar="FILE", help="write a picture of the curves")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # so small a model is slower on more
    try:
        found = curves(arguments.server, arguments.epochs)
    except lossd.Error as error:
        print(f"The server could not be used: {error}", file=sys.stderr)
        return 1
    same = show(found)
    if arguments.plot:
        draw(found).savefig(arguments.plot, dpi=150)
    print("The curves are the same." if same else f"The curves differ by more than {TOLERANCE} nats: see above.")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
