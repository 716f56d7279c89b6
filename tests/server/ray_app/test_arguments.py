"""Arguments of the Ray application."""

from __future__ import annotations

from typing import Any

import pytest

from lossd_server.config.settings import Settings, SettingsError
from lossd_server.ray_app.arguments import Arguments, read_arguments

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"threds": 2}, "threds is neither a setting nor one of replicas"),
    ({"workers": 2}, "workers is not possible in Ray"),
    ({"http": "9464"}, "http is not possible in Ray"),
    ({"replicas": 0}, "replicas = 0 must be above 0"),
    ({"replicas": 1.5}, "replicas = 1.5 is no possible number"),
    ({"replicas": "many"}, "replicas = 'many' is not a number"),
    ({"num_gpus": -1}, "num_gpus = -1 is no possible number"),
    ({"num_cpus": "nan"}, "num_cpus = 'nan' is no possible number"),
    ({"replicas": 3, "max_replicas": 2}, "max_replicas = 2 is below replicas = 3"),
    ({"target_utilization": 0}, "target_utilization = 0 must be above 0"),
    ({"insecure": "perhaps"}, "insecure = 'perhaps' must be true or false"),
    ({"max_message_bytes": "16 apples"}, "max-message-bytes = '16 apples'"),
    ({"listen": "0.0.0.0:1"}, "can be reached from other machines"),
]


def test_nothing_given() -> None:
    """One replica with a core, and the settings of `lossd serve`."""
    assert read_arguments({}, {}) == Arguments(settings=Settings(), listens=False)


@pytest.mark.parametrize("kind", [str, lambda value: value])
def test_settings_and_numbers(kind: Any) -> None:
    """As text, which a command line has, or as YAML has them; an argument wins over its variable."""
    given = {"max_message_bytes": "8MiB", "drain_s": kind(5), "insecure": kind(True), "reflection": "off"}
    numbers = {"replicas": kind(2), "max_replicas": kind(8), "num_cpus": kind(0.5), "target_utilization": kind(0.7)}
    found = read_arguments({**given, **numbers}, {"LOSSD_DRAIN_S": "7", "LOSSD_THREADS": "3"})

    assert found.settings == Settings(
        max_message_bytes=8 << 20, drain_s=5.0, insecure=True, reflection="off", threads=3
    )
    assert (found.replicas, found.max_replicas, found.num_cpus, found.target_utilization) == (2, 8, 0.5, 0.7)
    assert isinstance(found.replicas, int)


@pytest.mark.parametrize("given", ["127.0.0.1:7,127.0.0.1:8", ["127.0.0.1:7", "127.0.0.1:8"]])
def test_where_replicas_listen(given: Any) -> None:
    """Text with commas, or a list; also by the variable."""
    found = read_arguments({"listen": given}, {})

    assert (found.settings.listen, found.listens) == (("127.0.0.1:7", "127.0.0.1:8"), True)
    assert read_arguments({}, {"LOSSD_LISTEN": "127.0.0.1:7"}).listens


@pytest.mark.parametrize("given, sentence", REFUSED, ids=[next(iter(given)) for given, _ in REFUSED])
def test_refused(given: dict[str, Any], sentence: str) -> None:
    """With a sentence that names what is wrong."""
    with pytest.raises(SettingsError) as caught:
        read_arguments(given, {})

    assert sentence in str(caught.value)
