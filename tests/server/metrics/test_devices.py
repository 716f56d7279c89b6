"""What a device tells: its memory, and how long batches were copied there and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from lossd_server.backends import Backend
from lossd_server.jobs.job import Computed, Launch
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.metrics.scraping import Page, http_port, scraped
from tests.server.running import serving, stub


class DeviceBackend(EdgeBackend):
    """As one with a GPU: 3 of 8 bytes are in use, and each batch is copied for 2 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.transferred: Callable[[int], object] = lambda took_ns: None

    def device_memory(self) -> tuple[int, int]:
        return 3, 8

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        self.transferred(2_000_000)
        return super().run(launches)


def page_of(backend: Backend) -> Page:
    """After three calls."""

    async def run() -> Page:
        async with serving(backend, http="0") as (server, channel):
            for _ in range(3):
                await stub(channel).CrossEntropy(cross_entropy())
            with http_port(server.metrics) as url:
                return await asyncio.to_thread(scraped, url)

    return asyncio.run(run())


def test_a_device_with_memory_of_its_own() -> None:
    """Its memory, used and total, and seconds of copies for each batch."""
    page = page_of(DeviceBackend())

    assert page.value("lossd_device_memory_bytes", worker="0", device="", kind="used") == 3
    assert page.value("lossd_device_memory_bytes", worker="0", device="", kind="total") == 8
    assert page.value("lossd_transfer_seconds_count") == 3
    assert page.value("lossd_transfer_seconds_bucket", le="0.001") == 0
    assert page.value("lossd_transfer_seconds_bucket", le="0.0025") == 3


def test_a_cpu_has_none() -> None:
    """No series for what is not there."""
    page = page_of(EdgeBackend())

    assert not page.series("lossd_device_memory_bytes")
    assert not page.series("lossd_transfer_seconds_count")
