"""Measures, draws and writes. A minute or two, most of it for 50 digits of 262,144 classes."""

from __future__ import annotations

import lossd
from exactness import libraries, page, pictures, samples
from exactness.measure import measure

LOSSES = ("cross_entropy", "cross_entropy_gradient", "bce_with_logits", "bce_with_logits_gradient")
OF_ROWS = ("entropy", "log_softmax", "kl_divergence")
OF_LOGITS = ("cross_entropy", "cross_entropy_gradient", "entropy", "kl_divergence")


def main() -> None:
    with lossd.Client("embedded") as client:
        found = libraries.all_of(client)
        by_lead = measure(samples.by_lead(), found)
        by_offset = measure(samples.by_offset(), found)
        by_classes = measure(samples.by_classes(), found)
        coarse = {name: measure([sample], found, page.EVERY_DTYPE) for name, sample in samples.coarse().items()}
    lead = "lead of the true logit"
    pictures.draw("exactness-confidence-losses", by_lead, LOSSES, lead)
    pictures.draw("exactness-confidence-rows", by_lead, OF_ROWS, lead)
    pictures.draw("exactness-offsets", by_offset, OF_LOGITS, "constant added to all logits", 10)
    pictures.draw("exactness-classes", by_classes, OF_LOGITS, "classes", 2)
    page.write(by_lead, by_offset, by_classes, coarse, list(found))
    print(f"wrote {page.PAGE} and its pictures")


if __name__ == "__main__":
    main()
