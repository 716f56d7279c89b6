"""What was compared with PyTorch's own samples, for the record: pytest prints it at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """samples: by route and dtype. worst: by dtype, the largest error in ulp of the largest entry, and where.

    relative: the same as a part of the largest entry. refused: error samples by route and what the sentence is.
    """

    samples: Counter[str] = field(default_factory=Counter)
    tensors: Counter[str] = field(default_factory=Counter)
    worst: dict[str, tuple[float, float, str]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def error(self, dtype: str, ulps: float, relative: float, where: str) -> None:
        self.tensors[dtype] += 1
        if ulps > self.worst.get(dtype, (-1.0, 0.0, ""))[0]:
            self.worst[dtype] = (ulps, relative, where)

    def lines(self) -> list[str]:
        lines = [f"samples of PyTorch's, {what}: {count}" for what, count in sorted(self.samples.items())]
        for dtype, number in sorted(self.tensors.items()):
            ulps, relative, where = self.worst[dtype]
            lines.append(
                f"largest error of {number} tensors in {dtype}: {ulps:.2f} ulp of the largest entry, "
                f"{relative:.1e} of it ({where})"
            )
        return lines + [f"error samples of PyTorch's, {what}: {count}" for what, count in sorted(self.refused.items())]


TALLY = Tally()
