"""Registry actor: the addresses of an application's replicas, in an actor that outlives them."""

from __future__ import annotations

from typing import Any

import ray

from lossd_server.ray_app.address_registry import AddressRegistry

# Of the actors' names.
NAMESPACE = "lossd"


def registry_of(application: str) -> Any:
    """That of an application, made where there is none.

    It costs nothing. One whose node is lost is started anew, and hears of all replicas within REPEAT_S.
    """
    return (
        ray.remote(AddressRegistry)
        .options(
            name=f"servers of {application}",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            num_cpus=0,
        )
        .remote()
    )
