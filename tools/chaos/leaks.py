"""Leaks: what is held after a run that was not held when the same process, or one like it, was warm. Pure."""

from __future__ import annotations

from chaos.processes import Holdings

# Beyond what a warm process had: an allocator's pools and kernels loaded later; connections of those who ask for these
# figures, and a file or two that is open for a moment; threads that libraries start when they are first needed.
MORE = Holdings(rss_mib=250, descriptors=6, memfds=0, threads=6)


def leaked(name: str, warm: Holdings, now: Holdings, more: Holdings = MORE) -> list[str]:
    """A sentence for each thing of which there is more than the difference between warm processes."""
    found = []
    for one in Holdings.__slots__:
        then, is_now = getattr(warm, one), getattr(now, one)
        if is_now > then + getattr(more, one):
            found.append(f"{name}: {one} {then} when warm, {is_now} in the end")
    return found
