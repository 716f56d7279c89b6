"""Draws docs/pictures/training.svg, by `make curves`: the curves of examples/train_digits.py, in the pages' style."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from style import save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import train_digits

EPOCHS = 10


def main() -> None:
    torch.set_num_threads(1)  # as the example
    found = train_digits.curves("embedded", EPOCHS)
    train_digits.show(found)
    save(train_digits.draw(found), "training")


if __name__ == "__main__":
    main()
