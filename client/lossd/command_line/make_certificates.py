"""`lossd certificates DIR`: an authority for trying TLS out, and certificates of a server and of a client."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lossd.extras import need

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# Clocks differ a little between machines.
EARLIER = timedelta(minutes=5)


def make_certificates(folder: Path, names: Sequence[str], client: str, days: int) -> list[Path]:
    """Writes ca.pem, server.pem, server.key, client.pem and client.key. names: of the server, beside this host's.

    The authority's key is forgotten: whoever wants another certificate makes all of them anew. Keys are for their owner
    alone. Raises CommandError without the library, OSError where the folder cannot be written.
    """
    need("cryptography", "making certificates")
    authority, signer = _authority(days)
    made: dict[str, bytes] = {"ca.pem": _pem(authority)}
    for name, kind, subject, others in (
        ("server", "SERVER_AUTH", "lossd", (*LOCAL_NAMES, *names)),
        ("client", "CLIENT_AUTH", client, ()),
    ):
        certificate, key = _signed(authority, signer, subject, kind, others, days)
        made |= {f"{name}.pem": _pem(certificate), f"{name}.key": _private(key)}
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / name, content) for name, content in made.items()]


def _authority(days: int) -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("lossd test authority")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _sign(builder, key), key


def _signed(authority: Any, signer: Any, subject: str, kind: str, names: Sequence[str], days: int) -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, kind)])
    builder = (
        _builder(_name(subject), authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(one) for one in names]), False)
    return _sign(builder, signer), key


def _builder(subject: Any, issuer: Any, key: Any, days: int) -> Any:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _sign(builder: Any, key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    found: bytes = certificate.public_bytes(Encoding.PEM)
    return found


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return found


def _write(path: Path, content: bytes) -> Path:
    """In the place of what was there, at once: a server that reads it meanwhile has the one or the other."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    mode = 0o600 if path.suffix == ".key" else 0o644
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    os.replace(beside, path)
    return path
