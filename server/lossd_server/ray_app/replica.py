"""Replica: one of lossd's servers as Ray Serve keeps it. Calls come by its own port; Serve asks for health and load."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray import serve

import lossd
from lossd_server.config.address import split
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.processes.private_folder import PrivateFolder, remove_dead
from lossd_server.ray_app.address_registry import AGAIN_S, REPEAT_S
from lossd_server.ray_app.autoscaling import UTILIZATION
from lossd_server.ray_app.registry_actor import registry_of
from lossd_server.serve import prepare_backend
from lossd_server.server_thread import ServerThread
from lossd_server.starting import check_before

# A replica that ends answers calls for as long as clients may believe the list that it was in, and a fifth more.
GRACE_S = 1.2 * AGAIN_S
# For Serve's question whether all is well.
HEALTH_S = 5.0

log = logging.getLogger(__name__)


class Replica:
    """settings: of the server. listens: whether they say where; else it is any port of this node."""

    def __init__(self, settings: Settings, listens: bool) -> None:
        node = ray.util.get_node_ip_address()
        settings = settings if listens else replace(settings, listen=(f"{_host(settings, node)}:0",))
        _check_reachable(settings)
        check_before(settings)
        backend = prepare_backend(settings, quiet=True)
        remove_dead()
        self._folder = PrivateFolder()
        health = f"unix:{self._folder.path}/health"
        # Without certificates a socket can tell nobody apart, where clients are known by nothing else.
        asks = bool(settings.tokens or not settings.tls_client_ca)
        listen = (*settings.listen, health) if asks else settings.listen
        self._server = ServerThread(replace(settings, listen=listen), backend, "lossd-server", self._folder.remove)
        port = split(next(one for one in self._server.start() if not one.startswith("unix:")))[1]
        host = "127.0.0.1" if settings.local else node
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._health = lossd.Client(health) if asks else None
        self._registry = registry_of(serve.get_replica_context().app_name)
        self._leaves = threading.Event()
        self._registry.keep.remote(self.address)
        threading.Thread(target=self._go_on_keeping, name="lossd-registry", daemon=True).start()
        log.info("serving %s", self.address)

    async def __call__(self, request: Any) -> dict[str, Any]:
        """What clients with a `ray://` address ask: whatever is asked, who there is."""
        return {"servers": await self._registry.addresses.remote(), "again_s": AGAIN_S}

    async def check_health(self) -> None:
        """By its own health service. Serve starts another in the place of one that raises."""
        server = self._server.server
        if server is None or server.is_device_lost:
            raise RuntimeError("the server has ended, or has lost its device")
        if self._health is not None and not await asyncio.to_thread(self._health.health, timeout=HEALTH_S):
            raise RuntimeError("the server does not serve")

    def record_autoscaling_stats(self) -> dict[str, float]:
        server = self._server.server
        return {UTILIZATION: 0.0 if server is None else server.metrics.utilization()}

    def __del__(self) -> None:
        """Serve's word for the end, for which it waits: nobody is sent here any more, and what was accepted is done."""
        leaves: threading.Event | None = getattr(self, "_leaves", None)
        if leaves is None or leaves.is_set():  # it never served, or has ended
            return
        leaves.set()
        self._registry.leave.remote(self.address)
        time.sleep(GRACE_S)
        if self._health is not None:
            self._health.close()
        self._server.close()

    def _go_on_keeping(self) -> None:
        while not self._leaves.wait(REPEAT_S):
            with suppress(ray.exceptions.RayError):  # an actor that is being started anew
                ray.get(self._registry.keep.remote(self.address), timeout=REPEAT_S)
        with suppress(ray.exceptions.RayError):  # a word of before may have come after
            self._registry.leave.remote(self.address)


def _host(settings: Settings, node: str) -> str:
    """As `lossd serve`: what other machines reach has TLS, or is said to go without."""
    return f"[{node}]" if ":" in node else node if settings.tls_cert or settings.insecure else "127.0.0.1"


def _check_reachable(settings: Settings) -> None:
    """Raises SettingsError where other machines of the cluster could not reach a replica."""
    nodes = sum(bool(one["Alive"]) for one in ray.nodes())
    if settings.local and nodes > 1:
        raise SettingsError(
            f"replicas listen on {', '.join(settings.listen)}, which the other machines of this cluster ({nodes}) do"
            " not reach: give tls_cert and tls_key, or insecure=true"
        )
