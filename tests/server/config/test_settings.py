"""Settings: flags, variables, and the sentences that refuse them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from lossd_server.config.flags import parse_settings
from lossd_server.config.settings import Settings, SettingsError


def test_defaults() -> None:
    """Nothing said: one local address, 16 MiB a message, 30 s to drain."""
    settings = parse_settings([], {})

    assert settings == Settings()
    assert settings.listen == ("127.0.0.1:50051",)
    assert settings.max_message_bytes == 16 * 1024 * 1024
    assert settings.drain_s == 30.0


def test_flags_before_variables() -> None:
    """A flag goes before its variable, a variable before the default."""
    environ = {"LOSSD_DRAIN_S": "5", "LOSSD_MAX_MESSAGE_BYTES": "1MiB", "LOSSD_LISTEN": "unix:/a,[::1]:0"}
    settings = parse_settings(["--drain-s", "7.5"], environ)

    assert settings.drain_s == 7.5
    assert settings.max_message_bytes == 1 << 20
    assert settings.listen == ("unix:/a", "[::1]:0")


def test_every_field_is_a_flag_and_a_variable() -> None:
    """Whatever field there is can be given both ways."""
    texts = {
        "shared_memory_mode": "660",
        "device": "cpu",
        "front": "grpcio",
        "reflection": "off",
        "log_level": "debug",
        "log_format": "json",
        "access_log": "refused",
        "traces": "otlp",
        "listen": "unix:/a",
        "http": "9464",
    }
    texts |= {"workers": "2"}
    for one in fields(Settings):
        text = texts.get(one.name, "true" if one.name == "insecure" else str(2**30))
        several = {
            "max_message_bytes": {"LOSSD_MAX_INFLIGHT_BYTES": str(2**30)},
            "tls_cert": {"LOSSD_TLS_KEY": "key"},
            "tls_key": {"LOSSD_TLS_CERT": "cert"},
            "tls_client_ca": {"LOSSD_TLS_CERT": "cert", "LOSSD_TLS_KEY": "key"},
        }.get(one.name, {})
        flag = [f"--{one.name.replace('_', '-')}", *([] if one.name == "insecure" else [text])]

        from_flag = parse_settings(flag, several)
        assert from_flag == parse_settings([], {f"LOSSD_{one.name.upper()}": text, **several})
        assert getattr(from_flag, one.name) != one.default


@pytest.mark.parametrize(
    "text, size", [("1048576", 1 << 20), ("1 MiB", 1 << 20), ("1mb", 10**6), ("2KiB", 2048), ("7B", 7)]
)
def test_sizes(text: str, size: int) -> None:
    """A size may be written with a unit."""
    assert parse_settings(["--max-message-bytes", text], {}).max_message_bytes == size


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--listen", "0.0.0.0:50051"], "add --insecure"),
        (["--listen", "[::]:50051"], "add --insecure"),
        (["--listen", "example.org:50051"], "add --insecure"),
        (["--listen", "127.0.0.1"], "host:port or unix:path"),
        (["--listen", "127.0.0.1:99999"], "0 to 65535"),
        (["--listen", "::1:50051"], "brackets"),
        (["--listen", "unix:"], "needs a path"),
        (["--max-message-bytes", "16MB of data"], "is not a size"),
        (["--max-message-bytes", "2GiB"], "exceeds gRPC's"),
        (["--max-message-bytes", "0"], "must be above 0"),
        (["--max-inflight-bytes", "1MiB"], "could never be accepted"),
        (["--device", "tpu"], "must be one of auto, cpu, cuda, not 'tpu'"),
        (["--threads", "two"], "not a whole number"),
        (["--threads", "-1"], "negative"),
        (["--drain-s", "nan"], "finite"),
        (["--drain-s", "-1"], "above 0"),
    ],
)
def test_refused(argv: list[str], words: str) -> None:
    """What cannot be used is refused with a sentence that names it."""
    with pytest.raises(SettingsError, match=words) as refused:
        parse_settings(argv, {})

    assert "\n" not in str(refused.value)


def test_insecure() -> None:
    """An address that others can reach is taken when --insecure is typed, and is not local."""
    settings = parse_settings(["--listen", "0.0.0.0:50051", "--insecure"], {})

    assert not settings.local
    assert parse_settings(["--listen", "localhost:1", "--listen", "127.1.2.3:1", "--listen", "unix:/a"], {}).local
