"""Arguments of the Ray application: settings of the server, and of Serve how many replicas and what each has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lossd_server.config.flags import parse_settings
from lossd_server.config.settings import Settings, SettingsError

_FLAGS = {one.name: f"--{one.name.replace('_', '-')}" for one in fields(Settings)}
_NUMBERS = ("replicas", "max_replicas", "num_cpus", "num_gpus", "target_utilization")
_NOT_HERE = {
    "workers": "Ray places a replica for each: give replicas",
    "http": "several replicas of a machine would want the one port; Ray has metrics of its own",
}
# What a replica listens on where nobody says so: any free port.
ANY_PORT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """settings: of every replica, but for `listen` where that is not given. replicas: how many there are, or at least
    where max_replicas is above. num_cpus, num_gpus: of each. target_utilization: what autoscaling aims at.
    """

    settings: Settings
    listens: bool
    replicas: int = 1
    max_replicas: int = 0
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    target_utilization: float = 0.6


def read_arguments(given: Mapping[str, Any], environ: Mapping[str, str]) -> Arguments:
    """given: settings by their names, and numbers of Serve's; text, or as YAML has them. environ: for LOSSD_ variables.

    Raises SettingsError with a sentence.
    """
    argv, numbers = [], {}
    for name, value in given.items():
        if name in _NUMBERS:
            numbers[name] = _number(name, value)
        elif name in _FLAGS:
            argv += _flags(name, value)
        else:
            raise SettingsError(f"{name} is neither a setting nor one of {', '.join(_NUMBERS)}")
    listens = "listen" in given or "LOSSD_LISTEN" in environ
    settings = parse_settings(argv, environ)
    for name, why in _NOT_HERE.items():
        if getattr(settings, name) != Settings.__dataclass_fields__[name].default:
            raise SettingsError(f"{name} is not possible in Ray: {why}")
    for name in ("replicas", "max_replicas"):
        if name in numbers:
            numbers[name] = int(numbers[name])
    found = Arguments(settings=settings, listens=listens, **numbers)  # type: ignore[arg-type]
    if found.replicas < 1:
        raise SettingsError(f"replicas = {found.replicas} must be above 0")
    if 0 < found.max_replicas < found.replicas:
        raise SettingsError(f"max_replicas = {found.max_replicas} is below replicas = {found.replicas}")
    if not 0 < found.target_utilization <= 1:
        raise SettingsError(f"target_utilization = {found.target_utilization:g} must be above 0, and 1 at most")
    return found


def _flags(name: str, value: Any) -> list[str]:
    """As `lossd serve` has them."""
    flag, default = _FLAGS[name], Settings.__dataclass_fields__[name].default
    if isinstance(default, bool):
        said = str(value).strip().lower()
        if said not in ("true", "false", "1", "0"):
            raise SettingsError(f"{name} = {value!r} must be true or false")
        return [flag] if said in ("true", "1") else []
    if isinstance(default, tuple):
        several = value.split(",") if isinstance(value, str) else value
        return [f"{flag}={one}" for one in several]
    return [f"{flag}={value}"]


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} = {value!r} is not a number") from None
    if not 0 <= number < 1e6 or (name in ("replicas", "max_replicas") and number % 1):
        raise SettingsError(f"{name} = {value!r} is no possible number")
    return number
