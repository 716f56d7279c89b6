"""The application's builder, which Serve calls with the arguments of its config or command line."""

from __future__ import annotations

import os
from dataclasses import replace
from math import ceil
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from lossd_server.config.settings import Settings
from lossd_server.ray_app.arguments import Arguments, read_arguments
from lossd_server.ray_app.autoscaling import ByUtilization
from lossd_server.ray_app.replica import GRACE_S, Replica

# How often Serve asks each replica whether it is well, and for how long it waits.
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 5.0, 15.0
# How long more, or fewer, must be wanted before there are. Utilisation is a mean over half a minute there.
MORE_AFTER_S, FEWER_AFTER_S = 10.0, 300.0
# What Serve waits beyond grace and drain before it kills.
SPARE_S = 10.0


def app(arguments: dict[str, Any]) -> serve.Application:
    """arguments: settings by their names, and replicas, max_replicas, num_cpus, num_gpus, target_utilization.

    LOSSD_ variables of the process that builds count as in `lossd serve`.
    """
    found = read_arguments(arguments, os.environ)
    deployment = serve.deployment(Replica).options(
        name="lossd",
        ray_actor_options={"num_cpus": found.num_cpus, "num_gpus": found.num_gpus},
        max_ongoing_requests=100,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=GRACE_S + found.settings.drain_s + SPARE_S,
        **_number_of_replicas(found),
    )
    bound: serve.Application = deployment.bind(_with_threads(found), found.listens)
    return bound


def _with_threads(found: Arguments) -> Settings:
    """Where the settings leave it open: as many threads as a replica has cores, and the device that Ray gives it."""
    settings = found.settings
    threads = settings.threads or max(1, ceil(found.num_cpus))
    device = "cpu" if settings.device == "auto" and found.num_gpus == 0 else settings.device
    return replace(settings, threads=threads, device=device)


def _number_of_replicas(found: Arguments) -> dict[str, Any]:
    """Of them that Serve's options have."""
    if found.max_replicas <= found.replicas:
        return {"num_replicas": found.replicas}
    policy = AutoscalingPolicy(
        policy_function=f"{ByUtilization.__module__}:{ByUtilization.__name__}",
        policy_kwargs={"target": found.target_utilization},
    )
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=found.replicas,
            max_replicas=found.max_replicas,
            upscale_delay_s=MORE_AFTER_S,
            downscale_delay_s=FEWER_AFTER_S,
            policy=policy,
        )
    }
