"""What the suite has compared, for the record: pytest prints it at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

Worst = dict[str, tuple[float, str]]  # by dtype: ulp, and where


@dataclass
class Tally:
    """calls: compared with the oracle, by backend; tensors: of results, by dtype.

    worst: the largest error in ulp of the largest entry, or of the terms where those cancel. cancelled: tensors that
    are off by more than is accepted of their largest entry alone, because their terms cancel; `most`: the largest such.
    beyond: tensors within PyTorch's own error alone. samples: of PyTorch's own, by what became of them.
    """

    calls: Counter[str] = field(default_factory=Counter)
    tensors: Counter[str] = field(default_factory=Counter)
    worst: Worst = field(default_factory=dict)
    cancelled: Counter[str] = field(default_factory=Counter)
    cancelling: Counter[str] = field(default_factory=Counter)  # the same by dtype, field and loss
    most: Worst = field(default_factory=dict)
    beyond: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)

    def error(self, dtype: str, ulps: float, alone: float, accepted: int, where: str) -> None:
        """ulps: as `worst` has them; alone: of the largest entry, whatever cancels."""
        self.tensors[dtype] += 1
        if ulps > self.worst.get(dtype, (-1.0, ""))[0]:
            self.worst[dtype] = (ulps, where)
        if alone > accepted:
            self.cancelled[dtype] += 1
            self.cancelling[f"{dtype}, {where.split(',')[0]}"] += 1
            self.most[dtype] = max(self.most.get(dtype, (-1.0, "")), (alone, where))

    def lines(self) -> list[str]:
        lines = [f"calls compared with the oracle on {name}: {calls}" for name, calls in sorted(self.calls.items())]
        for dtype, number in sorted(self.tensors.items()):
            ulps, where = self.worst[dtype]
            lines.append(f"largest error of {number} tensors in {dtype}: {ulps:.2f} ulp of the largest entry ({where})")
        for dtype, number in sorted(self.cancelled.items()):
            ulps, where = self.most[dtype]
            lines.append(
                f"{number} tensors in {dtype} are measured by the terms that cancel in them: "
                f"up to {ulps:.1f} ulp of the largest entry ({where})"
            )
        lines += [f"of these, {what}: {number}" for what, number in sorted(self.cancelling.items())]
        for dtype, number in sorted(self.beyond.items()):
            lines.append(f"tensors in {dtype} within PyTorch's own error alone: {number}")
        return lines + [f"samples of PyTorch's, {what}: {count}" for what, count in sorted(self.samples.items())]


TALLY = Tally()
